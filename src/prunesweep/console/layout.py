"""Numbers and tables as plain text."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from textwrap import wrap


def visible(text: str) -> str:
    """Characters that a terminal obeys as their codes: a name from elsewhere must not clear the screen."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def visible_lines(text: str) -> str:
    """The same of a text that has lines of its own."""
    return "\n".join(map(visible, text.split("\n")))


LONGEST = 160
"""Characters of a line of prose; one that is longer is wrapped to fewer, so that a word more leaves the others alone."""


def prose(page: str, width: int = 130) -> str:
    """A Markdown page whose lines of prose fit a screen; tables, headings and what stands between fences stay as they are."""
    lines, fenced = [], False
    for line in page.split("\n"):
        fenced ^= line.startswith("```")
        begin = re.match(r"\s*(?:[-*] |\d+\. )?", line)
        whole = fenced or len(line) <= LONGEST or line.startswith(("|", "#", "!", "```"))
        indent = " " * len(begin[0]) if begin else ""
        lines += [line] if whole else wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


LONG_NUMBER = re.compile(r"\d+\.\d{5,}(e-?\d+)?")
"""Proposed by a search; views show three digits, the records have all."""


def short_numbers(text: str) -> str:
    """With three digits of numbers that have many more: `keep_ratio=0.255`."""
    return LONG_NUMBER.sub(lambda number: f"{float(number[0]):.3g}", text)


def count(number: int, noun: str) -> str:
    """`1 question`, `2,000 questions`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


WORDS = ("reducer", "model", "benchmark", "setting", "settings")
"""Columns whose cells are words in any table."""


def grid(header: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[str] = (), left: int = 1) -> str:
    """Columns as wide as their longest cell, the first ones (`left`) and those of words left-aligned."""
    header, *rows = [tuple(map(visible, row)) for row in (header, *rows)]
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    pads = [str.ljust if i < left or name in (*WORDS, *words) else str.rjust for i, name in enumerate(header)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join("  ".join(map(lambda pad, *cell: pad(*cell), pads, line, widths)).rstrip() for line in lines)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return ["| " + " | ".join(map(visible, line)) + " |" for line in (header, ["---"] * len(header), *rows)]


def with_prefix(value: float, digits: int) -> str:
    """`26.88 T`, `3.94 k`, `12 `: to be followed by a unit."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.{digits}g} {prefix}"
    return f"{value:.{digits}g} "


def share_text(share: float) -> str:
    """`12.5 %`."""
    return "n/a" if math.isnan(share) else f"{100 * share:.1f} %"
