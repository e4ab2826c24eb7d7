"""What became of a search: a table of all proposals, and a few lines for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from prunesweep.analysis.front import nondominated
from prunesweep.analysis.wording import accuracy_text
from prunesweep.console.layout import count
from prunesweep.report.formats import NUMBER, Table, printed
from prunesweep.results.records import write_parquet
from prunesweep.search import study as proposals
from prunesweep.search.loop import Plan, keeps

TABLE = "search"
MOST_SHOWN = 12
"""Lines of the front on the terminal."""


def outcome(trial: FrozenTrial) -> str:
    return trial.user_attrs.get(proposals.OUTCOME, trial.state.name.lower())


def rows(plan: Plan, trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    """One line a trial: its settings, its objectives if complete, how far it misses each constraint, and why."""
    return [
        {
            NUMBER: proposals.number(trial),
            "outcome": outcome(trial),
            "reason": trial.user_attrs.get(proposals.REASON),
            "from": proposals.told_from(trial),
            "samples": trial.user_attrs.get(proposals.NUMBERS, {}).get("samples"),
            **{key: None if trial.params.get(key) is None else str(trial.params[key]) for key in plan.distributions},
            **dict(zip(plan.objectives, trial.values or [None] * len(plan.objectives), strict=True)),
            **{f"misses {text}": trial.constraints.get(text) for text in plan.constraints},
        }
        for trial in trials
    ]


def front(plan: Plan, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Complete trials that keep all constraints and that no other of these beats, in the order of the last objective."""
    good = [trial for trial in trials if trial.state == TrialState.COMPLETE and keeps(trial.constraints)]
    signs = [1 if direction == "maximize" else -1 for direction in plan.objectives.values()]
    on = nondominated([[s * v for s, v in zip(signs, trial.values, strict=True)] for trial in good])
    return sorted((t for t, is_on in zip(good, on, strict=True) if is_on), key=lambda t: t.values[-1])


def report(plan: Plan, trials: Sequence[FrozenTrial], folder: Path) -> str:
    """Writes the table beside the trials' folders; returns the lines for the terminal."""
    import polars as pl

    table = pl.DataFrame(rows(plan, trials), infer_schema_length=None)
    write_parquet(table, folder / f"{TABLE}.parquet")
    table.write_csv(folder / f"{TABLE}.csv")
    own = [trial for trial in trials if proposals.is_own(trial)]
    counts = Counter(outcome(trial) for trial in own)
    lines = [f"search: {len(own)} proposals: " + ", ".join(f"{many} {name}" for name, many in counts.most_common())]
    if told := len(trials) - len(own):
        lines.append(f"{count(told, 'result')} from baselines and earlier sweeps told to the sampler")
    if plan.constraints:
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        kept = sum(keeps(trial.constraints) for trial in complete)
        lines.append(f"{kept} of {len(complete)} complete trials keep {'; '.join(plan.constraints)}")
    best = front(plan, trials)
    lines.append(
        f"front of {', '.join(plan.objectives)}{' among these' if plan.constraints else ''}, estimates on the samples given:"
    )
    lines.append(_front_grid(plan, best[:MOST_SHOWN]) if best else "  no trial")
    if len(best) > MOST_SHOWN:
        lines.append(f"and {len(best) - MOST_SHOWN} more in {TABLE}.csv")
    return "\n".join([*lines, ""])


def _front_grid(plan: Plan, best: Sequence[FrozenTrial]) -> str:
    others = [name for name in plan.objectives if name != "accuracy"]
    head = (NUMBER, "settings", "accuracy ± SE", *others)
    return printed(Table("", head, tuple(_front_line(plan, trial, others) for trial in best)))


def _front_line(plan: Plan, trial: FrozenTrial, others: Sequence[str]) -> tuple[str, ...]:
    found = trial.user_attrs[proposals.NUMBERS]
    values = dict(zip(plan.objectives, trial.values, strict=True))
    settings = " ".join(f"{key.rpartition('.')[2]}={_short(value)}" for key, value in trial.params.items())
    accuracy = accuracy_text(found["accuracy"], found["accuracy_error"], found["samples"], found["videos"])
    return (proposals.number(trial), settings, accuracy, *(f"{values[o]:.4g}" for o in others))


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
