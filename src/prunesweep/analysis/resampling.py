"""The bootstrap over videos: accuracies, differences and fronts on videos drawn anew."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from prunesweep.analysis.clusters import CONFIDENCE, Interval
from prunesweep.analysis.front import hypervolume, knee_point, on_front, steps
from prunesweep.analysis.outcomes import ByVideo, Outcomes
from prunesweep.analysis.selection import area_interval
from prunesweep.analysis.significance import accuracies, share

if TYPE_CHECKING:
    from jaxtyping import Float


REPLICATES = 1000
"""Of the bootstrap: the error of a probability is then at most 0.016."""


def draw_videos(videos: int, replicates: int = REPLICATES, seed: int = 0) -> Float[np.ndarray, "replicates videos"]:
    """How often each video was drawn in each replicate."""
    if not videos:
        return np.zeros((replicates, 0), np.float32)
    drawn = np.random.default_rng(seed).integers(videos, size=(replicates, videos))
    drawn += np.arange(replicates)[:, None] * videos
    return np.bincount(drawn.ravel(), minlength=replicates * videos).reshape(replicates, videos).astype(np.float32)


def resampled(outcomes: Outcomes, replicates: int = REPLICATES, seed: int = 0) -> Float[np.ndarray, "replicates trials"]:
    """Accuracies of all trials on videos drawn with replacement, the same ones for all trials; NaN where none was answered."""
    right, answers = _where_answered(*outcomes.by_video)
    weights = draw_videos(answers.shape[1], replicates, seed)
    complete = (answers == answers[:1]).all()  # one denominator serves all
    wholes = weights @ (answers[:1] if complete else answers).T.astype(np.float32)
    parts = weights @ right.T.astype(np.float32)  # counts: exact in 24 bits
    return share(parts.astype(np.float64), np.broadcast_to(wholes.astype(np.float64), parts.shape))


def _where_answered(values: np.ndarray, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of the videos of which some row has an answer: others are no units to draw."""
    there = (answers > 0).any(0)
    return values[:, there], answers[:, there]


def paired_bootstrap(
    outcomes: Outcomes, trial: int, reference: int, replicates: int = REPLICATES, seed: int = 0, confidence: float = CONFIDENCE
) -> Interval:
    """Percentile interval of the difference of two trials on their common samples, videos drawn with replacement."""
    both = outcomes.answered[trial] & outcomes.answered[reference]
    change = np.where(both, outcomes.correct[trial] - outcomes.correct[reference], 0)
    sums, counts = _where_answered(*outcomes.per_video(np.stack([change, both]))[:, None])
    weights = draw_videos(counts.shape[1], replicates, seed)
    differences = share(weights @ sums[0].astype(float), weights @ counts[0].astype(float))
    tail = (1 - confidence) / 2
    return Interval(*(float(q) for q in np.nanquantile(differences, [tail, 1 - tail])))


class ResampledFront(NamedTuple):
    """A Pareto front and how sure it is."""

    probability: Float[np.ndarray, " trials"]
    """Of each trial to be on the front, videos drawn anew; costs are taken as measured."""
    cost: Float[np.ndarray, " costs"]
    best: Float[np.ndarray, " costs"]
    low: Float[np.ndarray, " costs"]
    high: Float[np.ndarray, " costs"]
    """Pointwise band of the best accuracy at each cost.  The best of many trials is partly luck: the band shows the spread
    of that maximum, not what its trial reaches on new videos."""
    hypervolume: float
    """Area below the front between no cost and `reference_cost`, of the rectangle: 1 would be full accuracy for nothing."""
    hypervolume_interval: Interval
    """Of the true one, which the measured one overestimates: see `selection`; NaN where no answers by video are given."""
    reference_cost: float
    knee: int | None
    """The trial on the front where it turns: farthest above the line between its ends; None with fewer than three."""
    knee_probability: float
    """Of the same trial to be the knee, videos drawn anew."""


def front(outcomes: Outcomes, replicates: int = REPLICATES, seed: int = 0, confidence: float = CONFIDENCE) -> ResampledFront:
    """The front of all trials on the outcomes' cost axis."""
    accuracy = np.array([scores.mean for scores in accuracies(outcomes)])
    return front_of(outcomes.costs, accuracy, resampled(outcomes, replicates, seed), confidence, outcomes.by_video)


def front_of(
    costs: Float[np.ndarray, " trials"],
    accuracy: Float[np.ndarray, " trials"],
    drawn: Float[np.ndarray, "replicates trials"],
    confidence: float = CONFIDENCE,
    by_video: ByVideo | None = None,
) -> ResampledFront:
    """The front on any axis; `drawn` holds the accuracies on videos drawn anew, as `resampled` gives them."""
    if np.isnan(costs + accuracy).all():
        none, unknown = np.zeros(0), math.nan
        return ResampledFront(
            np.zeros(len(costs)), none, none, none, none, unknown, Interval(unknown, unknown), unknown, None, unknown
        )
    level, best = steps(costs, accuracy)
    bests = steps(costs, drawn).best
    bests = np.where(np.isinf(bests), math.nan, bests)
    tail = (1 - confidence) / 2
    with warnings.catch_warnings():  # where no draw has an answer the band is NaN
        warnings.simplefilter("ignore", RuntimeWarning)
        low, high = np.nanquantile(bests, [tail, 1 - tail], axis=0)
    worst = float(level[-1])
    knee = knee_point(costs, accuracy)
    again = [knee_point(costs, row) for row in drawn[:KNEE_DRAWS]] if knee is not None else []
    return ResampledFront(
        probability=on_front(costs, drawn).mean(0),
        cost=level,
        best=best,
        low=low,
        high=high,
        hypervolume=float(hypervolume(level, best, worst)),
        hypervolume_interval=area_interval(costs, *by_video, confidence) if by_video else Interval(math.nan, math.nan),
        reference_cost=worst,
        knee=knee,
        knee_probability=sum(other == knee for other in again) / len(again) if again else math.nan,
    )


KNEE_DRAWS = 200
"""Replicates for the knee's probability, which is worked out one by one."""
