"""`prunesweep report SWEEP`: one self-contained report.html of a finished sweep.

The charts are drawn by a few hundred lines of script of our own inside the page: a plotting library's bundle would be 4 to
5 MB in every report and bring its own markup, where this needs points that take the keyboard, names for screen readers,
and text that can never become markup.  The page's content policy allows this one script, by its hash, and no network.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from prunesweep.analysis import resampling, significance
from prunesweep.analysis.ablation import Ablation, Estimate, Importance, Interaction, MainEffect
from prunesweep.analysis.accuracy import Accuracy
from prunesweep.analysis.costs import COSTS
from prunesweep.analysis.failures import by_kind
from prunesweep.analysis.outcomes import UNANSWERED, Outcomes
from prunesweep.analysis.significance import AgainstDense
from prunesweep.analysis.summary import scores_of
from prunesweep.analysis.table import mark_front
from prunesweep.files import unwritten
from prunesweep.foreign import read_yaml
from prunesweep.paths import SWEEPS
from prunesweep.report.figures import Coordinates, parallel_coordinates
from prunesweep.report.plots import label, unit
from prunesweep.report.redact import public, public_override
from prunesweep.report.text import MOST_NAMED, failure_text, short_names
from prunesweep.report.verdict import Verdict, headline, lines, verdict
from prunesweep.results.infeasible import all_infeasible
from prunesweep.results.read import reread, settings, short

WEB = Path(__file__).parent / "web"
REPORT = "report.html"
TOKEN_MAPS = "tokens"
"""Where `prunesweep tokens` leaves its pictures in a sweep's folder."""
MOST_FLIPS = 20
"""Named per trial; of all trials if there are few, else of the front only."""
MOST_ROWS = 40
"""Of the heat map and the ledger: with more trials, only the front and the dense model are shown there."""
MOST_MAPS = 12
LONGEST = 300
"""Characters of an answer or an error that are shown."""
VERSIONS = ("prunesweep", "torch", "transformers", "numpy", "polars", "scipy", "optuna")


def report_data(found: Sequence[Outcomes], sweep: Path) -> dict[str, Any]:
    """Everything that the page shows, as plain values; NaN is None.  Folders and secrets of this machine are left out."""
    verdicts = [verdict(outcomes) for outcomes in found]
    trials = sum(len(outcomes.table) for outcomes in found)
    return _plain(
        {
            "lead": f"{trials} trial{'s' if trials > 1 else ''}; every number below is a function of their records.",
            "replicates": resampling.REPLICATES,
            "groups": [_group(one) for one in verdicts],
            "notRun": [{"name": public(one.name), "reason": public(one.reason)} for one in all_infeasible(sweep)],
            "tokens": list(_token_maps(sweep)),
            "provenance": list(_provenance(found, sweep)),
        }
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


def _trials(found: Verdict) -> Iterator[dict[str, Any]]:
    outcomes, against = found.outcomes, found.against
    names = short_names(outcomes.table)[0]
    by_task = significance.by_task(outcomes)
    flips = set(range(len(outcomes.table)) if len(outcomes.table) <= MOST_ROWS else _shown(found))
    for index, (info, row) in enumerate(zip(outcomes.infos, outcomes.table, strict=True)):
        trial = {
            "index": index,
            "number": public(row.number),
            "name": public(row.trial),
            "short": public(names[index]),
            "reducer": row.reducer,
            **{name: getattr(row, name) for name in ("accuracy", "videos", "errors", "unclear", "ambiguous")},
            **_errors(scores_of(row)),
            "costs": {cost: getattr(row, cost) for cost in COSTS},
            "overrides": [public_override(one) for one in info.overrides],
            "settings": public(settings(info)),
            "tasks": [
                {"task": task, "accuracy": scores[index].mean, **_errors(scores[index])} for task, scores in by_task.items()
            ],
            "against": _against(against, index),
            "flips": [],
            "more": 0,
        }
        if against and index in flips and against.own[index] not in (index, -1):
            trial |= _flips(outcomes, index, int(against.own[index]))
        yield trial


def _group(found: Verdict) -> dict[str, Any]:
    outcomes = found.outcomes
    return {
        "model": outcomes.model,
        "benchmark": outcomes.benchmark,
        "cost": outcomes.cost,
        "relative_to": public(outcomes.relative_to),
        "headline": public(headline(found)),
        "words": [(key, public(words)) for key, words in lines(found)],
        "axes": _axes(outcomes),
        "common": short_names(outcomes.table)[1],
        "trials": list(_trials(found)),
        "tasks": list(significance.by_task(outcomes)),
        "heat": _shown(found),
        "ablations": [_ablation(one) for one in found.ablations],
        "importances": [_importance(one) for one in found.importances],
        "parallel": [_parallel(one, outcomes) for one in parallel_coordinates(outcomes)],
        "failures": _failures(outcomes),
    }


def _errors(scores: Accuracy) -> dict[str, float]:
    low, high = significance.accuracy_interval(scores) if scores.samples else (math.nan, math.nan)
    return {"error": scores.error, "samples": scores.samples, "low": low, "high": high}


def _shown(found: Verdict) -> list[int]:
    """The rows of heat map and ledger, cheapest first."""
    table = found.outcomes.table
    answered = [i for i in np.argsort(found.outcomes.costs, kind="stable").tolist() if table[i].samples]
    if len(answered) <= MOST_ROWS:
        return answered
    return [i for i in answered if table[i].pareto or table[i].dense][:MOST_ROWS]


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
    values = {name: getattr(d, name)[index] for name in ("mean", "low", "high", "mcnemar", "gained", "lost")}
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


def _ablation(one: Ablation) -> dict[str, Any]:
    names = short([effect.factor for effect in one.main])
    return {
        "reducer": one.reducer,
        "trials": one.trials,
        "samples": one.samples,
        "videos": one.videos,
        "main": [_main(effect, names) for effect in one.main],
        "joint": [_joint(pair, names) for pair in one.interactions],
    }


def _estimate(estimate: Estimate) -> dict[str, float]:
    return {"accuracy": estimate.value, "low": estimate.low, "high": estimate.high}


def _value(value: Any) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _main(effect: MainEffect, names: dict[str, str]) -> dict[str, Any]:
    levels = [{"value": public(_value(level.value)), **_estimate(level.accuracy)} for level in effect.levels]
    return {"name": names[effect.factor], "levels": levels, "range": effect.range, "p": effect.adjusted}


def _joint(pair: Interaction, names: dict[str, str]) -> dict[str, Any]:
    first, second = (list(dict.fromkeys(_value(cell[i]) for cell in ((c.first, c.second) for c in pair.cells))) for i in (0, 1))
    cells = [
        {"first": _value(cell.first), "second": _value(cell.second), "trials": cell.trials, **_estimate(cell.accuracy)}
        for cell in pair.cells
    ]
    return {"names": [names[f] for f in pair.factors], "first": first, "second": second, "cells": cells, "p": pair.adjusted}


def _importance(one: Importance) -> dict[str, Any]:
    names = short(list(one.shares))
    return {"reducer": one.reducer, "trials": one.trials, "shares": [(names[name], share) for name, share in one.shares.items()]}


def _parallel(one: Coordinates, outcomes: Outcomes) -> dict[str, Any]:
    axes = [{"name": axis.name, "ticks": [(place, public(text)) for place, text in axis.ticks]} for axis in one.axes]
    index = {name: i for i, name in enumerate(outcomes.names)}
    return {"reducer": one.reducer, "axes": axes, "lines": one.lines, "trials": [index[name] for name in one.names]}


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


def _token_maps(sweep: Path) -> Iterator[dict[str, str]]:
    """Pictures that `prunesweep tokens` left in the sweep's folder, inside the page."""
    kinds = {".png": "image/png", ".gif": "image/gif"}
    files = sorted(path for path in (sweep / TOKEN_MAPS).rglob("*") if path.suffix in kinds)
    for path in files[:MOST_MAPS]:
        content = base64.b64encode(path.read_bytes()).decode()
        yield {"src": f"data:{kinds[path.suffix]};base64,{content}", "caption": path.stem.replace("_", " ")}


def _provenance(found: Sequence[Outcomes], sweep: Path) -> Iterator[tuple[str, str]]:
    """What was run and what wrote this page."""
    if command := command_of(sweep):
        yield "sweep", command
    for outcomes in found:
        records = int((outcomes.correct != UNANSWERED).sum())
        where = f"{outcomes.model} on {outcomes.benchmark}"
        yield (
            f"records, {where}",
            f"{records:,} answers, {fingerprint(outcomes)} (SHA-256 of answers and samples, first 16 digits)",
        )
        yield f"model's shape, {where}", json.dumps(asdict(outcomes.infos[0].shape))
    made_with = dict.fromkeys(_listed(info.versions.items()) for outcomes in found for info in outcomes.infos if info.versions)
    for libraries in made_with:
        yield "records made with", libraries
    yield "page written with", _listed(_versions())
    yield (
        "statistics",
        (
            f"errors clustered by video; Student's t with one degree of freedom less than videos; {resampling.REPLICATES} "
            f"draws of the videos, seed 0; Holm over all trials but the dense one; level {1 - significance.CONFIDENCE:.2f}"
        ),
    )


def _listed(versions: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions)


def fingerprint(outcomes: Outcomes) -> str:
    """Of which trial had which sample right: equal for equal answers, whatever the order of records."""
    digest = hashlib.sha256()
    order = sorted(range(len(outcomes.table)), key=lambda i: outcomes.names[i])
    for text in (*(outcomes.names[i] for i in order), *outcomes.samples):
        digest.update(text.encode() + b"\0")
    digest.update(np.ascontiguousarray(outcomes.correct[order]).tobytes())
    return digest.hexdigest()[:16]


def _versions() -> Iterator[tuple[str, str]]:
    yield "Python", platform.python_version()
    for name in VERSIONS:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue


NOT_TYPED = ("hydra.sweep.dir=", "hydra.mode=")
"""Overrides that Hydra adds, or that only say where on this machine."""


def command_of(sweep: Path) -> str | None:
    """The command that ran the sweep, as Hydra noted it; None if the sweep has no such note."""
    noted = sweep / "multirun.yaml"
    if not noted.is_file():
        return None
    try:
        hydra = read_yaml(noted)["hydra"]
        name, typed = hydra["job"]["config_name"], hydra["overrides"]
        typed_here = [one for one in map(str, (*typed["hydra"], *typed["task"])) if not one.startswith(NOT_TYPED)]
        overrides = [public_override(one) for one in typed_here]
    except (KeyError, TypeError, OSError, ValueError):
        return None
    own = [f"sweep {name}"] if (SWEEPS / f"{name}.yaml").is_file() else [f"--config-dir FOLDER --config-name {name}"]
    return " ".join(["prunesweep", *(["-m"] if name == "eval" else own), *overrides])


def render(data: dict[str, Any], title: str) -> str:
    """The page.  The data cannot end its script element: every `<` in it is written as an escape."""
    script = (WEB / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template((WEB / "report.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(title),
        style=(WEB / "report.css").read_text(encoding="utf-8"),
        script_hash=f"sha256-{digest}",
        script=script,
        data=json.dumps(data, allow_nan=False, ensure_ascii=True).replace("<", "\\u003c"),
    )


def render_report(found: Sequence[Outcomes], sweep: Path) -> str:
    """The whole page of a sweep or a store."""
    where = " and ".join(dict.fromkeys(f"{one.model} on {one.benchmark}" for one in found))
    return render(report_data(found, sweep), f"PruneSweep: {where}")


def write_report(found: Sequence[Outcomes], sweep: Path, path: Path) -> None:
    """Raises ValueError for a place where no file can be written."""
    page = render_report(found, sweep)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise unwritten(error, path) from error
