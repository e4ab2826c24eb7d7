"""What each job of Hydra's gets of an evaluation: its folder of records, and the numbers for the sweeper that started it."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from prunesweep.analysis.axis import counted_name, kept, relative
from prunesweep.analysis.costs import Denominator, counted
from prunesweep.analysis.summary import OBJECTIVES, Summary
from prunesweep.analysis.table import numbers, summarize
from prunesweep.results.infeasible import INFEASIBLE, Infeasible, write_infeasible
from prunesweep.results.official import Official, answers_of, read_official, write_official
from prunesweep.results.records import CONFIG, Trial, TrialInfo, write_trial
from prunesweep.sweep.batch import Finished
from prunesweep.sweep.configs import hydra_of, sweep_folder
from prunesweep.sweep.jobs import to_yaml
from prunesweep.sweep.resolved import resolved
from prunesweep.targets import instantiate

if TYPE_CHECKING:
    import polars as pl

log = logging.getLogger(__name__)

OWN_SWEEPERS = ("basic", "grids", "search")
"""They read records, and take no returned numbers."""
AXIS = "axis.json"
"""What the relative costs that another sweeper was told are shares of."""


def deliver(finished: Finished | Infeasible, folder: Path, config: DictConfig) -> float | list[float] | None:
    """Write a trial's folder; returns what `analysis.returned` names, for sweepers that optimise it; NaN if it was not run.

    None to our own sweepers, which may have thousands of trials and read their records.
    """
    if isinstance(finished, Infeasible):
        write_infeasible(folder, finished)
        log.info("%s", finished.line)
        return returned(dict.fromkeys(config.analysis.returned, math.nan), config.analysis.returned)
    from prunesweep.engine.latency import as_columns

    (folder / INFEASIBLE).unlink(missing_ok=True)
    measured = as_columns(finished.measured) if finished.measured else None
    trial = Trial(finished.info, finished.records, folder, measured)
    write_trial(folder, trial.info, trial.records, measured)
    settings = resolved(config)
    (folder / CONFIG).write_text(to_yaml(settings), encoding="utf-8")
    if harness := settings["benchmark"].get("official"):
        ask_harness(harness, trial.records, folder)
    sweep, hydra = sweep_folder(config), hydra_of(config)
    if sweep and hydra and hydra.runtime.choices["hydra/sweeper"] in OWN_SWEEPERS:
        log.info("%d records", len(trial.records))
        return None
    summary = summarize(trial)
    log.info("%s", asdict(summary))
    names = settings["analysis"]["returned"]
    row = relative(summary, _sweepers_axis(sweep, summary, trial.info) if sweep else None)
    return returned(vars(row) if set(names).issubset(OBJECTIVES) else numbers(row, trial), names)


def ask_harness(node: Mapping[str, Any], records: pl.DataFrame, folder: Path) -> None:
    """Writes what a benchmark's own harness makes of the answers, or why it makes nothing of them; not again of the same ones."""
    answers, before = answers_of(records), read_official(folder)
    if before is not None and before.answers == answers and before.problem is None:
        return
    harness = instantiate(node)
    left_out = int(records["error"].is_not_null().sum())
    made = {"source": harness.source, "answers": answers, "scored": len(records) - left_out, "left_out": left_out}
    try:
        rows, aggregates = harness(records.iter_rows(named=True)) if left_out < len(records) else ([], {})
    except ValueError as error:
        write_official(folder, Official(**made, problem=str(error)), [])
        return
    write_official(folder, Official(**made, aggregates=aggregates), rows)


def _sweepers_axis(sweep: Path, row: Summary, info: TrialInfo) -> Denominator:
    """One for all trials of a sweeper that is not ours."""
    return kept(sweep / AXIS, counted(vars(row), counted_name(info)))


def returned(found: Mapping[str, float], names: Sequence[str]) -> float | list[float]:
    """The named numbers, a single one by itself, as Hydra's sweepers want them; raises ValueError for unknown names."""
    if unknown := [name for name in names if name not in found]:
        raise ValueError(f"analysis.returned: unknown {unknown[0]!r}; known: {', '.join(found)}")
    values = [found[name] for name in names]
    return values[0] if len(values) == 1 else values
