"""From a video to the prompt up to the question."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from prunesweep.cost import Usage
from prunesweep.engine.encoder_cache import EncoderCache
from prunesweep.engine.validity import (
    require_merged,
    require_valid_merge,
    valid_tokens,
)
from prunesweep.lazy import F, torch
from prunesweep.reducers import Merger, Positions, merges_patches, needs_of
from prunesweep.reducers.parts.assembling import pooled_place
from prunesweep.types import LATER, Clip, Merged, Model, Prefix, Sampling, Tokens, TowerMerger
from prunesweep.types.slots import Given, Slots
from prunesweep.video.reader import DECODE_SECONDS, read_clip

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


@dataclass(frozen=True)
class Decode:
    """Frames of a video file or of a folder of frames."""

    path: Path
    video_id: str
    frames: int
    start: float | None
    end: float | None
    sampling: Sampling = "even"
    frame_rate: float | None = None
    """Of a folder."""
    seconds: float = field(default=DECODE_SECONDS, compare=False)
    """Most processor time; it decides whether there is an answer, not which."""
    read: Callable[..., Clip] = field(default=read_clip, compare=False)
    """`read_clip`, or what had it read the clip in advance."""
    share = "decode"

    @property
    def asked(self) -> tuple[Any, ...]:
        """What `read` is asked for."""
        part = (self.start, self.end)
        return (self.path, self.video_id, self.frames, *part, self.sampling, self.frame_rate, self.seconds)

    def __call__(self, _: None, model: Model) -> Clip:
        return self.read(*self.asked)


@dataclass(frozen=True)
class Encode:
    """Visual tokens: vision tower, projector, pooling."""

    scale: float = 1.0
    """Of the sides of the frames that the tower sees."""
    needs: tuple[str, ...] = ()
    """Facts that the next stage reads."""
    question: str | None = None
    """Of models whose vision tower reads it: such tokens are shared by trials only, not by questions on a video."""
    tower: TowerMerger | None = field(default=None, metadata=LATER)
    """What merges tokens between the tower's layers."""
    share = "encode"

    def __call__(self, clip: Clip, model: Model) -> Tokens:
        inside = {} if self.tower is None else {"tower": self.tower}
        return valid_tokens(model.encode(clip, self.scale, self.needs, self.question, **inside))


@dataclass(frozen=True)
class Kept:
    """What decoding and encoding give, read from disk if it was computed before."""

    stages: tuple[Decode, Encode]
    cache: EncoderCache = field(compare=False)
    share = "encode"

    def __call__(self, _: None, model: Model) -> Tokens:
        decode, encode = self.stages
        path = self.cache.path_of(self.stages, model)
        kept = self.cache.read(path, decode.video_id, str(model.device))
        if kept is not None:
            return valid_tokens(kept)
        tokens = encode(decode(None, model), model)
        self.cache.write(path, tokens)
        return tokens


@dataclass(frozen=True)
class Reduce:
    """The visual tokens that enter the LLM: all of them, or what a merger makes of them."""

    merge: Merger | None
    positions: Positions = field(default="original", metadata=LATER)
    """Of what the tower has merged."""
    share = "merge"

    def __call__(self, tokens: Tokens, model: Model) -> Merged:
        if self.merge is None:
            return _unmerged(tokens) if tokens.source is None else _merged_in_tower(tokens, tokens.source, self.positions)
        merged = self.merge(tokens)
        require_merged(self.merge, merged, tokens)
        needed = sum(tokens.facts[name].flops for name in needs_of(self.merge))
        merged = replace(merged, flops=merged.flops + needed)
        if merges_patches(self.merge):
            merged = replace(merged, x=model.project(merged.x))
        require_valid_merge(self.merge, merged, tokens.x.shape[2])
        return merged


def _unmerged(tokens: Tokens) -> Merged:
    frames, patches, _ = tokens.x.shape
    index = torch.arange(frames * patches, device=tokens.x.device)
    return Merged(
        tokens=tokens,
        x=tokens.x.flatten(0, 1),
        group=index // patches,
        source=index.view(frames, patches),
        position=index,
        span=frames * patches,
    )


def _merged_in_tower(tokens: Tokens, source: Int[Tensor, "t u"], positions: Positions) -> Merged:
    """As the tower has left them; original positions are those of their first patches among the visual tokens."""
    frames, left, _ = tokens.x.shape
    index = torch.arange(frames * left, device=tokens.x.device)
    merged = Merged(
        tokens=tokens,
        x=tokens.x.flatten(0, 1),
        group=index // left,
        source=source,
        position=index,
        span=len(index),
        flops=tokens.tower_flops,
    )
    if positions == "renumbered":
        return merged
    place = pooled_place(first_patches(merged), source.shape[1], tokens.dense_tokens // frames)
    return replace(merged, position=place, span=tokens.dense_tokens)


@dataclass(frozen=True)
class Embed:
    """The prompt up to the question: text before the video, visual tokens and what stands among them."""

    before: tuple[int, ...]
    share = "LLM"

    def __call__(self, merged: Merged, model: Model) -> Prefix:
        text = model.embed(self.before)
        start, slots = len(text), merged.tokens.slots
        seated = _one_after_the_other(merged, model, start) if slots is None else _in_slots(merged, slots, model, start)
        hidden = torch.cat([text, *(x.to(text.dtype) for x in seated.x)])
        if seated.order is not None:
            hidden = torch.cat([text, hidden[start:][seated.order]])
        visual = F.pad(seated.visual, (start, 0))
        return Prefix(
            video_id=merged.tokens.video_id,
            hidden=hidden,
            position=torch.cat([model.text_position(0, start), seated.position]),
            visual=visual,
            group=merged.group,
            next_position=seated.next_position,
            place=first_patches(merged),
            patches=merged.source.shape[1],
            entered=hidden[visual],
            given=seated.given and seated.given.put(0, start),
            usage=Usage(
                frames=len(merged.tokens.x) if merged.tokens.frames is None else merged.tokens.frames,
                dense_tokens=merged.tokens.dense_tokens,
                reduction_flops=merged.flops,
                cached_tokens=(),
                vision_patches=merged.tokens.vision_patches,
                tower_tokens=merged.tokens.tower_tokens,
            ),
        )


class Seated(NamedTuple):
    """A video's s tokens, text among them."""

    x: tuple[Float[Tensor, "n c"], Float[Tensor, "m c"]]
    """Visual tokens, others."""
    visual: Bool[Tensor, " s"]
    position: Int[Tensor, " s *axes"]
    next_position: int
    order: Int[Tensor, " s"] | None = None
    """In which those of x stand; None: one after the other."""
    given: Given | None = None


def _one_after_the_other(merged: Merged, model: Model, start: int) -> Seated:
    """The visual tokens, then the model's suffix."""
    count, suffix = len(merged.x), merged.tokens.suffix
    places = model.places(merged)
    stop = start + places.span
    return Seated(
        x=(merged.x, suffix),
        visual=torch.arange(count + len(suffix), device=merged.x.device) < count,
        position=torch.cat([start + places.visual, model.text_position(stop, len(suffix))]),
        next_position=stop + len(suffix),
    )


def _in_slots(merged: Merged, slots: Slots, model: Model, start: int) -> Seated:
    """Each visual token in the slot of its patch, text in its own.

    That is the patch whose place it keeps, or else the first that went to it.  Where a merger's tokens are out of order, one
    stands no earlier than those before it.
    """
    keeps_place = merged.span == merged.source.numel()
    patch = merged.position if keeps_place else first_patches(merged)
    own, text = slots.visual.nonzero()[patch, 0], (~slots.visual).nonzero()[:, 0]
    order = torch.cat([own.cummax(0).values, text]).argsort(stable=True)
    slot = torch.cat([own, text])[order]
    nothing = slots.added is None and slots.joined is None
    return Seated(
        x=(merged.x, slots.text),
        visual=order < len(own),
        position=start + slots.position[slot] if keeps_place else model.text_position(start, len(slot)),
        next_position=start + (slots.span if keeps_place else len(slot)),
        order=order,
        given=None if nothing else Given(slots.added, slots.joined).at(slot),
    )


def first_patches(merged: Merged) -> Int[Tensor, " n"]:
    """The first patch that went to each token, counted through the video; of a token without one its position."""
    source = merged.source.flatten()
    patch = torch.arange(len(source), device=source.device)
    none = torch.full((len(merged.x) + 1,), len(source), device=source.device)
    first = none.scatter_reduce(0, source.where(source >= 0, len(merged.x)), patch, "amin")[:-1]
    return first.where(first < len(source), merged.position)
