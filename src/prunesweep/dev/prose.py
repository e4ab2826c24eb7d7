"""How long the sentences of pages are, `python -m prunesweep.dev.prose [PAGE.md ...]`: words and words a sentence, page by page.

Prose is what is left of Markdown without tables, code between fences, headings, pictures, comments and what a build inserts.
A name in backticks and a link's text count as the words that they show.  Exit code 1 where a page's sentences are too long on
average, or one of them is.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from prunesweep.console.layout import grid
from prunesweep.dev import parser_of
from prunesweep.errors import write_anywhere
from prunesweep.paths import user_path

MOST_WORDS = 20
"""Of a page's sentences on average."""
LONGER = {"use_matrix.md": 23}
"""A page that quotes error messages."""
LONGEST = 40
"""Words of any one sentence: who reads more of them has forgotten how it began."""
SHOWN = 12
"""Words of a sentence that is too long, to find it by."""
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
FENCE = re.compile(r"\s*(```|~~~)")
NOT_PROSE = re.compile(r"\s*(\||#|!\[|<|:::|---|\?\?\?|!!!|=== )")
ITEM = re.compile(r"\s*(?:[-*] |\d+\. )")
END = re.compile(r"(?<=[.!?])[*_)\"”]*\s+(?=[*_(\"“`\[]*[A-Z0-9`])|(?<=:)\s*$")
ABBREVIATED = re.compile(r"\b(e\.g|i\.e|al|cf|vs|eq|Fig|Sec|No)\. ")
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")


def main() -> None:
    """Raises SystemExit with 1 where sentences are too long."""
    write_anywhere()
    parser = parser_of(__file__, __doc__)
    parser.add_argument("pages", nargs="*", type=user_path, help="default: README.md and all of docs/, here")
    pages = parser.parse_args().pages or pages_of(Path.cwd())
    counted = {page: sentences(page.read_text(encoding="utf-8")) for page in pages}
    rows = [_row(str(page), found) for page, found in counted.items()]
    rows.append(_row("all", [sentence for found in counted.values() for sentence in found]))
    print(grid(("page", "words", "sentences", "words a sentence", "longest"), rows))
    if wrong := [line for page, found in counted.items() for line in too_long(page.name, found)]:
        sys.exit("\n".join(wrong))


def pages_of(root: Path) -> list[Path]:
    """README, how to contribute, and all of the documentation."""
    return [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").rglob("*.md"))]


def too_long(name: str, found: Sequence[str]) -> list[str]:
    """What is wrong with a page's sentences, a line each."""
    bound, mean = LONGER.get(name, MOST_WORDS), average(found)
    wrong = [f"{name}: {mean:.1f} words a sentence on average, at most {bound}; split some"] if mean > bound else []
    counts = {sentence: len(sentence.split()) for sentence in found}
    return wrong + [
        f"{name}: {words} words in one sentence, at most {LONGEST}; split it: {' '.join(sentence.split()[:SHOWN])} ..."
        for sentence, words in counts.items()
        if words > LONGEST
    ]


def _row(name: str, found: Sequence[str]) -> tuple[str, ...]:
    words = [len(sentence.split()) for sentence in found]
    return name, f"{sum(words):,}", f"{len(words):,}", f"{average(found):.1f}", f"{max(words, default=0)}"


def average(found: Sequence[str]) -> float:
    """Words a sentence; 0 without any."""
    return sum(len(sentence.split()) for sentence in found) / max(1, len(found))


def sentences(page: str) -> list[str]:
    """Those of a Markdown page, in order, without its marks."""
    found = []
    for block in blocks(page):
        text = ABBREVIATED.sub(r"\1 ", LINK.sub(r"\1", block))
        found += [part.strip(" *_") for part in END.split(text) if part and re.search(r"\w", part)]
    return found


def blocks(page: str) -> Iterator[str]:
    """Paragraphs and items of lists, each as one line."""
    block: list[str] = []
    fenced = False
    for line in [*FRONT_MATTER.sub("", page).split("\n"), ""]:
        fence = FENCE.match(line)
        fenced ^= bool(fence)
        ends = fenced or fence or not line.strip() or NOT_PROSE.match(line) or ITEM.match(line)
        if ends and block:
            yield " ".join(block)
            block = []
        if not (fenced or fence or NOT_PROSE.match(line)) and line.strip():
            block.append(ITEM.sub("", line, count=1).strip() if ITEM.match(line) else line.strip())


if __name__ == "__main__":
    main()
