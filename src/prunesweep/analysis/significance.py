"""How sure can one be?  Intervals, paired tests and fronts with uncertainty, as functions of outcomes.

Samples of one video are not independent, so videos are the units everywhere (Miller, "Adding error bars to evals", 2024):
errors, intervals and tests of means are those of `clusters`, and the bootstrap draws videos.
"""

from __future__ import annotations

import math
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
from prunesweep.analysis.outcomes import RIGHT, Outcomes
from prunesweep.analysis.summary import says_enough

if TYPE_CHECKING:
    from jaxtyping import Float, Int

POWER = 0.8
"""Chance of finding an effect of the size that is called detectable; the usual choice (Cohen, 1988)."""


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


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.shape(part), math.nan), where=whole > 0)


def by_task(outcomes: Outcomes) -> dict[str, list[Accuracy]]:
    """Accuracy of every trial on every task."""
    return {task: accuracies(outcomes.of_task(task)) for task in sorted(set(outcomes.tasks))}


class Differences(NamedTuple):
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


def paired_with(outcomes: Outcomes, reference: int | Int[np.ndarray, " trials"], confidence: float = CONFIDENCE) -> Differences:
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
    return Differences(*numbers, mcnemar(gained, lost), gained, lost, samples, found.videos, found.design, found.freedom)


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
    difference: Differences
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
    others, complete = _others(outcomes, own, difference)
    corrected, loss = holm(p_value), _losses(difference, complete, outcomes.margin)
    within = [i for i in complete if loss[i] <= level / 2]
    worse = [i for i in complete if i not in within and corrected[i] <= level and difference.mean[i] < 0]
    unclear = [i for i in complete if i not in within and i not in worse]
    untold = len(complete) - len(within), int((corrected > level).sum())
    needed = np.zeros(len(own), dtype=int)
    for i in unclear:
        needed[i] = _needed(difference, i, outcomes.margin, level / 2 / untold[0], level / max(untold[1], 1))
    error = float(np.median(errors)) if (errors := [e for e in difference.error[others] if e > 0]) else math.nan
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


def _others(outcomes: Outcomes, own: np.ndarray, difference: Differences) -> tuple[list[int], list[int]]:
    """Trials that have a dense one besides themselves, cheapest first, and those of them of which something can be claimed."""
    others = [i for i in np.argsort(outcomes.costs, kind="stable").tolist() if own[i] != i and difference.samples[i]]
    told = [says_enough(row) for row in outcomes.table]
    return others, [i for i in others if difference.samples[i] == difference.samples[own[i]] and told[i] and told[own[i]]]


def _losses(difference: Differences, complete: Sequence[int], margin: float) -> Float[np.ndarray, " trials"]:
    d, loss = difference, np.full(len(difference.mean), math.nan)
    known = loss_p_values(d.gained, d.lost, d.samples, d.design, d.freedom, margin)
    loss[complete] = known[complete]
    return holm(loss)


def _needed(difference: Differences, trial: int, margin: float, safe: float, worse: float) -> int:
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
