"""Pareto fronts: which points no other beats, the steps between them, the area below, the knee."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which (cost, accuracy) points no other point beats: cheaper or equal, at least as accurate, and better in one.

    Points with NaN are never on the front; equal points are on it together.
    """
    order = sorted((i for i, p in enumerate(points) if not any(map(math.isnan, p))), key=lambda i: (points[i][0], -points[i][1]))
    on, best = [False] * len(points), (math.nan, -math.inf)
    for index in order:
        if points[index][1] > best[1] or points[index] == best:
            on[index], best = True, points[index]
    return on


def nondominated(points: Sequence[Sequence[float]]) -> list[bool]:
    """Which points no other beats, where more is better in every coordinate; never those with NaN, equal ones together."""
    whole = [p if not any(math.isnan(v) for v in p) else None for p in map(tuple, points)]

    def beaten(p: tuple[float, ...]) -> bool:
        return any(q is not None and q != p and all(b >= a for a, b in zip(p, q, strict=True)) for q in whole)

    return [p is not None and not beaten(p) for p in whole]


class Steps(NamedTuple):
    """The front as a function of cost: the best accuracy that at most this cost buys."""

    cost: Float[np.ndarray, " costs"]
    """The distinct costs, ascending."""
    best: Float[np.ndarray, "... costs"]


def steps(costs: Float[np.ndarray, " trials"], accuracy: Float[np.ndarray, "... trials"]) -> Steps:
    """The running maximum of accuracy over cost; trials with NaN are left out."""
    order = np.argsort(costs, kind="stable")
    order = order[~np.isnan(costs[order])]
    levels, first = np.unique(costs[order], return_index=True)
    values = np.where(np.isnan(accuracy[..., order]), -math.inf, accuracy[..., order])
    best = np.maximum.accumulate(np.maximum.reduceat(values, first, axis=-1), axis=-1) if len(order) else values
    return Steps(levels, best)


def on_front(costs: Float[np.ndarray, " trials"], accuracy: Float[np.ndarray, "... trials"]) -> Bool[np.ndarray, "... trials"]:
    """Which trials no cheaper or equally cheap one reaches or beats, as `analysis.pareto_front`, for many draws at once."""
    level, best = steps(costs, accuracy)
    place = np.searchsorted(level, np.nan_to_num(costs, nan=math.inf)).clip(max=max(len(level) - 1, 0))
    if not len(level):
        return np.zeros(accuracy.shape, dtype=bool)
    cheaper = np.concatenate([np.full((*best.shape[:-1], 1), -math.inf), best[..., :-1]], axis=-1)[..., place]
    with np.errstate(invalid="ignore"):
        return (accuracy > cheaper) & (accuracy >= best[..., place]) & ~np.isnan(costs)


def hypervolume(cost: Float[np.ndarray, " costs"], best: Float[np.ndarray, "... costs"], worst_cost: float) -> np.ndarray:
    """Area below the steps from no cost to `worst_cost`, of the rectangle up to full accuracy; accuracy counts from 0.

    NaN where nothing costs anything.
    """
    if worst_cost <= 0:
        return np.full(best.shape[:-1], math.nan)
    within = cost <= worst_cost
    width = np.diff(np.append(cost[within], worst_cost))
    return (np.nan_to_num(best[..., within]) * width).sum(-1) / worst_cost


def knee_point(costs: Float[np.ndarray, " trials"], accuracy: Float[np.ndarray, " trials"]) -> int | None:
    """The front's trial farthest above the line from its cheapest to its best one, both axes scaled to their range.

    The distance to the chord as in Kneedle (Satopää et al., 2011); None where the front has fewer than three points.
    """
    members = np.flatnonzero(on_front(costs, accuracy))
    members = members[np.argsort(costs[members], kind="stable")]
    if len(members) < 3 or costs[members[0]] == costs[members[-1]]:
        return None
    scaled = [(values - values[0]) / (values[-1] - values[0]) for values in (costs[members], accuracy[members])]
    return int(members[np.argmax(scaled[1] - scaled[0])])
