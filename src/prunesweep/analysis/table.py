"""A sweep's table: every trial's numbers on one axis, with the Pareto front marked.  No model, no GPU."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from prunesweep.analysis.accuracy import accuracy, macro_accuracy, naming, task_accuracies
from prunesweep.analysis.axis import counted_name, on_one_axis, relative
from prunesweep.analysis.costs import MEASURED_COSTS, Denominator, mean_costs, require_cost
from prunesweep.analysis.free import free_answers
from prunesweep.analysis.front import pareto_front
from prunesweep.analysis.summary import PER_TASK, Summary
from prunesweep.analysis.varied import series
from prunesweep.results.read import number
from prunesweep.results.records import Trial

if TYPE_CHECKING:
    import polars as pl


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
        number=number(trial.folder) if trial.folder else "",
        **naming(trial.records)._asdict(),
        **free_answers(trial.records)._asdict(),
        **costs,
    )
    return relative(row, denominator)


def _measured_costs(trial: Trial) -> dict[str, float]:
    return {name: trial.measured[name] if trial.measured else math.nan for name in MEASURED_COSTS}


def numbers(summary: Summary, trial: Trial) -> dict[str, float]:
    """Whatever a search can optimise, by name: the summary's numbers, and `accuracy/TASK`."""
    tasks = {f"{PER_TASK}{task}": scores.mean for task, scores in task_accuracies(trial.records).items()}
    return {name: value for name, value in asdict(summary).items() if isinstance(value, (int, float))} | tasks


def sweep_table(
    trials: Sequence[Trial], cost: str = "llm_flops_ratio", summaries: Sequence[Summary] | None = None
) -> list[Summary]:
    """Summaries of all trials, Pareto-optimal ones marked; each model and benchmark has its own axis and its own front.

    Those of one model and benchmark stand together, cheapest first.  `summaries` are the trials' own, if they are there already.

    Raises ValueError if `cost` is not one of COSTS.
    """
    require_cost(cost)
    groups: dict[tuple[str, str], list[tuple[Trial, Summary]]] = {}
    for trial, row in zip(trials, summaries or map(summarize, trials), strict=True):
        groups.setdefault((trial.info.model, trial.info.benchmark), []).append((trial, row))
    return [row for own in groups.values() for row in cheapest_first(mark_front(_on_one_axis(own), cost), cost)]


def rows_of(trials: Sequence[Trial]) -> list[Summary]:
    """Of trials of one model and benchmark, on one axis: relative to their dearest dense run."""
    return _on_one_axis([(trial, summarize(trial)) for trial in trials])


def _on_one_axis(found: Sequence[tuple[Trial, Summary]]) -> list[Summary]:
    return on_one_axis([trial.info for trial, _ in found], [row for _, row in found], [trial.folder for trial, _ in found])


def mark_front(table: Sequence[Summary], cost: str) -> list[Summary]:
    """The same rows, those of one model and benchmark, with the Pareto-optimal ones marked."""
    front = pareto_front([(math.nan if row.stopped else getattr(row, cost), row.accuracy) for row in table])
    return [replace(row, pareto=on) for row, on in zip(table, front, strict=True)]


def cheapest_first(table: Sequence[Summary], cost: str) -> list[Summary]:
    return sorted(table, key=lambda row: (math.isnan(row.llm_flops), getattr(row, cost), -row.accuracy))


LAST = ("trial", "relative_to")
"""Columns of long names."""


def table_frame(
    table: Sequence[Summary], settings: Mapping[str, Mapping[str, Any]] | None = None, cost: str = "llm_flops_ratio"
) -> pl.DataFrame:
    """The table as a data frame: `#`, `reducer`, a column for each of these settings, then one per field of Summary.

    Of these, accuracy with its error and count, the cost and the front come first.  `settings` are those of each trial, by its
    number.
    """
    import polars as pl

    frame = pl.DataFrame([asdict(row) for row in table], infer_schema_length=None)
    if not len(frame):
        return frame
    own = [(settings or {}).get(row.number, {}) for row in table]
    keys = list(dict.fromkeys(key for one in own for key in one))
    first = ("accuracy", "accuracy_error", "samples", cost, "pareto")
    return frame.select(
        pl.col("number").alias("#"),
        "reducer",
        *(series(key, [one.get(key) for one in own]) for key in keys),
        *first,
        pl.exclude("number", "reducer", *first, *LAST),
        *LAST,
    )
