"""What the report shows of one model and benchmark, as plain values: see `html`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prunesweep.analysis import resampling, significance
from prunesweep.analysis.accuracy import Accuracy
from prunesweep.analysis.costs import COSTS
from prunesweep.analysis.failures import by_kind
from prunesweep.analysis.outcomes import Outcomes
from prunesweep.analysis.significance import AgainstDense
from prunesweep.analysis.summary import scores_of
from prunesweep.analysis.table import mark_front
from prunesweep.report.effects import ablation_data, parallel_data
from prunesweep.report.figures import parallel_coordinates
from prunesweep.report.given import Given, statement_of
from prunesweep.report.marks import marked
from prunesweep.report.plots import column_name, label, unit
from prunesweep.report.redact import public, public_override
from prunesweep.report.text import MOST_NAMED, failure_text, short_names
from prunesweep.report.verdict import Verdict, answers, headline, lines, standing
from prunesweep.results.read import reread, settings

MOST_FLIPS = 20
"""Named per trial; of all trials if there are few, else of the front only."""
MOST_ROWS = 40
"""Of tasks and ledger: with more trials, only the front and the dense model are shown there."""
LONGEST = 300
"""Characters of an answer or an error that are shown."""


def group(found: Verdict, given: Sequence[Given] = ()) -> dict[str, Any]:
    outcomes = found.outcomes
    names = short_names(outcomes.table)
    return {
        "model": outcomes.model,
        "benchmark": outcomes.benchmark,
        "cost": outcomes.cost,
        "margin": 100 * outcomes.margin,
        "relative_to": public(outcomes.relative_to),
        "headline": public(headline(found)),
        "answers": [one._asdict() | {"said": public(one.said)} for one in answers(found)],
        "words": [(key, public(words)) for key, words in lines(found)],
        "axes": _axes(outcomes),
        "common": names[1],
        "shared": (shared := _shared(outcomes)),
        "trials": list(_trials(found, names[0], shared, given)),
        "tasks": _tasks(found),
        "heat": _shown(found),
        "ablations": [ablation_data(one, found.importances) for one in found.ablations],
        "parallel": [parallel_data(one, outcomes) for one in parallel_coordinates(outcomes) if one.tells_more],
        "failures": _failures(outcomes),
    }


def _trials(found: Verdict, names: Sequence[str], shared: dict[str, Any], given: Sequence[Given]) -> Iterator[dict[str, Any]]:
    outcomes, against, labels, stands = found.outcomes, found.against, marked(found), standing(found)
    by_task = significance.by_task(outcomes)
    flips = set(range(len(outcomes.table)) if len(outcomes.table) <= MOST_ROWS else _shown(found))
    for index, (info, row) in enumerate(zip(outcomes.infos, outcomes.table, strict=True)):
        statement = statement_of(info, given)
        trial = {
            "index": index,
            "number": public(row.number),
            "name": public(row.trial),
            "short": public(names[index]),
            "reducer": row.reducer,
            **{name: getattr(row, name) for name in ("accuracy", "videos", "errors", "unclear", "ambiguous", "stopped")},
            **_errors(scores_of(row)),
            "costs": {cost: getattr(row, cost) for cost in COSTS},
            "overrides": [public_override(one) for one in info.overrides],
            "settings": _own(public(settings(info)), shared[row.reducer]),
            "tasks": [_numbers(scores[index]) for scores in by_task.values()],
            "against": _against(against, index),
            "stands": stands.get(index),
            "label": labels.get(index),
            "preset": statement and public(statement),
            "flips": [],
            "more": 0,
        }
        if against and index in flips and against.own[index] not in (index, -1):
            trial |= _flips(outcomes, index, int(against.own[index]))
        yield trial


def _shared(outcomes: Outcomes) -> dict[str, dict[str, Any]]:
    """Settings that all trials of a method have alike, by method: said once, as a page of many trials would be large."""
    by_method: dict[str, list[dict[str, Any]]] = {}
    for info in outcomes.infos:
        by_method.setdefault(info.reducer, []).append(public(settings(info)))
    return {
        method: {key: value for key, value in own[0].items() if all(key in one and one[key] == value for one in own)}
        for method, own in by_method.items()
    }


def _own(own: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in own.items() if key not in shared}


def _errors(scores: Accuracy) -> dict[str, float]:
    low, high = significance.accuracy_interval(scores) if scores.samples else (math.nan, math.nan)
    return {"error": scores.error, "samples": scores.samples, "low": low, "high": high}


def _numbers(scores: Accuracy) -> list[float]:
    """Of one task: accuracy, error, its interval, questions."""
    found = _errors(scores)
    return [scores.mean, found["error"], found["low"], found["high"], found["samples"]]


def _shown(found: Verdict) -> list[int]:
    """The rows of tasks and ledger: dense first, then cheapest first."""
    table, dense = found.outcomes.table, found.against.dense if found.against else None
    answered = [i for i in np.argsort(found.outcomes.costs, kind="stable").tolist() if table[i].samples]
    if len(answered) > MOST_ROWS:
        answered = [i for i in answered if table[i].pareto or table[i].dense]
    return [*([dense] if dense is not None else []), *(i for i in answered if i != dense)][:MOST_ROWS]


def _tasks(found: Verdict) -> dict[str, Any]:
    """Names of the tasks, and of each shown trial its difference to dense on each: mean, interval, questions."""
    outcomes, against = found.outcomes, found.against
    names = sorted(set(outcomes.tasks))
    cells: dict[int, list[list[float]]] = {}
    if against is not None:
        rows = [i for i in _shown(found) if against.own[i] not in (i, -1)]
        both = list(dict.fromkeys([*rows, *(int(against.own[i]) for i in rows)]))  # of a thousand trials few are shown
        few, own = outcomes.trials(both), np.array([_place(both, int(against.own[i])) for i in both])
        for name in names if both else ():
            d = significance.paired_with(few.of_task(name), own)
            for at, i in enumerate(rows):
                cells.setdefault(i, []).append([d.mean[at], d.low[at], d.high[at], d.samples[at]])
    return {"names": names, "against": cells}


def _place(among: Sequence[int], one: int) -> int:
    return among.index(one) if one in among else -1


def _axes(outcomes: Outcomes) -> dict[str, Any]:
    """For every cost that is known of some trial: its label, who is on the front, how surely, and the front's line and band."""
    drawn = resampling.resampled(outcomes) if outcomes.videos else np.zeros((0, len(outcomes.table)))
    accuracy = np.array([row.accuracy for row in outcomes.table], dtype=float)
    axes = {}
    for cost in COSTS:
        table = mark_front(outcomes.table, cost)
        costs = np.array([getattr(row, cost) for row in table])
        if np.isnan(costs).all() and cost != outcomes.cost:
            continue  # nothing was measured
        one = resampling.front_of(costs, accuracy, drawn)
        axes[cost] = {
            "label": public(label(cost, outcomes.relative_to)),
            "short": column_name(cost),
            "ratio": cost.endswith("ratio"),
            "unit": unit(cost),
            "on": [row.pareto for row in table],
            "probability": one.probability,
            "front": {"cost": one.cost, "best": one.best, "low": one.low, "high": one.high},
        }
    return axes


def _against(against: AgainstDense | None, index: int) -> dict[str, Any] | None:
    if against is None or index == against.own[index] or not against.difference.samples[index]:
        return None
    d = against.difference
    values = {name: getattr(d, name)[index] for name in ("mean", "low", "high", "mcnemar", "gained", "lost", "samples")}
    return {**values, "p": d.p_value[index], "holm": against.holm[index], "fdr": against.fdr[index]}


def _flips(outcomes: Outcomes, trial: int, dense: int) -> dict[str, Any]:
    """A few answers that the trial lost or gained against the dense model, with what it said."""
    flips = significance.agreement(outcomes, trial, dense)
    chosen = [*flips.lost, *flips.gained][:MOST_FLIPS]
    said = _answers(outcomes.folders[trial], chosen)
    rows = [
        {"sample": public(sample), "gained": sample in flips.gained, "target": said[sample][0], "prediction": said[sample][1]}
        for sample in chosen
        if sample in said
    ]
    return {"flips": rows, "more": len(flips.lost) + len(flips.gained) - len(rows)}


def _answers(folder: Path | None, samples: Sequence[str]) -> dict[str, tuple[str, str]]:
    import polars as pl

    if folder is None or not samples:
        return {}
    records = reread(folder, ("sample_id", "target", "prediction"))
    rows = records.filter(pl.col("sample_id").is_in(list(samples))).iter_rows()
    return {sample: (str(target)[:LONGEST], str(said)[:LONGEST]) for sample, target, said in rows}


def _failures(outcomes: Outcomes) -> list[dict[str, Any]]:
    """Errors by kind with their samples, of the trials that have any."""
    return [
        {
            "error": public(failure_text(one, len(outcomes.table)))[:LONGEST],
            "samples": one.samples[:MOST_NAMED],
            "more": max(0, len(one.samples) - MOST_NAMED),
        }
        for one in by_kind(_errors_of(outcomes))
    ]


def _errors_of(outcomes: Outcomes) -> Iterator[tuple[str, str, str]]:
    import polars as pl

    for row, folder in zip(outcomes.table, outcomes.folders, strict=True):
        if row.errors and folder:
            failed = reread(folder, ("sample_id", "error")).filter(pl.col("error").is_not_null())
            yield from ((row.trial, sample, public(error)) for sample, error in failed.iter_rows())
