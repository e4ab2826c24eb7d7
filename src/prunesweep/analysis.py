"""Numbers from records: accuracy with its standard error, cost, and the Pareto front.  No model, no GPU."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, NamedTuple

from prunesweep.cost import CONVENTIONS, Shape, ledger, published_prefill
from prunesweep.records import Trial

if TYPE_CHECKING:
    import polars as pl


class Accuracy(NamedTuple):
    """A share of right answers; `error` is its standard error clustered by video.

    The error is NaN where the sample says nothing about it: with fewer than two videos, or if all answers are alike.
    """

    mean: float
    error: float
    samples: int


def accuracy(records: pl.DataFrame) -> Accuracy:
    """Over the samples that have an answer; mean and error are NaN if none has."""
    import polars as pl

    answered = records.filter(pl.col("correct").is_not_null())
    samples = len(answered)
    if samples == 0:
        return Accuracy(math.nan, math.nan, 0)
    mean = int(answered["correct"].sum()) / samples
    if mean in (0.0, 1.0):
        return Accuracy(mean, math.nan, samples)
    residuals = answered.group_by("video_id").agg((pl.col("correct").cast(pl.Float64) - mean).sum().alias("sum"))["sum"]
    return Accuracy(mean, clustered_error(residuals.to_list(), samples), samples)


def clustered_error(cluster_sums: Sequence[float], samples: int) -> float:
    """Standard error of a mean whose residuals sum to `cluster_sums` in each cluster.

    The cluster-robust estimate with the small-sample factor G/(G-1) (Liang and Zeger, 1986).
    """
    clusters = len(cluster_sums)
    if clusters < 2:
        return math.nan
    return math.sqrt(clusters / (clusters - 1) * sum(r * r for r in cluster_sums)) / samples


def macro_accuracy(records: pl.DataFrame) -> Accuracy:
    """Mean over tasks of each task's accuracy; its error counts that tasks may share videos."""
    import polars as pl

    answered = records.filter(pl.col("correct").is_not_null()).with_columns(pl.col("correct").cast(pl.Float64))
    samples = len(answered)
    if samples == 0:
        return Accuracy(math.nan, math.nan, 0)
    tasks = answered.group_by("task").agg(pl.col("correct").mean().alias("mean"), pl.len().alias("size"))
    weighted = answered.join(tasks, on="task").with_columns(
        ((pl.col("correct") - pl.col("mean")) / pl.col("size") / len(tasks) * samples).alias("residual")
    )
    sums = weighted.group_by("video_id").agg(pl.col("residual").sum())["residual"].to_list()
    error = clustered_error(sums, samples) if any(sums) else math.nan
    return Accuracy(sum(tasks["mean"].to_list()) / len(tasks), error, samples)


@dataclass(frozen=True)
class Summary:
    """One line of a sweep's table.  FLOPs are means per sample, as if the trial ran alone."""

    trial: str
    reducer: str
    accuracy: float
    accuracy_error: float
    samples: int
    errors: int
    """Samples without an answer."""
    entrance_ratio: float
    """Visual tokens entering the LLM, of the dense model's."""
    final_ratio: float
    """Visual tokens in the last layer, of the dense model's."""
    layer_ratio: float
    """Visual tokens averaged over the layers, of the dense model's."""
    kv_ratio: float
    """Visual tokens in the caches while decoding, of the dense model's."""
    kv_bytes: float
    """Of the caches after prefill, text tokens included, in half precision."""
    llm_flops: float
    """Prefill of the decoder layers: the field's "FLOPs"."""
    llm_flops_ratio: float
    """Of the dense model's, same convention."""
    total_flops: float
    """With vision tower, projector, merging, scoring, output head and decoding."""
    reduction_flops: float
    """Merging and scoring tokens alone."""
    total_flops_ratio: float
    fastv_flops_ratio: float
    """Prefill of the visual tokens alone as FastV counts it, of the dense model's; the next two likewise."""
    sparsevlm_flops_ratio: float
    fastvid_flops_ratio: float
    pareto: bool = False
    macro_accuracy: float = math.nan
    """Mean over the tasks of their accuracies."""
    macro_error: float = math.nan
    """Its standard error, clustered by video."""


def summarize(trial: Trial) -> Summary:
    import polars as pl

    scores = accuracy(trial.records)
    answered = trial.records.filter(pl.col("error").is_null())
    macro = macro_accuracy(trial.records)
    return Summary(
        trial=trial.info.name,
        reducer=trial.info.reducer,
        accuracy=scores.mean,
        accuracy_error=scores.error,
        samples=scores.samples,
        errors=len(trial.records) - len(answered),
        macro_accuracy=macro.mean,
        macro_error=macro.error,
        pareto=False,
        **_mean_costs(answered, trial.info.shape),
    )


def _mean_costs(answered: pl.DataFrame, shape: Shape) -> dict[str, float]:
    """The cost fields of Summary: means over the samples, ratios of FLOPs as ratios of means; NaN without samples."""
    columns = ("visual_tokens", "text_tokens", "dense_tokens", "frames", "generated_tokens", "reduction_flops")
    counted = answered.select(*columns, *(_or_null(answered, name) for name in ("cached_tokens", "vision_patches")))
    if not len(counted):
        return dict.fromkeys(COSTS, math.nan)
    own, dense = [], []
    for visual, text, before, frames, generated, reduction, cached, patches in counted.iter_rows():
        own.append((ledger(shape, visual, text, before, frames, generated, reduction, cached, patches), visual))
        all_tokens = [before] * shape.layers
        dense.append((ledger(shape, all_tokens, text, before, frames, generated), all_tokens))
    means = {name: _mean(getattr(cost, name) for cost, _ in own) for name in RATIOS}
    means["kv_bytes"] = _mean(cost.kv_bytes for cost, _ in own)
    means["reduction_flops"] = _mean(cost.reduction for cost, _ in own)
    for name, part in (("llm_flops", "prefill"), ("total_flops", "total")):
        means[name] = _mean(getattr(cost, part) for cost, _ in own)
        means[f"{name}_ratio"] = means[name] / _mean(getattr(cost, part) for cost, _ in dense)
    for name, convention in CONVENTIONS.items():
        few, many = (_mean(published_prefill(convention, shape, tokens) for _, tokens in side) for side in (own, dense))
        means[f"{name}_flops_ratio"] = few / many
    return means


def _or_null(records: pl.DataFrame, name: str) -> pl.Expr:
    """A column that older records lack."""
    import polars as pl

    return pl.col(name) if name in records.columns else pl.lit(None).alias(name)


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which (cost, accuracy) points no other point beats: cheaper or equal, at least as accurate, and better in one.

    Points with NaN are never on the front; equal points are on it together.
    """
    return [not any(math.isnan(v) for v in p) and not any(_dominates(q, p) for q in points) for p in points]


def _dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] <= b[0] and a[1] >= b[1] and a != b


OBJECTIVES = tuple(field.name for field in fields(Summary) if field.type in ("float", "int"))
"""What a search can optimise."""
RATIOS = ("entrance_ratio", "final_ratio", "layer_ratio", "kv_ratio")
"""Of visual tokens; what papers call the retained ratio may be any of them."""
COSTS = (
    "llm_flops_ratio",
    "llm_flops",
    "total_flops_ratio",
    "total_flops",
    *(f"{name}_flops_ratio" for name in CONVENTIONS),
    "reduction_flops",
    "kv_bytes",
    *RATIOS,
)


def require_cost(cost: str) -> None:
    """Raises ValueError if `cost` is not one of COSTS."""
    if cost not in COSTS:
        raise ValueError(f"analysis.cost must be one of {', '.join(COSTS)}, got {cost!r}")


def sweep_table(trials: Sequence[Trial], cost: str = "llm_flops_ratio") -> list[Summary]:
    """Summaries of all trials, cheapest first, Pareto-optimal ones marked; each model and benchmark has its own front.

    Raises ValueError if `cost` is not one of COSTS.
    """
    require_cost(cost)
    table = [summarize(trial) for trial in trials]
    marked: list[Summary] = []
    settings = [(trial.info.model, trial.info.benchmark) for trial in trials]
    for setting in dict.fromkeys(settings):
        rows = [row for row, own in zip(table, settings, strict=True) if own == setting]
        front = pareto_front([(getattr(row, cost), row.accuracy) for row in rows])
        marked += [replace(row, pareto=on) for row, on in zip(rows, front, strict=True)]
    return sorted(marked, key=lambda row: (math.isnan(row.llm_flops), getattr(row, cost), -row.accuracy))


def table_frame(table: Sequence[Summary]) -> pl.DataFrame:
    """The table as a data frame, one column per field of Summary."""
    import polars as pl

    return pl.DataFrame([asdict(row) for row in table])


def task_accuracies(records: pl.DataFrame) -> dict[str, Accuracy]:
    """Accuracy per task, by name."""
    return {task: accuracy(part) for (task,), part in sorted(records.group_by("task"))}


def failures(trials: Sequence[Trial]) -> dict[str, list[str]]:
    """Error messages, each with the ids of the samples that have it, over all trials."""
    import polars as pl

    found: dict[str, dict[str, None]] = {}
    for trial in trials:
        for sample, error in trial.records.filter(pl.col("error").is_not_null()).select("sample_id", "error").iter_rows():
            found.setdefault(error, {})[sample] = None
    return {error: list(samples) for error, samples in found.items()}
