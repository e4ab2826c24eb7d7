"""Token reduction methods.  A method is one file here and one YAML in `conf/reducer/`.

A reducer has four slots, each may be empty: `input` makes the frames smaller before the vision tower, `merge` turns the
visual tokens of a video into fewer before they enter the LLM, `prune` picks the visual tokens that survive a decoder layer,
and `evict` cuts the caches after the last one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

from prunesweep.checks import require_at_least, require_ratio
from prunesweep.lazy import torch
from prunesweep.types import AttentionVariant, KeyValue, Merged, Prefix, Tokens

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

Level = Literal["tokens", "pooled", "tower"]
"""What a merger works on: visual tokens; these, with the tower's attention pooled to their grid; or the tower's features,
which are projected afterwards."""


@runtime_checkable
class Merger(Protocol):
    """A frozen dataclass that maps Tokens to Merged; with a `level` if it needs the vision tower.

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


def left_by_merge(merge: Merger | None, frames: int, patches: int) -> Left | None:
    """What enters the LLM of any video of `frames` times `patches` tokens; None if that depends on the video."""
    if merge is None:
        return Left(frames * patches, (patches,) * frames)
    left = getattr(merge, "left", None)
    return left(frames, patches) if left else None


def left_by_prune(prune: Pruner | None, entering: Left) -> int | None:
    """How many tokens stay of those that entered the LLM; None if that depends on the video."""
    if prune is None:
        return entering.tokens
    left = getattr(prune, "left", None)
    return left(entering) if left else None


def earlier_caches(prune: Pruner) -> EarlierCaches:
    """What a pruner that does not say anything has is `cut`."""
    return getattr(prune, "earlier_caches", "cut")


class LayerTokens(NamedTuple):
    """Visual tokens of each layer of the LLM."""

    visual: tuple[int, ...]
    """Seen during prefill."""
    cached: tuple[int, ...]
    """Left in its cache while decoding, before any eviction."""


def layer_tokens(prune: Pruner | None, layers: int, entering: int, kept: int) -> LayerTokens:
    """Of a reducer that lets `entering` tokens in and keeps `kept` of them where it prunes."""
    full = prune.full_layers if prune else layers
    visual = (entering,) * full + (kept,) * (layers - full)
    whole = prune is None or earlier_caches(prune) == "whole"
    return LayerTokens(visual, visual if whole else (kept,) * layers)


def level_of(merge: Merger | None) -> Level:
    return getattr(merge, "level", "tokens")


EarlierCaches = Literal["whole", "cut"]
"""Of the layers that saw all tokens: while decoding they keep all of these, or only those that a pruner has kept."""


def in_order(merge: Merger) -> bool:
    """Whether its tokens follow each other as their places in the video do."""
    return getattr(merge, "in_order", True)


@runtime_checkable
class Pruner(Protocol):
    """A frozen dataclass that picks visual tokens after `full_layers` layers have run.

    The caches of these layers are cut to the kept tokens unless it has `earlier_caches="whole"`.
    """

    @property
    def layer(self) -> int: ...

    @property
    def keep_ratio(self) -> float: ...

    @property
    def attention(self) -> AttentionVariant | None:
        """What it reads of the question's attention in the last full layer."""
        ...

    @property
    def full_layers(self) -> int:
        """How many layers run on all tokens."""
        ...

    def __call__(self, prefix: Prefix) -> Int[Tensor, " kept"]:
        """Indices into the visual tokens: at least one, sorted, each once."""
        ...


Cost = Literal["flops", "layer_average", "entrance", "kv"]
"""Of the dense model: prefill of the LLM on the whole prompt; visual tokens per layer, at its entrance, in the caches."""


@dataclass(frozen=True)
class Match:
    """One cost of the dense model's that a reducer is to have, as a share; exactly one is given."""

    flops: float | None = None
    layer_average: float | None = None
    entrance: float | None = None
    kv: float | None = None
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
    """A frozen dataclass that says how much smaller the frames become before the vision tower."""

    scale: float


SLOTS = ("input", "merge", "prune", "evict")


@dataclass(frozen=True)
class Reducer:
    """A token reduction method with its settings; all slots empty is the dense model."""

    name: str
    merge: Merger | None = None
    prune: Pruner | None = None
    input: Resizer | None = None
    evict: Evictor | None = None
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
