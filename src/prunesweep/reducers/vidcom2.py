"""VidCom2: Video Compression Commander, https://arxiv.org/abs/2505.14454 (EMNLP 2025).  Written from a description.

Tokens are compared, in the half of their channels that vary least, with the mean of the video and of their frame.  Frames
whose tokens are unlike the video's mean get more of the budget, and of each frame the tokens least like both means stay.  What
a frame cannot hold of its budget is lost, so that less than `keep_ratio` may stay.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from prunesweep.checks import require_choice, require_ratio
from prunesweep.lazy import torch
from prunesweep.reducers import Positions, keep_tokens
from prunesweep.reducers.parts.similarity import best, unit
from prunesweep.types import Merged, Tokens

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

WIDTHS = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0)
"""Of the Gaussians that are summed up, as variances; paper and release."""
TEMPERATURE = 0.01
"""Of the softmax over frames; paper and release."""


class Scores(NamedTuple):
    """Likeness of each token to the mean of the video, and of its frame."""

    video: Float[Tensor, "t p"]
    frame: Float[Tensor, "t p"]


@dataclass(frozen=True)
class VidCom2:
    """Keep the tokens that are unlike their video and their frame."""

    keep_ratio: float = 0.25
    """R: of a frame's tokens, on average."""
    positions: Positions = "renumbered"

    def __post_init__(self) -> None:
        require_ratio("keep_ratio", self.keep_ratio)
        require_choice("positions", self.positions, Positions)

    def left(self, frames: int, patches: int) -> None:
        return None

    def fewest(self, frames: int, patches: int) -> int:
        """A frame's share falls by at most 1/t of the ratio."""
        return frames * max(1, int(self.keep_ratio * (1 - 1 / frames) * patches))

    def __call__(self, tokens: Tokens) -> Merged:
        scores = likeness(tokens.x)
        count = budgets(scores.video, self.keep_ratio)
        kept = best(-(scores.video + scores.frame), count).flatten().nonzero()[:, 0]
        return replace(keep_tokens(tokens, kept, self.positions), flops=2 * 2 * tokens.x.numel())


def likeness(x: Float[Tensor, "t p c"]) -> Scores:
    steady = x.float().flatten(0, 1).var(0, correction=0).argsort(stable=True)[: x.shape[2] // 2]
    vectors = unit(x[..., steady])
    return Scores(_gaussians(vectors, vectors.mean((0, 1))), _gaussians(vectors, vectors.mean(1, keepdim=True)))


def _gaussians(vectors: Float[Tensor, "t p c"], centre: Tensor) -> Float[Tensor, "t p"]:
    squared = (vectors - centre).square().sum(-1)
    return torch.stack([(-squared / (2 * width)).exp() for width in WIDTHS]).sum(0)


def frame_ratios(video: Float[Tensor, "t p"], ratio: float) -> Float[Tensor, " t"]:
    """The share of each frame's tokens that stay; frames unlike the video's mean get more."""
    uniqueness = -video.mean(1)
    weight = ((uniqueness - uniqueness.max()) / TEMPERATURE).softmax(0)
    return (ratio * (1 + weight - weight.mean())).clamp(max=1)


def budgets(video: Float[Tensor, "t p"], ratio: float) -> Int[Tensor, " t"]:
    """Rounded half to even, at least one."""
    return (frame_ratios(video, ratio) * video.shape[1]).round().long().clamp(min=1)
