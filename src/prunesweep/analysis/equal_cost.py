"""`prunesweep-methods SWEEP`: methods at equal cost, each against PruneVid, of a sweep whose trials have a `reducer.match`.

    prunesweep --config-dir sweeps --config-name matched
    prunesweep-methods multirun/DATE/TIME --reference static_threshold=null layer=2 --out docs

writes `methods_table.md`, `methods.csv` and `methods.png`.  `--reference fastv layer=2` compares with another method than
PruneVid; a sweep without PruneVid and without a reference has no differences.  Budgets and costs are shares of the dense model
on the same frames and prompts, as `reducer.match` counts; budgets of different costs or frames are different tables.

Trials that differ in their seed alone are one method: its correctness on a question is their mean.  Differences are paired by
question and clustered by video; p-values are corrected over all comparisons with the reference in the sweep (Holm).
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prunesweep.analysis import significance
from prunesweep.analysis.clusters import difference_means
from prunesweep.analysis.counterparts import ASKED
from prunesweep.analysis.outcomes import Outcomes, read_outcomes
from prunesweep.analysis.summary import Accuracy, accuracies_of
from prunesweep.meant import closest, unknown
from prunesweep.paths import user_path
from prunesweep.report.text import accuracy_text, markdown, p_text
from prunesweep.results.read import settings

if TYPE_CHECKING:
    from jaxtyping import Float
    from matplotlib.figure import Figure

    from prunesweep.results.records import TrialInfo

TABLE, ALL, PICTURE = "methods_table.md", "methods.csv", "methods.png"
OWN_PARTS = ("match=", "seed=", "knob=")
"""Parts of a trial's name that do not tell methods apart."""
SIGNIFICANT = 0.05
SHOWN_WHOLE = "prunevid"
"""Of other reducers the table shows the setting that does best at each budget, which favours them."""


class Gap(NamedTuple):
    """How much more accurate a method is than the reference."""

    mean: float
    low: float
    high: float
    p_value: float


class Budget(NamedTuple):
    """What the trials of one table were matched on."""

    target: float
    """Of the dense model on the same frames and prompts."""
    cost: str
    """As in `reducer.match`."""
    asked: str = ""
    """Frames and prompts, where the sweep has several."""

    def __str__(self) -> str:
        return f"{self.target:g}x of {OF_DENSE[self.cost]}{f' with {self.asked}' if self.asked else ''}"


OF_DENSE = {
    "flops": "the dense prefill",
    "layer_average": "the dense model's visual tokens over the layers",
    "entrance": "the dense model's visual tokens entering the LLM",
    "kv": "the dense model's visual tokens in the KV caches",
}


@dataclass(frozen=True)
class Entry:
    """One method at one budget."""

    reducer: str
    label: str
    """Its settings, without those that all entries of the reducer have."""
    budget: Budget
    solved: str
    """The free setting; of several seeds the first one's."""
    cost: float
    """LLM prefill on the samples evaluated, of the dense model on the same frames and prompts; the next likewise."""
    final_ratio: float
    scores: Accuracy
    seeds: int
    right: Float[np.ndarray, " samples"]
    """Share of the seeds that are right; NaN where one has no answer."""
    settings: frozenset[str] = frozenset()
    """All of them as KEY=VALUE: of the trial's name, and as resolved, by their whole and by their last names."""

    @property
    def target(self) -> float:
        return self.budget.target

    @property
    def name(self) -> str:
        return f"{self.reducer} {self.label}".strip()


def entries(outcomes: Outcomes) -> list[Entry]:
    """All methods of a sweep by budget, those of one budget best first.  Raises ValueError if no trial was matched."""
    groups: dict[tuple[Budget, str, str], list[int]] = {}
    asked = _asked(outcomes)
    for index, info in enumerate(outcomes.infos):
        if matched := info.settings.get("matched"):
            budget = Budget(matched["target"], matched["cost"], asked[index])
            groups.setdefault((budget, info.reducer, _label(info.name, matched["knob"])), []).append(index)
    if not groups:
        raise ValueError("no trial of the sweep has a reducer.match; run prunesweep --config-dir sweeps --config-name matched")
    labels: dict[str, list[list[str]]] = {}
    for _, reducer, label in groups:
        labels.setdefault(reducer, []).append(label.split())
    common = {name: [p for p in own[0] if all(p in other for other in own)] for name, own in labels.items()}
    found = [
        _entry(outcomes, budget, reducer, " ".join(p for p in label.split() if p not in common[reducer]), label, indices)
        for (budget, reducer, label), indices in groups.items()
    ]
    return sorted(found, key=lambda e: (e.budget.cost, e.budget.asked, e.target, -e.scores.mean))


def _asked(outcomes: Outcomes) -> list[str]:
    """The frames and prompts of each trial that not all of them have."""
    flat = [{k: v for k, v in settings(info).items() if k.startswith(ASKED)} for info in outcomes.infos]
    varying = [key for key in dict.fromkeys(k for own in flat for k in own) if len({str(own.get(key)) for own in flat}) > 1]
    return [" ".join(f"{key}={own.get(key)}" for key in varying) for own in flat]


def _label(trial: str, knob: str) -> str:
    parts = [part for part in trial.split(" ")[1:] if not part.startswith(OWN_PARTS)]
    return " ".join([*parts, f"free:{knob.rpartition('.')[2]}"])


def _entry(outcomes: Outcomes, budget: Budget, reducer: str, label: str, whole: str, indices: Sequence[int]) -> Entry:
    right = np.where(outcomes.answered[indices], outcomes.correct[indices], np.nan).mean(0)
    rows, solution = [outcomes.table[i] for i in indices], outcomes.infos[indices[0]].settings["matched"]
    value: Any = solution["value"]
    knob = solution["knob"].rpartition(".")[2]
    solved = f"{knob}={value:.3g}" if isinstance(value, (int, float)) else str(value)
    cost = sum(row.llm_flops / row.dense_llm_flops for row in rows) / len(rows)
    final = sum(row.final_tokens / row.dense_tokens for row in rows) / len(rows)
    has = frozenset(whole.split()) | _resolved(outcomes.infos[indices[0]])
    return Entry(reducer, label, budget, solved, cost, final, _accuracy(right, outcomes.video), len(rows), right, has)


def _resolved(info: TrialInfo) -> frozenset[str]:
    """A trial's reducer settings as they are typed, whether or not its name has them."""
    own = {name: "null" if value is None else str(value) for name, value in settings(info).items() if name.startswith("reducer.")}
    return frozenset(f"{key}={value}" for name, value in own.items() for key in (name, name.rpartition(".")[2]))


def _by_video(values: np.ndarray, video: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums, sums of squares and counts per video of the values that are not NaN, each as one row."""
    there = ~np.isnan(values)
    _, cluster = np.unique(video[there], return_inverse=True)
    sums, squares, sizes = (np.bincount(cluster, of)[None] for of in (values[there], values[there] ** 2, there[there]))
    return sums, squares, sizes


def _accuracy(right: np.ndarray, video: np.ndarray) -> Accuracy:
    """Of answers that may be means over seeds."""
    sums, _, sizes = _by_video(right, video)
    return accuracies_of(sums, sizes)[0]


def gap(entry: Entry, reference: Entry, video: np.ndarray) -> Gap:
    """Paired, as `statistics.compared`; where no answer differs, p is 1 and the interval that of zero flips."""
    difference = entry.right - reference.right
    found = difference_means(*_by_video(difference, video))
    one = significance.compared(found, np.array([np.count_nonzero(np.nan_to_num(difference))]))
    return Gap(*(float(of[0]) for of in (one.mean, one.low, one.high, one.p_value)))


def references(found: Sequence[Entry], wanted: Sequence[str]) -> dict[Budget, Entry]:
    """The entry with the wanted settings at each budget, of PruneVid unless the first word names another reducer.

    Empty where nothing is wanted and there is no PruneVid.  Raises ValueError if there is none with these settings, or
    several.
    """
    named = [word for word in wanted if "=" not in word and not word.startswith("free:")]
    reducer, asked = (named or [SHOWN_WHOLE])[0], {word for word in wanted if word not in named}
    if len(named) > 1:
        raise ValueError(f"--reference takes one reducer and KEY=VALUE settings, got {' '.join(named)}")
    chosen: dict[Budget, Entry] = {}
    for budget in dict.fromkeys(entry.budget for entry in found):
        own = [e for e in found if e.budget == budget and e.reducer == reducer and asked <= e.settings | set(e.label.split())]
        if len(own) > 1:
            raise ValueError(
                f"at {budget.target:g}x several trials of {reducer} match --reference: {'; '.join(e.label for e in own)}"
            )
        if own:
            chosen[budget] = own[0]
    if not chosen and wanted:
        raise ValueError(f"--reference {' '.join(wanted)}: {_not_found(found, reducer, asked)}")
    return chosen


def _not_found(found: Sequence[Entry], reducer: str, asked: Collection[str]) -> str:
    """What of a reference no matched trial has, and what they have instead."""
    own = [entry for entry in found if entry.reducer == reducer]
    if not own:
        others = list(dict.fromkeys(entry.reducer for entry in found))
        meant = f"did you mean {near}? " if (near := closest(reducer, others)) else ""
        return f"no trial of {reducer} has a reducer.match; {meant}those of {', '.join(others)} have"
    have = {setting for entry in own for setting in (*entry.settings, *entry.label.split())}
    lacked = next((setting for setting in sorted(asked) if setting not in have), None)
    if lacked is None:
        return f"no single trial of {reducer} has all of these; there are {'; '.join(dict.fromkeys(e.name for e in own))}"
    key = lacked.partition("=")[0]
    if values := sorted(setting for setting in have if setting.startswith(f"{key}=")):
        return f"no trial of {reducer} has {lacked}; they have {', '.join(values)}"
    return unknown(f"setting of {reducer}", key, sorted({has.partition("=")[0] for has in have if "." not in has}))


class Row(NamedTuple):
    """An entry beside the reference of its budget; none for the reference itself, and where there is no reference."""

    entry: Entry
    gap: Gap | None
    holm: float


def compared(found: Sequence[Entry], chosen: dict[Budget, Entry], video: np.ndarray) -> list[Row]:
    gaps = [gap(e, chosen[e.budget], video) if e.budget in chosen and e is not chosen[e.budget] else None for e in found]
    adjusted = significance.holm([math.nan if g is None else g.p_value for g in gaps])
    return [Row(e, g, float(p)) for e, g, p in zip(found, gaps, adjusted, strict=True)]


def shown(rows: Sequence[Row]) -> list[Row]:
    """Of rivals the best setting at each budget; all of PruneVid's."""
    seen: set[tuple[Budget, str]] = set()
    kept = []
    for row in rows:
        key = (row.entry.budget, row.entry.reducer)
        if SHOWN_WHOLE in row.entry.reducer or key not in seen:
            kept.append(row)
        seen.add(key)
    return kept


HEADER = ("method", "solved", "LLM prefill", "at end", "accuracy ± SE", "difference (95 %)", "p (Holm)")


def cells(row: Row) -> tuple[str, ...]:
    e, g = row.entry, row.gap
    name = e.name + (f" ({e.seeds} seeds)" if e.seeds > 1 else "")
    own = (name, e.solved, f"{e.cost:.3f}x", f"{e.final_ratio:.3f}x", accuracy_text(*e.scores))
    if g is None:
        return (*own, "–", "–")
    return (*own, f"{g.mean:+.3f} ({g.low:+.3f} to {g.high:+.3f})", p_text(row.holm).removeprefix("p ").removeprefix("= "))


def table(outcomes: Outcomes, rows: Sequence[Row], chosen: dict[Budget, Entry]) -> str:
    """Markdown: one table a budget, of the rows that are shown, and what all of them say."""
    lines = [f"{outcomes.model} on {outcomes.benchmark}; {_dense(outcomes)}."]
    if not chosen:
        lines[0] += " No differences: there is no prunevid here; --reference names another method."
    for budget in dict.fromkeys(row.entry.budget for row in rows):
        own = [row for row in rows if row.entry.budget == budget]
        reference = f"; differences to {chosen[budget].name}" if budget in chosen else ""
        lines += ["", f"**{budget}**{reference}", ""]
        lines += markdown(HEADER, [cells(row) for row in shown(own)])
        if budget in chosen:
            lines += ["", tally(own)]
    return "\n".join(lines) + "\n"


def tally(rows: Sequence[Row]) -> str:
    """How many settings differ from the reference for sure."""
    tested = [row for row in rows if row.gap is not None]
    sure = [row.gap.mean for row in tested if row.gap is not None and row.holm < SIGNIFICANT]
    worse, better = sum(mean < 0 for mean in sure), sum(mean > 0 for mean in sure)
    return f"Of {len(tested)} other settings {worse} are less accurate and {better} more (p < {SIGNIFICANT}, Holm)."


def _dense(outcomes: Outcomes) -> str:
    scores = significance.accuracies(outcomes)
    asked = _asked(outcomes)
    dense = [
        accuracy_text(*scores[i]) + (f" with {asked[i]}" if asked[i] else "")
        for i, info in enumerate(outcomes.infos)
        if info.reducer == "none"
    ]
    return f"the dense model has {', '.join(dense)}" if dense else "the dense model was not evaluated"


COLUMNS = (
    *(
        "budget",
        "budget_of",
        "asked",
        "reducer",
        "settings",
        "solved",
        "llm_flops_ratio",
        "final_ratio",
        "accuracy",
        "error",
        "samples",
        "seeds",
    ),
    *("difference", "low", "high", "p", "p_holm"),
)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Every entry, with its numbers unrounded."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            e, g = row.entry, row.gap
            against = ["", "", "", "", ""] if g is None else [*g, row.holm]
            own = [
                *e.budget,
                e.reducer,
                e.label,
                e.solved,
                e.cost,
                e.final_ratio,
                e.scores.mean,
                e.scores.error,
                e.scores.samples,
            ]
            writer.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in (*own, e.seeds, *against)])


def figure(outcomes: Outcomes, rows: Sequence[Row], chosen: dict[Budget, Entry]) -> Figure:
    """Accuracy against cost, a line per method; of rivals the best setting at each budget."""
    from matplotlib.figure import Figure

    from prunesweep.report.plots import COLOURS, MARKERS

    names = {id(e): f"{e.reducer} (reference)" for e in chosen.values()}
    lines: dict[str, list[Entry]] = {}
    for row in rows:
        e = row.entry
        lines.setdefault(names.get(id(e), e.name if SHOWN_WHOLE in e.reducer else e.reducer), []).append(e)
    drawn = Figure(figsize=(9, 6), layout="constrained")
    axes = drawn.subplots()
    for index, name in enumerate(sorted(lines, key=lambda name: -max(e.scores.mean for e in lines[name]))):
        own = sorted(lines[name], key=lambda e: e.cost)
        reference = name.endswith("(reference)")
        axes.errorbar(
            [e.cost for e in own],
            [e.scores.mean for e in own],
            yerr=[e.scores.error for e in own],
            marker=MARKERS[(index + index // len(COLOURS)) % len(MARKERS)],
            color=COLOURS[index % len(COLOURS)],
            linestyle="-" if SHOWN_WHOLE in name else "--" if index < len(COLOURS) else ":",
            linewidth=2.5 if reference else 1,
            capsize=2,
            elinewidth=1,
            markersize=6,
            label=name,
        )
    for summary in outcomes.table:
        if summary.reducer == "none":
            axes.axhline(summary.accuracy, color="0.5", linewidth=1, label="dense")
    axes.set_xlabel("LLM prefill FLOPs, relative to the dense model on the same frames and prompts")
    axes.set_ylabel("accuracy")
    count = len(outcomes.samples)
    axes.set_title(
        f"{outcomes.model} on {outcomes.benchmark}, n = {count}; bars: one standard error, clustered by video", fontsize=10
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawn


def main() -> None:
    from prunesweep.errors import reported

    parser = argparse.ArgumentParser(prog="prunesweep-methods", description="Methods at equal cost, each against PruneVid.")
    parser.add_argument("sweep", type=user_path, help="folder of a sweep whose trials have a reducer.match")
    parser.add_argument(
        "--reference", nargs="*", default=[], help="[REDUCER] KEY=VALUE ...: trials to compare with, of PruneVid unless named"
    )
    parser.add_argument("--out", type=user_path, default=Path("."), help="folder for table, list and picture (%(default)s)")
    given = parser.parse_args()
    with reported():
        found = read_outcomes(given.sweep)
        if len(found) > 1:
            raise ValueError(f"{given.sweep} has {len(found)} pairs of model and benchmark; prunesweep-methods takes one")
        (outcomes,) = found
        every = entries(outcomes)
        chosen = references(every, given.reference)
        rows = compared(every, chosen, outcomes.video)
        given.out.mkdir(parents=True, exist_ok=True)
        text = table(outcomes, rows, chosen)
        (given.out / TABLE).write_text(text, encoding="utf-8")
        write_csv(rows, given.out / ALL)
        figure(outcomes, shown(rows), chosen).savefig(given.out / PICTURE, dpi=120)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
