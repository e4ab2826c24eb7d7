"""Numbers from records: accuracy with its standard error, cost, and the Pareto front.  No model, no GPU."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from prunesweep.analysis.axis import ABSOLUTE, DENSE, FLOPS, Denominator, counted, counted_name, on_one_axis, relative
from prunesweep.cost import CONVENTIONS, Shape, ledger, published_prefill
from prunesweep.results.records import Trial

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

    answered = records.select("correct", "video_id").drop_nulls("correct")
    if not len(answered):
        return Accuracy(math.nan, math.nan, 0)
    right, video = answered["correct"].to_numpy(), codes(answered["video_id"])
    return accuracies_of(np.bincount(video, right)[None], np.bincount(video)[None].astype(float))[0]


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

    answered = records.select("correct", "video_id", "task").drop_nulls("correct")
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


@dataclass(frozen=True)
class Summary:
    """One line of a sweep's table.  FLOPs and tokens are means per sample, as if the trial ran alone.

    Ratios are shares of what `relative_to` names: one dense run for all trials of a model and benchmark.
    """

    trial: str
    reducer: str
    accuracy: float
    accuracy_error: float
    samples: int
    errors: int
    """Samples without an answer."""
    entrance_ratio: float
    """Visual tokens entering the LLM, of the dense run's."""
    final_ratio: float
    """Visual tokens in the last layer, of the dense run's."""
    layer_ratio: float
    """Visual tokens averaged over the layers, of the dense run's."""
    kv_ratio: float
    """Visual tokens in the caches while decoding, of the dense run's."""
    kv_bytes: float
    """Of the caches after prefill, text tokens included, in half precision."""
    llm_flops: float
    """Prefill of the decoder layers: the field's "FLOPs"."""
    llm_flops_ratio: float
    """Of the dense run's, same convention."""
    total_flops: float
    """With vision tower, projector, merging, scoring, output head and decoding."""
    reduction_flops: float
    """Merging and scoring tokens alone."""
    total_flops_ratio: float
    fastv_flops_ratio: float
    """Prefill of the visual tokens alone as FastV counts it, of the dense run's; the next two likewise."""
    sparsevlm_flops_ratio: float
    fastvid_flops_ratio: float
    first_token_seconds: float = math.nan
    """Median of what was measured with `engine.measure=true`; NaN otherwise, as the next two."""
    tokens_per_second: float = math.nan
    peak_memory_bytes: float = math.nan
    pareto: bool = False
    videos: int = 0
    """Clusters of the standard error."""
    macro_accuracy: float = math.nan
    """Mean over the tasks of their accuracies."""
    macro_error: float = math.nan
    """Its standard error, clustered by video."""
    stopped: bool = False
    """By a race, after the samples given: never on the front."""
    accuracy_low: float | None = None
    """Of a stopped trial: 95 % interval of its accuracy on all samples, valid although the race looked several times."""
    accuracy_high: float | None = None
    relative_to: str = ""
    """What all ratios are shares of."""
    dense: bool = False
    """Nothing was left out of any sample: no patch before the vision tower, no token in any layer or cache."""
    entrance_tokens: float = math.nan
    """Visual tokens entering the LLM."""
    final_tokens: float = math.nan
    """Visual tokens in the last layer."""
    layer_tokens: float = math.nan
    """Visual tokens averaged over the layers."""
    kv_tokens: float = math.nan
    """Visual tokens in the caches while decoding."""
    fastv_flops: float = math.nan
    """Prefill of the visual tokens alone as FastV counts it, in multiply-adds; the next two likewise."""
    sparsevlm_flops: float = math.nan
    fastvid_flops: float = math.nan
    dense_tokens: float = math.nan
    """Visual tokens of the dense model on the same frames and prompts; FLOPs of the same below, counted without a run."""
    dense_llm_flops: float = math.nan
    dense_total_flops: float = math.nan
    dense_fastv_flops: float = math.nan
    dense_sparsevlm_flops: float = math.nan
    dense_fastvid_flops: float = math.nan
    effective_samples: float = math.nan
    """Independent questions that would say as much about the accuracy as these do."""
    infeasible: str | None = None
    """Why the trial could not be run."""
    unclear: float = math.nan
    """Share of the generated answers to questions with options that name none of these; NaN where there are no such answers."""
    ambiguous: float = math.nan
    """Share that name several."""


def not_run(trial: str, reducer: str, reason: str) -> Summary:
    """The line of a trial that could not be run: no number is known of it."""
    costs: dict[str, Any] = dict.fromkeys(LEDGER_COSTS, math.nan)
    return Summary(trial, reducer, accuracy=math.nan, accuracy_error=math.nan, samples=0, errors=0, infeasible=reason, **costs)


def scores_of(row: Summary) -> Accuracy:
    return Accuracy(row.accuracy, row.accuracy_error, row.samples, row.videos, row.effective_samples)


def summarize(trial: Trial, denominator: Denominator | None = None) -> Summary:
    """A trial's numbers, relative to `denominator`, or to the dense model on the trial's own frames and prompts.

    The latter are no axis for several trials: `axis.on_one_axis` makes one.
    """
    import polars as pl

    scores = accuracy(trial.records)
    whole = trial.records["error"].null_count() == len(trial.records)  # a copy of millions of lists costs seconds
    answered = trial.records if whole else trial.records.filter(pl.col("error").is_null())
    macro = macro_accuracy(trial.records)
    costs: dict[str, Any] = mean_costs(answered, trial.info.shape) | _measured_costs(trial)
    row = Summary(
        trial=trial.info.name,
        reducer=trial.info.reducer,
        accuracy=scores.mean,
        accuracy_error=scores.error,
        samples=scores.samples,
        errors=len(trial.records) - len(answered),
        videos=scores.videos,
        effective_samples=scores.effective,
        macro_accuracy=macro.mean,
        macro_error=macro.error,
        stopped=trial.info.stopped is not None,
        accuracy_low=trial.info.stopped.accuracy_low if trial.info.stopped else None,
        accuracy_high=trial.info.stopped.accuracy_high if trial.info.stopped else None,
        relative_to=counted_name(trial.info),
        **naming(trial.records)._asdict(),
        **costs,
    )
    return relative(row, denominator)


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


MOST_UNCLEAR = 0.5
"""Of a trial's answers that name no option or several.  Beyond it two trials may agree only in saying nothing: neither is called
like another, nor within a margin of it, whatever a test says."""


def says_enough(row: Summary) -> bool:
    """Whether at least half of a trial's answers name one option; scored options always do."""
    return not row.unclear + row.ambiguous > MOST_UNCLEAR


def _measured_costs(trial: Trial) -> dict[str, float]:
    return {name: trial.measured[name] if trial.measured else math.nan for name in MEASURED_COSTS}


def mean_costs(answered: pl.DataFrame, shape: Shape) -> dict[str, Any]:
    """The cost fields of Summary: means over the samples; NaN without samples.

    Ratios are those of means, relative to the dense model on the same frames and prompts.
    """
    if not len(answered):
        return dict.fromkeys((*LEDGER_COSTS, *DENSE.values()), math.nan)

    visual = tokens_by_layer(answered["visual_tokens"])
    counts: list[Any] = [answered[name].to_numpy() for name in COUNTS]  # arrays where the ledger's types say numbers
    text, before, frames, generated, reduction, option_rows, option_pairs = counts
    cached = cached_by_layer(answered, visual)
    patches: Any = answered["vision_patches"].fill_null(shape.vision.patches).to_numpy()
    all_patches = _dense_patches(shape, before, frames)
    all_tokens = [before] * len(visual)
    options = {"option_rows": option_rows, "option_pairs": option_pairs}
    own: Any = ledger(shape, visual, text, before, frames, generated, reduction, cached, patches, **options)
    dense: Any = ledger(shape, all_tokens, text, before, frames, generated, vision_patches=all_patches, **options)
    means = {
        "entrance_tokens": _mean(visual[0]),
        "final_tokens": _mean(visual[-1]),
        "layer_tokens": _mean(sum(visual)) / len(visual),
        "kv_tokens": _mean(sum(cached)) / len(cached),
        "dense_tokens": _mean(before),
        "kv_bytes": _mean(own.kv_bytes),
        "reduction_flops": _mean(own.reduction),
        "llm_flops": _mean(own.prefill),
        "total_flops": _mean(own.total),
        "dense_llm_flops": _mean(dense.prefill),
        "dense_total_flops": _mean(dense.total),
    }
    for name, convention in CONVENTIONS.items():
        prefills: list[Any] = [published_prefill(convention, shape, tokens) for tokens in (visual, all_tokens)]
        means[f"{name}_flops"], means[f"dense_{name}_flops"] = map(_mean, prefills)
    smaller = answered["vision_patches"].is_not_null().to_numpy() & (patches < all_patches)
    whole = all((count == before).all() for count in (*visual, *cached)) and not smaller.any()
    return {**means, **counted(means, "").ratios(means), "dense": bool(whole)}


def _dense_patches(shape: Shape, tokens: Any, frames: Any) -> Any:
    """Per frame, where nothing was made smaller before the vision tower."""
    return tokens // frames * shape.vision.token_patches if shape.vision.token_patches else shape.vision.patches


def tokens_by_layer(counts: pl.Series) -> list[Any]:
    """One array per layer of a column of lists, each as long as the others; equal neighbours are one and the same array."""
    table = counts.explode().to_numpy().reshape(len(counts), -1).T
    layers: list[Any] = []
    for row in table:
        layers.append(layers[-1] if layers and (row == layers[-1]).all() else row.copy())
    return layers


def cached_by_layer(answered: pl.DataFrame, visual: list[Any]) -> list[Any]:
    """The same of the caches; a record that says nothing has in every layer what the last one sees."""
    import polars as pl

    if answered["cached_tokens"].null_count() == len(answered):
        return [visual[-1]] * len(visual)
    seen = pl.col("visual_tokens").list
    return tokens_by_layer(answered.select(pl.coalesce("cached_tokens", seen.last().repeat_by(seen.len()))).to_series())


def _mean(values: Int64[np.ndarray, " samples"]) -> float:
    """The mean of whole numbers whose sum may need more than 64 bits."""
    high, low = values >> WORD, values & ((1 << WORD) - 1)
    return ((int(high.sum()) << WORD) + int(low.sum())) / len(values)


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


def numbers(summary: Summary, trial: Trial) -> dict[str, float]:
    """Whatever a search can optimise, by name: the summary's numbers, and `accuracy/TASK`."""
    tasks = {f"{PER_TASK}{task}": scores.mean for task, scores in task_accuracies(trial.records).items()}
    return {name: value for name, value in asdict(summary).items() if isinstance(value, (int, float))} | tasks


PER_TASK = "accuracy/"
OBJECTIVES = tuple(field.name for field in fields(Summary) if field.type in ("float", "int"))
"""What a search can optimise."""
COUNTS = ("text_tokens", "dense_tokens", "frames", "generated_tokens", "reduction_flops", "option_rows", "option_pairs")
"""What a record tells the ledger besides its visual tokens, in the ledger's order."""
WORD = 32
"""Bits."""
RATIOS = ("entrance_ratio", "final_ratio", "layer_ratio", "kv_ratio")
"""Of visual tokens; what papers call the retained ratio may be any of them."""
MEASURED_COSTS = ("first_token_seconds", "tokens_per_second", "peak_memory_bytes")
LEDGER_COSTS = (
    *(cost for name in FLOPS for cost in (f"{name}_ratio", name)),
    "reduction_flops",
    "kv_bytes",
    *(cost for ratio in RATIOS for cost in (ratio, ABSOLUTE[ratio])),
)
COSTS = (*LEDGER_COSTS, "first_token_seconds", "peak_memory_bytes")


def require_cost(cost: str, setting: str = "cost") -> None:
    """Raises ValueError if `cost`, the value of a setting, is not one of COSTS."""
    if cost not in COSTS:
        raise ValueError(f"{setting} must be one of {', '.join(COSTS)}, got {cost!r}")


def require_objective(where: str, name: str) -> None:
    """Raises ValueError unless `numbers` may have the name."""
    if name not in OBJECTIVES and not name.startswith(PER_TASK):
        raise ValueError(f"unknown objective {name!r} in {where}; known: {', '.join((*OBJECTIVES, f'{PER_TASK}TASK'))}")


def sweep_table(trials: Sequence[Trial], cost: str = "llm_flops_ratio") -> list[Summary]:
    """Summaries of all trials, Pareto-optimal ones marked; each model and benchmark has its own axis and its own front.

    Those of one model and benchmark stand together, cheapest first.

    Raises ValueError if `cost` is not one of COSTS.
    """
    require_cost(cost)
    groups: dict[tuple[str, str], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.info.model, trial.info.benchmark), []).append(trial)
    return [row for own in groups.values() for row in cheapest_first(mark_front(rows_of(own), cost), cost)]


def rows_of(trials: Sequence[Trial]) -> list[Summary]:
    """Of trials of one model and benchmark, on one axis: relative to their dearest dense run."""
    return on_one_axis([t.info for t in trials], [summarize(t) for t in trials], [t.folder for t in trials])


def mark_front(table: Sequence[Summary], cost: str) -> list[Summary]:
    """The same rows, those of one model and benchmark, with the Pareto-optimal ones marked."""
    front = pareto_front([(math.nan if row.stopped else getattr(row, cost), row.accuracy) for row in table])
    return [replace(row, pareto=on) for row, on in zip(table, front, strict=True)]


def cheapest_first(table: Sequence[Summary], cost: str) -> list[Summary]:
    return sorted(table, key=lambda row: (math.isnan(row.llm_flops), getattr(row, cost), -row.accuracy))


def table_frame(table: Sequence[Summary]) -> pl.DataFrame:
    """The table as a data frame, one column per field of Summary."""
    import polars as pl

    return pl.DataFrame([asdict(row) for row in table], infer_schema_length=None)


def task_accuracies(records: pl.DataFrame) -> dict[str, Accuracy]:
    """Accuracy per task, by name."""
    return {task: accuracy(part) for (task,), part in sorted(records.group_by("task"))}


class Failure(NamedTuple):
    """Errors of one kind: their messages differ in numbers at most."""

    error: str
    """The first one's message."""
    messages: int
    """Different ones."""
    samples: tuple[str, ...]
    trials: tuple[str, ...]
    records: int


NUMBER = re.compile(r"\d+(\.\d+)?")


def failures(trials: Iterable[Trial]) -> list[Failure]:
    """The errors of all trials by kind."""
    import polars as pl

    return by_kind(
        (trial.info.name, sample, error)
        for trial in trials
        for sample, error in trial.records.filter(pl.col("error").is_not_null()).select("sample_id", "error").iter_rows()
    )


def by_kind(errors: Iterable[tuple[str, str, str]]) -> list[Failure]:
    """Errors, each given as trial, sample and message, gathered by kind in the order in which they are met."""
    kinds: dict[str, list[tuple[str, str, str]]] = {}
    for row in errors:
        kinds.setdefault(NUMBER.sub("0", row[2]), []).append(row)
    found = []
    for own in kinds.values():
        trials, samples, messages = (tuple(dict.fromkeys(column)) for column in zip(*own, strict=True))
        found.append(Failure(messages[0], len(messages), samples, trials, len(own)))
    return found
