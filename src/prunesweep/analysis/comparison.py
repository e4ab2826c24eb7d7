"""Is one trial better than another?  Paired tests on the samples that both answered; no model, no GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from prunesweep.analysis import significance
from prunesweep.analysis.accuracy import codes
from prunesweep.analysis.clusters import difference_means

if TYPE_CHECKING:
    import polars as pl


class Difference(NamedTuple):
    """How much more accurate one trial is than another on the same samples."""

    mean: float
    error: float
    """Standard error of the mean difference, clustered by video; NaN with fewer than two videos."""
    low: float
    high: float
    """At `clusters.CONFIDENCE`: Student's with one degree of freedom less than there are videos, fewer where they are of
    different sizes; where all videos changed alike, or not at all, exact: see `significance.alike_interval`."""
    p_value: float
    """Two-sided, from the clustered error; where all videos changed alike, the exact sign test over videos."""
    mcnemar: float
    """Two-sided exact McNemar test, which takes all samples for independent."""
    gained: int
    """Samples that only the first one has right."""
    lost: int
    """Samples that only the second one has right."""
    samples: int
    videos: int
    """Clusters."""
    design: float
    """Variance of the mean relative to that of as many independent questions."""
    freedom: float
    """Degrees of freedom of the error."""


QUESTION = ("video_id", "target")
"""By which two questions of one id are told apart."""


def paired(records: pl.DataFrame, baseline: pl.DataFrame) -> Difference:
    """Accuracy of `records` minus that of `baseline`, sample by sample.

    The error treats the videos as clusters (Miller, "Adding error bars to evals", 2024, section 4).  Raises ValueError if
    the two have no answered sample in common, or another question under the same id.
    """
    import polars as pl

    both = _answered(records).join(_answered(baseline), on="sample_id", suffix="_baseline")
    samples = len(both)
    if not samples:
        raise ValueError("the two trials have no answered sample in common; compare trials on the same benchmark")
    other = both.filter(pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_baseline")) for name in QUESTION))
    if len(other):
        raise ValueError(
            f"sample {other['sample_id'][0]} is another question in each trial; compare trials on the same benchmark"
        )
    change = (both["correct"].cast(pl.Int8) - both["correct_baseline"].cast(pl.Int8)).to_numpy()
    gained, lost = (int((change == sign).sum()) for sign in (1, -1))
    video = codes(both["video_id"])
    sums, squares, sizes = (np.bincount(video, values)[None] for values in (change, change**2, np.ones(samples)))
    found = difference_means(sums, squares, sizes)
    mean, error, low, high, p_value = (float(of[0]) for of in significance.compared(found, np.array([gained + lost])))
    counts = gained, lost, samples, int(found.videos[0])
    exact = float(significance.mcnemar(gained, lost))
    return Difference(mean, error, low, high, p_value, exact, *counts, float(found.design[0]), float(found.freedom[0]))


def _answered(records: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    return records.filter(pl.col("correct").is_not_null()).select("sample_id", "correct", *QUESTION)
