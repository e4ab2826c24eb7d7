"""What `scenes` shows: the page docs/scenes_results.md from finished sweeps.

    prunesweep sweep scenes_settings hydra.sweep.dir=FOLDER/settings
    prunesweep sweep scenes_caches hydra.sweep.dir=FOLDER/caches
    prunesweep sweep scenes_matched hydra.sweep.dir=FOLDER/matched
    python -m prunesweep.dev.scenes_results FOLDER docs
    python -m prunesweep.dev.scenes_results --short docs     # only the short table in docs/methods.md, from that page

Every number is read from the records; differences are paired by question, clustered by video, and Holm-corrected within a table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from prunesweep.analysis.comparison import Difference, paired
from prunesweep.analysis.equal_cost import SIGNIFICANT
from prunesweep.analysis.free import scored_exactly
from prunesweep.analysis.significance import holm
from prunesweep.analysis.summary import Summary
from prunesweep.analysis.table import rows_of
from prunesweep.analysis.wording import p_text, summary_text
from prunesweep.console.layout import markdown
from prunesweep.dev import parser_of, write_page
from prunesweep.errors import reported, write_anywhere
from prunesweep.paths import user_path
from prunesweep.results.records import Trial, read_trials

PAGE = "scenes_results.md"
METHODS_PAGE = "methods.md"
BEGIN, END = "<!-- scenes: begin -->\n", "<!-- scenes: end -->\n"
"""Around the short table."""
DENSE = "none"
DEFAULT = "prunevid static_threshold=0.8"
"""The paper's settings, in the first table."""
INTRODUCTION = """# What `scenes` shows

The [benchmark](scenes.md)'s 1000 test questions and its tiny model: one model, one training seed. Read the tables as what
a setting does to a network that needs its tokens, not as what it does to a 7B model. Written by
`python -m prunesweep.dev.scenes_results` from the records of three sweeps. A difference is of the same questions, with its
standard error clustered by video and its p-value Holm-corrected within the table. [The final split](scenes_final.md) is
a page of its own.
"""
SETTINGS = """## Settings of PruneVid, over the paper's ranges

`prunesweep sweep scenes_settings`. One setting is varied, the others are the paper's defaults: {default} at {cost:.3f}x.
Dense: {dense}.
"""
CACHES = """## Caches and free answers

`prunesweep sweep scenes_caches`: greedy answers, right if they are the right words to the end. Dense: {dense}. KV: visual
tokens in the caches while decoding, of the dense model's.
"""
MATCHED = """## All methods at the published operating point

`prunesweep sweep scenes_matched`: each method's free setting solved for 0.23x of the dense LLM prefill. Options are scored.
Reference: {name} with {default} at {cost:.3f}x. Costs are shown, since some methods come in steps.
"""


class Told(NamedTuple):
    """A trial beside the one that it is compared with."""

    row: Summary
    difference: Difference
    holm: float


def compared(trials: Sequence[Trial], reference: str) -> list[Told]:
    """All but the reference, in their order.  Raises ValueError where it is not among them."""
    own = named(trials, reference)
    rows = rows_of(trials)
    others = [i for i, one in enumerate(trials) if one is not own]
    found = [paired(trials[i].records, own.records) for i in others]
    corrected = holm([one.p_value for one in found])
    return [Told(rows[i], one, float(p)) for i, one, p in zip(others, found, corrected, strict=True)]


class Said(NamedTuple):
    """A difference as a table writes it, and as it is read back."""

    points: str
    p: str
    """Holm-corrected."""

    @property
    def significant(self) -> bool:
        return "<" in self.p or float(self.p.removeprefix("p = ")) < SIGNIFICANT

    @property
    def better(self) -> bool:
        return self.points.startswith("+")


def in_words(difference: Difference, corrected: float) -> Said:
    return Said(f"{100 * difference.mean:+.1f} ± {100 * difference.error:.1f}", p_text(corrected))


def said_together(differences: Sequence[Difference]) -> list[Said]:
    """Of one table: p-values are corrected over all of them."""
    corrected = holm([one.p_value for one in differences])
    return [in_words(one, float(p)) for one, p in zip(differences, corrected, strict=True)]


def said(told: Told) -> Said:
    return in_words(told.difference, told.holm)


def named(trials: Sequence[Trial], name: str) -> Trial:
    """Raises ValueError for a sweep without it."""
    found = next((one for one in trials if one.info.name == name), None)
    if found is None:
        raise ValueError(f"there is no trial {name!r} in the sweep; there are {', '.join(one.info.name for one in trials)}")
    return found


def settings_table(trials: Sequence[Trial]) -> Iterator[str]:
    dense = named(trials, DENSE)
    rows = dict(zip((one.info.name for one in trials), rows_of(trials), strict=True))
    own = rows[DEFAULT]
    yield SETTINGS.format(
        name=DEFAULT, default=summary_text(own), cost=own.llm_flops_ratio, dense=summary_text(rows[dense.info.name])
    )
    head = ("trial", "accuracy", "LLM prefill", "tokens in", "points from the defaults", "p")
    yield from markdown(
        head,
        [
            (t.row.trial, summary_text(t.row), f"{t.row.llm_flops_ratio:.3f}x", f"{t.row.entrance_ratio:.3f}x", *said(t))
            for t in compared(trials, DEFAULT)
        ],
    )


def exactly(trials: Sequence[Trial]) -> list[Trial]:
    return [one._replace(records=scored_exactly(one.records)) for one in trials]


def caches_table(trials: Sequence[Trial]) -> Iterator[str]:
    exact = exactly(trials)
    rows = dict(zip((one.info.name for one in exact), rows_of(exact), strict=True))
    yield CACHES.format(dense=summary_text(rows[DENSE]))
    head = ("trial", "exact answers", "LLM prefill", "KV", "points from dense", "p")
    yield from markdown(
        head,
        [
            (t.row.trial, summary_text(t.row), f"{t.row.llm_flops_ratio:.3f}x", f"{t.row.kv_ratio:.3f}x", *said(t))
            for t in compared(exact, DENSE)
        ],
    )
    yield ""
    yield "Caches of layers before the pruning, whole against cut:"
    yield ""
    yield from markdown(("method", "points, whole minus cut", "p"), list(whole_and_cut(exact)))


def whole_and_cut(trials: Sequence[Trial]) -> Iterator[tuple[str, str, str]]:
    """Name, points and corrected p-value of each pair."""
    by_name = {one.info.name: one for one in trials}
    pairs = [(name, name.replace("=whole", "=cut")) for name in by_name if name.endswith("earlier_caches=whole")]
    found = [(whole, paired(by_name[whole].records, by_name[cut].records)) for whole, cut in pairs if cut in by_name]
    for (name, _), one in zip(found, said_together([one for _, one in found]), strict=True):
        yield name.replace(" earlier_caches=whole", ""), *one


def matched_table(trials: Sequence[Trial]) -> Iterator[str]:
    rows = dict(zip((one.info.name for one in trials), rows_of(trials), strict=True))
    own = [one for one in trials if one.info.reducer == "prunevid"]
    reference = max(own, key=lambda one: rows[one.info.name].accuracy)
    row = rows[reference.info.name]
    yield MATCHED.format(name=reference.info.name, default=summary_text(row), cost=row.llm_flops_ratio)
    head = ("trial", "accuracy", "LLM prefill", "tokens in", "points from PruneVid", "p")
    told = sorted(compared(trials, reference.info.name), key=lambda t: -t.row.accuracy)
    yield from markdown(
        head,
        [
            (t.row.trial, summary_text(t.row), f"{t.row.llm_flops_ratio:.3f}x", f"{t.row.entrance_ratio:.3f}x", *said(t))
            for t in told
            if not math.isnan(t.difference.mean)
        ],
    )


def short_table(page: str) -> str:
    """Of the page's last table each method's better setting, beside the reference; in the page's order, the best first."""
    matched = page.partition(MATCHED.partition("\n")[0])[2]
    name, accuracy, cost = re.search(r"Reference: (\S+) .*with (.*) at (\S+x)\.", matched).groups()  # type: ignore[union-attr]
    lines = (line for line in matched.splitlines() if line.startswith("| ") and "± " in line)
    best: dict[str, tuple[str, ...]] = {}
    for trial, *cells in ([cell.strip() for cell in line.strip("| ").split("|")] for line in lines):
        method = trial.split()[0]
        if method not in best and method != name:
            best[method] = (method, cells[0], cells[1], *cells[-2:])
    rows = [*best.values(), (name, accuracy, cost, "the reference", "")]
    rows.sort(key=lambda row: -float(row[1].split()[0]))
    return (
        "\n".join(markdown(("method, its better setting", "accuracy", "LLM prefill", "points from PruneVid", "p"), rows)) + "\n"
    )


def write_short(folder: Path) -> Path:
    """Into the page of methods; raises ValueError where the table's place is not marked."""
    path = folder / METHODS_PAGE
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{path} has no place for the table: {BEGIN.strip()} ... {END.strip()}")
    table = short_table((folder / PAGE).read_text(encoding="utf-8"))
    path.write_text(f"{before}{begin}\n{table}\n{end}{after}", encoding="utf-8")
    return path


def main() -> None:
    write_anywhere()
    parser = parser_of(__file__, __doc__)
    parser.add_argument("sweeps", type=user_path, nargs="?", help="holds settings, caches and matched")
    parser.add_argument("folder", type=user_path, help=f"{PAGE} is written here")
    parser.add_argument("--short", action="store_true", help=f"the short table in {METHODS_PAGE}, from {PAGE}; needs no sweeps")
    arguments = parser.parse_args()
    if arguments.short == bool(arguments.sweeps):
        parser.error("give finished sweeps, or --short")
    if arguments.short:
        with reported():
            print(write_short(arguments.folder))
        return
    lines = [INTRODUCTION]
    for name, table in (("settings", settings_table), ("caches", caches_table), ("matched", matched_table)):
        lines += [*table(read_trials(arguments.sweeps / name)), ""]
    write_page(arguments.folder / PAGE, lines)


if __name__ == "__main__":
    main()
