"""Pareto fronts: which points no other beats."""

from __future__ import annotations

import math
from collections.abc import Sequence


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
