"""The stages of a trial: frozen callables, each of which turns one state into the next.

A stage's fields are everything it reads besides state and model, so equal stages on equal states give equal results and
are run once.  `plan` is the one place that knows their order:

    Decode -> Encode -> Reduce -> Embed -> Layers(0, M) -> Ask -> Prune -> Layers(M, L) -> Evict -> Choose or Generate

with as many steps inside the LLM as a method has: Layers, then Prune; or Attend, Prune and Feed where a step stands inside a
layer.  Each stage names the kind of work (`share`) that its seconds are booked under.

The system prompt and the video come before the question, so everything up to Ask is the same for all questions on a
video: it stands before the first step that reads the question.  Without such a step Ask alone runs the question through all
layers.  What a step must know of earlier ones travels in the state, never in the step, so that equal steps are equal stages.
"""

from prunesweep.engine.stages.answer import Choose, Generate, Writer, generate_together, greedy
from prunesweep.engine.stages.llm import Ask, Attend, Evict, Feed, Layers, Prune, changed, looked, through_all
from prunesweep.engine.stages.video import Decode, Embed, Encode, Kept, Reduce, first_patches

METHOD_STAGES = (Reduce, Prune, Evict)
"""Those that run a method's own code."""

__all__ = [
    "Ask",
    "Attend",
    "Choose",
    "Decode",
    "Embed",
    "Encode",
    "Evict",
    "Feed",
    "Generate",
    "Kept",
    "Layers",
    "METHOD_STAGES",
    "Prune",
    "Reduce",
    "Writer",
    "changed",
    "first_patches",
    "generate_together",
    "greedy",
    "looked",
    "through_all",
]
