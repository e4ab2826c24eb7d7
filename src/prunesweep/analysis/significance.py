"""How sure can one be?  Intervals, paired tests and fronts with uncertainty, as functions of outcomes.

Samples of one video are not independent, so videos are the units everywhere (Miller, "Adding error bars to evals", 2024):
errors, intervals and tests of means are those of `clusters`, and the bootstrap draws videos.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from prunesweep.analysis.accuracy import Accuracy, accuracies_of
from prunesweep.analysis.clusters import (
    CONFIDENCE,
    ROUNDING,
    Interval,
    Means,
    difference_means,
    exact_interval,
    p_values,
    quantile,
)
from prunesweep.analysis.counterparts import counterparts
from prunesweep.analysis.margins import Pair, loss_p_values, questions_needed
from prunesweep.analysis.outcomes import RIGHT, ByVideo, Outcomes
from prunesweep.analysis.selection import area_interval
from prunesweep.analysis.summary import says_enough

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

POWER = 0.8
"""Chance of finding an effect of the size that is called detectable; the usual choice (Cohen, 1988)."""
REPLICATES = 1000
"""Of the bootstrap: the error of a probability is then at most 0.016."""


def t_quantile(probability: float, videos: int) -> float:
    """Student's with `videos - 1` degrees of freedom; NaN with fewer than two videos."""
    return float(quantile(probability, videos - 1))


def accuracy_interval(scores: Accuracy, confidence: float = CONFIDENCE) -> Interval:
    """Of an accuracy: the exact binomial one of as many independent questions as would say as much (Korn and Graubard, 1998).

    Where all answers are alike no error can be estimated, and each video counts as one question.  Scores of a table that
    does not say how many independent questions they are worth count as many as their error tells, and no more than they are.
    """
    if scores.samples and scores.mean in (0.0, 1.0):
        return exact_interval(scores.mean * scores.videos, scores.videos, confidence)
    effective = scores.effective if scores.effective > 0 else _worth(scores)
    if math.isnan(effective):
        return Interval(math.nan, math.nan)
    return exact_interval(scores.mean * effective, effective, confidence)


def _worth(scores: Accuracy) -> float:
    independent = min(scores.samples, scores.mean * (1 - scores.mean) / scores.error**2) if scores.error > 0 else math.nan
    tail = (1 + CONFIDENCE) / 2
    return independent * float(quantile(tail, scores.samples - 1) / quantile(tail, scores.videos - 1)) ** 2


def alike_interval(mean: float, videos: int, confidence: float = CONFIDENCE) -> Interval:
    """Of a mean difference where all of so many videos changed alike, so that no error can be estimated.

    The exact interval of the share of videos that change otherwise, none of which was seen, at their farthest.
    """
    others = exact_interval(0, videos, confidence).high
    return Interval(mean - others * (1 + mean), mean + others * (1 - mean))


def alike_p_value(mean: float, videos: int) -> float:
    """The exact sign test over videos that all changed alike; 1 if none changed."""
    return min(1.0, 2 * 0.5**videos) if mean else 1.0


def accuracies(outcomes: Outcomes) -> list[Accuracy]:
    """Of every trial, over the samples that it answered."""
    right, answers = outcomes.by_video
    return accuracies_of(right.astype(float), _sizes(answers))


def _sizes(answers: np.ndarray) -> np.ndarray:
    """One row where all trials have answered the same number of questions of each video: many times faster."""
    alike = len(answers) and (answers == answers[:1]).all()
    return (answers[:1] if alike else answers).astype(float)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(part), math.nan), where=whole > 0)


def by_task(outcomes: Outcomes) -> dict[str, list[Accuracy]]:
    """Accuracy of every trial on every task."""
    return {task: accuracies(outcomes.of_task(task)) for task in sorted(set(outcomes.tasks))}


class Paired(NamedTuple):
    """Every trial minus a reference on the samples that both answered, one entry per trial."""

    mean: Float[np.ndarray, " trials"]
    error: Float[np.ndarray, " trials"]
    """Clustered by video; 0 where all videos changed alike, or not at all."""
    low: Float[np.ndarray, " trials"]
    high: Float[np.ndarray, " trials"]
    p_value: Float[np.ndarray, " trials"]
    """Of the clustered t test; where all videos changed alike, of the exact sign test over videos."""
    mcnemar: Float[np.ndarray, " trials"]
    """Exact, samples taken for independent."""
    gained: Int[np.ndarray, " trials"]
    lost: Int[np.ndarray, " trials"]
    samples: Int[np.ndarray, " trials"]
    videos: Int[np.ndarray, " trials"]
    design: Float[np.ndarray, " trials"]
    """Variance of the mean relative to that of as many independent questions."""
    freedom: Float[np.ndarray, " trials"]
    """Degrees of freedom of the error."""


def paired_with(outcomes: Outcomes, reference: int | Int[np.ndarray, " trials"], confidence: float = CONFIDENCE) -> Paired:
    """All trials against the trial with index `reference`, or each against its own, below 0 for none.

    NaN where the two have no answer in common.
    Where all videos changed alike, or not at all, the interval is exact: see `alike_interval`.
    """
    there = np.reshape(np.asarray(reference) >= 0, (-1, 1))
    both = outcomes.answered & outcomes.answered[reference] & there
    change = np.where(both, outcomes.correct - outcomes.correct[reference], 0).astype(np.int8)
    gained, lost = ((change == sign).sum(1) for sign in (1, -1))
    samples, count = both.sum(1), outcomes.per_video(both)
    found = difference_means(outcomes.per_video(change), outcomes.per_video(change != 0), _sizes(count))
    numbers = compared(found, gained + lost, confidence)
    return Paired(*numbers, mcnemar(gained, lost), gained, lost, samples, found.videos, found.design, found.freedom)


class Compared(NamedTuple):
    """Mean differences with their error, interval and two-sided p-value."""

    mean: np.ndarray
    error: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p_value: np.ndarray


def compared(found: Means, flips: np.ndarray, confidence: float = CONFIDENCE) -> Compared:
    """Student's interval and test of differences made of so many flipped answers.

    Where all videos changed alike, or no answer flipped, both are exact: see `alike_interval`.
    """
    mean, error, videos = found.mean, np.where(found.error < ROUNDING, 0.0, found.error), found.videos
    margin = quantile((1 + confidence) / 2, found.freedom) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        p_value = np.where(mean == 0, 1.0, p_values(mean / error, found.freedom))
    low, high = np.maximum(mean - margin, -1), np.minimum(mean + margin, 1)
    for i in np.flatnonzero((error == 0) | ((flips == 0) & (videos > 0))):
        low[i], high[i] = alike_interval(mean[i], int(videos[i]), confidence)
        p_value[i] = alike_p_value(mean[i], int(videos[i]))
    return Compared(mean, error, low, high, p_value)


def mcnemar(gained: np.ndarray | int, lost: np.ndarray | int) -> np.ndarray:
    """Two-sided exact p-values of `gained` against `lost` discordant pairs (McNemar 1947, binomial form)."""
    from scipy.special import bdtr

    pairs, fewer = np.add(gained, lost), np.minimum(gained, lost)
    return np.where(pairs == 0, 1.0, np.minimum(1.0, 2 * bdtr(fewer.astype(float), np.maximum(pairs, 1), 0.5)))


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """P-values adjusted for looking at all of them (Holm, 1979): the chance of any false finding stays below the level.

    The order is kept; NaN stays NaN and is not counted as a test.
    """
    return _adjusted(p_values, lambda p: np.maximum.accumulate(p * np.arange(len(p), 0, -1)))


def benjamini_hochberg(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """P-values adjusted so that the expected share of false findings stays below the level (Benjamini and Hochberg, 1995)."""
    return _adjusted(p_values, lambda p: np.minimum.accumulate((p * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1])


def _adjusted(p_values: Sequence[float] | np.ndarray, adjust: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    p = np.asarray(p_values, dtype=float)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    adjusted = np.full(len(p), math.nan)
    adjusted[order] = np.minimum(1.0, adjust(p[order]))
    return adjusted


def detectable_effect(error: float, videos: int, confidence: float = CONFIDENCE, power: float = POWER) -> float:
    """The smallest true difference that a paired test with this standard error finds with the given power."""
    return (t_quantile((1 + confidence) / 2, videos) + t_quantile(power, videos)) * error


def detectable_with(wanted: int, error: float, samples: int, videos: int) -> float:
    """The difference that is detectable with `wanted` samples, from the error on `samples` of them on so many videos.

    The standard error shrinks with the square root of the samples, and there are more videos in proportion.
    """
    return detectable_effect(error * math.sqrt(samples / wanted), max(2, round(videos * wanted / samples)))


def samples_needed(effect: float, error: float, samples: int, videos: int) -> int:
    """The fewest samples that make a difference of `effect` detectable, as `detectable_with`."""
    most = 1
    while detectable_with(most, error, samples, videos) > effect:
        most *= 2
    return bisect_left(range(most), -effect, key=lambda wanted: -detectable_with(max(1, wanted), error, samples, videos))


# The bootstrap over videos


def draw_videos(videos: int, replicates: int = REPLICATES, seed: int = 0) -> Float[np.ndarray, "replicates videos"]:
    """How often each video was drawn in each replicate."""
    drawn = np.random.default_rng(seed).integers(videos, size=(replicates, videos))
    drawn += np.arange(replicates)[:, None] * videos
    return np.bincount(drawn.ravel(), minlength=replicates * videos).reshape(replicates, videos).astype(np.float32)


def resampled(outcomes: Outcomes, replicates: int = REPLICATES, seed: int = 0) -> Float[np.ndarray, "replicates trials"]:
    """Accuracies of all trials on videos drawn with replacement, the same ones for all trials; NaN where none was answered."""
    weights = draw_videos(outcomes.videos, replicates, seed)
    right, answers = outcomes.by_video
    complete = (answers == answers[:1]).all()  # one denominator serves all
    wholes = weights @ (answers[:1] if complete else answers).T.astype(np.float32)
    parts = weights @ right.T.astype(np.float32)  # counts: exact in 24 bits
    return _share(parts.astype(np.float64), np.broadcast_to(wholes.astype(np.float64), parts.shape))


def paired_bootstrap(
    outcomes: Outcomes, trial: int, reference: int, replicates: int = REPLICATES, seed: int = 0, confidence: float = CONFIDENCE
) -> Interval:
    """Percentile interval of the difference of two trials on their common samples, videos drawn with replacement."""
    both = outcomes.answered[trial] & outcomes.answered[reference]
    change = np.where(both, outcomes.correct[trial] - outcomes.correct[reference], 0)
    sums, counts = outcomes.per_video(np.stack([change, both]))
    weights = draw_videos(outcomes.videos, replicates, seed)
    differences = _share(weights @ sums.astype(float), weights @ counts.astype(float))
    tail = (1 - confidence) / 2
    return Interval(*(float(q) for q in np.nanquantile(differences, [tail, 1 - tail])))


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


class Front(NamedTuple):
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


def front(outcomes: Outcomes, replicates: int = REPLICATES, seed: int = 0, confidence: float = CONFIDENCE) -> Front:
    """The front of all trials on the outcomes' cost axis."""
    accuracy = np.array([scores.mean for scores in accuracies(outcomes)])
    return front_of(outcomes.costs, accuracy, resampled(outcomes, replicates, seed), confidence, outcomes.by_video)


def front_of(
    costs: Float[np.ndarray, " trials"],
    accuracy: Float[np.ndarray, " trials"],
    drawn: Float[np.ndarray, "replicates trials"],
    confidence: float = CONFIDENCE,
    by_video: ByVideo | None = None,
) -> Front:
    """The front on any axis; `drawn` holds the accuracies on videos drawn anew, as `resampled` gives them."""
    if np.isnan(costs + accuracy).all():
        none, unknown = np.zeros(0), math.nan
        return Front(np.zeros(len(costs)), none, none, none, none, unknown, Interval(unknown, unknown), unknown, None, unknown)
    level, best = steps(costs, accuracy)
    spread = steps(costs, drawn).best
    spread = np.where(np.isinf(spread), math.nan, spread)
    tail = (1 - confidence) / 2
    with warnings.catch_warnings():  # where no draw has an answer the band is NaN
        warnings.simplefilter("ignore", RuntimeWarning)
        low, high = np.nanquantile(spread, [tail, 1 - tail], axis=0)
    worst = float(level[-1])
    knee = knee_point(costs, accuracy)
    again = [knee_point(costs, row) for row in drawn[:KNEE_DRAWS]] if knee is not None else []
    return Front(
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


# Against the dense model


def dense_trial(outcomes: Outcomes) -> int | None:
    """The dearest trial without reduction, of several one called `none`, then the first; None if there is none."""
    whole = [i for i, row in enumerate(outcomes.table) if row.dense and row.samples]
    table = outcomes.table
    return min(whole, key=lambda i: (-table[i].llm_flops, -table[i].total_flops, table[i].reducer != "none", i), default=None)


class AgainstDense(NamedTuple):
    """A sweep's trials, each against the dense trial on the same frames and prompts."""

    dense: int
    """The dearest of them."""
    own: Int[np.ndarray, " trials"]
    """The dense trial that each is paired with, below 0 where the sweep has none."""
    missing: dict[str, int]
    """The overrides of each dense trial that is missing, and how many trials are left out for it."""
    difference: Paired
    holm: Float[np.ndarray, " trials"]
    """P-values corrected over all other trials; NaN for the dense ones."""
    fdr: Float[np.ndarray, " trials"]
    within_margin: tuple[int, ...]
    """Complete trials shown to lose less than the margin, cheapest first; the chance of any false one is half the level."""
    worse: tuple[int, ...]
    """Others shown to be less accurate than dense, cheapest first."""
    unclear: tuple[int, ...]
    """The rest of the complete ones, cheapest first: these questions cannot tell."""
    needed: Int[np.ndarray, " trials"]
    """Questions like these that an unclear trial takes, if its estimate is true; 0 for others."""
    margin: float
    loss: Float[np.ndarray, " trials"]
    """One-sided p-values of losing the margin or more, corrected over all other complete trials (Holm); NaN for the dense."""
    error: float
    """Of the median trial's difference; NaN if no trial's answers differ."""
    detectable: float
    """The smallest true difference that a paired test with this error finds with POWER, without correction."""


def against_dense(outcomes: Outcomes, level: float = 1 - CONFIDENCE) -> AgainstDense | None:
    """None without a dense trial.

    Of incomplete trials nothing is claimed, for who stopped or failed did so for a reason; nor of those whose answers, or the
    dense one's, name no option.
    """
    dense = dense_trial(outcomes)
    if dense is None:
        return None
    found = counterparts(outcomes)
    own = np.array([-1 if d is None else d for d in found.dense])
    difference = paired_with(outcomes, own)
    p_value = difference.p_value.copy()
    p_value[own == np.arange(len(own))] = math.nan
    others = [i for i in np.argsort(outcomes.costs, kind="stable").tolist() if own[i] != i and difference.samples[i]]
    told = [says_enough(row) for row in outcomes.table]
    complete = [i for i in others if difference.samples[i] == difference.samples[own[i]] and told[i] and told[own[i]]]
    corrected, loss = holm(p_value), _losses(difference, complete, outcomes.margin)
    within = [i for i in complete if loss[i] <= level / 2]
    worse = [i for i in complete if i not in within and corrected[i] <= level and difference.mean[i] < 0]
    unclear = [i for i in complete if i not in within and i not in worse]
    untold = len(complete) - len(within), int((corrected > level).sum())
    needed = np.zeros(len(own), dtype=int)
    for i in unclear:
        needed[i] = _needed(difference, i, outcomes.margin, level / 2 / untold[0], level / max(untold[1], 1))
    errors = [e for e in difference.error[others] if e > 0]
    error = float(np.median(errors)) if errors else math.nan
    return AgainstDense(
        dense=dense,
        own=own,
        missing=found.missing,
        difference=difference,
        holm=corrected,
        fdr=benjamini_hochberg(p_value),
        within_margin=tuple(within),
        worse=tuple(worse),
        unclear=tuple(unclear),
        needed=needed,
        margin=outcomes.margin,
        loss=loss,
        error=error,
        detectable=detectable_effect(error, int(difference.videos[dense])),
    )


def _losses(difference: Paired, complete: Sequence[int], margin: float) -> Float[np.ndarray, " trials"]:
    d, loss = difference, np.full(len(difference.mean), math.nan)
    known = loss_p_values(d.gained, d.lost, d.samples, d.design, d.freedom, margin)
    loss[complete] = known[complete]
    return holm(loss)


def _needed(difference: Paired, trial: int, margin: float, safe: float, worse: float) -> int:
    """Questions, by the trial's own flips and design; 0 where a single video tells of no error."""
    d = difference
    pair = Pair(*(float(of[trial]) for of in (d.gained, d.lost, d.samples, d.design, d.freedom)))
    return 0 if math.isnan(pair.freedom) else questions_needed(pair, margin, safe, worse, POWER)


class UnderBudget(NamedTuple):
    """What a budget buys."""

    best: int
    """The most accurate trial within it, the cheaper one of equals."""
    may_be_best: tuple[int, ...]
    """Others within it that may truly be the best, cheapest first: in 95 % of sweeps the truly best is `best` or here."""


def under_budget(outcomes: Outcomes, budget: float, level: float = 1 - CONFIDENCE) -> UnderBudget | None:
    """On the outcomes' cost axis; None if no trial with an answer costs as little.

    The best of many is partly luck: its accuracy is an overestimate.  A trial is ruled out if a one-sided paired test shows
    it to be worse, corrected for choosing the best among all (Bonferroni).
    """
    within = [i for i, row in enumerate(outcomes.table) if row.samples and outcomes.costs[i] <= budget]
    if not within:
        return None
    best = min(within, key=lambda i: (-outcomes.table[i].accuracy, outcomes.costs[i]))
    others = sorted((i for i in within if i != best), key=lambda i: outcomes.costs[i])
    difference = paired_with(outcomes, best)
    ruled_out = (difference.mean < 0) & (difference.p_value / 2 * len(others) <= level)
    told = [says_enough(row) for row in outcomes.table]
    return UnderBudget(best, tuple(i for i in others if not ruled_out[i] and told[i] and told[best]))


class Agreement(NamedTuple):
    """How a trial's answers relate to the dense model's."""

    both_right: int
    both_wrong: int
    gained: tuple[str, ...]
    """Samples that only the trial has right."""
    lost: tuple[str, ...]
    """Samples that only the dense model has right."""


def agreement(outcomes: Outcomes, trial: int, reference: int) -> Agreement:
    own, other = outcomes.correct[trial], outcomes.correct[reference]
    both = outcomes.answered[trial] & outcomes.answered[reference]
    gained, lost = (np.flatnonzero(both & (own - other == sign)) for sign in (1, -1))
    names = outcomes.samples
    right = int((both & (own == RIGHT) & (other == RIGHT)).sum())
    wrong = int(both.sum()) - right - len(gained) - len(lost)
    return Agreement(right, wrong, tuple(names[i] for i in gained), tuple(names[i] for i in lost))
