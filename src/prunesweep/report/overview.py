"""A sweep's trials, a line each: for a terminal as wide as that is, for a pipe in full, for a notebook as HTML."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from html import escape
from shutil import get_terminal_size
from typing import Any, NamedTuple

from prunesweep.analysis.axis import BASELINE
from prunesweep.analysis.summary import Summary
from prunesweep.analysis.varied import text as value_text
from prunesweep.analysis.wording import summary_text
from prunesweep.layout import count, grid, share_text, short_numbers
from prunesweep.report.formats import GAP, without, wrapped
from prunesweep.report.plots import column_name
from prunesweep.report.text import ALIKE, flops_text, short_names, times
from prunesweep.results.read import short

Settings = Mapping[str, Mapping[str, Any]]
"""Of each trial, by its number, those that vary: as `analysis.varied.varied` gives them."""
BASELINES = ("none", "random")
"""Reducers that others are held against."""
FEW = 20
"""Trials that are all shown, on the front or not."""
MOST_IN_HTML = 200
DISPENSABLE = ("several", "no option", "total of dense", "at end", "tokens in", "LLM prefill")
"""Columns that a narrow terminal does without, the first ones first."""
STOPPED = (
    "stopped by a race after n samples, for trials that cost no more are better: no candidates, whatever they show; "
    "[...]: 95 % interval on all samples"
)


class Overview(NamedTuple):
    """Columns and lines as text; the first `chosen` lines are the front and the baselines, cheapest first, then the others."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    chosen: int
    notes: tuple[str, ...]


def sweep(table: Sequence[Summary], cost: str) -> str:
    """For a pipe: every trial by its name, cheapest first; the same wherever it is written."""
    names, common = short_names(table)
    generated = _generated(table)
    rows = [(row.number, name, *_numbers(row, generated)) for row, name in zip(table, names, strict=True)]
    return "\n".join([grid(("#", "trial", *_columns(generated)), rows, left=2), *_notes(table, cost, common)])


def shown(table: Sequence[Summary], settings: Settings, cost: str, everything: bool = False) -> str:
    """For stdout, whatever that is."""
    if not sys.stdout.isatty():
        return sweep(table, cost)
    return on_terminal(overview(table, settings, cost), get_terminal_size().columns, everything)


def overview(table: Sequence[Summary], settings: Settings, cost: str) -> Overview:
    """A column for each setting that varies; of the axis, too, where it is none of the usual columns."""
    chosen = [row for row in table if _is_chosen(row)]
    rows = [*chosen, *(row for row in table if not _is_chosen(row))]
    keys = list(dict.fromkeys(key for own in settings.values() for key in own))
    names, generated = short(keys), _generated(table)
    own_axis = cost not in ("llm_flops_ratio", "llm_flops", "total_flops_ratio", "entrance_ratio", "final_ratio")
    header = ("#", "reducer", *(names[key] for key in keys), *_columns(generated), *((column_name(cost),) if own_axis else ()))
    lines = tuple(
        (
            row.number,
            row.reducer,
            *(_setting(settings.get(row.number, {}), key) for key in keys),
            *_numbers(row, generated),
            *((f"{getattr(row, cost):.4g}",) if own_axis else ()),
        )
        for row in rows
    )
    return Overview(header, lines, len(chosen), tuple(_notes(table, cost, short_names(table)[1])))


def on_terminal(found: Overview, width: int, everything: bool = False) -> str:
    """As many columns as fit, the least needed ones left out; without `everything` the front and the baselines of many trials."""
    wanted = found.rows if everything or len(found.rows) <= FEW else found.rows[: found.chosen]
    header, lines, lost = _fitting(found.header, wanted, width)
    notes = [note for note in found.notes if not (note.startswith("tokens in") and {"tokens in", "at end"} <= set(lost))]
    if rest := len(found.rows) - len(lines):
        notes.insert(0, f"{count(rest, 'more trial')}, neither on the front nor a baseline: prunesweep show FOLDER --all")
    if lost:
        notes.append(without(lost))
    return "\n".join([grid(header, lines, left=2), *wrapped(notes, width)])


def as_html(found: Overview) -> str:
    """A table whose every text is escaped; of very many trials the first ones."""
    head = "".join(f"<th>{escape(name)}</th>" for name in found.header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in found.rows[:MOST_IN_HTML])
    notes = list(found.notes)
    if rest := len(found.rows) - MOST_IN_HTML:
        notes = [f"and {count(rest, 'more trial')}", *notes] if rest > 0 else notes
    said = "".join(f"<div>{escape(note)}</div>" for note in notes)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><small>{said}</small>"


def _fitting(
    header: tuple[str, ...], lines: Sequence[tuple[str, ...]], width: int
) -> tuple[tuple[str, ...], list[tuple[str, ...]], list[str]]:
    """What fits into a width, and the names of the columns that do not.

    First go settings that have one value wherever a trial has them, then the dispensable columns, then the last settings.
    """
    widths = [max(len(line[i]) for line in (header, *lines)) for i in range(len(header))]
    settings = header[2 : header.index("front")]
    alike = [name for i, name in enumerate(settings, 2) if len({line[i] for line in lines} - {""}) < 2]
    kept, lost = list(range(len(header))), []
    for name in (*alike, *DISPENSABLE, *(name for name in reversed(settings) if name not in alike)):
        if sum(widths[i] + GAP for i in kept) - GAP <= width:
            break
        if name in header:
            kept.remove(header.index(name))
            lost.append(name)
    return tuple(header[i] for i in kept), [tuple(line[i] for i in kept) for line in lines], lost


def _is_chosen(row: Summary) -> bool:
    return row.pareto or row.dense or row.reducer in BASELINES or row.number.startswith(BASELINE)


def _setting(own: Mapping[str, Any], key: str) -> str:
    """Empty where a trial has no such setting."""
    if key not in own:
        return ""
    if own[key] is None:
        return "off"
    return short_numbers(value_text(own[key]))


def _generated(table: Sequence[Summary]) -> bool:
    return any(not math.isnan(row.unclear) for row in table)


def _columns(generated: bool) -> tuple[str, ...]:
    usual = ("front", "accuracy ± SE", "tokens in", "at end", "LLM prefill", "of dense", "total of dense")
    return (*usual, *(("no option", "several") if generated else ()))


def _numbers(row: Summary, generated: bool) -> tuple[str, ...]:
    return (
        "infeasible" if row.infeasible else "stopped" if row.stopped else "*" if row.pareto else "",
        "not run" if row.infeasible else summary_text(row),
        times(row.entrance_ratio),
        times(row.final_ratio),
        flops_text(row.llm_flops),
        times(row.llm_flops_ratio),
        times(row.total_flops_ratio),
        *((share_text(row.unclear), share_text(row.ambiguous)) if generated else ()),
    )


def _notes(table: Sequence[Summary], cost: str, common: Mapping[str, str]) -> list[str]:
    notes = [f"all {reducer} trials: {settings}" for reducer, settings in common.items()]
    if any(row.stopped for row in table):
        notes.append(STOPPED)
    if len({row.samples for row in table if not row.stopped and not row.infeasible}) > 1:
        notes.append("the trials differ in how many samples they answered: compare with care")
    if any(row.accuracy in (0.0, 1.0) for row in table):
        notes.append(ALIKE)
    notes.append(f"* on the Pareto front of accuracy against {cost}; SE: standard error, clustered by video")
    notes.append("tokens in, at end: visual tokens entering the LLM and in its last layer, of dense")
    if _generated(table):
        notes.append("no option, several: generated answers that name none of the question's options, or more than one")
    return [*notes, *(f"of dense: of {name}" for name in dict.fromkeys(row.relative_to for row in table if row.relative_to))]
