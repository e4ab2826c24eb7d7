"""What the command says of a run or a sweep when it ends, with the sweep's table and picture as files."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunesweep.analysis.failures import failures
from prunesweep.analysis.outcomes import find, gather
from prunesweep.analysis.summary import Summary, not_run
from prunesweep.analysis.table import summarize, sweep_table, table_frame
from prunesweep.analysis.varied import varied
from prunesweep.console.terminal import say, width_of
from prunesweep.console.waiting import doing
from prunesweep.paths import from_here
from prunesweep.report import official
from prunesweep.report import text as tables
from prunesweep.report.overview import shown
from prunesweep.report.verdict import text as words
from prunesweep.report.verdict import verdict
from prunesweep.results.infeasible import Infeasible, infeasible_folders, lines
from prunesweep.results.read import number
from prunesweep.results.records import Trial, read_trial, read_trials, trial_folders, write_parquet
from prunesweep.results.timing import Timing, own_timing

if TYPE_CHECKING:
    from prunesweep.report.plots import ParetoPoints


def summarize_run(folder: Path, timing: Timing, started: float, store: str | None) -> None:
    """Prints the numbers of a trial's folder; SystemExit if no sample has an answer.  `started` is in seconds since 1970."""
    trial = read_trial(folder)
    say(tables.single(summarize(trial), trial), labels=True)
    if harness := official.line(folder):
        print(harness)
    _print_times([timing.entry()], time.time() - started, store)
    print(f"records, configuration and log: {from_here(folder)}")
    _report_failures([trial])


def summarize_sweep(sweep: Path, cost: str, margin: float, elapsed: float, store: str | None) -> None:
    """Prints a sweep's table, verdict and times, and writes its files; SystemExit if no trial could be run or answered.

    `cost` is the axis of its front, `margin` an accepted loss of accuracy, `elapsed` in seconds, `store` the store's folder.
    """
    begin = time.time()
    trials, failed = read_trials(sweep), infeasible_folders(sweep)
    infeasible = [one for _, one in failed]
    if not trials and not failed:
        return  # the sweep itself failed and says why
    with doing("summing up"):
        summaries = [summarize(trial) for trial in trials]
        table = [*(sweep_table(trials, cost, summaries) if trials else ()), *rows_of_failed(failed)]
        settings = varied([(trial.folder, trial.info) for trial in trials], failed)
        write_table(table, settings, cost, sweep)
        if any(row.samples for row in table):
            from prunesweep.report import plots, style

            style.save(plots.pareto_figure(_panels(trials, table, cost)), sweep / "pareto.png", style.FORMATS)
    print(shown(table, settings, cost, sweep))
    if not trials:
        print(f"table: {sweep}", *lines(infeasible, 0), sep="\n")
        raise SystemExit("prunesweep: no trial could be run; the reasons are listed above")
    with doing("drawing the videos anew"):
        for one in gather(map(find, trials, summaries), cost, margin):
            say(f"\n{words(verdict(one, with_importance=False))}", labels=True)
    if harness := official.table(trials):
        print(f"\n{harness}\n")
    reporting = time.time() - begin
    if entries := own_timing(sweep):
        _print_times([*entries, Timing({"report": reporting}, reporting, 0, 0).entry()], elapsed + reporting, store)
    else:
        print(f"time        {elapsed + reporting:.1f} s: nothing was left to evaluate here")
    say(f"results     {sweep}: table, chart and records", labels=True)
    for line in lines(infeasible, len(trials)):
        say(line)
    _report_failures(trials)


def rows_of_failed(failed: Sequence[tuple[Path, Infeasible]]) -> list[Summary]:
    """A row for each trial that could not be run, from its folder."""
    return [not_run(one.name, one.reducer, one.reason, number(folder)) for folder, one in failed]


def only_failed(sweep: Path, cost: str) -> str | None:
    """The rows and reasons of a sweep of which no trial could be run; None of any other."""
    failed = infeasible_folders(sweep)
    if trial_folders(sweep) or not failed:
        return None
    table = shown(rows_of_failed(failed), varied([], failed), cost, sweep)
    return "\n".join([table, *lines([one for _, one in failed], 0)])


MAIN_SHARE = 0.1
"""Of the time, that a step has taken which a terminal names; a pipe has all."""


def _print_times(entries: Sequence[dict[str, Any]], total: float, store: str | None) -> None:
    least = tables.SHOWN_SECONDS if width_of() is None else MAIN_SHARE * total
    say(tables.time_line(entries, total, least), labels=True)
    reused, evaluated = (sum(entry[key] for entry in entries) for key in ("reused", "evaluated"))
    if reused:
        print(f"store       {reused:,} of {reused + evaluated:,} records were in {store}")


def _panels(trials: Sequence[Trial], table: Sequence[Summary], cost: str) -> dict[str, ParetoPoints]:
    """The points of every model and benchmark that has some, each by its title; the table has their rows one after the other."""
    from prunesweep.report.plots import pareto_points

    rows = iter(table)
    sizes = Counter(f"{trial.info.model} on {trial.info.benchmark}" for trial in trials)
    found = {title: pareto_points(list(itertools.islice(rows, size)), cost) for title, size in sizes.items()}
    return {title: points for title, points in found.items() if points.points}


def write_table(table: Sequence[Summary], settings: Mapping[str, Mapping[str, Any]], cost: str, sweep: Path) -> None:
    """`summary.csv` and `summary.parquet`, with a column for each setting that varies."""
    frame = table_frame(table, settings, cost)
    write_parquet(frame, sweep / "summary.parquet")
    frame.write_csv(sweep / "summary.csv")


def _report_failures(trials: Sequence[Trial]) -> None:
    """Name the samples without an answer; ends the command with an error if a trial has none at all, whatever others have."""
    for line in tables.failure_lines(failures(trials), len(trials)):
        say(line)
    failed = [trial.info.name for trial in trials if trial.records["error"].is_not_null().all()]
    if failed and len(failed) == len(trials):
        raise SystemExit("prunesweep: no sample could be evaluated; the reasons are listed above")
    if failed:
        which = f"{len(failed)} of {len(trials)} trials have no answer at all: {tables.few(failed)}"
        raise SystemExit(f"prunesweep: {which}; the reasons are above")
