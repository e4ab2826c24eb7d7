"""One video, one question: the answer with a setting beside the dense model's, and what each took."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunesweep.cost import Usage, ledger
from prunesweep.engine.plan import plan, require_fit
from prunesweep.engine.prefix_tree import Clock, Job, evaluate_jobs
from prunesweep.types import Answer, Sample

if TYPE_CHECKING:
    from prunesweep.engine.protocol import Protocol
    from prunesweep.reducers import Reducer
    from prunesweep.types import Model

DENSE = "dense"
HEADER = ("setting", "answer", "tokens in", "at end", "FLOPs of dense", "seconds")


@dataclass(frozen=True)
class Asked:
    """One answer."""

    setting: str
    text: str
    usage: Usage
    flops: float
    """All of them, of the dense model's."""
    seconds: float
    """From the file to the last token, on this machine."""

    def row(self) -> tuple[str, ...]:
        """For a table: tokens that enter the LLM, and are left in its last layer."""
        visual = self.usage.visual_tokens
        return self.setting, self.text, f"{visual[0]:,}", f"{visual[-1]:,}", f"{self.flops:.3f}x", f"{self.seconds:.2f}"


def ask(
    model: Model, video: Path, question: str, reducers: Mapping[str, Reducer], frames: int, protocol: Protocol
) -> list[Asked]:
    """Of each reducer, one after the other and sharing nothing, after one run that nobody sees: the first is slower.

    Raises ValueError for a video that cannot be read, and for a reducer that does not fit the model.
    """
    if not video.exists():
        raise ValueError(f"there is no video {str(video)!r}; name a file, or a folder of frames")
    if not question.strip():
        raise ValueError("the question is empty; ask something")
    sample = Sample(video.name, video, question, (), None, "asked", video.name)
    for reducer in reducers.values():
        require_fit(reducer, model)
    _one(model, sample, next(iter(reducers.values())), frames, protocol)
    return [_asked(name, model, sample, reducer, frames, protocol) for name, reducer in reducers.items()]


def _asked(name: str, model: Model, sample: Sample, reducer: Reducer, frames: int, protocol: Protocol) -> Asked:
    begin = time.perf_counter()
    answer = _one(model, sample, reducer, frames, protocol)
    seconds = time.perf_counter() - begin
    usage = answer.usage
    own, dense = (ledger(model.shape, one).total for one in (usage, usage.dense(usage.vision_patches)))
    return Asked(name, answer.text, usage, own / dense, seconds)


def _one(model: Model, sample: Sample, reducer: Reducer, frames: int, protocol: Protocol) -> Answer:
    """Raises ValueError, in one line, for what would be an error record in a sweep."""
    (outcome,) = evaluate_jobs(model, [Job("asked", plan(sample, frames, reducer, protocol, model))], Clock(), share=False)
    result: Any = outcome.result
    if isinstance(result, Exception):
        raise ValueError(" ".join(str(result).split())) from result
    return result
