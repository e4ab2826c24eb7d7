"""Accuracies with their standard errors, from records alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from jaxtyping import Float, Int64


class Accuracy(NamedTuple):
    """A share of right answers; `error` is its standard error clustered by video.

    The error is NaN where the sample says nothing about it: with fewer than two videos, or if all answers are alike.
    """

    mean: float
    error: float
    samples: int
    videos: int = 0
    """Clusters."""
    effective: float = math.nan
    """Independent questions that would say as much: what the interval is made of."""


def accuracy(records: pl.DataFrame) -> Accuracy:
    """Over the samples that have an answer; mean and error are NaN if none has."""
    import numpy as np

    answered = _answered(records, "correct", "video_id")
    if not len(answered):
        return Accuracy(math.nan, math.nan, 0)
    right, video = answered["correct"].to_numpy(), codes(answered["video_id"])
    return accuracies_of(np.bincount(video, right)[None], np.bincount(video)[None].astype(float))[0]


def _answered(records: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """These columns of the samples that have an answer, without a query where all have one: there may be many small trials."""
    own = records[list(columns)]
    return own.drop_nulls("correct") if own["correct"].null_count() else own


def accuracies_of(right: Float[np.ndarray, "rows videos"], sizes: Float[np.ndarray, "rows videos"]) -> list[Accuracy]:
    """From each video's right answers and its answers; `sizes` is one row for all, or one each."""
    import numpy as np

    from prunesweep.analysis.clusters import effective_samples, share_means

    found = share_means(right, sizes)
    error = np.where((found.mean == 0) | (found.mean == 1), math.nan, found.error)
    columns = (found.mean, error, found.samples.astype(int), found.videos, effective_samples(found))
    return [Accuracy(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def codes(names: pl.Series) -> Int64[np.ndarray, " samples"]:
    """A number from 0 on for each distinct name, by polars' categories: many times faster than grouping by strings."""
    import numpy as np
    import polars as pl

    return np.unique(names.cast(pl.Categorical).to_physical().to_numpy(), return_inverse=True)[1]


def clustered_error(cluster_sums: Sequence[float], samples: float, sizes: Sequence[float] | None = None) -> float:
    """Standard error of a mean whose residuals sum to `cluster_sums` in each cluster, which hold `sizes` of the samples.

    As `clusters.errors`: with clusters of one size, the default, the cluster-robust estimate with the small-sample factor
    G/(G-1) (Liang and Zeger, 1986).
    """
    import numpy as np

    from prunesweep.analysis.clusters import errors

    each = np.full(len(cluster_sums), samples / max(len(cluster_sums), 1)) if sizes is None else np.array(sizes, dtype=float)
    return float(errors(np.array(cluster_sums, dtype=float)[None], each[None])[0])


def macro_accuracy(records: pl.DataFrame) -> Accuracy:
    """Mean over tasks of each task's accuracy; its error counts that tasks may share videos."""
    import numpy as np

    answered = _answered(records, "correct", "video_id", "task")
    samples = len(answered)
    if samples == 0:
        return Accuracy(math.nan, math.nan, 0)
    right, task = answered["correct"].to_numpy(), codes(answered["task"])
    sizes = np.bincount(task)
    means = np.bincount(task, right) / sizes
    weights = samples / len(sizes) / sizes[task]  # sum to the samples
    residuals, video = (right - means[task]) * weights, codes(answered["video_id"])
    sums = np.bincount(video, residuals).tolist() if residuals.any() else []
    error = clustered_error(sums, samples, np.bincount(video, weights).tolist()) if any(sums) else math.nan
    return Accuracy(float(means.mean()), error, samples)


def task_accuracies(records: pl.DataFrame) -> dict[str, Accuracy]:
    """Accuracy per task, by name."""
    own = records[["task", "correct", "video_id"]]  # and none of the lists, which are most of a record
    return {task: accuracy(part) for (task,), part in sorted(own.group_by("task"))}


class Naming(NamedTuple):
    """Shares of generated answers to questions with options; NaN where there are none."""

    unclear: float
    """Name no option."""
    ambiguous: float
    """Name several."""


def naming(records: pl.DataFrame) -> Naming:
    if "named" not in records.columns:
        return Naming(math.nan, math.nan)
    named = records["named"].filter(records["generated_tokens"] > 0).drop_nulls().to_numpy()
    return Naming(float((named == 0).mean()), float((named > 1).mean())) if len(named) else Naming(math.nan, math.nan)
