"""docs/use_matrix.md, written from what the tests say: `python -m prunesweep.dev.use_matrix`.

Runs `tests/use/test_law_12.py` in a checkout with every method and every family, and says where `ps.prune` answered as the
engine does, where both refused in the same words, and where neither.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from prunesweep.console.layout import markdown, prose
from prunesweep.dev import parser_of
from prunesweep.dev.matrix import report_of
from prunesweep.disk.files import replace_file
from prunesweep.errors import write_anywhere
from prunesweep.paths import user_path

TESTS = "tests/use/test_law_12.py"
PAGE = Path("docs") / "use_matrix.md"
EVERY_FAMILY, EVERY_METHOD = "test_every_family_answers_as_the_engine_does", "test_every_method_answers_as_the_engine_does"
SMALL = "a real video"
"""The column of the small LLaVA-OneVision, which is asked about a clip of the embedded benchmark."""
WAYS = ("greedy", "sampled")
NAME = re.compile(r"(\w+)\[(?:(\w+)-)?(\w+)-(\w+)\]")
EQUAL, REFUSED, DIFFERENT, NOT_RUN = "yes", "–", "**no**", "?"
MOST_NAMED = 6
"""Of the pairs that have one reason."""


class Cell(NamedTuple):
    """What one test of one way said."""

    passed: bool
    refused: str | None
    """In what words."""
    alone: bool = False
    """By `ps.prune` only; else by both."""


Results = Mapping[tuple[str, str, str], Cell]
"""By family, method and way."""


def main() -> None:
    write_anywhere()
    parser = parser_of(__file__, __doc__)
    parser.add_argument("checkout", nargs="?", type=user_path, default=Path.cwd(), help="of the repository; default: here")
    checkout = parser.parse_args().checkout
    results = read_report(report_of(checkout, TESTS, PRUNESWEEP_LAW_12="all"))
    replace_file(checkout / PAGE, page(results).encode())
    print(f"{checkout / PAGE}: {told(results)}")


def read_report(text: str) -> dict[tuple[str, str, str], Cell]:
    found = {}
    for case in ElementTree.fromstring(text).iter("testcase"):
        match = NAME.fullmatch(case.attrib["name"])
        if match and match[1] in (EVERY_FAMILY, EVERY_METHOD):
            failed = any(child.tag in ("failure", "error", "skipped") for child in case)
            told = {one.attrib["name"]: one.attrib["value"] for one in case.iter("property")}
            words = told.get("refused", told.get("refused_alone"))
            found[match[2] or SMALL, match[3], match[4]] = Cell(not failed, words, "refused_alone" in told)
    return found


def said(results: Results, family: str, method: str) -> str:
    """Of both ways: yes only where both were run and held."""
    cells = [results.get((family, method, way)) for way in WAYS]
    if any(cell is None for cell in cells):
        return NOT_RUN
    there = [cell for cell in cells if cell is not None]
    if not all(cell.passed for cell in there):
        return DIFFERENT
    return REFUSED if all(cell.refused for cell in there) else EQUAL if not any(cell.refused for cell in there) else DIFFERENT


def _names(results: Results, index: int) -> list[str]:
    return list(dict.fromkeys(key[index] for key in results))


def told(results: Results) -> str:
    """In one line."""
    cells = [said(results, family, method) for method in _names(results, 1) for family in _names(results, 0)]
    equal, refused, different = (cells.count(one) for one in (EQUAL, REFUSED, DIFFERENT))
    alone = sum(cell.alone for (_, _, way), cell in results.items() if way == WAYS[0])
    return (
        f"{len(_names(results, 1))} methods and {len(_names(results, 0))} columns: {equal} pairs are equal token for token, "
        f"both ways; {refused - alone} are refused by both in the same words, {alone} by `ps.prune` alone; {different} differ"
    )


def table(results: Results) -> list[str]:
    """A row for each method, a column for each family."""
    families = sorted(_names(results, 0), key=lambda name: name == SMALL)
    rows = [(f"`{method}`", *(said(results, family, method) for family in families)) for method in sorted(_names(results, 1))]
    return list(markdown(("method", *(name.replace("_", " ") for name in families)), rows))


def reasons(results: Results) -> list[str]:
    """Why pairs are refused, those of one method together."""
    pairs: dict[tuple[str, str], list[str]] = {}
    for (family, method, way), cell in results.items():
        if cell.refused and way == WAYS[0]:
            pairs.setdefault((method, cell.refused), []).append(family)
    return [f"- `{method}`, {_some(families)}: {words}." for (method, words), families in sorted(pairs.items())]


def _some(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def page(results: Results) -> str:
    lines = [
        "# Law 12: `ps.prune` answers as the engine does",
        "",
        "Written by `python -m prunesweep.dev.use_matrix`: it runs `tests/use/test_law_12.py`, every method on every family.",
        "Each pair answers one prompt twice: by the stages that a sweep runs, and by the stock `generate` within `ps.prune`.",
        "Once tokens are greedy. Once they are sampled with one seed, and drawn from the engine's logits by the test itself.",
        "",
        f"{told(results)}.",
        "",
        "Families are small random checkpoints of the stock classes with a drawn clip of 16 frames. The last column is a small",
        "LLaVA-OneVision with 12 frames of a clip of the embedded benchmark. Methods are as configured. Where that does not fit",
        "a family, positions are original, or the step stands after a layer with full attention.",
        "",
        f"{EQUAL}: equal, token for token, both ways. {REFUSED}: refused, in the words below. {DIFFERENT}: differ.",
        "",
        *table(results),
        "",
        "## What is refused, and why",
        "",
        "`downsample` is refused by `ps.prune` alone: a prepared prompt has its pixels already.",
        "",
        *reasons(results),
        "",
    ]
    return prose("\n".join(lines))


if __name__ == "__main__":
    main()
