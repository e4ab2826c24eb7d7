"""Grids of a frame's tokens, and coarser ones in them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from prunesweep.lazy import torch
from prunesweep.reducers import Left
from prunesweep.types import Tokens

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

MOST_ELONGATED = 2
"""Grids considered for a budget: blocks at most twice as high as wide, or as wide as high."""


def even_grids(frames: int, patches: int, rows: int | None, columns: int | None) -> Left | None:
    """What is left of frames on a grid of `rows` x `columns`, as many as the frames' own where None.

    Frames are taken for square; of others nothing is known if rows or columns are None.  Raises ValueError for a grid finer
    than the frames'.
    """
    side = math.isqrt(patches)
    square = side * side == patches
    if not square and (rows is None or columns is None):
        return None
    high, wide = rows or side, columns or side
    if high * wide > patches or (square and max(high, wide) > side):
        raise ValueError(f"rows and columns must fit into the {patches} visual tokens of a frame, got {high} x {wide}")
    return Left(frames * high * wide, (high * wide,) * frames)


def grids(height: int, width: int) -> list[tuple[int, int]]:
    """Rows and columns of all coarser grids with blocks that are not too elongated."""
    sizes = [(rows, columns) for rows in range(1, height + 1) for columns in range(1, width + 1)]
    return [(r, c) for r, c in sizes if 1 / MOST_ELONGATED <= (height / r) / (width / c) <= MOST_ELONGATED]


def grid_of(tokens: Tokens) -> tuple[int, int]:
    """Rows and columns of a frame's tokens.  Raises ValueError where they are no grid."""
    patches = tokens.x.shape[1]
    side = math.isqrt(patches)
    if tokens.grid is not None:
        return tokens.grid
    if side * side != patches:
        raise ValueError(f"the {patches} visual tokens of a frame are no square grid")
    return side, side


def middles(size: int, count: int) -> Int[Tensor, " count"]:
    """The middle place of each of `count` equal stretches of `size` places."""
    return (2 * torch.arange(count) + 1) * size // (2 * count)


def blocks(size: int, count: int) -> Int[Tensor, " size"]:
    """Which of `count` equal stretches each of `size` places lies in."""
    return torch.arange(size) * count // size
