"""What `scenes` shows on its final split, beside the test split: a page from finished sweeps.

    python -m prunesweep.dev.draw_scenes final SPLIT
    prunesweep sweep scenes_settings benchmark=jsonl benchmark.path=SPLIT hydra.sweep.dir=FOLDER/settings
    prunesweep sweep scenes_caches benchmark=jsonl benchmark.path=SPLIT hydra.sweep.dir=FOLDER/caches
    prunesweep sweep scenes_matched benchmark=jsonl benchmark.path=SPLIT hydra.sweep.dir=FOLDER/matched
    python -m prunesweep.dev.scenes_final FOLDER docs

The comparisons are those of `python -m prunesweep.dev.scenes_results`; what the test split said is read from that page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from prunesweep.analysis.equal_cost import SIGNIFICANT
from prunesweep.analysis.table import rows_of
from prunesweep.analysis.wording import summary_text
from prunesweep.console.layout import markdown
from prunesweep.dev import parser_of, write_page
from prunesweep.dev.scenes_results import DEFAULT, DENSE, PAGE, Said, compared, exactly, said, whole_and_cut
from prunesweep.errors import reported, write_anywhere
from prunesweep.paths import user_path
from prunesweep.results.records import Trial, read_trials

FINAL_PAGE = "scenes_final.md"
INTRODUCTION = """# `scenes`, once more on its final split

{questions:,} other questions on {videos:,} other videos, drawn for this page only. The sweeps and comparisons are those of
[what it shows](scenes_results.md): paired by question, clustered by video, Holm-corrected within a table. Columns of the test
split are that page's. Written by `python -m prunesweep.dev.scenes_final`.{missing}
"""
NOT_RUN = " Not run on this split yet: {missing}."
SETTINGS = """## Settings of PruneVid

Against the paper's defaults, here {own}; dense {dense}. {agreement}
"""
CACHES = """## Caches and free answers

Exact answers, against the dense model: {dense}. {agreement}
"""
PAIRS = """Caches of layers before the pruning, whole against cut. {agreement}
"""
MATCHED = """## All methods at the published operating point

Against `{name}`, the better of PruneVid's two on the test split, here {own}; dense {dense}. {agreement}
"""


def said_by(page: str) -> dict[str, dict[str, Said]]:
    """The last two columns of each table of the page, by the trial in the first, by the heading of the first column but one."""
    found: dict[str, dict[str, Said]] = {}
    rows: dict[str, Said] = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if line.startswith("| ") and cells[-1] == "p":
            rows = found[cells[-2]] = {}
        elif line.startswith("| ") and "±" in cells[-2]:
            rows[cells[0]] = Said(*cells[-2:])
    return found


def agreement(before: Mapping[str, Said], now: Mapping[str, Said]) -> str:
    """How many of the differences that were significant are so again, in the same direction."""
    common = [name for name in before if name in now]
    told = [name for name in common if before[name].significant]
    again = [name for name in told if now[name].significant and now[name].better == before[name].better]
    turned = [name for name in told if now[name].significant and now[name].better != before[name].better]
    new = sum(now[name].significant for name in common) - len(again) - len(turned)
    others = len(common) - len(told)
    rest = f" Of the other {others}, {new or 'none'} {'is' if new == 1 else 'are'} significant here only." if others else ""
    return (
        f"Of {len(told)} differences that are significant on the test split (corrected p below {SIGNIFICANT:g}), "
        f"{len(again)} are so here, in the same direction, and {len(turned) or 'none'} in the other.{rest}"
    )


def _table(trials: Sequence[Trial], reference: str, before: Mapping[str, Said]) -> tuple[list[str], str]:
    """Lines, and the sentence on how far the two splits agree."""
    told = compared(trials, reference)
    now = {one.row.trial: said(one) for one in told}
    if missing := sorted(set(before) - set(now)):
        raise ValueError(f"the sweep lacks {missing[0]!r}, which the page of the test split has")
    nothing = Said("", "")
    rows = [
        (t.row.trial, summary_text(t.row), f"{t.row.llm_flops_ratio:.3f}x", *before.get(t.row.trial, nothing), *now[t.row.trial])
        for t in sorted(told, key=lambda t: list(before).index(t.row.trial) if t.row.trial in before else len(before))
    ]
    head = ("trial", "final: accuracy", "LLM prefill", "test: points", "p", "final: points", "p")
    return list(markdown(head, rows)), agreement(before, now)


def _pairs(trials: Sequence[Trial], before: Mapping[str, Said]) -> tuple[list[str], str]:
    now = {name: Said(points, p) for name, points, p in whole_and_cut(trials)}
    rows = [(name, *before[name], *now[name]) for name in before]
    return list(markdown(("method", "test: points", "p", "final: points", "p"), rows)), agreement(before, now)


def _accuracies(trials: Sequence[Trial]) -> dict[str, str]:
    return {row.trial: summary_text(row) for row in rows_of(trials)}


def _settings(trials: Sequence[Trial], before: dict[str, dict[str, Said]], _: str) -> Iterator[str]:
    lines, agreed = _table(trials, DEFAULT, before["points from the defaults"])
    found = _accuracies(trials)
    yield from (SETTINGS.format(own=found[DEFAULT], dense=found[DENSE], agreement=agreed), *lines, "")


def _caches(trials: Sequence[Trial], before: dict[str, dict[str, Said]], _: str) -> Iterator[str]:
    exact = exactly(trials)
    lines, agreed = _table(exact, DENSE, before["points from dense"])
    yield from (CACHES.format(dense=_accuracies(exact)[DENSE], agreement=agreed), *lines, "")
    lines, agreed = _pairs(exact, before["points, whole minus cut"])
    yield from (PAIRS.format(agreement=agreed), *lines, "")


def _matched(trials: Sequence[Trial], before: dict[str, dict[str, Said]], test_page: str) -> Iterator[str]:
    name = re.search(r"Reference: (.*) with ", test_page).group(1)  # type: ignore[union-attr]
    lines, agreed = _table(trials, name, before["points from PruneVid"])
    found = _accuracies(trials)
    yield from (MATCHED.format(name=name, own=found[name], dense=found[DENSE], agreement=agreed), *lines, "")


SECTIONS = {"settings": _settings, "caches": _caches, "matched": _matched}


def page_of(sweeps: Path, test_page: str) -> Iterator[str]:
    """Of the sweeps that are there.  Raises ValueError for none, or one that lacks a trial of the test split's page."""
    there = {name: trials for name in SECTIONS if (sweeps / name).is_dir() and (trials := read_trials(sweeps / name))}
    if not there:
        raise ValueError(f"{sweeps} holds none of the sweeps {', '.join(SECTIONS)}")
    records = next(iter(there.values()))[0].records
    left_out = [name for name in SECTIONS if name not in there]
    missing = NOT_RUN.format(missing=", ".join(left_out)) if left_out else ""
    yield INTRODUCTION.format(questions=len(records), videos=records["video_id"].n_unique(), missing=missing)
    before = said_by(test_page)
    for name, trials in there.items():
        yield from SECTIONS[name](trials, before, test_page)


def main() -> None:
    write_anywhere()
    parser = parser_of(__file__, __doc__)
    parser.add_argument("sweeps", type=user_path, help="holds settings, caches and matched")
    parser.add_argument("folder", type=user_path, help=f"{PAGE} is there; {FINAL_PAGE} is written beside it")
    arguments = parser.parse_args()
    with reported():
        test_page = (arguments.folder / PAGE).read_text(encoding="utf-8")
        write_page(arguments.folder / FINAL_PAGE, page_of(arguments.sweeps, test_page))


if __name__ == "__main__":
    main()
