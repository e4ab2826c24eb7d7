"""Numbers from records: accuracy with its standard error, cost, and the Pareto front.  No model, no GPU."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from prunesweep.cost import CONVENTIONS, Ledger, Shape, ledger, published_prefill
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
    stopped: bool = False
    """By a race, after the samples given: never on the front."""


def summarize(trial: Trial) -> Summary:
    import polars as pl

    scores = accuracy(trial.records)
    answered = trial.records.filter(pl.col("correct").is_not_null())
    return Summary(
        trial=trial.info.name,
        reducer=trial.info.reducer,
        accuracy=scores.mean,
        accuracy_error=scores.error,
        samples=scores.samples,
        errors=len(trial.records) - scores.samples,
        pareto=False,
        stopped=trial.info.stopped is not None,
        **mean_costs(answered, trial.info.shape),
    )


def mean_costs(answered: pl.DataFrame, shape: Shape) -> dict[str, float]:
    """The cost fields of Summary: means over the samples, ratios of FLOPs as ratios of means; NaN without samples."""
    columns = ("visual_tokens", "text_tokens", "dense_tokens", "frames", "generated_tokens", "reduction_flops")
    counted = answered.select(columns)
    if not len(counted):
        return dict.fromkeys(COSTS, math.nan)
    samples = [_sample_costs(shape, tuple(visual), *rest) for visual, *rest in counted.iter_rows()]
    own = [sample.own for sample in samples]
    means = {name: _mean(getattr(cost, name) for cost in own) for name in RATIOS}
    means["kv_bytes"] = _mean(cost.kv_bytes for cost in own)
    means["reduction_flops"] = _mean(cost.reduction for cost in own)
    for name, part in (("llm_flops", "prefill"), ("total_flops", "total")):
        means[name] = _mean(getattr(cost, part) for cost in own)
        means[f"{name}_ratio"] = means[name] / _mean(getattr(sample.dense, part) for sample in samples)
    for index, name in enumerate(CONVENTIONS):
        few, many = (_mean(sample.published[index][side] for sample in samples) for side in (0, 1))
        means[f"{name}_flops_ratio"] = few / many
    return means


class SampleCosts(NamedTuple):
    """One answer's ledger, the dense model's on the same prompt, and the prefill of both in each of CONVENTIONS."""

    own: Ledger
    dense: Ledger
    published: tuple[tuple[int, int], ...]


@functools.lru_cache(maxsize=1 << 16)  # questions of one video cost alike, and a race asks for the same ones again
def _sample_costs(
    shape: Shape, visual: tuple[int, ...], text: int, before: int, frames: int, generated: int, reduction: int
) -> SampleCosts:
    whole = [before] * shape.layers
    published = tuple(tuple(published_prefill(c, shape, tokens) for tokens in (visual, whole)) for c in CONVENTIONS.values())
    own = ledger(shape, visual, text, before, frames, generated, reduction)
    return SampleCosts(own, ledger(shape, whole, text, before, frames, generated), cast(Any, published))


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which (cost, accuracy) points no other point beats: cheaper or equal, at least as accurate, and better in one.

    Points with NaN are never on the front; equal points are on it together.
    """
    return nondominated([(-cost, accuracy) for cost, accuracy in points])


def nondominated(points: Sequence[Sequence[float]]) -> list[bool]:
    """Which points no other beats, where more is better in every coordinate; never those with NaN, equal ones together."""
    whole = [p if not any(math.isnan(v) for v in p) else None for p in map(tuple, points)]

    def beaten(p: tuple[float, ...]) -> bool:
        return any(q is not None and q != p and all(b >= a for a, b in zip(p, q, strict=True)) for q in whole)

    return [p is not None and not beaten(p) for p in whole]


def numbers(summary: Summary, trial: Trial) -> dict[str, float]:
    """Whatever a search can optimise, by name: the summary's numbers, and `accuracy/TASK`."""
    tasks = {f"{PER_TASK}{task}": scores.mean for task, scores in task_accuracies(trial.records).items()}
    return {name: value for name, value in asdict(summary).items() if isinstance(value, (int, float))} | tasks


PER_TASK = "accuracy/"
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
        front = pareto_front([(math.nan if row.stopped else getattr(row, cost), row.accuracy) for row in rows])
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
