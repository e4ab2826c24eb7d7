"""Means over questions that come by video: their errors, degrees of freedom, intervals and tests.  The one place for each.

Questions of one video answer alike, and videos differ in how many they have, so that fewer independent numbers stand
behind a mean than either count says:

- the error is the jackknife's, which leaves one video out at a time (CV3 of MacKinnon, Nielsen and Webb, 2023); where all
  videos have equally many questions it is the usual clustered one with the factor G/(G-1) (Liang and Zeger, 1986);
- degrees of freedom are Satterthwaite's (Bell and McCaffrey, 2002; Imbens and Kolesar, 2016): one less than the videos
  where they are of one size, far fewer where a few videos have most of the questions;
- how alike a video's answers are is estimated, and drawn towards "wholly alike" where few videos tell (SHRINKAGE);
- the interval of a share is Korn's and Graubard's (1998): Clopper's and Pearson's, of as many independent questions as
  would have this error.

Rows are trials or combinations of them, columns are videos; `sizes` is one row for all, or one each.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    Rows = Float[np.ndarray, " rows"]
    Table = Float[np.ndarray, "rows videos"]

CONFIDENCE = 0.95
ROUNDING = 1e-12
"""Below this an error is one of adding: all videos are alike."""
SHRINKAGE = 1.0
"""Videos' worth of belief that a video's questions are all answered alike: the fewest that keep 95 % intervals of shares at
93 % or more in `tests/analysis/test_clusters.py`; with half of it accuracies near 1 of very unequal videos fall below that."""


FEW_TELLING = 3.0
"""Videos that tell how alike answers are: with so many, half of the design effect's uncertainty counts.  A belief has none."""


class Interval(NamedTuple):
    low: float
    high: float


class Means(NamedTuple):
    """One entry per row; NaN where there is no answer, errors and what follows from them with fewer than two videos."""

    mean: Rows
    error: Rows
    """By leaving one video out at a time."""
    freedom: Rows
    """Degrees of freedom of the error."""
    design: Rows
    """Variance of the mean relative to that of as many independent questions: from 1 to that of videos wholly alike."""
    samples: Rows
    videos: Int[np.ndarray, " rows"]
    estimated: Rows
    """How much of `design` is estimated, and how much believed: from 0 to 1 with the videos that tell."""


def cluster_means(sums: Table, squares: Table, sizes: Table, telling: Rows) -> Means:
    """Means of values whose sums and sums of squares in each video are given, over `sizes` questions there.

    `telling` counts the videos of several questions that can show how alike their answers are: those in which some answer
    differs from the usual one.
    """
    samples, videos = np.broadcast_to(sizes.sum(1), len(sums)), np.broadcast_to((sizes > 0).sum(1), len(sums))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(samples > 0, sums.sum(1) / samples, math.nan)
        error = errors(sums - np.nan_to_num(mean)[:, None] * sizes, sizes)
        alone = (squares.sum(1) / samples - mean**2) / samples  # variance of the mean of independent questions
        alike_design = (sizes**2).sum(1) / samples
        alike = np.clip((error**2 / alone - 1) / (alike_design - 1), 0, 1)
    alike = np.where(np.isnan(alike), 1.0, alike)  # all answers are the same, or each video has one: nothing tells
    alike = (telling * alike + SHRINKAGE) / (telling + SHRINKAGE)
    estimated = telling / (telling + FEW_TELLING)
    return Means(mean, error, freedom(sizes, alike), 1 + (alike_design - 1) * alike, samples, videos, estimated)


def share_means(right: Table, sizes: Table) -> Means:
    """Of values that are 0 or 1."""
    several = sizes > 1
    telling = np.minimum(((right < sizes - ROUNDING) & several).sum(1), ((right > ROUNDING) & several).sum(1))
    return cluster_means(right, right, sizes, telling)


def difference_means(sums: Table, squares: Table, sizes: Table) -> Means:
    """Of values most of which are 0, such as the changes from one trial to another."""
    return cluster_means(sums, squares, sizes, ((squares > ROUNDING) & (sizes > 1)).sum(1))


def influences(residuals: Table, sizes: Table) -> Table:
    """What leaving each video out does to a mean, scaled so that products of rows sum to their covariance.

    `residuals` are each video's sum of values minus the mean; NaN with fewer than two videos.
    """
    samples, videos = sizes.sum(1, keepdims=True), (sizes > 0).sum(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = residuals / (samples - sizes)
        return np.where(videos > 1, np.sqrt((videos - 1) / videos) * moved, math.nan)


def errors(residuals: Table, sizes: Table) -> Rows:
    """Standard errors of means with these residuals: see `influences`."""
    moved = influences(residuals, sizes)
    return np.where((sizes > 0).sum(1) > 1, np.sqrt(np.einsum("rv,rv->r", moved, moved)), math.nan)


def freedom(sizes: Table, alike: Rows) -> Rows:
    """Satterthwaite's degrees of freedom of the jackknife's variance, where questions of a video correlate by `alike`.

    Twice the squared expectation of the variance over its own variance, of normal sums: with v the variances of the videos'
    sums, h their shares of the questions and a the jackknife's weights, both are sums over videos.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        share = sizes / sizes.sum(1, keepdims=True)
        weight = np.where((sizes > 0).sum(1, keepdims=True) > 1, 1 / (1 - share) ** 2, math.nan)
    apart, together = sizes, sizes * (sizes - 1)  # a video's variance is `apart + alike * together`

    def line(factor: Table) -> Rows:
        """Sum over videos of a factor times their variance."""
        return (factor * apart).sum(1) + alike * (factor * together).sum(1)

    def parabola(factor: Table) -> Rows:
        """Of a factor times their squared variance."""
        parts = [(factor * square).sum(1) for square in (apart**2, apart * together, together**2)]
        return parts[0] + 2 * alike * parts[1] + alike**2 * parts[2]

    whole, leverage = line(np.ones_like(share)), (weight * share**2).sum(1)
    crossed = line(weight * share)
    expected = line(weight * (1 - 2 * share)) + leverage * whole
    pairs = whole**2 * leverage**2 + 2 * leverage * parabola(weight) + 2 * crossed**2 - 4 * whole * leverage * crossed
    own = parabola(weight**2 * (1 - 4 * share)) + 2 * whole * line(weight**2 * share**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return expected**2 / (pairs + own)


def quantile(probability: float, freedom: Rows | float) -> Rows:
    """Student's; NaN without a degree of freedom."""
    from scipy.special import stdtrit

    known = np.nan_to_num(freedom) > 0
    return np.where(known, stdtrit(np.where(known, freedom, 1.0), probability), math.nan)


def p_values(statistic: Rows | float, freedom: Rows | float) -> Rows:
    """Two-sided, of t statistics; NaN without a degree of freedom."""
    return 2 * tails(np.abs(statistic), freedom)


def tails(statistic: Rows | float, freedom: Rows | float) -> Rows:
    """Chances of a larger t statistic; NaN without a degree of freedom."""
    from scipy.special import stdtr

    known = np.nan_to_num(freedom) > 0
    return np.where(known, stdtr(np.where(known, freedom, 1.0), -np.asarray(statistic, dtype=float)), math.nan)


def effective_samples(means: Means) -> Rows:
    """Independent questions that would say as much about a share (Korn and Graubard, 1998).

    Few degrees of freedom count as far as the design effect is an estimate.
    """
    tail = (1 + CONFIDENCE) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        few = (quantile(tail, means.samples - 1) / quantile(tail, means.freedom)) ** (2 * means.estimated)
        return means.samples / means.design * few


def exact_interval(successes: float, trials: float, confidence: float = CONFIDENCE) -> Interval:
    """Of a share, from the binomial distribution (Clopper and Pearson, 1934); the whole of [0, 1] without trials.

    Neither has to be a whole number.
    """
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = float(betaincinv(successes, trials - successes + 1, tail)) if successes > 0 else 0.0
    high = float(betaincinv(successes + 1, trials - successes, 1 - tail)) if successes < trials else 1.0
    return Interval(low, high)
