"""Uniform spatial stride: of every frame the tokens on a coarser grid, untouched, the same for every video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from prunesweep.checks import require_at_least, require_choice
from prunesweep.lazy import torch
from prunesweep.reducers import Left, Positions, keep_tokens
from prunesweep.reducers.parts.grids import (
    even_grids,
    grid_of,
    grids,
    middles,
)
from prunesweep.types import Merged, Tokens


@dataclass(frozen=True)
class Stride:
    """Keep the middle token of each of `rows` x `columns` equal blocks of a frame."""

    rows: int = 3
    columns: int = 3
    positions: Positions = "renumbered"

    def __post_init__(self) -> None:
        require_at_least("rows", self.rows, 1)
        require_at_least("columns", self.columns, 1)
        require_choice("positions", self.positions, Positions)

    def left(self, frames: int, patches: int) -> Left | None:
        """Raises ValueError as a call does; of frames whose grid is not known, only if the tokens do not suffice."""
        return even_grids(frames, patches, self.rows, self.columns)

    def __call__(self, tokens: Tokens) -> Merged:
        """Raises ValueError if the grid is finer than that of the frames."""
        height, width = grid_of(tokens)
        if self.rows > height or self.columns > width:
            raise ValueError(f"rows and columns must fit into {height} x {width} visual tokens, got {self.rows} x {self.columns}")
        frames, patches, _ = tokens.x.shape
        chosen = (middles(height, self.rows)[:, None] * width + middles(width, self.columns)).flatten()
        places = torch.arange(frames)[:, None] * patches + chosen
        return keep_tokens(tokens, places.flatten().to(tokens.x.device), self.positions)

    def candidates(self, tokens: Tokens) -> Iterator[Stride]:
        """All settings of its free knob, the grid."""
        return (replace(self, rows=rows, columns=columns) for rows, columns in grids(*grid_of(tokens)))
