"""A table's forms: text for a terminal or a pipe, Markdown, LaTeX, CSV."""

from __future__ import annotations

import csv
import io
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from shutil import get_terminal_size
from textwrap import wrap
from typing import Any

from prunesweep.layout import grid, markdown, visible

TICK, DASH = "✓", "–"
NUMBER = "#"
"""The column of the numbers by which trials are called."""
NAMES = ("trial", "method", "settings")
"""Columns of names, which may be wrapped between their words."""
NARROWEST = 40
"""That notes are wrapped to."""
GAP, INDENT = 2, "  "
"""Between columns; of the further lines of a wrapped name."""


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
    return on_terminal(table, get_terminal_size().columns) if sys.stdout.isatty() else to_text(table)


def to_text(table: Table) -> str:
    return "\n".join([*([table.title, ""] if table.title else []), _grid(table.header, table.rows, table.left), *table.notes])


def on_terminal(table: Table, width: int) -> str:
    """The same, but no wider: names are wrapped, then columns left out, the last ones first and those needed at the end."""
    kept = _fitting(table, width)
    lost = [name for i, name in enumerate(table.header) if i not in kept]
    header, *rows = ([line[i] for i in kept] for line in (table.header, *table.rows))
    room = width - sum(_widths(header, rows)[i] + GAP for i, name in enumerate(header) if name not in NAMES)
    lines = [line for row in rows for line in _lines(header, row, max(room, _narrowest(header, rows)))]
    notes = [*table.notes, *([without(lost)] if lost else [])]
    title = [*wrapped([table.title], width), ""] if table.title else []
    return "\n".join([*title, _grid(header, lines, table.left), *wrapped(notes, width)])


def without(columns: Sequence[str]) -> str:
    return f"for want of width without {', '.join(columns)}: a pipe has all columns"


def wrapped(notes: Sequence[str], width: int) -> list[str]:
    """Notes as lines for a terminal."""
    return [line for note in map(visible, notes) for line in wrap(note, max(width, NARROWEST), subsequent_indent=INDENT)]


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    return grid(header, rows, words=NAMES, left=left)


def _widths(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]


def _narrowest(header: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Of the column of names: its longest word, with what it is indented by."""
    names = [line[i] for line in (header, *rows) for i, name in enumerate(header) if name in NAMES]
    return max((len(word) + len(INDENT) for name in names for word in name.split()), default=0)


def _fitting(table: Table, width: int) -> list[int]:
    """Places of the columns that fit; the first ones and one more stay however narrow it is."""
    widths, least = _widths(table.header, table.rows), _narrowest(table.header, table.rows)
    widths = [min(own, least) if name in NAMES else own for name, own in zip(table.header, widths, strict=True)]
    kept = list(range(len(table.header)))
    others = [i for i in reversed(kept[table.left :]) if table.header[i] not in NAMES]
    for i in sorted(others, key=lambda i: table.header[i] in table.needed)[:-1]:
        if sum(widths[k] + GAP for k in kept) - GAP <= width:
            break
        kept.remove(i)
    return kept


def _wrapped_name(name: str, width: int) -> list[str]:
    return wrap(name, width, subsequent_indent=INDENT, break_long_words=False, break_on_hyphens=False) or [""]


def _lines(header: Sequence[str], row: Sequence[str], width: int) -> list[list[str]]:
    """A row whose name is wrapped, as lines; the further ones hold nothing else."""
    cells = [_wrapped_name(cell, width) if name in NAMES else [cell] for name, cell in zip(header, row, strict=True)]
    return [[own[i] if i < len(own) else "" for own in cells] for i in range(max(map(len, cells)))]


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
