"""What choosing among trials adds to a front: an interval of the area below the true one.

The best of many trials is partly luck, so the measured front lies above the true one, and the draws of a bootstrap lie
higher still.  Both ends of the interval stand on their own: chosen on nine tenths of the videos and measured on the rest,
the front's trials are truly no better than the best ones, which bounds the true area from below; the measured front is no
worse than the measured accuracies of the truly best trials, which bounds it from above.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from prunesweep.analysis.clusters import CONFIDENCE, Interval, quantile, share_means

if TYPE_CHECKING:
    from jaxtyping import Float

    Trials = Float[np.ndarray, " trials"]
    Table = Float[np.ndarray, "trials videos"]

FOLDS = 10
"""The usual number; each choice then sees nine tenths of the videos."""


def front_weights(costs: Trials, accuracy: Trials) -> Trials:
    """How much each trial's accuracy counts in the area below the steps, up to the dearest cost; zero off the front.

    `costs` ascend; trials with NaN as accuracy are never chosen after one without.
    """
    accuracy = np.where(np.isnan(accuracy), -1.0, accuracy)
    ahead = np.r_[True, accuracy[1:] > np.maximum.accumulate(accuracy)[:-1]]
    best = np.maximum.accumulate(np.where(ahead, np.arange(len(costs)), 0))
    return np.bincount(best, np.diff(costs, append=costs[-1]) / costs[-1], len(costs))


def area_interval(costs: Trials, right: Table, answers: Table, confidence: float = CONFIDENCE, seed: int = 0) -> Interval:
    """Of the true area below the front, as `front.hypervolume`; NaN with fewer than two videos or costs above 0."""
    known = np.flatnonzero(~np.isnan(costs) & (answers.sum(1) > 0))
    order = known[np.argsort(costs[known], kind="stable")]
    costs, right, answers = costs[order], right[order].astype(float), answers[order].astype(float)
    videos = right.shape[1]
    if videos < 2 or not len(costs) or not costs[0] < costs[-1]:
        return Interval(math.nan, math.nan)
    fold = np.random.default_rng(seed).permutation(videos) % min(FOLDS, videos)
    held_out = np.stack([front_weights(costs, _shares(right, answers, fold != one)) for one in range(fold.max() + 1)])[fold]
    seen = np.broadcast_to(front_weights(costs, _shares(right, answers, fold >= 0)), held_out.shape)
    below, above = (_area(weights.T, right, answers) for weights in (held_out, seen))
    tail = (1 + confidence) / 2
    low = below.value - float(quantile(tail, below.freedom)) * below.error
    high = above.value + float(quantile(tail, above.freedom)) * above.error
    return Interval(max(0.0, low), min(1.0, high))


def _shares(right: Table, answers: Table, chosen: np.ndarray) -> Trials:
    with np.errstate(invalid="ignore"):
        return right[:, chosen].sum(1) / answers[:, chosen].sum(1)


class _Area(NamedTuple):
    value: float
    error: float
    freedom: float


def _area(weights: Table, right: Table, answers: Table) -> _Area:
    """Of the accuracies of weighted trials, each video with weights of its own."""
    whole = weights.sum(0).max()
    found = share_means((weights * right).sum(0)[None] / whole, (weights * answers).sum(0)[None] / whole)
    return _Area(*(float(of[0]) for of in (found.mean * whole, found.error * whole, found.freedom)))
