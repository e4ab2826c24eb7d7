"""`prunesweep show`: what a sweep's records say, finished or not."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

import typer

from prunesweep.checks import MARGIN
from prunesweep.cli.shared import COST, Cost, Margin, SweepFolder
from prunesweep.console.terminal import say

Table = Literal["against", "methods", "components", "tasks", "effects"]
Format = Literal["text", "markdown", "latex", "csv"]


def show(
    sweep: SweepFolder,
    table: Annotated[Table | None, typer.Option(help="Print this table instead of the words.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Print a line for every trial instead of the words.")] = False,
    form: Annotated[Format, typer.Option("--format", help="Of the table.")] = "text",
    tasks: Annotated[bool, typer.Option("--tasks", help="With --table methods: a column per task, too.")] = False,
    samples: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="What a benchmark of so many questions could tell apart.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Free answers are right word by word, to the end.")] = False,
    cost: Cost = COST,
    margin: Margin = MARGIN,
) -> None:
    """Say what a sweep's records tell so far, with errors and tests; also of one that runs or was killed."""
    _require_agreeing(table, everything, form, tasks, samples, exact)
    from prunesweep.analysis.outcomes import read_outcomes
    from prunesweep.report.finished import read
    from prunesweep.report.progress import lines, search_lines
    from prunesweep.report.summary import only_failed
    from prunesweep.report.words import said, table_text
    from prunesweep.results.infeasible import all_infeasible
    from prunesweep.results.pending import read_pending, unfinished
    from prunesweep.results.records import trial_folders

    some, notes, search = bool(trial_folders(sweep)), read_pending(sweep), search_lines(sweep)
    unended = bool(notes or search)
    if unended and not some and (option := _needs_finished(table, samples, everything)):
        raise ValueError(f"{option} takes finished trials: {unfinished(sweep)}")
    beside = sys.stderr if table or everything else sys.stdout  # a table may be piped into a file
    for line in [*search, *(line for one in notes for line in lines(one))]:
        print(line, file=beside)
    failed = None if unended or table or samples else only_failed(sweep, cost)
    if failed:
        print(failed)
    elif everything:
        print(read(sweep, cost).text(everything=True))
    elif some or not unended:
        found = read_outcomes(sweep, cost, margin, exact)
        if table:
            print(table_text(found, table, form, tasks))
        else:
            say(said(found, all_infeasible(sweep), samples), labels=True)


def _needs_finished(table: Table | None, samples: int | None, everything: bool) -> str:
    """The option that finished trials are needed for, as it was typed; empty for none."""
    return f"--table {table}" if table else f"--samples {samples}" if samples else "--all" if everything else ""


def _require_agreeing(table: Table | None, everything: bool, form: Format, tasks: bool, samples: int | None, exact: bool) -> None:
    """Raises a usage error for options that say nothing together."""
    if tasks and table != "methods":
        raise typer.BadParameter("--tasks adds columns to --table methods")
    if everything and (table or samples):
        raise typer.BadParameter("--all prints the trials; leave out --table and --samples")
    if exact and everything:
        raise typer.BadParameter("--exact is for the words and tables; --all has a column for it")
    if form != "text" and not table:
        raise typer.BadParameter(f"--format {form} is for a table; name one with --table")
