"""From a trial and a question to the stages that answer it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prunesweep.checks import InfeasibleError, UnfitError
from prunesweep.engine.protocol import Protocol, encoder_text, option_texts, question_text
from prunesweep.engine.stages import Ask, Choose, Decode, Embed, Encode, Evict, Generate, Kept, Layers, Prune, Reduce
from prunesweep.reducers import Reducer, level_of
from prunesweep.types import Model, Sample
from prunesweep.video.reader import DECODE_SECONDS

if TYPE_CHECKING:
    from prunesweep.engine.encoder_cache import EncoderCache


def plan(
    sample: Sample,
    frames: int,
    reducer: Reducer,
    protocol: Protocol,
    model: Model,
    cache: EncoderCache | None = None,
    seconds: float = DECODE_SECONDS,
) -> tuple[Any, ...]:
    """The stages of one trial on one sample, in order; with a cache the first two may be read from disk.

    `seconds` is the most processor time for decoding.
    """
    if sample.problem is not None:
        raise ValueError(sample.problem)
    before, question = model.prompt(question_text(sample, protocol), protocol.system, protocol.prefix)
    prune, received = reducer.prune, reducer.evict is not None
    part = (sample.start, sample.end)
    see = (
        Decode(sample.path, sample.video_id, frames, *part, protocol.sampling, sample.frame_rate, seconds),
        encoding(reducer, encoder_text(sample, protocol) if model.question_conditioned else None),
    )
    stages: list[Any] = [
        *((Kept(see, cache),) if cache else see),
        Reduce(reducer.merge),
        Embed(before),
        Layers(0, prune.full_layers if prune else model.layers, received),
        Ask(question, attention=prune.attention if prune else None, received=received),
    ]
    if prune:
        stages += [Prune(prune), Layers(prune.full_layers, model.layers, received)]
    if reducer.evict:
        stages.append(Evict(reducer.evict))
    if protocol.answering == "generate":
        return (*stages, Generate(protocol.most_tokens))
    texts = option_texts(sample, protocol)
    if not texts:
        raise ValueError(f"sample {sample.id} has no options to choose from; use protocol.answering=generate")
    return (*stages, Choose(tuple(continuation(model, protocol.prefix, text) for text in texts), texts))


def continuation(model: Model, prefix: str, text: str) -> tuple[int, ...]:
    """The tokens of a text that follows the answer's prefix, spelled together with it.

    Raises ValueError if the tokenizer joins the two in one token.
    """
    if not prefix:
        return model.tokenize(text)
    before, both = model.tokenize(prefix), model.tokenize(prefix + text)
    if both[: len(before)] != before or len(both) == len(before):
        raise ValueError(f"{text!r} does not follow {prefix!r} as tokens of its own; use protocol.answering=generate")
    return both[len(before) :]


def encoding(reducer: Reducer, question: str | None = None) -> Encode:
    """How the frames are encoded for a reducer."""
    return Encode(
        scale=reducer.input.scale if reducer.input else 1.0,
        tower=level_of(reducer.merge) != "tokens",
        question=question,
    )


def require_fit(reducer: Reducer, name: str, layers: int) -> None:
    """Raises InfeasibleError if the reducer prunes where the model of this name has no layer left."""
    prune = reducer.prune
    if prune and prune.full_layers >= layers:
        most = layers - 1 - (prune.full_layers - prune.layer)
        raise InfeasibleError(f"reducer.prune.layer must be in [1, {most}] for {name} with {layers} layers, got {prune.layer}")


def require_all_fit(reducers: Mapping[str, Reducer], model: Model) -> None:
    """Raises UnfitError, naming all of those that do not."""
    reasons = {}
    for name, reducer in reducers.items():
        try:
            require_fit(reducer, model.name, model.layers)
        except InfeasibleError as error:
            reasons[name] = str(error)
    if reasons:
        raise UnfitError(reasons)
