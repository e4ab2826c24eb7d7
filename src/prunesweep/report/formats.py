"""A table's forms: text for a terminal or a pipe, Markdown, LaTeX, CSV."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prunesweep.console.layout import grid, markdown, visible
from prunesweep.console.terminal import BOLD, DIM, NAMES, narrow, painted, width_of, without, wrapped

TICK, DASH = "✓", "–"
NUMBER = "#"
"""The column of the numbers by which trials are called."""


class Cell(str):
    """What a cell shows, and the numbers behind it for a CSV: by what is added to the column's name, "" for nothing."""

    numbers: dict[str, float]

    def __new__(cls, text: str, numbers: dict[str, float]) -> Cell:
        cell = super().__new__(cls, text)
        cell.numbers = numbers
        return cell


@dataclass(frozen=True)
class Table:
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    """Columns that a narrow terminal does without last."""

    @property
    def left(self) -> int:
        """How many columns are words from the left."""
        return 2 if self.header[0] == NUMBER else 1


def printed(table: Table) -> str:
    """For stdout, whatever that is: as wide as a terminal, in full for a pipe."""
    width = width_of()
    return to_text(table) if width is None else on_terminal(table, width)


def to_text(table: Table) -> str:
    title = [table.title, ""] if table.title else []
    return "\n".join([*title, grid(table.header, table.rows, NAMES, table.left), *table.notes])


def on_terminal(table: Table, width: int) -> str:
    """The same, but no wider: names are wrapped, then columns left out, the last ones first and those needed at the end."""
    text, lost = narrow(table.header, table.rows, width, table.left, table.needed)
    title = [*(painted(line, BOLD) for line in wrapped([table.title], width)), ""] if table.title else []
    notes = wrapped([*table.notes, *([without(lost)] if lost else [])], width)
    return "\n".join([*title, text, *(painted(line, DIM) for line in notes)])


def to_markdown(table: Table) -> str:
    """With the characters escaped that end a cell or start markup; names are shown as typed."""
    header, *rows = (tuple(_markdown_cell(cell) for cell in line) for line in (table.header, *table.rows))
    return "\n".join(
        [f"**{_markdown_cell(table.title)}**", "", *markdown(header, rows), "", *(f"{_markdown_cell(n)}  " for n in table.notes)]
    )


def _markdown_cell(cell: str) -> str:
    return re.sub(r"([\\|*_`<>\[\]])", r"\\\1", " ".join(cell.split()))


LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", TICK: r"\checkmark", DASH: "--"}
LATEX |= {character: f"\\{character}" for character in "&%$#_{}"} | {"±": r"$\pm$"}
LATEX |= {character: f"${character}$" for character in "<>|"}


def to_latex(table: Table) -> str:
    r"""A booktabs `tabular` in a `table`, to be `\input`; needs the packages booktabs and amssymb (for the tick)."""
    body = [" & ".join(map(_latex_cell, row)) + r" \\" for row in table.rows]
    notes = r" \\ ".join(map(_latex_cell, table.notes))
    return "\n".join(
        [
            r"% needs \usepackage{booktabs,amssymb}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex_cell(table.title)}.}}",
            rf"\begin{{tabular}}{{{'l' * table.left}{'r' * (len(table.header) - table.left)}}}",
            r"\toprule",
            " & ".join(map(_latex_cell, table.header)) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            *([rf"\par\footnotesize {notes}"] if notes else []),
            r"\end{table}",
        ]
    )


def _latex_cell(cell: str) -> str:
    return "".join(LATEX.get(character, character) for character in visible(" ".join(cell.split())))


def _known(cell: str, key: str) -> float | None:
    number = cell.numbers.get(key, math.nan) if isinstance(cell, Cell) else math.nan
    return None if math.isnan(number) else number


def _column(name: str, key: str) -> str:
    """`accuracy`, `accuracy SE`; of `gained/lost` each is a column."""
    return key if key in name.split("/") else f"{SHOWN_BESIDE.sub('', name)} {key}".rstrip()


SHOWN_BESIDE = re.compile(r" (± SE|\(95 %\))$")


def to_csv(table: Table) -> str:
    """Every number in a column of its own, with all its digits; what is no number is empty there."""
    columns: list[list[Any]] = []
    for name, cells in zip(table.header, zip(*table.rows, strict=True), strict=False):
        keys = dict.fromkeys(key for cell in cells if isinstance(cell, Cell) for key in cell.numbers)
        if not keys:
            columns.append([*map(visible, (name, *cells))])
        for key in keys:
            columns.append([visible(_column(name, key)), *(_known(cell, key) for cell in cells)])
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(zip(*columns, strict=True) if columns else [[*map(visible, table.header)]])
    return out.getvalue().rstrip("\n")


FORMATS: dict[str, Callable[[Table], str]] = {"text": to_text, "markdown": to_markdown, "latex": to_latex, "csv": to_csv}
