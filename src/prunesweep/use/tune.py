"""Which setting of which method, for a budget?  Chosen on some videos, confirmed on the others.

What is chosen among many looks better than it is, so nothing is said about it on the questions that chose it.  Candidates of all
methods race on one half of the videos (docs/search.md).  The best one that keeps to the budget meets the other half, beside the
dense model, in one paired test of non-inferiority (Tango, 1998).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from prunesweep.analysis.clusters import CONFIDENCE
from prunesweep.analysis.comparison import Difference, paired
from prunesweep.analysis.margins import Pair, loss_p_values, questions_needed, require_margin
from prunesweep.analysis.significance import POWER
from prunesweep.analysis.table import rows_of
from prunesweep.checks import require_number
from prunesweep.console.layout import count
from prunesweep.console.meant import unknown
from prunesweep.results.records import Trial
from prunesweep.sweep.ahead import bytes_text

if TYPE_CHECKING:
    from prunesweep.analysis.summary import Summary

FLOPS, BYTES, SECONDS = "llm_flops_ratio", "kv_bytes", "first_token_seconds"
UNITS = {
    "x": (FLOPS, 1.0),
    "GiB": (BYTES, 2.0**30),
    "MiB": (BYTES, 2.0**20),
    "s": (SECONDS, 1.0),
    "ms": (SECONDS, 1e-3),
}
LEAST = "least"
AMOUNT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]+)")
LOSS = re.compile(r"accuracy\s*>=\s*dense\s*-\s*(\d+(?:\.\d*)?|\.\d+)")
"""A goal: the least cost of those that lose no more."""


@dataclass(frozen=True)
class Goal:
    """What a setting is wanted for."""

    text: str
    cost: str
    """A column of the summary."""
    most: float | None
    """Of that cost; None: the least whose loss is within the margin."""
    margin: float

    def within(self, row: Summary) -> bool:
        return self.most is None or getattr(row, self.cost) <= self.most

    def spent(self, row: Summary) -> str:
        """What a trial takes of it, in words."""
        value = getattr(row, self.cost)
        if self.cost == FLOPS:
            return f"{value:.3f}x"
        return bytes_text(value) if self.cost == BYTES else f"{value:.3g} s"


def goal_of(budget: Any, margin: float) -> Goal:
    """Raises ValueError for what is no amount of anything that is counted or measured."""
    require_number("margin", margin)
    require_margin(margin)
    text = str(budget).strip()
    if text == LEAST:
        return Goal(text, FLOPS, None, margin)
    found = AMOUNT.fullmatch(text)
    if found is None or found[2] not in UNITS:
        raise ValueError(
            f"budget must be such as 0.25x, 4GiB, 300MiB, 1.2s, 800ms, {LEAST} or accuracy>=dense-0.01, got {text!r}"
        )
    cost, unit = UNITS[found[2]]
    most = float(found[1]) * unit
    if not most > 0 or (cost == FLOPS and most >= 1):
        raise ValueError(f"budget must be more than nothing and less than the dense model's 1x, got {text!r}")
    return Goal(text, cost, most, margin)


def shares(goal: Goal, ladder: Sequence[float]) -> list[float]:
    """Of the dense LLM prefill, that candidates are solved for."""
    return [goal.most] if goal.cost == FLOPS and goal.most is not None else list(ladder)


def grids(goal: Goal, settings: Mapping[str, Any], prune_layer: int) -> list[dict[str, str]]:
    """The candidates, as the sweeper has them.  Raises ValueError for methods that are none of them."""
    methods = settings["methods"]
    known = dict.fromkeys(one["reducer"] for one in settings["candidates"])
    if methods is not None and not methods:
        raise ValueError(f"methods=[] names none; name some of {', '.join(known)}, or leave it out to take all")
    if others := [name for name in methods or () if name not in known]:
        raise ValueError(unknown("candidate in methods", str(others[0]), known))
    wanted = shares(goal, settings["ladder"])
    tolerance = settings["tolerance"]
    match = ",".join(f"{{flops:{share / (1 + tolerance / 2):.4g},tolerance:{tolerance / 2:g}}}" for share in wanted)
    half = str(max(1, prune_layer // 2))
    out: list[dict[str, str]] = []
    for one in settings["candidates"]:
        if methods is None or one["reducer"] in methods:
            plain = {key: "null" if value is None else str(value).replace("${half_layer}", half) for key, value in one.items()}
            out.append({**plain, "reducer.match": match})
    return out


def chosen_among(trials: Sequence[Trial], goal: Goal) -> int:
    """The index of the trial to confirm: the most accurate within the budget, the cheaper of equals; or, without a budget, the
    cheapest whose loss looks to be within the margin.

    Raises ValueError, with the least that any method took, where none keeps to the budget.
    """
    rows = rows_of(trials)
    scored = [i for i, row in enumerate(rows) if row.samples and not row.stopped and not row.dense]
    if not scored:
        raise ValueError("no candidate has an answer on the questions for choosing; see the errors of the sweep")
    fitting = [i for i in scored if goal.within(rows[i])]
    if not fitting:
        least = min(scored, key=lambda i: getattr(rows[i], goal.cost))
        raise ValueError(
            f"budget={goal.text} is below what any candidate takes; the least is {goal.spent(rows[least])} ({rows[least].trial})"
        )
    dense = max((row.accuracy for row in rows if row.dense), default=math.nan)
    safe = [i for i in fitting if rows[i].accuracy >= dense - goal.margin]
    if goal.most is None and safe:
        return min(safe, key=lambda i: getattr(rows[i], goal.cost))
    return min(fitting, key=lambda i: (-rows[i].accuracy, getattr(rows[i], goal.cost)))


@dataclass(frozen=True)
class Confirmed:
    """One trial against the dense one on questions that had no part in choosing it."""

    difference: Difference
    p_value: float
    """One-sided, of losing the margin or more."""
    within: bool
    needed: int
    """Questions in all that would probably tell; 0 where it is told.  Of a single video, which tells of no error, those that
    would if questions on one video were as unlike as any: at least so many."""


def confirm(trial: Trial, dense: Trial, margin: float) -> Confirmed:
    """By one test, at half of the two-sided level, as an interval of 95 % that lies above the loss would say it."""
    d = paired(trial.records, dense.records)
    pair = Pair(d.gained, d.lost, d.samples, d.design, d.freedom)
    level = (1 - CONFIDENCE) / 2
    gained, lost, samples, design, freedom = (np.array([value]) for value in pair)
    p_value = float(loss_p_values(gained, lost, samples, design, freedom, margin)[0])
    if math.isnan(d.freedom):
        pair = pair._replace(design=1.0, freedom=max(1.0, d.samples - 1.0))
    needed = 0 if p_value <= level else questions_needed(pair, margin, level, 2 * level, POWER)
    return Confirmed(d, p_value, p_value <= level, needed)


def points(share: float) -> str:
    """`1 point`, `0.5 points`: of a hundred."""
    text = f"{100 * share:g}"
    return f"{text} point{'' if text == '1' else 's'}"


def statement(name: str, row: Summary, goal: Goal, found: Confirmed) -> str:
    """`prunevid ... at 0.231x: -0.4 points (95 % -1.1 to +0.3, n=2,412): within 1 point`."""
    d = found.difference
    if math.isnan(d.low):
        asked = f"n={d.samples:,}, 1 video"
        least = f"{_rounded(found.needed):,} questions on several videos are the least that would tell"
        telling = least if found.needed > d.samples else "only several videos would"
        return (
            f"{name} at {goal.spent(row)}: {_points(d.mean)} ({asked}): not shown to be within {points(goal.margin)}; one video "
            f"says nothing of the error, and {telling}"
        )
    interval = f"95 % {_points(d.low, '')} to {_points(d.high, '')}, n={d.samples:,}, {count(d.videos, 'video')}"
    said = f"{name} at {goal.spent(row)}: {_points(d.mean)} ({interval})"
    if found.within:
        return f"{said}: within {points(goal.margin)}"
    if d.high < -goal.margin:
        return f"{said}: loses more than {points(goal.margin)}"
    more = max(0, found.needed - d.samples)
    tells = f"; about {_rounded(more):,} more questions like these would probably tell" if more else ""
    return f"{said}: not shown to be within {points(goal.margin)}{tells}"


def _points(share: float, unit: str = " points") -> str:
    return f"{100 * share:+.1f}{unit}"


def _rounded(count: int) -> int:
    """To two digits, upwards: it is an estimate."""
    scale = 10 ** max(0, len(str(count)) - 2)
    return -(-count // scale) * scale
