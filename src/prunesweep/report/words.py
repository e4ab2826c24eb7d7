"""A finished sweep's statistics in words, and its tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from prunesweep.analysis import significance
from prunesweep.analysis.outcomes import Outcomes
from prunesweep.report import tables
from prunesweep.report.formats import FORMATS, Table, printed
from prunesweep.report.verdict import text, verdict
from prunesweep.results.infeasible import Infeasible, lines

TABLES: dict[str, Callable[[Sequence[Outcomes]], list[Table]]] = {
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


def table_text(found: Sequence[Outcomes], name: str, kind: str, tasks: bool) -> str:
    """One of TABLES in one of FORMATS, as text no wider than a terminal; with `tasks` that of methods has a column per task."""
    shown = [tables.methods_table(found, tasks=True)] if tasks else TABLES[name](found)
    return "\n\n".join(map(printed if kind == "text" else FORMATS[kind], shown))


def said(found: Sequence[Outcomes], infeasible: Sequence[Infeasible], samples: int | None) -> str:
    """A sweep's statistics in words; with `samples` what a benchmark of so many questions could tell apart."""
    blocks = []
    for outcomes in found:
        plan = f"\n{'planning':<11} {planning(outcomes, samples)}" if samples else ""
        blocks.append(text(verdict(outcomes)) + plan)
    if not_run := lines(infeasible, sum(len(outcomes.table) for outcomes in found)):
        blocks.append("\n".join(not_run))
    return "\n\n".join(blocks)
