"""Average pooling: the video as a coarser grid of tokens, the same everywhere and for every video."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prunesweep.checks import require_at_least, require_choice
from prunesweep.lazy import torch
from prunesweep.reducers import Left, Positions
from prunesweep.reducers.parts.clustering import group_mean
from prunesweep.reducers.parts.grids import blocks, even_grids, grid_of, grids
from prunesweep.types import Merged, Tokens

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor


@dataclass(frozen=True)
class Pool:
    """Average blocks of tokens in time and space; blocks differ by one in length where sizes do not divide."""

    rows: int | None = 3
    columns: int | None = 3
    """None leaves rows or columns alone."""
    frames: int | None = None
    """Pooled over time to this many frames; None leaves time alone."""
    positions: Positions = "renumbered"
    """`original`: the position of a block's first frame and middle patch."""

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "frames"):
            if getattr(self, name) is not None:
                require_at_least(name, getattr(self, name), 1)
        require_choice("positions", self.positions, Positions)

    def left(self, frames: int, patches: int) -> Left | None:
        """Of rows or columns alone, the others are as many as the frames have.  Raises ValueError as a call does."""
        if self.frames is not None and self.frames > frames:
            raise ValueError(f"frames must fit into the video's {frames}, got {self.frames}")
        kept = self.frames or frames
        if self.rows is None and self.columns is None:
            return Left(kept * patches, (patches,) * kept)
        return even_grids(kept, patches, self.rows, self.columns)

    def fewest(self, frames: int, patches: int) -> int:
        """Of frames whose grid is not known."""
        return (self.frames or frames) * (self.rows or 1) * (self.columns or 1)

    def __call__(self, tokens: Tokens) -> Merged:
        """Raises ValueError if the video is smaller than the grid asked for, or its frames are no grids."""
        frames, patches, _ = tokens.x.shape
        sizes = (frames, *grid_of(tokens))
        wanted = (self.frames or frames, self.rows or sizes[1], self.columns or sizes[2])
        if any(w > size for w, size in zip(wanted, sizes, strict=True)):
            raise ValueError(
                f"frames, rows and columns must fit into {frames} grids of {sizes[1]} x {sizes[2]} visual tokens, "
                f"got {' x '.join(map(str, wanted))}"
            )
        time, row, column = (blocks(size, w) for size, w in zip(sizes, wanted, strict=True))
        label = ((time[:, None, None] * wanted[1] + row[:, None]) * wanted[2] + column).to(tokens.x.device)
        return self._merged(tokens, label.view(frames, patches), math.prod(wanted))

    def _merged(self, tokens: Tokens, label: Int[Tensor, "t p"], count: int) -> Merged:
        frames, patches, _ = tokens.x.shape
        place = torch.arange(frames * patches, device=label.device).view(frames, patches)
        frame = torch.full((count,), frames, device=label.device).scatter_reduce(
            0, label.flatten(), place.flatten() // patches, "amin"
        )
        block, zeros = label.flatten(), torch.zeros(count, dtype=torch.long, device=label.device)
        size, total = zeros.scatter_add(0, block, torch.ones_like(block)), zeros.scatter_add(0, block, place.flatten() % patches)
        middle = (2 * total + size) // (2 * size)  # halves go up everywhere: to the even one, neighbours would meet
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

    def candidates(self, tokens: Tokens) -> Iterator[Pool]:
        """All settings of its free knob: the number of frames if it pools over time, else the grid."""
        if self.frames is not None:
            return (replace(self, frames=frames) for frames in range(1, len(tokens.x) + 1))
        return (replace(self, rows=rows, columns=columns) for rows, columns in grids(*grid_of(tokens)))
