"""Methods at equal cost, each against a reference: PruneVid unless another is named.

Of a sweep whose trials have a `reducer.match`.  Budgets and costs are shares of the dense model on the same frames and
prompts, as `reducer.match` counts; budgets of different costs or frames are different tables.

Trials that differ in their seed alone are one method: its correctness on a question is their mean.  Differences are paired by
question and clustered by video; p-values are corrected over all comparisons with the reference in the sweep (Holm).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prunesweep.analysis import significance
from prunesweep.analysis.accuracy import Accuracy, accuracies_of
from prunesweep.analysis.clusters import difference_means
from prunesweep.analysis.counterparts import ASKED
from prunesweep.analysis.outcomes import Outcomes
from prunesweep.console.meant import closest, unknown
from prunesweep.results.read import settings

if TYPE_CHECKING:
    from jaxtyping import Float

    from prunesweep.results.records import TrialInfo

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
    "attended": "the cached visual tokens that the dense model's generated tokens attend to",
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
    """LLM prefill on the samples evaluated, of the dense model on the same frames and prompts; the next two likewise."""
    final_ratio: float
    spent: float
    """Of what the budget is of; NaN for attended tokens, which summaries do not have."""
    scores: Accuracy
    seeds: int
    right: Float[np.ndarray, " samples"]
    """Share of the seeds that are right; NaN where one has no answer."""
    settings: frozenset[str] = frozenset()
    """All of them as KEY=VALUE: of the trial's name, and as resolved, by their whole and by their last names."""
    numbers: str = ""
    """By which its trials are called, one a seed."""

    @property
    def target(self) -> float:
        return self.budget.target

    @property
    def name(self) -> str:
        return f"{self.reducer} {self.label}".strip()


def entries(outcomes: Outcomes) -> list[Entry]:
    """All methods of a sweep by budget, those of one budget best first.  Raises ValueError if no trial was matched."""
    groups: dict[tuple[Budget, str, str], list[int]] = {}
    asked = budgets_asked(outcomes)
    for index, info in enumerate(outcomes.infos):
        if matched := info.settings.get("matched"):
            budget = Budget(matched["target"], matched["cost"], asked[index])
            groups.setdefault((budget, info.reducer, _label(info.name, matched["knob"])), []).append(index)
    if not groups:
        raise ValueError("no trial of the sweep has a reducer.match; run prunesweep sweep matched")
    labels: dict[str, list[list[str]]] = {}
    for _, reducer, label in groups:
        labels.setdefault(reducer, []).append(label.split())
    common = {name: [p for p in own[0] if all(p in other for other in own)] for name, own in labels.items()}
    found = [
        _entry(outcomes, budget, reducer, " ".join(p for p in label.split() if p not in common[reducer]), label, indices)
        for (budget, reducer, label), indices in groups.items()
    ]
    return sorted(found, key=lambda e: (e.budget.cost, e.budget.asked, e.target, -e.scores.mean))


def budgets_asked(outcomes: Outcomes) -> list[str]:
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
    spent = {
        "flops": cost,
        "layer_average": sum(row.layer_tokens / row.dense_tokens for row in rows) / len(rows),
        "entrance": sum(row.entrance_tokens / row.dense_tokens for row in rows) / len(rows),
        "kv": sum(row.kv_tokens / row.dense_tokens for row in rows) / len(rows),
    }.get(budget.cost, math.nan)
    has = frozenset(whole.split()) | _resolved(outcomes.infos[indices[0]])
    numbers = ", ".join(row.number for row in rows if row.number)
    scores = _accuracy(right, outcomes.video)
    return Entry(reducer, label, budget, solved, cost, final, spent, scores, len(rows), right, has, numbers)


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
    """Paired, as `significance.compared`; where no answer differs, p is 1 and the interval that of zero flips."""
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


def by_method(rows: Sequence[Row]) -> dict[str, dict[Budget, Row]]:
    """The best setting of every method at each budget, PruneVid's too; the best methods on average first."""
    best: dict[str, dict[Budget, Row]] = {}
    for row in rows:
        best.setdefault(row.entry.reducer, {}).setdefault(row.entry.budget, row)
    budgets = {row.entry.budget for row in rows}

    def rank(name: str) -> tuple[int, float]:
        means = [row.entry.scores.mean for row in best[name].values()]
        return len(budgets) - len(means), -sum(means) / len(means)

    return {name: best[name] for name in sorted(best, key=rank)}


def shown(rows: Sequence[Row]) -> list[Row]:
    """Of other methods the best setting at each budget; all of PruneVid's."""
    seen: set[tuple[Budget, str]] = set()
    kept = []
    for row in rows:
        key = (row.entry.budget, row.entry.reducer)
        if row.entry.reducer.startswith(SHOWN_WHOLE) or key not in seen:
            kept.append(row)
        seen.add(key)
    return kept
