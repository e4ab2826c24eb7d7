"""A sweep's trials, a line each: for a terminal as wide as that is, for a pipe in full, for a notebook as HTML."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from prunesweep.analysis.axis import BASELINE
from prunesweep.analysis.summary import Summary
from prunesweep.analysis.varied import text as value_text
from prunesweep.analysis.wording import summary_text
from prunesweep.console.layout import count, grid, share_text, short_numbers
from prunesweep.console.terminal import CYAN, DIM, GAP, GREEN, narrow, painted, painted_table, width_of, without, wrapped
from prunesweep.paths import from_here
from prunesweep.report.plots import column_name
from prunesweep.report.text import ALIKE, flops_text, short_names, times
from prunesweep.results.read import short

Settings = Mapping[str, Mapping[str, Any]]
"""Of each trial, by its number, those that vary: as `analysis.varied.varied` gives them."""
BASELINES = ("none", "random")
"""Reducers that others are held against."""
FEW = 20
"""Trials that are all shown, on the front or not."""
KEPT = ("accuracy ± SE", "of dense")
"""Columns that are left out last."""
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
    names: tuple[str, ...]
    """Of the lines, without what all trials of a reducer have in common."""
    chosen: int
    notes: tuple[str, ...]


def sweep(table: Sequence[Summary], cost: str) -> str:
    """For a pipe: every trial by its name, cheapest first; the same wherever it is written."""
    names, common = short_names(table)
    generated = _generated(table)
    rows = [(row.number, name, *_numbers(row, generated)) for row, name in zip(table, names, strict=True)]
    return "\n".join([grid(("#", "trial", *_columns(generated)), rows, left=2), *_notes(table, cost, common)])


def shown(table: Sequence[Summary], settings: Settings, cost: str, folder: Path, everything: bool = False) -> str:
    """For stdout, whatever that is; `folder` is the sweep's."""
    width = width_of()
    return sweep(table, cost) if width is None else on_terminal(overview(table, settings, cost), width, folder, everything)


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
    _, common = short_names(table)
    return Overview(header, lines, tuple(short_names(rows)[0]), len(chosen), tuple(_notes(table, cost, common)))


def on_terminal(found: Overview, width: int, folder: Path, everything: bool = False) -> str:
    """As many columns as fit, the least needed ones left out; without `everything` the front and the baselines of many trials.

    Where a setting that tells trials apart would have to go, trials have their names instead.
    """
    count_shown = len(found.rows) if everything or len(found.rows) <= FEW else found.chosen
    text, lost = _fitting(found, count_shown, width)
    notes = [note for note in found.notes if not (note.startswith("tokens in") and {"tokens in", "at end"} <= set(lost))]
    if "LLM prefill" in lost:
        notes = [note.replace("of dense: of", "of dense: LLM prefill, of", 1) for note in notes]
    if rest := len(found.rows) - count_shown:
        all_of_them = f"prunesweep show {shlex.quote(from_here(folder))} --all"
        notes.insert(0, f"{count(rest, 'more trial')}, neither on the front nor a baseline: {all_of_them}")
    if lost:
        notes.append(without(lost))
    return "\n".join([text, *(painted(line, DIM) for line in wrapped(notes, width))])


def _style(header: Sequence[str], line: Sequence[str]) -> str:
    """What others are held against, and the front."""
    front = line[header.index("front")]
    return CYAN if line[1] in BASELINES else GREEN if front == "*" else DIM if front else ""


def as_html(found: Overview) -> str:
    """A table whose every text is escaped; of very many trials the first ones."""
    head = "".join(f"<th>{escape(name)}</th>" for name in found.header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in found.rows[:MOST_IN_HTML])
    notes = list(found.notes)
    if rest := len(found.rows) - MOST_IN_HTML:
        notes = [f"and {count(rest, 'more trial')}", *notes] if rest > 0 else notes
    said = "".join(f"<div>{escape(note)}</div>" for note in notes)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><small>{said}</small>"


def _fitting(found: Overview, most: int, width: int) -> tuple[str, list[str]]:
    """The first lines with what fits into a width, and the names of the columns that do not.

    First go settings that have one value wherever a trial has them, then the dispensable columns.
    """
    header, lines = found.header, found.rows[:most]
    styles = [_style(header, line) for line in lines]
    widths = [max(len(line[i]) for line in (header, *lines)) for i in range(len(header))]
    settings = header[2 : header.index("front")]
    alike = [name for i, name in enumerate(settings, 2) if len({line[i] for line in lines} - {""}) < 2]
    kept, lost = list(range(len(header))), []
    for name in (*alike, *DISPENSABLE):
        if sum(widths[i] + GAP for i in kept) - GAP <= width:
            break
        if name in header:
            kept.remove(header.index(name))
            lost.append(name)
    if sum(widths[i] + GAP for i in kept) - GAP <= width:
        text = grid([header[i] for i in kept], [[line[i] for i in kept] for line in lines], left=2)
        return painted_table(text, styles), lost
    numbers = [i for i in range(header.index("front"), len(header)) if header[i] not in DISPENSABLE]
    named = [(line[0], name, *(line[i] for i in numbers)) for line, name in zip(lines, found.names, strict=False)]
    text, more = narrow(("#", "trial", *(header[i] for i in numbers)), named, width, left=2, needed=KEPT, styles=styles)
    return text, [name for name in DISPENSABLE if name in header] + more


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
