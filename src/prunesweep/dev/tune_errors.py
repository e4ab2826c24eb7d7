"""Do the statements of `prunesweep tune` hold?  The records of a finished sweep, split by many seeds, chosen from and confirmed.

    prunesweep sweep tune_errors
    python -m prunesweep.dev.tune_errors latest [--seeds 20] [--budgets 0.14 0.2 0.3] [--margins 0.01 0.02 0.03]

What is true is taken to be the difference on all questions of the sweep, which both halves are part of: nothing is evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from prunesweep.analysis.comparison import paired
from prunesweep.analysis.naming import sweep_called
from prunesweep.analysis.table import rows_of
from prunesweep.benchmarks import Part
from prunesweep.console.layout import markdown
from prunesweep.dev import parser_of
from prunesweep.errors import reported, write_anywhere
from prunesweep.results.records import Trial, read_trials
from prunesweep.use.tune import FLOPS, Goal, chosen_among, confirm, points


class Errors(NamedTuple):
    """Over so many seeds: what was said of the chosen trial, and how often that was wrong."""

    seeds: int
    losing: int
    """The chosen trial loses the margin or more on all questions: so often a "within" would be false."""
    within: int
    false_within: int
    """Said of such a trial."""
    covered: int
    """95 % intervals that hold the difference on all questions."""
    chosen: int
    """Different trials that were chosen."""
    lost: float
    """Accuracy that they lose on all questions, on average."""


def errors_of(trials: Sequence[Trial], margin: float, seeds: int, budget: float = 1.0, share: float = 0.5) -> Errors:
    """Raises ValueError for a sweep without a dense trial."""
    dense = next((i for i, row in enumerate(rows_of(trials)) if row.dense), None)
    if dense is None:
        raise ValueError("the sweep has no dense trial to compare with; add reducer=none")
    goal = Goal(f"{budget:g}x", FLOPS, budget, margin)
    videos = trials[dense].records["video_id"].to_list()
    losing = within = false = covered = 0
    lost = 0.0
    chosen = set()
    for seed in range(seeds):
        searched = Part("search", share, seed).searched(videos)
        choosing, confirming = ([_part(one, searched, ours) for one in trials] for ours in (True, False))
        best = chosen_among(choosing, goal)
        chosen.add(best)
        found = confirm(confirming[best], confirming[dense], margin)
        truth = paired(trials[best].records, trials[dense].records).mean
        lost -= truth / seeds
        losing += truth <= -margin
        within += found.within
        false += found.within and truth <= -margin
        covered += found.difference.low <= truth <= found.difference.high
    return Errors(seeds, losing, within, false, covered, len(chosen), lost)


def _part(trial: Trial, searched: set[str], ours: bool) -> Trial:
    import polars as pl

    there = pl.col("video_id").is_in(list(searched))
    return trial._replace(records=trial.records.filter(there if ours else ~there))


def main() -> None:
    write_anywhere()
    parser = parser_of(__file__, __doc__)
    parser.add_argument("sweep", help="a folder, or latest")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.14, 0.2, 0.3], help="of the dense LLM prefill")
    parser.add_argument("--margins", type=float, nargs="+", default=[0.01, 0.02, 0.03, 0.04, 0.05])
    arguments = parser.parse_args()
    with reported():
        trials = read_trials(sweep_called(arguments.sweep))
        print(*table(trials, arguments.budgets, arguments.margins, arguments.seeds), sep="\n")


def table(trials: Sequence[Trial], budgets: Sequence[float], margins: Sequence[float], seeds: int) -> list[str]:
    """A row for each budget and margin, and their sum."""
    found = {(budget, margin): errors_of(trials, margin, seeds, budget) for budget in budgets for margin in margins}
    rows = [(*_case(budget, margin, one), *_counts(one)) for (budget, margin), one in found.items()]
    count, losing, within, false, covered, *_ = (sum(column) for column in zip(*found.values(), strict=True))
    rows.append(("all", "", "", *map(str, (count, losing, within, false, covered)), ""))
    head = (
        "budget",
        "margin",
        "loses",
        "seeds",
        "lose the margin",
        "said to be within",
        "of these false",
        "intervals that hold",
        "different choices",
    )
    return markdown(head, rows)


def _case(budget: float, margin: float, found: Errors) -> tuple[str, ...]:
    return f"{budget:g}x", points(margin), f"{100 * found.lost:.1f} points"


def _counts(found: Errors) -> tuple[str, ...]:
    return tuple(map(str, found[:-1]))


if __name__ == "__main__":
    main()
