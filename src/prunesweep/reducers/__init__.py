"""Token reduction methods.  A method is one file here and one YAML in `conf/reducer/`.

A reducer is a set of named parts, each may be missing.  In the order of a video's way through the model: `input` makes the
frames smaller before the vision tower, or merges patches inside it, `merge` turns the visual tokens of a video into fewer before
they enter the LLM, `prune` and `inner` leave fewer of them between its layers, `evict` cuts the caches after the last one, and
`decode` says which of the cached tokens each generated token attends to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

from prunesweep.checks import InfeasibleError, require_at_least, require_ratio
from prunesweep.lazy import torch
from prunesweep.types import LATER, KeyValue, Look, Merged, Prefix, Tokens, TowerMerger
from prunesweep.types.facts import FEATURES

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


@runtime_checkable
class Merger(Protocol):
    """A frozen dataclass that maps Tokens to Merged; with `needs` if it reads more than the tokens: names of `facts.FACTS`.

    One that needs `features` merges patches of the vision tower, which are projected afterwards.

    Its tokens are at least one, finite, and stand in the video's order, each at a place of its own and with a patch that went
    to it (`prunesweep.engine.validity`); a merger whose tokens do not says `in_order = False`.
    """

    def __call__(self, tokens: Tokens) -> Merged: ...

    # optional: def left(self, frames: int, patches: int) -> Left | None, what it leaves of any video of that size (None: that
    # depends on the video), which is what prunesweep cost, reducer.match and searches go by; and def fewest(self, frames,
    # patches) -> int, the least that it may leave where `left` is None.  Likewise of a Pruner left(self, entering: Left) and
    # fewest(self, tokens), and of an Evictor left(self, visual, before, after)


class Left(NamedTuple):
    """Visual tokens that go on."""

    tokens: int
    groups: tuple[int, ...] | None = None
    """Sizes of the groups of `Merged.group`; None where they depend on the video."""
    entered: int | None = None
    """How many entered the LLM; None: these."""

    @property
    def at_first(self) -> int:
        return self.tokens if self.entered is None else self.entered


def left_by_merge(merge: Merger | None, frames: int, patches: int) -> Left | None:
    """What enters the LLM of any video of `frames` times `patches` tokens; None if that depends on the video."""
    if merge is None:
        return Left(frames * patches, (patches,) * frames)
    left = getattr(merge, "left", None)
    return left(frames, patches) if left else None


def steps_of(part: Any, layers: int) -> tuple[Step, ...]:
    """What a part of a reducer does inside an LLM of so many layers: its `steps`, or itself, once."""
    if part is None:
        return ()
    return tuple(part.steps(layers)) if hasattr(part, "steps") else (part,)


def inner_steps(parts: Iterable[Any], layers: int) -> tuple[Step, ...]:
    """Of all parts together, in the order of their places.

    Raises InfeasibleError where two stand at one place, or one cuts caches of layers that another has left whole.
    """
    steps = sorted((step for part in parts for step in steps_of(part, layers)), key=place_of)
    for one, other in pairwise(steps):
        if place_of(one) == place_of(other):
            both = f"{called(one)} and {called(other)}"
            raise InfeasibleError(f"{both} both stand after {one.full_layers} layers; move one of them")
        if earlier_caches(other) == "cut" and earlier_caches(one) == "whole":
            raise InfeasibleError(
                f"{called(other)} cuts the caches of earlier layers, which {called(one)} leaves whole; "
                "set earlier_caches of both to the same"
            )
    return tuple(steps)


def place_of(step: Step) -> tuple[int, bool]:
    """After so many layers; and whether after the attention of the next one, before its feed-forward network."""
    return step.full_layers, getattr(step, "inside_layer", False)


def asks_first(step: Step) -> bool:
    """Whether the question has to be there already: it is read, or its way through earlier layers would become another."""
    own = getattr(step, "reads_question", None)
    return own if own is not None else look_of(step) is not None or earlier_caches(step) == "cut"


def look_of(step: Step) -> Look | None:
    """What it reads of the last layer before it."""
    return getattr(step, "attention", None)


def reads_of(step: Step) -> tuple[str, ...]:
    """Fields of `types.Looks` that it reads."""
    return getattr(step, "reads", ())


def left_by_step(step: Step, entering: Left) -> int | None:
    """How many tokens stay of those that come to a step; None if that depends on the video."""
    left = getattr(step, "left", None)
    return left(entering) if left else None


def fewest_by_step(step: Step, entering: Left) -> int:
    """The least that may stay."""
    known = left_by_step(step, entering)
    if known is not None:
        return known
    return step.fewest(entering.tokens) if hasattr(step, "fewest") else 1


def bounds_of(part: Any) -> Mapping[str, tuple[float, float]]:
    """Between which values a part's settings may be solved for; those that it does not name are shares."""
    return getattr(part, "knob_bounds", {})


def earlier_caches(step: Step) -> EarlierCaches:
    """What a step that does not say anything has is `cut`."""
    return getattr(step, "earlier_caches", "cut")


def called(part: Any) -> str:
    """`fastv.Prune`, as its file and class are called."""
    return f"{type(part).__module__.rpartition('.')[2]}.{type(part).__qualname__}"


class LayerTokens(NamedTuple):
    """Visual tokens of each layer of the LLM."""

    visual: tuple[int, ...]
    """That its attention sees during prefill."""
    cached: tuple[int, ...]
    """Left in its cache while decoding, before any eviction."""
    fed: tuple[int, ...]
    """That its feed-forward network sees: fewer than its attention where a step stands between the two."""


def layer_tokens(steps: Sequence[Step], layers: int, entering: Left, left: Callable[[Step, Left], int]) -> LayerTokens:
    """Of a reducer with these steps inside the LLM, each of which leaves what `left` says of what comes to it."""
    visual: list[int] = []
    cached: list[int] = []
    fed: list[int] = []
    now = entering
    for step in steps:
        full, inside = place_of(step)
        for seen in (visual, cached):
            seen += [now.tokens] * (full + inside - len(seen))
        fed += [now.tokens] * (full - len(fed))
        now = Left(left(step, now), None, entering.at_first)
        if earlier_caches(step) == "cut":
            cached = [now.tokens] * len(cached)
    for seen in (visual, cached, fed):
        seen += [now.tokens] * (layers - len(seen))
    return LayerTokens(tuple(visual), tuple(cached), tuple(fed))


def needs_of(merge: Merger | None) -> tuple[str, ...]:
    """Names of the facts that it reads, sorted."""
    return tuple(sorted(getattr(merge, "needs", ())))


def merges_patches(merge: Merger | None) -> bool:
    """Whether it works on the vision tower's patches, before the projector."""
    return FEATURES in needs_of(merge)


EarlierCaches = Literal["whole", "cut"]
"""Of the layers that saw all tokens: while decoding they keep all of these, or only those that a pruner has kept."""


def in_order(merge: Merger) -> bool:
    """Whether its tokens follow each other as their places in the video do."""
    return getattr(merge, "in_order", True)


class Step(Protocol):
    """A frozen dataclass that leaves fewer visual tokens, or others, after `full_layers` layers have run.

    What it reads of the question, and what becomes of the caches of earlier layers, it says in these attributes, each of
    which may be missing:

    inside_layer: whether it stands after the attention of the layer with the index `full_layers`, before its feed-forward
        network (False)
    attention: what it reads of the last of these layers, as `types.Look` names it (None: nothing)
    reads: which of `types.Looks` it reads besides (none)
    reads_question: whether it reads anything of the question; steps that do not, and leave earlier caches whole, are shared
        by all questions on a video (True if it reads attention or cuts caches)
    earlier_caches: `whole` or `cut` (cut)
    left(entering: Left) -> int | None: how many tokens it leaves; None if that depends on the video (None)
    fewest(tokens: int) -> int: the least that it may leave where `left` says None (1)

    A part of a reducer may also be several: it has a method `steps(layers)` that gives them for a model of so many layers.
    """

    @property
    def full_layers(self) -> int: ...

    def __call__(self, prefix: Prefix) -> Int[Tensor, " kept"] | Change:
        """Indices into the visual tokens, sorted, each once; or a `Change`."""
        ...


Pruner = Step
"""A part that is one step; its setting `layer` may count otherwise than `full_layers`."""


@dataclass(frozen=True)
class Change:
    """What a step does to the sequence."""

    keep: Int[Tensor, " kept"]
    """Indices into the visual tokens, sorted, each once."""
    hidden: Float[Tensor, "kept c"] | None = None
    """What becomes of the kept tokens; None: they stay as they are."""
    extra: Float[Tensor, "more c"] | None = None
    """Visual tokens that come to stand behind the kept ones."""
    positions: Positions = "original"
    """Of all tokens in the layers to come: as they were, or counted anew from 0."""
    carried: Mapping[str, Any] = field(default_factory=dict)
    """For later steps, beside what is carried already."""
    flops: int = 0
    """Spent on choosing: multiply-adds twice, as in `prunesweep.cost`."""


class Decoding(Protocol):
    """A frozen dataclass that says which visual tokens each generated token attends to from some layer on."""

    @property
    def full_layers(self) -> int:
        """So many layers attend to their whole caches."""
        ...

    def __call__(self, attention: Float[Tensor, "h n"], earlier: Any) -> tuple[Int[Tensor, " kept"] | None, Any]:
        """From the token's attention to the visual tokens in the last of these layers: indices of those that the later layers
        attend to, or None for all; and what it wants to be told with the next token (None at the first).
        """
        ...

    def left(self, tokens: int) -> int:
        """How many of the visual tokens in a cache it attends to, where it leaves out any."""
        ...


Cost = Literal["flops", "layer_average", "entrance", "kv", "attended"]
"""Of the dense model: prefill of the LLM on the whole prompt; visual tokens per layer, at its entrance, in the caches, and of
these what a generated token attends to."""


@dataclass(frozen=True)
class Match:
    """One cost of the dense model's that a reducer is to have, as a share; exactly one is given."""

    flops: float | None = None
    layer_average: float | None = None
    entrance: float | None = None
    kv: float | None = None
    attended: float | None = field(default=None, metadata=LATER)
    videos: int = 8
    """Evenly spread over the benchmark, on which costs are counted: what a method keeps may depend on the video."""
    tolerance: float = 0.1
    """How far the nearest cost may be off, relative to the one asked for; many settings come in steps."""

    def __post_init__(self) -> None:
        given = [name for name in get_args(Cost) if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"reducer.match needs exactly one of {', '.join(get_args(Cost))}, got {', '.join(given) or 'none'}")
        require_ratio(f"reducer.match.{given[0]}", getattr(self, given[0]))
        require_at_least("reducer.match.videos", self.videos, 1)
        require_ratio("reducer.match.tolerance", self.tolerance)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Match:
        known = [field.name for field in fields(cls)]
        if not isinstance(settings, Mapping):
            raise ValueError(f"reducer.match must be a cost and its share, such as {{flops: 0.23}}, got {settings!r}")
        for name in settings:
            if name not in known:
                raise ValueError(f"reducer.match has no {name!r}; known: {', '.join(known)}")
        return cls(**{str(name): value for name, value in settings.items()})

    @property
    def cost(self) -> Cost:
        return next(name for name in get_args(Cost) if getattr(self, name) is not None)

    @property
    def target(self) -> float:
        return getattr(self, self.cost)


class Evicted(NamedTuple):
    """One layer's cache after an eviction."""

    kv: KeyValue
    visual: int
    """Visual tokens in it, the same for every head."""
    flops: int


@runtime_checkable
class Evictor(Protocol):
    """A frozen dataclass that makes one layer's cache smaller once the whole prompt has been read."""

    def __call__(self, kv: KeyValue, received: Float[Tensor, "h s"], visual: Bool[Tensor, " s"]) -> Evicted: ...


@runtime_checkable
class Resizer(Protocol):
    """A frozen dataclass that says how much smaller the frames become before the vision tower.

    One that is a `types.TowerMerger` too merges patches inside the tower.
    """

    scale: float


SLOTS = ("input", "merge", "prune", "inner", "evict", "decode")
INNER = ("prune", "inner")
"""Parts that act between the LLM's layers."""


@dataclass(frozen=True)
class Reducer:
    """A token reduction method with its settings; all slots empty is the dense model."""

    name: str
    merge: Merger | None = None
    prune: Pruner | None = None
    input: Resizer | None = None
    evict: Evictor | None = None
    inner: Pruner | None = field(default=None, metadata=LATER)
    """As `prune`, for combinations of methods."""
    decode: Decoding | None = field(default=None, metadata=LATER)
    match: Match | None = None
    """What it should cost; `prunesweep.engine.budget` solves the knob for it."""
    knob: str | None = None
    """The setting that is free to be solved for, such as `merge.keep_ratio`."""

    def __post_init__(self) -> None:
        if self.match is not None and not isinstance(self.match, Match):  # a mapping from the configuration
            object.__setattr__(self, "match", Match.of(self.match))
        for slot in SLOTS:
            if isinstance(getattr(self, slot), Mapping):
                raise ValueError(
                    f"reducer={self.name} has no {slot}, so that reducer.{slot}'s settings have no effect; in a sweep of several "
                    "methods give each its own settings with hydra/sweeper=grids"
                )
            if isinstance(part := getattr(self, slot), (str, int, float, list, tuple)):
                raise ValueError(f"reducer.{slot}={part!r} is no part of a method; null leaves it out")
        if not isinstance(self.name, str):
            raise ValueError(f"reducer.name must be text, got {self.name!r}")
        if self.merge is not None and isinstance(self.input, TowerMerger):
            raise ValueError(
                f"reducer={self.name} merges inside the vision tower, which leaves no grid, and after it; set reducer.merge=null"
            )
        if self.decode is not None and self.evict is not None:
            raise ValueError(
                f"reducer={self.name} has both evict and decode; after an eviction nobody knows which tokens are visual"
            )

    def steps(self, layers: int) -> tuple[Step, ...]:
        """All that happens inside an LLM of so many layers, in order.  Raises InfeasibleError for contradictions."""
        steps = inner_steps((getattr(self, slot) for slot in INNER), layers)
        if self.evict is not None and any(place_of(step)[1] for step in steps):
            raise InfeasibleError(f"reducer={self.name} evicts by attention that steps inside a layer do not sum up")
        if self.decode is not None and steps and steps[-1].full_layers >= self.decode.full_layers:
            raise InfeasibleError(
                f"reducer.decode picks tokens after {self.decode.full_layers} layers, but {called(steps[-1])} leaves fewer after "
                f"{steps[-1].full_layers}; let it act later"
            )
        return steps


def require_layers(reducer: Reducer, model: str, layers: int) -> None:
    """Raises InfeasibleError if the reducer has a step where a model of so many layers has none left, or contradicts itself."""
    for slot in (*INNER, "decode"):
        part = getattr(reducer, slot)
        for step in steps_of(part, layers):
            if step.full_layers < layers:
                continue
            layer = getattr(part, "layer", None)
            if isinstance(layer, int):
                most = layers - 1 - (step.full_layers - layer)
                raise InfeasibleError(
                    f"reducer.{slot}.layer must be in [1, {most}] for {model} with {layers} layers, got {layer}"
                )
            raise InfeasibleError(
                f"reducer.{slot} acts after {step.full_layers} layers; {model} has {layers}, so at most {layers - 1} can be given"
            )
    reducer.steps(layers)


class NoCounterpartError(ValueError):
    """A method as released is asked for what its released code cannot run."""


def require_frames(reducer: Reducer, frames: int, frames_per_step: int = 1, key: str = "frames") -> None:
    """Raises ValueError if a merger has no answer for so few frames, of which the tower puts some together.

    Mergers with such a bound have a method of this name; others take any number.  `key` is where frames are set.
    """
    bound = getattr(reducer.merge, "require_frames", None)
    if bound is None:
        return
    steps = math.ceil(frames / frames_per_step)
    try:
        bound(steps)
    except ValueError as error:
        if steps == frames:
            raise
        raise type(error)(f"{error} ({key}={frames} are {steps}: the vision tower puts {frames_per_step} together)") from None


Positions = Literal["renumbered", "original"]
"""Positions of reduced visual tokens: counted anew without gaps, or as before the reduction."""


def keep_tokens(tokens: Tokens, kept: Int[Tensor, " kept"], positions: Positions) -> Merged:
    """The visual tokens at the sorted indices `kept`, each once, counted through the video, and no others."""
    frames, patches, _ = tokens.x.shape
    renumbered = torch.arange(len(kept), device=kept.device)
    source = torch.full((frames * patches,), -1, device=kept.device)
    source[kept] = renumbered
    original = positions == "original"
    return Merged(
        tokens=tokens,
        x=tokens.x.flatten(0, 1)[kept],
        group=kept // patches,
        source=source.view(frames, patches),
        position=kept if original else renumbered,
        span=frames * patches if original else len(kept),
    )
