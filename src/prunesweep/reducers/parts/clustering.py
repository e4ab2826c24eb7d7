"""Density-peaks clustering with k nearest neighbours (DPC-KNN), and means over groups.

DPC-KNN: Du, Ding, Jia, "Study on density peaks clustering based on k-nearest neighbors" (2016), as used by PruneVid (arXiv
2412.16117, section 3.2).  Ties go to the lower index; noise on the densities, if asked for, is seeded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from prunesweep.lazy import torch

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


@dataclass(frozen=True)
class Noise:
    """Uniform noise on the densities, which breaks ties: 1e-6 and unseeded in PruneVid's released code."""

    scale: float = 0.0
    seed: int = 0


NO_NOISE = Noise()

BLOCK_VALUES = 2**21
"""Of features, that are in memory a second time in float64: 16 MiB."""
SAME_POINT = 1e-13
"""Squared distance, relative to the points' squared norms, below which two points are one: rounding leaves about 1e-15."""


def dpc_knn(
    x: Float[Tensor, "b n c"],
    clusters: Int[Tensor, " b"] | Sequence[int] | int,
    neighbours: int,
    noise: Noise = NO_NOISE,
    size: Int[Tensor, " b"] | Sequence[int] | None = None,
    known_finite: bool = False,
) -> Int[Tensor, "b n"]:
    """Cluster labels of each item's points; label i is the cluster whose centre has the i-th highest score.

    Distances are Euclidean divided by sqrt(c).  Density is exp(-mean squared distance to the `neighbours` nearest points,
    the point itself among them); with fewer points than `neighbours`, all of them count.  A point's score is its density
    times the distance to the nearest denser point; the points with the highest scores are centres, and every other point
    joins the nearest centre.

    Items of different sizes are padded at the end: only the first `size` points count, the labels of others mean nothing.

    A device is waited for once, to look whether x is finite, and not at all where a caller knows; once more for each of
    `clusters` and `size` that is a tensor.

    Raises ValueError unless 1 <= clusters <= points of each item, or if x is not finite.
    """
    x = x.detach()
    batch, points, channels = x.shape
    wanted = _whole_numbers(clusters, batch)
    sizes = _whole_numbers(points if size is None else size, batch)
    _require_fitting(wanted, sizes)
    count = torch.tensor(sizes, device=x.device)
    member = torch.arange(points, device=x.device) < count[:, None]
    foreign = ~(member[:, :, None] & member[:, None, :])
    distance = _distances(x) / channels**0.5
    farthest = distance.masked_fill(foreign, 0).amax(dim=(1, 2), keepdim=True)
    if not known_finite and not math.isfinite(float(farthest.sum())):
        raise ValueError(NOT_FINITE)
    distance = distance.masked_fill(foreign, math.inf)
    density = _densities(distance, count, neighbours, noise).masked_fill(~member, -math.inf)
    denser = density[:, None, :] > density[:, :, None]
    separation = torch.where(denser, distance, farthest).amin(-1)
    return _nearest_centre(distance, (separation * density).masked_fill(~member, -math.inf), wanted)


NOT_FINITE = "visual tokens to cluster contain NaN or infinite values; check the model's dtype"


def _whole_numbers(value: Int[Tensor, " b"] | Sequence[int] | int, count: int) -> list[int]:
    """One for each of so many items."""
    if isinstance(value, int):
        return [value] * count
    return value.tolist() if isinstance(value, torch.Tensor) else list(value)


def _nearest_centre(distance: Float[Tensor, "b n n"], score: Float[Tensor, "b n"], clusters: list[int]) -> Int[Tensor, "b n"]:
    """Labels, where the points of the highest scores, as many as are wanted, are centres; a centre's is its own."""
    wanted = torch.tensor(clusters, device=score.device)
    rank = torch.arange(max(clusters), device=score.device)
    chosen = rank < wanted[:, None]
    centre = score.sort(dim=-1, descending=True, stable=True).indices[:, : len(rank)]
    columns = centre[:, None, :].expand(-1, score.shape[1], -1)
    label = distance.gather(2, columns).masked_fill(~chosen[:, None, :], math.inf).argmin(-1)
    return label.scatter(1, centre, torch.where(chosen, rank, label.gather(1, centre)))


def _require_fitting(wanted: list[int], sizes: list[int]) -> None:
    for clusters, size in zip(wanted, sizes, strict=True):
        if not 1 <= clusters <= size:
            raise ValueError(f"clusters must be in [1, {size}] for {size} tokens, got {clusters}")


def _densities(distance: Float[Tensor, "b n n"], size: Int[Tensor, " b"], neighbours: int, noise: Noise) -> Float[Tensor, "b n"]:
    """Distances to points that are no members are infinite and do not count."""
    nearest = distance.topk(min(neighbours, distance.shape[-1]), largest=False).values
    squared = nearest.square().masked_fill(nearest == math.inf, 0)
    density = (squared.sum(-1) / size.clamp(max=nearest.shape[-1])[:, None]).neg().exp()
    if noise.scale:  # drawn on the CPU, so that every device sees the same
        drawn = torch.rand(density.shape, generator=torch.Generator().manual_seed(noise.seed))
        density = density + noise.scale * drawn.to(density.device)
    return density


def _distances(x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n n"]:
    """Euclidean distances by way of inner products, which are several times faster than differences.

    In float64, so that nothing is lost where large features cancel and every device decides alike; a block of items at a
    time, so that the copy in float64 stays small.
    """
    if x.device.type == "mps":  # has no float64
        return torch.cdist(x.float(), x.float(), compute_mode="donot_use_mm_for_euclid_dist")
    batch, points, channels = x.shape
    inner = torch.empty(batch, points, points, dtype=torch.float64, device=x.device)
    items = max(1, BLOCK_VALUES // (points * channels))
    for block, out in zip(x.split(items), inner.split(items), strict=True):
        block = block.double()
        torch.bmm(block, block.mT, out=out)
    norm = inner.diagonal(dim1=1, dim2=2)
    scale = norm[:, :, None] + norm[:, None, :]
    squared = torch.sub(scale, inner, alpha=2)
    return squared.masked_fill_(squared < SAME_POINT * scale, 0).sqrt_().float()


def group_mean(
    x: Float[Tensor, "b n c"],
    group: Int[Tensor, "b n"],
    groups: int,
    member: Bool[Tensor, "b n"] | None = None,
    precision: torch.dtype | None = None,
) -> Float[Tensor, "b g c"]:
    """Mean of the tokens of each group, computed in `precision` (float32); a group that nothing belongs to is zero."""
    precision = precision or torch.float32
    belongs = group[:, None, :] == torch.arange(groups, device=group.device)[:, None]
    if member is not None:
        belongs = belongs & member[:, None, :]
    size = belongs.sum(-1, keepdim=True).clamp(min=1)
    return (belongs.to(precision) @ x.to(precision)).div_(size).to(x.dtype)


def raster_order(label: Int[Tensor, "b n"], groups: int, member: Bool[Tensor, "b n"]) -> Int[Tensor, "b n"]:
    """The same groups, numbered in the order of their first members."""
    batch, points = label.shape
    place = torch.arange(points, device=label.device).expand(batch, -1).masked_fill(~member, points)
    first = torch.full((batch, groups), points, device=label.device).scatter_reduce(1, label, place, "amin")
    return first.argsort(dim=1, stable=True).argsort(dim=1).gather(1, label)


def run_lengths(label: Int[Tensor, " t"] | list[int]) -> list[int]:
    """Lengths of the runs of equal labels."""
    return [length for _, length in _runs(_listed(label))]


def _listed(label: Int[Tensor, " t"] | list[int]) -> list[int]:
    return label if isinstance(label, list) else label.tolist()


def contiguous_segments(label: Int[Tensor, " t"] | list[int]) -> list[int]:
    """Lengths of the segments that frame labels give, after the repair that makes clusters contiguous.

    As in PruneVid's released code: of each label only its longest runs survive (none, if the longest is a single frame);
    every erased stretch joins its longer neighbour, the left one in a tie; if nothing survives, there is one segment.
    """
    runs = _runs(_listed(label))
    longest: dict[int, int] = {}
    for value, length in runs:
        longest[value] = max(longest.get(value, 0), length)
    survives = [(value if length == longest[value] > 1 else None, length) for value, length in runs]
    return [length for _, length in _absorb(_join(survives))]


def _runs(labels: list[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for value in labels:
        if runs and runs[-1][0] == value:
            runs[-1] = (value, runs[-1][1] + 1)
        else:
            runs.append((value, 1))
    return runs


def _join(runs: list[tuple[int | None, int]]) -> list[tuple[int | None, int]]:
    """Neighbouring runs of one value as one run."""
    joined: list[tuple[int | None, int]] = []
    for value, length in runs:
        if joined and joined[-1][0] == value:
            joined[-1] = (value, joined[-1][1] + length)
        else:
            joined.append((value, length))
    return joined


def _absorb(runs: list[tuple[int | None, int]]) -> list[tuple[int | None, int]]:
    """Erased stretches (None) relabelled left to right, each with the value of its longer neighbour."""
    while None in (values := [value for value, _ in runs]) and len(runs) > 1:
        at = values.index(None)
        left = runs[at - 1][1] if at > 0 else 0
        right = runs[at + 1][1] if at + 1 < len(runs) else 0
        runs[at] = (runs[at - 1][0] if left >= right else runs[at + 1][0], runs[at][1])
        runs = _join(runs)
    return runs


class Peaks(NamedTuple):
    """Clusters with their centres, in the order of the centres' places."""

    centre: Int[Tensor, "b k"]
    """Sorted; padded at the end with the number of points."""
    label: Int[Tensor, "b n"]


def score_ranks(
    x: Float[Tensor, "b n c"], neighbours: int, noise: Noise = NO_NOISE, size: Int[Tensor, " b"] | None = None
) -> Int[Tensor, "b n"]:
    """How many points of its item have a higher score in DPC-KNN than each has."""
    return dpc_knn(x, x.shape[1] if size is None else size, neighbours, noise, size)


def dpc_peaks(
    x: Float[Tensor, "b n c"],
    clusters: Int[Tensor, " b"],
    neighbours: int,
    noise: Noise = NO_NOISE,
    size: Int[Tensor, " b"] | None = None,
) -> Peaks:
    """DPC-KNN with as many clusters of each item as asked for.  Raises ValueError as `dpc_knn` does."""
    points, most = x.shape[1], int(clusters.max())
    there = torch.arange(points, device=x.device) < (points if size is None else size[:, None])
    rank = score_ranks(x, neighbours, noise, size).masked_fill(~there, points)
    centre = rank.argsort(dim=1, stable=True)[:, :most]  # by score
    centre = centre.masked_fill(torch.arange(most, device=x.device) >= clusters[:, None], points)
    by_place = centre.argsort(dim=1, stable=True).argsort(1)
    label = dpc_knn(x, clusters, neighbours, noise, size).clamp(max=most - 1)  # of the others it means nothing
    return Peaks(centre.sort(1).values, by_place.gather(1, label))
