"""Average pooling: the video as a coarser grid of tokens, the same everywhere and for every video."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from prunesweep.checks import require_at_least, require_choice
from prunesweep.clustering import group_mean
from prunesweep.reducers import Positions
from prunesweep.types import Merged, Tokens


@dataclass(frozen=True)
class Pool:
    """Average blocks of tokens in time and space; blocks differ by one in length where sizes do not divide."""

    rows: int = 3
    columns: int = 3
    frames: int | None = None
    """Pooled over time to this many frames; None leaves time alone."""
    positions: Positions = "renumbered"
    """`original`: the position of a block's first frame and middle patch."""

    def __post_init__(self) -> None:
        require_at_least("rows", self.rows, 1)
        require_at_least("columns", self.columns, 1)
        if self.frames is not None:
            require_at_least("frames", self.frames, 1)
        require_choice("positions", self.positions, Positions)

    def fewest(self, frames: int, patches: int) -> int:
        return (self.frames or frames) * self.rows * self.columns

    def __call__(self, tokens: Tokens) -> Merged:
        """Raises ValueError if the frames are no square grids, or smaller than the grid asked for."""
        frames, patches, _ = tokens.x.shape
        side = math.isqrt(patches)
        wanted = (self.frames or frames, self.rows, self.columns)
        if side * side != patches or any(w > size for w, size in zip(wanted, (frames, side, side), strict=True)):
            raise ValueError(
                f"frames, rows and columns must fit into {frames} square grids of {patches} visual tokens, "
                f"got {' x '.join(map(str, wanted))}"
            )
        time, row, column = (blocks(size, w) for size, w in zip((frames, side, side), wanted, strict=True))
        label = ((time[:, None, None] * wanted[1] + row[:, None]) * wanted[2] + column).to(tokens.x.device)
        return self._merged(tokens, label.view(frames, patches), math.prod(wanted))

    def _merged(self, tokens: Tokens, label: Int[Tensor, "t p"], count: int) -> Merged:
        frames, patches, _ = tokens.x.shape
        place = torch.arange(frames * patches, device=label.device).view(frames, patches)
        frame = torch.full((count,), frames, device=label.device).scatter_reduce(
            0, label.flatten(), place.flatten() // patches, "amin"
        )
        middle = group_mean((place % patches).float().view(1, -1, 1), label.view(1, -1), count)[0, :, 0].round().long()
        original = self.positions == "original"
        return Merged(
            tokens=tokens,
            x=group_mean(tokens.x.flatten(0, 1)[None], label.view(1, -1), count)[0],
            group=frame,
            source=label,
            position=frame * patches + middle if original else torch.arange(count, device=label.device),
            span=frames * patches if original else count,
            flops=2 * tokens.x.numel(),
        )


def blocks(size: int, count: int) -> Int[Tensor, " size"]:
    """Which of `count` equal stretches each of `size` places lies in."""
    return torch.arange(size) * count // size
