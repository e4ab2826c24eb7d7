"""Tables and sentences as wide as the terminal that they are printed on; for a pipe in full, and the same wherever that is."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from shutil import get_terminal_size
from textwrap import wrap
from typing import TextIO

from prunesweep.console.layout import grid, visible

NAMES = ("trial", "method", "settings", "what it runs", "answer", "")
"""Columns of names and sentences, which may be wrapped between their words."""
NARROWEST = 40
"""That sentences are wrapped to."""
SHORTEST = 8
"""That names are wrapped to: a terminal of 40 columns has room for it beside an accuracy with its interval."""
SEAMS = re.compile(r"([=_])(?=\w)")
"""Where a word that is too long for its column is parted rather than anywhere."""
GAP, INDENT = 2, "  "
"""Between columns; of the further lines of what is wrapped."""
LABELS = 12
"""Columns that the labels of a verdict take."""
LABEL = re.compile(r"(?:\S+(?: \S+)*)? {2,}(?=\S)")
"""What the further lines of a sentence stand behind."""
BOLD, DIM, GREEN, CYAN = "1", "2", "32", "36"
"""Styles, as terminals number them; signs and places say the same, so that nothing is lost without."""
CODES = re.compile(r"\x1b\[\d*m")


def width_of(file: TextIO | None = None) -> int | None:
    """Of the terminal that stdout, or another file, is; None for a pipe or a file."""
    return get_terminal_size().columns if (file or sys.stdout).isatty() else None


def colours(file: TextIO | None = None) -> bool:
    """Whether stdout, or another file, is a terminal that shows them and whose owner has nothing against it."""
    return (file or sys.stdout).isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def painted(text: str, *styles: str, file: TextIO | None = None) -> str:
    """Text in these styles, line by line; as it was where there are no colours."""
    own = [style for style in styles if style]
    if not own or not colours(file):
        return text
    begin = f"\x1b[{';'.join(own)}m"
    return "\n".join(f"{begin}{line}\x1b[m" if line else line for line in text.split("\n"))


class Painted(str):
    """A table as a terminal takes it: every cell's signs are visible, no line is too long."""


def painted_table(text: str, rows: Sequence[str]) -> str:
    """A table whose header stands out, and its rows each in a style."""
    header, rule, *lines = text.split("\n")
    styled = [painted(line, style) for line, style in zip(lines, rows, strict=True)]
    return "\n".join([painted(header, BOLD), painted(rule, DIM), *styled])


def _bold_labels(text: str, file: TextIO | None) -> str:
    """What stands in the first columns of a verdict's lines."""
    parted = ((line[:LABELS], line[LABELS:]) if line[LABELS - 1 : LABELS] == " " else ("", line) for line in text.split("\n"))
    return "\n".join(painted(label, BOLD, file=file) + rest if label.strip() else label + rest for label, rest in parted)


def say(text: str, labels: bool = False, file: TextIO | None = None) -> None:
    """Prints sentences, on a terminal no wider than that; with `labels` as those of a verdict."""
    width = width_of(file)
    if width is not None and not isinstance(text, Painted):
        text = fitted(text, width, labels)
    print(_bold_labels(text, file) if labels else text, file=file or sys.stdout, flush=file is not None)


def fitted(text: str, width: int, labels: bool = False) -> str:
    """Lines that are too long as several; the further ones stand behind what the first one begins with."""
    lines = text.split("\n")
    return "\n".join(part for line in lines for part in ([line] if len(line) <= width else _parts(line, width, labels)))


def _parts(line: str, width: int, labels: bool) -> list[str]:
    begin = LABEL.match(line)
    indent = LABELS if labels and line[LABELS - 1] == " " else len(begin[0]) if begin else len(INDENT)
    indent = indent if indent <= width // 2 else len(INDENT)
    return wrap(line, max(width, NARROWEST), subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def wrapped(notes: Sequence[str], width: int) -> list[str]:
    """Notes as lines for a terminal."""
    return [line for note in map(visible, notes) for line in wrap(note, max(width, NARROWEST), subsequent_indent=INDENT)]


def without(columns: Sequence[str]) -> str:
    return f"for want of width without {', '.join(columns)}: a pipe has all columns"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1, needed: Sequence[str] = ()) -> str:
    """A table for stdout, whatever that is."""
    width = width_of()
    if width is None:
        return grid(header, rows, NAMES, left)
    text, lost = narrow(header, rows, width, left, needed)
    return Painted("\n".join([text, *(painted(line, DIM) for line in wrapped([without(lost)] if lost else [], width))]))


def narrow(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    left: int,
    needed: Sequence[str] = (),
    styles: Sequence[str] = (),
) -> tuple[str, list[str]]:
    """A table no wider than that, its rows in these styles, and the columns that it does without.

    Names are wrapped, then columns left out, the last ones first and those needed at the end.
    """
    kept = _fitting(header, rows, width, left, needed)
    lost = [name for i, name in enumerate(header) if i not in kept]
    header, *rows = ([line[i] for i in kept] for line in (header, *rows))
    room = width - sum(_widths(header, rows)[i] + GAP for i, name in enumerate(header) if name not in NAMES)
    parts = [_lines(header, row, max(room, SHORTEST)) for row in rows]
    text = grid(header, [line for part in parts for line in part], NAMES, left)
    each = zip(styles or [""] * len(parts), parts, strict=True)
    return painted_table(text, [style for style, part in each for _ in part]), lost


def _widths(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]


def _narrowest(header: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Of the column of names: its longest word, with what it is indented by."""
    names = [line[i] for line in (header, *rows) for i, name in enumerate(header) if name in NAMES]
    return max((len(word) + len(INDENT) for name in names for word in name.split()), default=0)


def _fitting(header: Sequence[str], rows: Sequence[Sequence[str]], width: int, left: int, needed: Sequence[str]) -> list[int]:
    """Places of the columns that fit; the first ones and one more stay however narrow it is."""
    least = _narrowest(header, rows)
    widths = [min(own, least) if name in NAMES else own for name, own in zip(header, _widths(header, rows), strict=True)]
    kept = list(range(len(header)))
    others = [i for i in reversed(kept[left:]) if header[i] not in NAMES]
    for i in sorted(others, key=lambda i: header[i] in needed)[:-1]:
        if sum(widths[k] + GAP for k in kept) - GAP <= width:
            break
        kept.remove(i)
    return kept


def _wrapped_name(name: str, width: int) -> list[str]:
    if max(map(len, name.split()), default=0) + len(INDENT) > width:
        name = SEAMS.sub(r"\1\0 ", name)
    lines = wrap(name, width, subsequent_indent=INDENT, break_on_hyphens=False) or [""]
    return [line.replace("\0 ", "").rstrip("\0") for line in lines]


def _lines(header: Sequence[str], row: Sequence[str], width: int) -> list[list[str]]:
    """A row whose name is wrapped, as lines; the further ones hold nothing else.  Only what has no other place is broken."""
    cells = [_wrapped_name(cell, width) if name in NAMES else [cell] for name, cell in zip(header, row, strict=True)]
    return [[own[i] if i < len(own) else "" for own in cells] for i in range(max(map(len, cells)))]
