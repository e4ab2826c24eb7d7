"""STTM: Multi-Granular Spatio-Temporal Token Merging, https://arxiv.org/abs/2507.07990 (ICCV 2025).

Written from a description.  The release merges hidden states inside the LLM, at the entrance of layer 2 on 7B models and of
layer 0 on 72B; this is the method at layer 0, on the tokens before the LLM.

1.  Every frame is a quadtree: a cell is the mean of its children, a grid twice as fine.  From a coarse grid down, a cell
   stays as one token if it resembles all its children; otherwise these are looked at.
2.  Cells of consecutive frames of which one contains the other are linked if they are alike; linked ones are averaged.

How many tokens are left depends on the video; the paper sets the thresholds per benchmark.  Where a side is odd, the first
row or column stands alone; the release then compares such a cell with the frame's first cell in place of the missing ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from prunesweep.checks import require_at_least, require_choice, require_flag, require_number
from prunesweep.lazy import torch
from prunesweep.reducers import Positions
from prunesweep.reducers.parts.assembling import summed, weighted_sums
from prunesweep.reducers.parts.grids import grid_of
from prunesweep.reducers.parts.similarity import paired_cosine
from prunesweep.types import Contributions, Merged, Tokens

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

SMALLEST = 2
"""Grids are halved until a side has this many cells."""
MissingChildren = Literal["release", "ignored"]
"""Of a cell with fewer than four: the frame's first child stands in for them as released, or nothing does."""
Groups = Literal["release", "components"]
"""Of linked cells: labels as the release spreads them, which may stop early; or until all that hang together have one."""


@dataclass(frozen=True)
class Sttm:
    """Merge cells of a quadtree that resemble their children, then cells that resemble those of the frame before."""

    spatial_threshold: float = 0.85
    temporal_threshold: float | None = 0.65
    """None merges nothing over time."""
    root_level: int = 1
    """Where to begin: 0 is the coarsest grid, whose smaller side has two cells."""
    weighted: bool = False
    """Whether means are those of all patches; as released they are means of means."""
    missing_children: MissingChildren = "release"
    groups: Groups = "release"
    positions: Positions = "renumbered"

    def __post_init__(self) -> None:
        require_number("spatial_threshold", self.spatial_threshold)
        if self.temporal_threshold is not None:
            require_number("temporal_threshold", self.temporal_threshold)
        require_at_least("root_level", self.root_level, 0)
        require_flag("weighted", self.weighted)
        require_choice("missing_children", self.missing_children, MissingChildren)
        require_choice("groups", self.groups, Groups)
        require_choice("positions", self.positions, Positions)

    def left(self, frames: int, patches: int) -> None:
        return None

    def fewest(self, frames: int, patches: int) -> int:
        """Every cell of the root grid, of square frames; cells of different ones never become one token."""
        side = math.isqrt(patches)
        cells = math.prod(self._levels((side, side))[-1]) if side * side == patches else 1
        return cells if self.temporal_threshold is not None else frames * cells

    def _levels(self, grid: tuple[int, int]) -> list[tuple[int, int]]:
        """Grids from the finest to the root."""
        levels = [grid]
        while min(levels[-1]) > SMALLEST:
            levels.append((-(-levels[-1][0] // 2), -(-levels[-1][1] // 2)))
        return levels[: max(1, len(levels) - self.root_level)]

    def __call__(self, tokens: Tokens) -> Merged:
        """Raises ValueError if the frames are no grids."""
        x = tokens.x.detach().float()
        levels = [_Level.finest(x, grid_of(tokens))]
        for _ in self._levels(grid_of(tokens))[1:]:
            levels.append(levels[-1].coarser(self.weighted))
        leaf, share = self._leaves(levels)
        first = leaf.unique()
        label = torch.searchsorted(first, leaf)
        pairs = linked_pairs(label)
        if self.temporal_threshold is not None:
            every = torch.arange(x.shape[0] * x.shape[1], device=x.device)
            means = weighted_sums(x.flatten(0, 1), Contributions(label.flatten(), every, share.flatten()), len(first))
            label, share = self._grouped(means, pairs, label, share)
        patch = torch.arange(label.numel(), device=x.device)
        none = torch.full((int(label.max()) + 1,), label.numel(), device=x.device)
        place = none.scatter_reduce(0, label.flatten(), patch, "amin")
        merged = summed(tokens, place, Contributions(label.flatten(), patch, share.flatten()), self.positions)
        fine = sum(level.x.shape[1] for level in levels[:-1]) * len(x)
        return replace(merged, flops=2 * (2 * fine + (len(pairs) if self.temporal_threshold is not None else 0)) * x.shape[2])

    def _leaves(self, levels: list[_Level]) -> tuple[Int[Tensor, "t p"], Float[Tensor, "t p"]]:
        """The first place of the cell that each patch ends in, counted through the video, and the patch's share of the cell."""
        frames, patches = levels[0].x.shape[:2]
        base = torch.arange(frames, device=levels[0].x.device)[:, None] * patches
        leaf = base + torch.arange(patches, device=base.device)
        share = torch.ones(leaf.shape, device=base.device)
        for fine, level in pairwise(levels):
            stays = level.resembles(fine, self.spatial_threshold, self.missing_children)[:, level.cell]
            leaf, share = leaf.where(~stays, base + level.first[level.cell]), share.where(~stays, level.share)
        return leaf, share

    def _grouped(
        self, means: Float[Tensor, "n c"], pairs: Int[Tensor, "m 2"], label: Int[Tensor, "t p"], share: Float[Tensor, "t p"]
    ) -> tuple[Int[Tensor, "t p"], Float[Tensor, "t p"]]:
        blocks = [paired_cosine(means[block[:, 0]], means[block[:, 1]]) for block in pairs.split(label.shape[1])]
        pairs = pairs[torch.cat(blocks) >= self.temporal_threshold] if blocks else pairs
        group = group_labels(pairs, len(means), self.groups)
        _, group, size = group.unique(return_inverse=True, return_counts=True)
        grouped = group[label]
        if self.weighted:
            return grouped, 1 / torch.bincount(grouped.flatten())[grouped].float()
        return grouped, share / size[grouped]


class _Level(NamedTuple):
    """A grid of cells."""

    grid: tuple[int, int]
    x: Float[Tensor, "t n c"]
    cell: Int[Tensor, " p"]
    """That each patch is in."""
    first: Int[Tensor, " n"]
    """The first patch of each cell."""
    share: Float[Tensor, " p"]
    """Of each patch in its cell."""
    children: Int[Tensor, "n 4"]
    """Of the grid twice as fine, -1 where there are fewer."""

    @classmethod
    def finest(cls, x: Float[Tensor, "t p c"], grid: tuple[int, int]) -> _Level:
        own = torch.arange(x.shape[1], device=x.device)
        return cls(grid, x, own, own, torch.ones(len(own), device=x.device), own[:, None])

    def coarser(self, weighted: bool) -> _Level:
        """Twice as coarse: means of this level's cells, or of all patches."""
        row, column = (halved(size, self.cell.device) for size in self.grid)
        parent = (row[:, None] * (int(column[-1]) + 1) + column).flatten()
        count = torch.bincount(parent)
        slot = torch.arange(len(parent), device=parent.device) - (count.cumsum(0) - count)[parent.sort().values]
        order = parent.argsort(stable=True)
        children = torch.full((len(count), 4), -1, device=parent.device)
        children[parent[order], slot] = order
        cell = parent[self.cell]
        patches = torch.bincount(cell)
        share = 1 / patches[cell].float() if weighted else self.share / count[cell]
        weight = (torch.bincount(self.cell) / patches[parent]) if weighted else 1 / count[parent].float()
        x = sum((self.x[:, child] * (weight[child] * (child >= 0))[:, None] for child in children.T), self.x.new_zeros(()))
        first = torch.full_like(count, len(cell)).scatter_reduce(0, cell, torch.arange(len(cell), device=cell.device), "amin")
        return _Level((int(row[-1]) + 1, int(column[-1]) + 1), x, cell, first, share, children)

    def resembles(self, fine: _Level, threshold: float, missing: MissingChildren) -> Bool[Tensor, "t n"]:
        """Which cells are like all their children."""
        alike = torch.ones(self.x.shape[:2], dtype=torch.bool, device=self.x.device)
        for child in self.children.T:
            same = paired_cosine(self.x, fine.x[:, child.clamp(min=0)]) >= threshold
            alike &= same | (child < 0) if missing == "ignored" else same
        return alike


def halved(size: int, device: torch.device) -> Int[Tensor, " size"]:
    """Which of half as many stretches each of `size` places is in; the first stands alone where the size is odd."""
    return (torch.arange(size, device=device) + size % 2) // 2


def linked_pairs(label: Int[Tensor, "t p"]) -> Int[Tensor, "m 2"]:
    """Cells of consecutive frames that have a patch in common: as these are of quadtrees, one contains the other."""
    return torch.stack([label[:-1].flatten(), label[1:].flatten()], 1).unique(dim=0)


def group_labels(pairs: Int[Tensor, "m 2"], count: int, groups: Groups) -> Int[Tensor, " count"]:
    """The first member of each one's group, as links spread it."""
    label = torch.arange(count, device=pairs.device)
    while len(pairs):
        before = label
        least = label[pairs].amin(1)
        label = label.scatter_reduce(0, pairs.flatten(), least.repeat_interleave(2), "amin")
        label = label[label]
        done = torch.equal(label, label[label]) if groups == "release" else torch.equal(label, before)
        if done:
            break
    return label
