"""Made-up videos that methods before the LLM are held to account on: seeded, of several sizes, more and less redundant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from prunesweep.console.meant import unknown
from prunesweep.lazy import torch
from prunesweep.types import Tokens
from prunesweep.types.facts import FACTS, POOLED, Fact

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["random", "drifting", "still", "one patch moves", "all tokens equal"]
CHANNELS = 24
WORDS = 3
DRIFT = 0.3
"""Noise on what stands still, beside its own size."""


class Video(NamedTuple):
    """What one is made from."""

    kind: Kind
    frames: int
    patches: int
    grid: tuple[int, int] | None = None
    """Rows and columns; None: of a square."""

    def __str__(self) -> str:
        size = "x".join(map(str, self.grid)) if self.grid else self.patches
        return f"a video ({self.kind}) of {self.frames} frames of {size} tokens"


VIDEOS: tuple[Video, ...] = (
    Video("random", 8, 16),
    Video("drifting", 8, 36),
    Video("still", 8, 16),
    Video("one patch moves", 8, 16),
    Video("all tokens equal", 6, 16),
    Video("random", 11, 25),
    Video("drifting", 9, 25),
    Video("still", 3, 36),
    Video("all tokens equal", 12, 9),
    Video("random", 1, 16),
    Video("drifting", 2, 9),
    Video("drifting", 12, 4),
    Video("drifting", 4, 15, (5, 3)),
    Video("random", 2, 6, (6, 1)),
)


def tokens_of(video: Video, needs: Iterable[str], kind: torch.dtype | None = None) -> Tokens:
    """Its tokens with the facts that are needed and no others."""
    dice = torch.Generator().manual_seed(1000 * video.frames + video.patches)
    x = _patches(video, dice).to(kind or torch.float32)
    facts = _facts(x, dice, video.kind == "all tokens equal")
    suffix = torch.zeros(0, CHANNELS, dtype=x.dtype)
    for name in needs:
        if name not in facts:
            raise ValueError(unknown("fact in needs", name, facts))
    return Tokens("video", x, suffix, grid=video.grid, facts={name: facts[name] for name in needs})


def _patches(video: Video, dice: torch.Generator) -> Tensor:
    shape = (video.frames, video.patches, CHANNELS)
    first, noise = torch.randn(1, *shape[1:], generator=dice), torch.randn(shape, generator=dice)
    if video.kind == "random":
        return noise
    if video.kind == "drifting":
        return first + DRIFT * noise
    if video.kind == "all tokens equal":
        return noise[:1, :1].expand(shape).contiguous()
    x = first.expand(shape).clone()
    if video.kind == "one patch moves":
        frame = torch.arange(video.frames)
        place = frame * 2 % video.patches
        x[frame, place] = noise[frame, place]
    return x


def _facts(x: Tensor, dice: torch.Generator, alike: bool) -> dict[str, Fact]:
    """Every fact of `prunesweep.types.facts.FACTS`, each different from the tokens, and as redundant as they are."""
    frames, patches, _ = x.shape

    def turned(by: int) -> Tensor:
        return x.roll(by, -1)

    by_patch = {"features": turned(1), "key.joined": turned(2), "key.mean": turned(3), "image.text_space": turned(4)}
    for name in FACTS:
        if name.startswith("attention."):
            drawn = torch.rand(frames, patches, generator=dice)
            by_patch[name] = (torch.ones_like(drawn) if alike else drawn).softmax(-1).to(x.dtype)
    words = {
        name: torch.randn(WORDS, CHANNELS, generator=dice).to(x.dtype) for name in ("question.text_space", "question.embedded")
    }
    whole: Mapping[str, Tensor] = {"frame.head": turned(5).mean(1), **words}
    pooled = {POOLED + name: value for name, value in by_patch.items()}
    return {name: Fact(value, flops=0) for name, value in {**by_patch, **pooled, **whole}.items()}


def with_fact(tokens: Tokens, name: str) -> Tokens:
    """With a fact that says something else."""
    value = tokens.facts[name].value
    other = value.flip(tuple(range(value.ndim))).contiguous()
    return replace(tokens, facts={**tokens.facts, name: Fact(other)})
