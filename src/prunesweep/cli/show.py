"""`prunesweep-stats FOLDER`: a finished sweep's statistics in words, and its tables as text, Markdown, LaTeX or CSV."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence

from prunesweep.analysis import significance
from prunesweep.analysis.outcomes import MARGIN, MARGIN_HELP, Outcomes, read_outcomes
from prunesweep.errors import reported
from prunesweep.paths import user_path
from prunesweep.report import tables
from prunesweep.report.verdict import text, verdict
from prunesweep.results.infeasible import all_infeasible, lines
from prunesweep.results.pending import lines as pending_lines
from prunesweep.results.pending import read_pending
from prunesweep.results.pending import unfinished as not_finished
from prunesweep.results.records import trial_folders

TABLES: dict[str, Callable[[Sequence[Outcomes]], list[tables.Table]]] = {
    "against": lambda found: [tables.against_table(one) for one in found],
    "methods": lambda found: [tables.methods_table(found)],
    "components": lambda found: [tables.components_table(one) for one in found],
    "tasks": lambda found: [tables.tasks_table(one) for one in found],
    "effects": lambda found: [tables.effects_table(one) for one in found],
}


def planning(outcomes: Outcomes, samples: int) -> str:
    """What a benchmark of so many samples could tell apart, from the errors seen here."""
    against = significance.against_dense(outcomes)
    if against is None or math.isnan(against.detectable):
        return "nothing to plan with: needs a dense trial (reducer=none) and one whose answers differ from it"
    have, videos = (int(of[against.dense]) for of in (against.difference.samples, against.difference.videos))
    effect = significance.detectable_with(samples, against.error, have, videos)
    power = f"power {100 * significance.POWER:.0f} %"
    if effect > 1:
        return f"{samples:,} questions like these would tell nothing apart ({power})"
    return f"{samples:,} questions like these, on videos in proportion, would tell {100 * effect:.1f} points apart ({power})"


def main() -> None:
    parser = argparse.ArgumentParser(prog="prunesweep-stats", description="What a sweep's records say so far.")
    parser.add_argument("sweep", type=user_path, help="folder of a sweep, such as multirun/DATE/TIME, or a store")
    parser.add_argument("--cost", default="llm_flops_ratio", help="axis of the front: any cost of the ledger")
    parser.add_argument("--margin", type=float, default=MARGIN, help=MARGIN_HELP)
    parser.add_argument("--table", choices=TABLES, help="print this table instead of the words")
    parser.add_argument("--format", choices=tables.FORMATS, default="text", help="of the table")
    parser.add_argument("--tasks", action="store_true", help="with --table methods: a column per task, too")
    parser.add_argument("--samples", type=int, help="what a benchmark of so many questions could tell apart", metavar="N")
    arguments = parser.parse_args()
    if arguments.tasks and arguments.table != "methods":
        parser.error("--tasks adds columns to --table methods")
    if arguments.format != "text" and not arguments.table:
        parser.error(f"--format {arguments.format} is for a table; name one with --table")
    if arguments.samples is not None and arguments.samples < 2:
        parser.error(f"--samples must be at least 2, got {arguments.samples}")
    with reported():
        some = bool(trial_folders(arguments.sweep))
        unfinished = read_pending(arguments.sweep)
        if unfinished and not some and (arguments.table or arguments.samples):
            option = f"--table {arguments.table}" if arguments.table else f"--samples {arguments.samples}"
            raise ValueError(f"{option} takes finished trials: {not_finished(arguments.sweep)}")
        for one in unfinished:  # beside a table, which may be piped into a file
            print("\n".join(pending_lines(one)), file=sys.stderr if arguments.table else sys.stdout)
        if some or not unfinished:
            print(_said(read_outcomes(arguments.sweep, arguments.cost, arguments.margin), arguments))


def _said(found: Sequence[Outcomes], arguments: argparse.Namespace) -> str:
    if arguments.table == "methods" and arguments.tasks:
        return tables.FORMATS[arguments.format](tables.methods_table(found, tasks=True))
    if arguments.table:
        return "\n\n".join(map(tables.FORMATS[arguments.format], TABLES[arguments.table](found)))
    blocks = []
    for outcomes in found:
        plan = f"\n{'planning':<11} {planning(outcomes, arguments.samples)}" if arguments.samples else ""
        blocks.append(text(verdict(outcomes)) + plan)
    if not_run := lines(all_infeasible(arguments.sweep), sum(len(outcomes.table) for outcomes in found)):
        blocks.append("\n".join(not_run))
    return "\n\n".join(blocks)
