"""Uniform frames: keep evenly spaced frames with all their tokens, the simplest way to make a video cheaper.

The vision tower still sees every frame, so that methods are compared on one encoded video; `video.frames` would save its
work, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from prunesweep.checks import require_choice, require_ratio
from prunesweep.lazy import torch
from prunesweep.reducers import Left, Positions, keep_tokens
from prunesweep.shares import nearest_share
from prunesweep.types import Merged, Tokens

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

Spacing = Literal["ends", "centres"]
"""From the first frame to the last one, or the middles of equal parts of the video."""


@dataclass(frozen=True)
class Stride:
    """Keep round(keep_ratio t) of a video's t frames, at least one."""

    keep_ratio: float = 0.25
    spacing: Spacing = "ends"
    positions: Positions = "renumbered"

    def __post_init__(self) -> None:
        require_ratio("keep_ratio", self.keep_ratio)
        require_choice("spacing", self.spacing, Spacing)
        require_choice("positions", self.positions, Positions)

    def left(self, frames: int, patches: int) -> Left:
        kept = self._count(frames)
        return Left(kept * patches, (patches,) * kept)

    def _count(self, frames: int) -> int:
        return max(1, nearest_share(frames, self.keep_ratio))

    def __call__(self, tokens: Tokens) -> Merged:
        frames, patches, _ = tokens.x.shape
        chosen = spaced(frames, self._count(frames), self.spacing).to(tokens.x.device)
        places = torch.arange(patches, device=tokens.x.device)
        return keep_tokens(tokens, (chosen[:, None] * patches + places).flatten(), self.positions)


def spaced(frames: int, count: int, spacing: Spacing) -> Int[Tensor, " count"]:
    """Indices of `count` of `frames` frames, each once; a single frame is the middle one either way."""
    if spacing == "ends" and count > 1:
        return torch.tensor([round(i * (frames - 1) / (count - 1)) for i in range(count)])
    return torch.tensor([(2 * i + 1) * frames // (2 * count) for i in range(count)])
