"""Budget matching: the value of a method's one free setting with which it costs what was asked for.

`reducer.match={flops: 0.23}` solves `reducer.knob`, which every method's YAML names.  Token counts are what a method leaves of a
few videos, spread evenly over the benchmark, because for some methods they depend on the video; nothing but token counts is
looked at, and no question is answered.  Counts come in steps: the nearest cost that can be reached is taken, and refused if
it is further off than the tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from prunesweep.benchmarks import by_video
from prunesweep.checks import InfeasibleError
from prunesweep.cost import Shape, prefill_flops
from prunesweep.engine.plan import plan, require_fit
from prunesweep.engine.protocol import Protocol
from prunesweep.engine.stages import Ask, Choose, Evict, Generate
from prunesweep.reducers import (
    SLOTS,
    Cost,
    Evictor,
    LayerTokens,
    Left,
    NoCounterpartError,
    Reducer,
    Step,
    bounds_of,
    layer_tokens,
    left_by_step,
)
from prunesweep.types import KeyValue, Merged, Model, Prefix, Sample, Tokens
from prunesweep.video.reader import DECODE_SECONDS, VideoError

STEPS = 14
"""Of a bisection: to a token in ten thousand."""
SHARES = (2.0**-12, 1.0)
"""Bounds of settings that are shares; powers of two give settings of few digits."""
LAYERS = ("prune.layer", "inner.layer")
GRID = ("rows", "columns", "frames")


@dataclass(frozen=True)
class Solution:
    """What a knob was set to, and why."""

    knob: str
    value: Any
    cost: Cost
    target: float
    reached: float
    """On the videos looked at."""
    videos: tuple[str, ...]

    def __str__(self) -> str:
        some = f"{len(self.videos)} video" + ("s" if len(self.videos) > 1 else "")
        of = "of the dense model on the same frames and prompts"
        return f"{self.knob}={self.value} gives {self.cost} {self.reached:.4f}x {of} on {some}, asked for {self.target:g}x"


@dataclass(frozen=True)
class Counts:
    """Tokens of one video's first question."""

    visual: tuple[int, ...]
    """Per layer."""
    fed: tuple[int, ...]
    """Per layer, of its feed-forward network."""
    cached: tuple[int, ...]
    """Per layer, while decoding."""
    attended: tuple[int, ...]
    """Of these, per layer, what a generated token attends to."""
    text: int
    dense: int


class Calibration:
    """Some videos of a benchmark, encoded once however many methods are counted on them."""

    def __init__(self, model: Model, samples: Sequence[Sample], seconds: float = DECODE_SECONDS):
        self.model, self.seconds = model, seconds
        self.videos = by_video(samples)
        self.encoded: dict[Any, Tokens] = {}
        """By their first two stages."""

    def chosen(self, count: int) -> list[tuple[Sample, ...]]:
        """The questions of each of `count` videos, spread evenly."""
        count = min(count, len(self.videos))
        return [self.videos[(2 * i + 1) * len(self.videos) // (2 * count)] for i in range(count)]

    @torch.inference_mode()
    def tokens(self, sample: Sample, reducer: Reducer, frames: int, protocol: Protocol) -> Tokens:
        """A video's visual tokens before a reducer merges them."""
        decode, encode, *_ = plan(sample, frames, reducer, protocol, self.model, seconds=self.seconds)
        if (decode, encode) not in self.encoded:
            self.encoded[decode, encode] = encode(decode(None, self.model), self.model)
        return self.encoded[decode, encode]

    @torch.inference_mode()
    def counts(self, sample: Sample, reducer: Reducer, frames: int, protocol: Protocol) -> Counts:
        """Raises VideoError for a video that cannot be read."""
        _, _, reduce, embed, *stages = plan(sample, frames, reducer, protocol, self.model)
        tokens = self.tokens(sample, reducer, frames, protocol)
        question = next(stage.question for stage in stages if isinstance(stage, Ask))
        among = 0 if tokens.slots is None else len(tokens.slots.text)
        before, after = len(embed.before), among + len(tokens.suffix) + len(question)
        merged = reduce(tokens, self.model)
        try:
            by_layer = counted(merged, reducer, self.model.layers)
        except LookupError:  # a step that depends on what the LLM makes of the video
            by_layer = self._run(embed(merged, self.model), stages)
        return finished(by_layer, reducer, merged.tokens.dense_tokens, before, after)

    def _run(self, prefix: Prefix, stages: Sequence[Any]) -> LayerTokens:
        """What the stages inside the LLM leave of this very video and question."""
        for stage in stages:
            if isinstance(stage, (Evict, Generate, Choose)):
                break
            prefix = stage(prefix, self.model)
        usage = prefix.usage
        return LayerTokens(*map(tuple, (usage.visual_tokens, usage.cached_tokens or (), usage.fed_tokens or usage.visual_tokens)))


def counted(merged: Merged, reducer: Reducer, layers: int) -> LayerTokens:
    """What a reducer leaves of a video's merged tokens.  Raises LookupError for a step that cannot say so beforehand."""

    def left(step: Step, now: Left) -> int:
        said = left_by_step(step, now)
        if said is None:
            raise LookupError(step)
        return said

    entering = Left(len(merged.group), tuple(torch.bincount(merged.group).tolist()))
    return layer_tokens(reducer.steps(layers), layers, entering, left)


def finished(by_layer: LayerTokens, reducer: Reducer, dense: int, before: int, after: int) -> Counts:
    """With what is evicted between so many tokens of text, and what decoding attends to."""
    cached = by_layer.cached
    if reducer.evict is not None:
        left = {count: _left(reducer.evict, count, before, after) for count in set(cached)}
        cached = tuple(left[count] for count in cached)
    attended = cached
    if reducer.decode is not None:
        full = reducer.decode.full_layers
        attended = (*cached[:full], *(reducer.decode.left(count) for count in cached[full:]))
    return Counts(by_layer.visual, by_layer.fed, cached, attended, before + after, dense)


def _left(evict: Evictor, visual: int, before: int, after: int) -> int:
    """How many visual tokens an evictor leaves in a cache; of one that cannot say so, if all tokens received the same."""
    said = evict.left(visual, before, after) if hasattr(evict, "left") else None
    if said is not None:
        return said
    place = torch.arange(before + visual + after)
    cache = torch.zeros(1, 1, len(place), 1)
    is_visual = (place >= before) & (place < before + visual)
    return evict(KeyValue(cache, cache), cache[0, :, :, 0], is_visual).visual


def mean_cost(cost: Cost, counts: Sequence[Counts], shape: Shape) -> float:
    """Of the dense model's on the same videos and questions."""
    if cost == "flops":
        own = sum(prefill_flops(shape, c.visual, c.text, None if c.fed == c.visual else c.fed) for c in counts)
        return own / sum(prefill_flops(shape, [c.dense] * shape.layers, c.text) for c in counts)
    share = {
        "layer_average": lambda c: sum(c.visual) / len(c.visual),
        "entrance": lambda c: c.visual[0],
        "kv": lambda c: sum(c.cached) / len(c.cached),
        "attended": lambda c: sum(c.attended) / len(c.attended),
    }[cost]
    return sum(share(c) / c.dense for c in counts) / len(counts)


def solve(reducer: Reducer, calibration: Calibration, frames: int, protocol: Protocol) -> tuple[Reducer, Solution]:
    """The reducer with its knob set, and what that costs.

    Raises ValueError if no question can be counted, or if the knob does not exist or cannot be varied; InfeasibleError if the
    reducer has none, if no setting of it comes close enough to the cost asked for, or if the model does not allow the reducer.
    """
    match, knob = reducer.match, reducer.knob
    if match is None:
        raise ValueError(f"{reducer.name} has nothing to match; set reducer.match")
    if knob is None:
        raise InfeasibleError(
            f"{reducer.name} has no free setting to be solved for reducer.match; "
            "give it a grid of its own without, or set reducer.knob"
        )
    model = calibration.model
    require_fit(reducer, model)
    samples = _readable(calibration, match.videos, reducer, frames, protocol)

    def cost(candidate: Reducer) -> float:
        counts = [calibration.counts(sample, candidate, frames, protocol) for sample in samples]
        return mean_cost(match.cost, counts, model.shape)

    steps = _steps(reducer, knob, calibration, samples[0], frames, protocol)
    if steps is not None:
        tried = {value: (cost(candidate), candidate) for value, candidate in steps.items()}
    else:
        tried = _bisected(lambda value: _with(reducer, knob, value), cost, match.target, *_bounds(reducer, knob))
    value = min(tried, key=lambda v: abs(tried[v][0] - match.target))
    reached, chosen = tried[value]
    if abs(reached - match.target) > match.tolerance * match.target:
        low, high = min(c for c, _ in tried.values()), max(c for c, _ in tried.values())
        raise InfeasibleError(
            f"{reducer.name} comes no closer to {match.cost}={match.target:g} than {reached:.4f} with {knob}={value} "
            f"(it reaches {low:.4f} to {high:.4f}); change its other settings, reducer.knob or reducer.match.tolerance"
        )
    videos = tuple(sample.video_id for sample in samples)
    return chosen, Solution(knob, value, match.cost, match.target, reached, videos)


def _readable(calibration: Calibration, videos: int, reducer: Reducer, frames: int, protocol: Protocol) -> list[Sample]:
    """The first question of each chosen video that can be asked, where there is one: others get no answer in the evaluation
    either, which says why."""
    found: list[Sample] = []
    why: Exception | None = None
    for questions in calibration.chosen(videos):
        for sample in questions:
            try:
                calibration.counts(sample, Reducer("dense"), frames, protocol)
                found.append(sample)
                break
            except Exception as error:  # whatever it is, the evaluation makes a record of it
                why = error
                if isinstance(error, VideoError):
                    break  # so are the video's other questions
    if not found:
        raise ValueError(f"none of the {videos} videos to match {reducer.name} on can be read and asked about: {why}")
    return found


def _steps(
    reducer: Reducer, knob: str, calibration: Calibration, sample: Sample, frames: int, protocol: Protocol
) -> dict[Any, Reducer] | None:
    """All settings of a knob that comes in steps, by their text; None for one that is a number on a scale."""
    slot, _, name = knob.partition(".")
    part = getattr(reducer, slot, None) if slot in SLOTS else None
    if part is None:
        raise ValueError(f"reducer.knob must begin with a part that {reducer.name} has, got {knob!r}")
    if name:
        if name not in {field.name for field in fields(part)}:
            raise ValueError(f"reducer.knob {knob!r}: {type(part).__name__} has no setting {name!r}")
        value = getattr(part, name)
        if knob in LAYERS:
            return {layer: _with(reducer, knob, layer) for layer in range(1, calibration.model.layers)}
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"reducer.knob must be a number, but {knob} is {value!r}")
        if isinstance(value, float):
            return None
        low, high = _whole_bounds(part, knob, calibration, sample, reducer, frames, protocol)
        return {count: _with(reducer, knob, count) for count in range(low, high + 1)}
    if not hasattr(part, "candidates"):
        raise ValueError(f"reducer.knob must name a setting of {slot}, such as {slot}.{fields(part)[0].name}")
    tokens = calibration.tokens(sample, reducer, frames, protocol)
    changed = ((c, replace(reducer, **{slot: c})) for c in part.candidates(tokens))
    return {_difference(part, c): candidate for c, candidate in changed}


def _difference(part: Any, candidate: Any) -> str:
    """`rows=3 columns=4`: what a candidate's own settings are, where candidates differ."""
    names = [f.name for f in fields(part) if f.name in GRID and getattr(candidate, f.name) is not None]
    return " ".join(f"{name}={getattr(candidate, name)}" for name in names)


def _bounds(reducer: Reducer, knob: str) -> tuple[float, float]:
    slot, _, name = knob.partition(".")
    return bounds_of(getattr(reducer, slot)).get(name, SHARES)


def _whole_bounds(
    part: Any, knob: str, calibration: Calibration, sample: Sample, reducer: Reducer, frames: int, protocol: Protocol
) -> tuple[int, int]:
    """Of a setting that is a whole number: the method's own, or up to a frame's tokens.  Raises ValueError for none."""
    name = knob.partition(".")[2]
    own = bounds_of(part)
    if name not in own:
        raise ValueError(f"reducer.knob {knob} is a whole number; {type(part).__name__} must give its bounds in knob_bounds")
    low, high = own[name]
    tokens = calibration.tokens(sample, reducer, frames, protocol).x.shape
    return int(low), int(min(high, tokens[1]))


def _with(reducer: Reducer, knob: str, value: Any) -> Reducer:
    slot, _, name = knob.partition(".")
    return replace(reducer, **{slot: replace(getattr(reducer, slot), **{name: value})})


def _bisected(
    make: Callable[[float], Reducer], cost: Callable[[Reducer], float], target: float, low: float, high: float
) -> dict[Any, tuple[float, Reducer]]:
    """Costs around the target; between the bounds they rise or fall.

    A share so small that a released method has no counterpart counts as one that costs less than any.
    """
    tried: dict[Any, tuple[float, Reducer]] = {}

    largest = high

    def look(value: float) -> float:
        candidate = make(value)
        try:
            tried[value] = (cost(candidate), candidate)
        except NoCounterpartError:
            if value == largest:  # the largest: there is no way out
                raise
            return -math.inf
        return tried[value][0]

    rising = look(high) >= look(low)  # the upper bound first: of settings that cost the same, the first is taken
    for _ in range(STEPS):
        middle = (low + high) / 2
        if (look(middle) < target) == rising:
            low = middle
        else:
            high = middle
    return tried
