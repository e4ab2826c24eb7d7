"""What racing saved, and what of the front it kept: of a sweep that raced, or of races run again among finished trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from prunesweep.analysis.comparison import Difference, paired
from prunesweep.analysis.front import pareto_front
from prunesweep.analysis.summary import Summary, scores_of
from prunesweep.analysis.table import rows_of
from prunesweep.analysis.wording import accuracy_text
from prunesweep.console.terminal import table
from prunesweep.results.records import Trial
from prunesweep.sweep.racing import Race, run_race
from prunesweep.types import Sample


class Kept(NamedTuple):
    """A trial of the full sweep's front, and the raced front's best trial that costs no more."""

    trial: Summary
    stopped: bool
    instead: Summary | None
    difference: Difference | None
    """Of the one instead, on all samples; None where it is the same trial, or none costs so little."""

    @property
    def same(self) -> bool:
        """The trial itself is on the raced front, or what is there is as good within its confidence interval."""
        return self.instead is not None and (self.difference is None or self.difference.high >= 0)


@dataclass(frozen=True)
class Savings:
    """A raced sweep beside the same trials in full."""

    full: int
    """Sample evaluations."""
    raced: int
    trials: int
    stopped: int
    front: tuple[Kept, ...]


def savings(raced: Sequence[Trial], full: Sequence[Trial], cost: str) -> Savings:
    """Raises ValueError unless every raced trial is there in full, with the same settings."""
    whole = {str(trial.info.settings): trial for trial in full if trial.info.stopped is None}
    if missing := [trial.info.name for trial in raced if str(trial.info.settings) not in whole]:
        raise ValueError(
            f"the full sweep has no complete trial with the settings of {missing[0]!r} and {len(missing) - 1} others"
        )
    by_settings = {str(trial.info.settings): trial for trial in raced}
    same = {key: whole[key] for key in by_settings}
    finished = {key for key, trial in by_settings.items() if trial.info.stopped is None}
    rows = dict(zip(same, rows_of(list(same.values())), strict=True))
    members = _front(rows, cost)
    ours = _front({key: row for key, row in rows.items() if key in finished}, cost)
    kept = tuple(_kept(key, rows, ours, finished, same, cost) for key in members)
    return Savings(_evaluations(same), _evaluations(by_settings), len(same), len(same) - len(finished), kept)


def _evaluations(trials: Mapping[str, Trial]) -> int:
    return sum(len(trial.records) for trial in trials.values())


def _front(rows: Mapping[str, Summary], cost: str) -> list[str]:
    """Cheapest first."""
    on = pareto_front([(getattr(row, cost), row.accuracy) for row in rows.values()])
    keys = [key for key, is_on in zip(rows, on, strict=True) if is_on]
    return sorted(keys, key=lambda key: getattr(rows[key], cost))


def _kept(
    key: str, rows: Mapping[str, Summary], ours: Sequence[str], finished: set[str], trials: Mapping[str, Trial], cost: str
) -> Kept:
    affordable = [other for other in ours if getattr(rows[other], cost) <= getattr(rows[key], cost)]
    best = key if key in affordable else affordable[-1] if affordable else None
    difference = None if best in (None, key) else paired(trials[best].records, trials[key].records)
    return Kept(rows[key], key not in finished, rows[best] if best else None, difference)


def race_again(full: Sequence[Trial], race: Race) -> list[Trial]:
    """The same trials as if they had raced, all in one batch; their records are looked up instead of made.

    Raises ValueError unless all trials answered the same samples.
    """
    import polars as pl

    whole = {trial.info.name: trial for trial in full}
    ids = full[0].records["sample_id"].to_list()
    if any(trial.records["sample_id"].to_list() != ids for trial in full):
        raise ValueError("the trials answered different samples; name the folder of one sweep on one benchmark")
    samples = [Sample(sample_id, Path(), "", (), None, "", "") for sample_id in ids]

    def look_up(some: Sequence[Sample], names: Sequence[str]) -> dict[str, pl.DataFrame]:
        wanted = pl.DataFrame({"sample_id": [sample.id for sample in some]})
        return {name: whole[name].records.join(wanted, on="sample_id", how="semi") for name in names}

    raced = run_race(race, samples, full[0].info.shape, list(whole), [], look_up)
    return [
        trial._replace(info=replace(trial.info, stopped=raced[name].stopped), records=raced[name].records)
        for name, trial in whole.items()
    ]


def races_text(found: Sequence[Savings], seeds: Sequence[int]) -> str:
    """One line a race, and the mean and range of what they save."""
    head = ("order", "sample evaluations", "fewer by", "trials stopped", "front members stopped", "of these significantly missed")
    rows = [
        (
            str(seed),
            f"{one.raced:,} of {one.full:,}",
            f"{one.full / one.raced:.2f}x",
            f"{one.stopped} of {one.trials}",
            f"{sum(kept.stopped for kept in one.front)} of {len(one.front)}",
            str(sum(not kept.same for kept in one.front)),
        )
        for seed, one in zip(seeds, found, strict=True)
    ]
    factors = [one.full / one.raced for one in found]
    mean = sum(factors) / len(factors)
    return f"{table(head, rows)}\nfewer by {mean:.2f}x on average ({min(factors):.2f}x to {max(factors):.2f}x)"


def savings_text(found: Savings, cost: str) -> str:
    head = ("#", f"front of all {found.trials} trials in full", "accuracy ± SE", cost, "in the race", "difference, 95 % interval")
    return "\n".join(
        [
            f"{found.raced:,} instead of {found.full:,} sample evaluations: {found.full / found.raced:.2f}x fewer; "
            f"{found.stopped} of {found.trials} trials stopped",
            table(head, [_kept_line(kept, cost) for kept in found.front], left=2),
            f"{sum(kept.same for kept in found.front)} of {len(found.front)} front members finished, or a trial did that costs "
            "no more and whose difference has an interval that reaches 0",
        ]
    )


def _kept_line(kept: Kept, cost: str) -> tuple[str, ...]:
    row = kept.trial
    fate = "stopped" if kept.stopped else "kept"
    if kept.instead is None:
        change = "nothing else costs so little"
    elif kept.difference is None:
        change = "itself"
    else:
        d = kept.difference
        change = f"{d.mean:+.3f} ({d.low:+.3f} to {d.high:+.3f}, n={d.samples}) by {kept.instead.number} ({kept.instead.trial})"
    return (row.number, row.trial, accuracy_text(*scores_of(row)), f"{getattr(row, cost):.3f}", fate, change)
