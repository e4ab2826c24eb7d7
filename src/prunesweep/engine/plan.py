"""From a trial and a question to the stages that answer it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prunesweep.checks import InfeasibleError, UnfitError
from prunesweep.cost import Shape
from prunesweep.engine.protocol import Protocol, encoder_text, option_texts, question_text
from prunesweep.engine.stages import (
    Ask,
    Attend,
    Choose,
    Decode,
    Embed,
    Encode,
    Evict,
    Feed,
    Generate,
    Kept,
    Layers,
    Prune,
    Reduce,
)
from prunesweep.reducers import (
    Left,
    Reducer,
    asks_first,
    called,
    left_by_step,
    look_of,
    needs_of,
    place_of,
    reads_of,
    require_layers,
)
from prunesweep.types import Clip, Model, Sample, TowerMerger
from prunesweep.video.reader import DECODE_SECONDS, read_clip

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
    read: Callable[..., Clip] = read_clip,
) -> tuple[Any, ...]:
    """The stages of one trial on one sample, in order; with a cache the first two may be read from disk.

    `seconds` is the most processor time for decoding, `read` what decodes.
    """
    if sample.problem is not None:
        raise ValueError(sample.problem)
    before, question = model.prompt(question_text(sample, protocol), protocol.system, protocol.prefix)
    see = seeing(sample, frames, reducer, protocol, model, seconds, read)
    stages: list[Any] = [
        *((Kept(see, cache),) if cache else see),
        Reduce(reducer.merge, getattr(reducer.input, "positions", "original")),
        Embed(before),
        *inside(reducer, question, model.layers, bool(before)),
    ]
    if reducer.evict:
        stages.append(Evict(reducer.evict))
    if protocol.answering == "generate":
        return (*stages, Generate(protocol.most_tokens, reducer.decode))
    texts = option_texts(sample, protocol)
    if not texts:
        raise ValueError(f"sample {sample.id} has no options to choose from; use protocol.answering=generate")
    options = tuple(continuation(model, protocol.prefix, text) for text in texts)
    return (*stages, Choose(options, texts, reducer.decode))


def seeing(
    sample: Sample,
    frames: int,
    reducer: Reducer,
    protocol: Protocol,
    model: Model,
    seconds: float = DECODE_SECONDS,
    read: Callable[..., Clip] = read_clip,
) -> tuple[Decode, Encode]:
    """From a file to its visual tokens."""
    part = (sample.start, sample.end)
    return (
        Decode(sample.path, sample.video_id, frames, *part, protocol.sampling, sample.frame_rate, seconds, read),
        encoding(reducer, encoder_text(sample, protocol) if model.question_conditioned else None),
    )


def inside(reducer: Reducer, question: tuple[int, ...], layers: int, text_before: bool = True) -> Iterator[Any]:
    """The stages between the LLM's layers: the question is asked before the first step that reads it, or at the end.

    Without text before the video also before a step that leaves no visual token, or nothing would go on.
    """
    received = reducer.evict is not None
    at, asked = 0, False
    for step in reducer.steps(layers):
        full, inside_layer = place_of(step)
        look = look_of(step)
        empty = not text_before and left_by_step(step, Left(1)) == 0
        asking = not asked and (asks_first(step) or empty)
        if full > at:
            yield Layers(at, full, received, look if asked or look == "queries" else None)
        if asking:
            yield Ask(question, None if inside_layer else look, received)
        asked, at = asked or asking, full
        if inside_layer:
            yield Attend(full, look)
        yield Prune(step)
        if inside_layer:
            yield Feed(full)
            at += 1
    if at < layers:
        yield Layers(at, layers, received)
    if not asked:
        yield Ask(question, None, received)


def continuation(model: Model, prefix: str, text: str) -> tuple[int, ...]:
    """The tokens of a text that follows the answer's prefix, spelled together with it.

    Raises ValueError if the tokenizer joins the two in one token, or has none for the text.
    """
    if not prefix:
        tokens = model.tokenize(text)
        if not tokens:
            raise ValueError(f"the tokenizer has no token for option {text!r}; use protocol.answering=generate")
        return tokens
    before, both = model.tokenize(prefix), model.tokenize(prefix + text)
    if both[: len(before)] != before or len(both) == len(before):
        raise ValueError(f"{text!r} does not follow {prefix!r} as tokens of its own; use protocol.answering=generate")
    return both[len(before) :]


def encoding(reducer: Reducer, question: str | None = None) -> Encode:
    """How the frames are encoded for a reducer."""
    return Encode(
        scale=reducer.input.scale if reducer.input else 1.0,
        needs=needs_of(reducer.merge),
        question=question,
        tower=reducer.input if isinstance(reducer.input, TowerMerger) else None,
    )


def require_fit(reducer: Reducer, model: Model) -> None:
    """Raises InfeasibleError if the reducer has a step where this model has no layer left, or reads what it does not know."""
    missing = [name for name in needs_of(reducer.merge) if name not in model.facts]
    if missing:
        raise InfeasibleError(
            f"{reducer.name} reads {missing[0]}, which {model.name} does not have; use another reducer or model"
        )
    if isinstance(reducer.input, TowerMerger) and not getattr(model, "merges_in_tower", False):
        raise InfeasibleError(
            f"{reducer.name} merges inside the vision tower, which {model.name}'s does not allow; use another reducer or model"
        )
    require_layers(reducer, model.name, model.layers)
    if model.text_position(0, 1).ndim > 1:
        _require_no_row_of_positions(reducer, model)
    require_full_attention(reducer, model.name, model.shape)


def require_full_attention(reducer: Reducer, name: str, shape: Shape) -> None:
    """Raises InfeasibleError for steps that read attention where a layer has none, and for those that change all caches."""
    if shape.linear is None:
        return
    layers = range(shape.layers)
    full = shape.attending(layers)
    said = f"only one in {shape.linear.every} of {name}'s layers has full attention"
    for step in reducer.steps(shape.layers):
        at, inside_layer = place_of(step)
        ahead = inside_layer or "ahead" in reads_of(step)
        if (at if ahead else at - 1) not in full:
            places = ", ".join(str(layer + (not ahead)) for layer in full if layer + (not ahead) < shape.layers)
            raise InfeasibleError(f"{called(step)} reads attention after {at} layers, but {said}; let it stand after {places}")
    for slot in ("evict", "decode"):
        if getattr(reducer, slot) is not None:
            raise InfeasibleError(f"{reducer.name} changes the caches of all layers, but {said}; use a method without {slot}")


def _require_no_row_of_positions(reducer: Reducer, model: Model) -> None:
    """Raises InfeasibleError for steps that take positions to be one after the other, not in time and space."""
    for step in reducer.steps(model.layers):
        what = f"{model.name}'s tokens have places in time and space, which {called(step)}"
        if getattr(step, "positions", "original") == "renumbered":
            raise InfeasibleError(f"{what} cannot count anew; set its positions=original")
        if "rotation" in reads_of(step):
            raise InfeasibleError(f"{what} cannot correct for; use a method without this correction")


def require_all_fit(reducers: Mapping[str, Reducer], model: Model) -> None:
    """Raises UnfitError, naming all of those that do not."""
    reasons = {}
    for name, reducer in reducers.items():
        try:
            require_fit(reducer, model)
        except InfeasibleError as error:
            reasons[name] = str(error)
    if reasons:
        raise UnfitError(reasons)
