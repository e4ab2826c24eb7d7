"""Racing: samples are evaluated in rounds, and a trial that cannot be on the front any more is stopped.

The question is "what would the evaluation of all samples show?", so the only chance is the order of the samples, which we
draw ourselves: the same one for all trials.  Before each round a bettor picks, for every trial, the strongest rival that
costs no more, and bets on the round's samples that the trial does not reach it: against the claim "over all samples, the
trial gets at least as many right as that rival (and `margin` more)".  If the claim holds of all rivals, every bet is fair or
worse, so the money that began as 1 has expectation at most 1 and ever reaches 1/alpha with a chance of at most alpha,
however often one looks and however rivals are picked (Ville's inequality).  Hence a trial that would end on the front is
stopped with a chance of at most alpha.  The bets are those for draws without replacement (Waudby-Smith and Ramdas,
"Confidence sequences for sampling without replacement", 2020, and "Estimating means of bounded random variables by
betting", 2023); they assume nothing about normality, or about how alike the questions of one video are.

Samples are drawn one by one, not by video: questions of one video answer alike, so that the same number of questions says
about twice as much if it is spread over more videos.  Costs are compared on the samples seen so far.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from prunesweep.analysis.accuracy import accuracy
from prunesweep.analysis.costs import ABSOLUTE, LEDGER_COSTS, mean_costs
from prunesweep.analysis.front import nondominated
from prunesweep.analysis.table import rows_of
from prunesweep.checks import require_at_least, require_number
from prunesweep.results.records import Stopped, read_trials
from prunesweep.types import Sample

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from prunesweep.cost import Shape


@dataclass(frozen=True)
class Race:
    """How trials race; one round is no race."""

    rounds: int = 1
    """Looks at the results, after equal shares of the samples."""
    alpha: float = 0.05
    """Largest chance that a trial is stopped which would end on the front."""
    seed: int = 0
    """Of the order of the samples."""
    margin: float = 0.0
    """A trial goes on only while it may beat complete rivals' accuracy by this much: what a front may lose for speed.

    Rivals that run themselves may be stopped later, and small losses would add up: against them it is 0.
    """
    costs: tuple[str, ...] = ("llm_flops_ratio",)
    """In all of these a rival must cost no more."""

    def __post_init__(self) -> None:
        require_at_least("race.rounds", self.rounds, 1)
        require_at_least("race.seed", self.seed, 0)
        for name in ("alpha", "margin"):
            require_number(f"race.{name}", getattr(self, name))
        if not 0 < self.alpha < 1:
            raise ValueError(f"race.alpha must be in (0, 1), got {self.alpha:g}")
        if not 0 <= self.margin < 1:
            raise ValueError(f"race.margin must be in [0, 1), got {self.margin:g}")
        object.__setattr__(self, "costs", tuple(self.costs))
        for cost in self.costs:
            if self.rounds > 1 and cost not in LEDGER_COSTS:
                raise ValueError(f"race.costs must be of {', '.join(LEDGER_COSTS)}, got {cost!r}")

    def parts(self, samples: Sequence[Sample]) -> list[list[Sample]]:
        """The samples of each round, in random order."""
        order = list(samples)
        random.Random(self.seed).shuffle(order)
        rounds = min(self.rounds, len(order))
        edges = [len(order) * i // rounds for i in range(rounds + 1)]
        return [order[a:b] for a, b in pairwise(edges)]


BETS = np.arange(1, 10) / 10
"""Shares of the largest stake that cannot ruin; the bettor's money is split over them, so at most a ninth of the best."""
UNREFUTED = np.zeros(len(BETS))
"""Logarithms of the money on each of BETS before any bet."""


def bet(values: np.ndarray, units: int, start: int = 0) -> np.ndarray:
    """Growth of the logarithm of the money on each of BETS, over values[start:], betting against a total of at least 0.

    `values` are the first of `units` numbers in [-1, 1] in random order; the first `start` of them are known beforehand.
    """
    before = np.concatenate([[0.0], np.cumsum(values)])
    if -before[-1] > units - len(values):
        return np.full(len(BETS), np.inf)  # even if all the rest were 1
    due = -before[start:-1] / (units - np.arange(start, len(values)))  # least mean of what is left if the total is 0 or more
    room = np.maximum(1 - due, np.finfo(float).tiny)
    return np.log1p(-BETS[:, None] * np.minimum((values[start:] - due) / room, 1)).sum(axis=1)


def money(logarithms: np.ndarray) -> float:
    """All of the bettor's money, who began with 1."""
    with np.errstate(over="ignore"):
        return float(np.exp(np.logaddexp.reduce(logarithms) - np.log(len(BETS))))


class Interval(NamedTuple):
    low: float
    high: float


BISECTIONS = 20
"""Halvings of [-1, 1] for the ends of an interval: finer than one sample of a million."""


def interval(values: np.ndarray, units: int, alpha: float, floor: float) -> Interval:
    """Of the mean of all `units` numbers in [floor, 1], from the first of them; NaN where there is none.

    Valid whenever one looks and stops, with a chance of at most alpha to miss the mean.
    """

    def refuted(mean: float, sign: int) -> bool:
        scaled = np.where(np.isnan(values), 0.0, sign * (values - mean) / (1 - floor))
        return money(bet(scaled, units)) >= 2 / alpha

    return Interval(_edge(floor, 1.0, lambda mean: refuted(mean, -1)), _edge(1.0, floor, lambda mean: refuted(mean, 1)))


def _edge(outside: float, inside: float, refuted: Callable[[float], bool]) -> float:
    """Where means cease to be refuted on the way from `outside`, which if not refuted is the edge itself."""
    if not refuted(outside):
        return outside
    for _ in range(BISECTIONS):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if refuted(middle) else (outside, middle)
    return outside


class Rival(NamedTuple):
    """A complete trial that others are held against."""

    name: str
    records: pl.DataFrame


class Standing(NamedTuple):
    """What a trial has shown on the samples seen so far."""

    correct: np.ndarray
    """By sample in racing order: 1, 0, or NaN without an answer."""
    costs: tuple[float, ...]
    strength: float
    """Accuracy on all samples that the trial has answered by now: what rivals are picked by."""


def costs_no_more(a: Standing, b: Standing) -> bool:
    return all(its <= other for its, other in zip(a.costs, b.costs, strict=True))


class Track:
    """The race so far: the samples in racing order, the bettor's money on each trial, and the rival it is held against."""

    def __init__(self, race: Race, samples: Sequence[Sample], shape: Shape, rivals: Sequence[Rival], names: Sequence[str]):
        self.race, self.samples, self.shape = race, tuple(samples), shape
        self.complete = {rival.name: rival.records for rival in rivals}
        self.logarithms = dict.fromkeys(names, UNREFUTED)
        self.held_against: dict[str, str] = {}
        self.seen = 0

    def look(self, found: Mapping[str, pl.DataFrame], seen: int) -> dict[str, Stopped]:
        """Settles the round's bets on the running trials, given their records of the first `seen` samples; who stops."""
        running = {name: self._standing(records, seen) for name, records in found.items()}
        everyone = {name: self._standing(records, seen) for name, records in self.complete.items()} | running
        stopped = {}
        for name, own in running.items():
            against = self.held_against.get(name)
            if against is not None and costs_no_more(everyone[against], own):
                self.logarithms[name] = self.logarithms[name] + self._settle(own, everyone[against], against in self.complete)
                if money(self.logarithms[name]) >= 1 / self.race.alpha:
                    stopped[name] = self._verdict(own, everyone[against], against)
        self.seen = seen
        self._pick_rivals(running, {name: standing for name, standing in everyone.items() if name not in stopped})
        return stopped

    def _settle(self, own: Standing, rival: Standing, complete: bool) -> np.ndarray:
        """Of the bets on the samples since the last look."""
        margin = self.race.margin if complete else 0.0
        change = np.nan_to_num(own.correct - rival.correct)
        return bet((change - margin) / (1 + margin), len(self.samples), self.seen)

    def _pick_rivals(self, running: Mapping[str, Standing], everyone: Mapping[str, Standing]) -> None:
        """For each trial the strongest that costs no more, of equally strong ones the first."""
        self.held_against = {}
        for name, own in running.items():
            cheaper = [n for n, other in everyone.items() if n != name and costs_no_more(other, own)]
            if cheaper:
                self.held_against[name] = max(cheaper, key=lambda n: everyone[n].strength)

    def _standing(self, records: pl.DataFrame, seen: int) -> Standing:
        import polars as pl

        order = pl.DataFrame({"sample_id": [sample.id for sample in self.samples[:seen]]})
        own = order.join(records, on="sample_id", how="left", maintain_order="left")
        counted = mean_costs(own.filter(pl.col("correct").is_not_null()), self.shape)
        correct = own["correct"].cast(pl.Float64).to_numpy()
        costs = tuple(counted[ABSOLUTE.get(cost, cost)] for cost in self.race.costs)  # shares of one run are in this order
        return Standing(correct, costs, accuracy(records).mean)

    def _verdict(self, own: Standing, rival: Standing, name: str) -> Stopped:
        change = own.correct - rival.correct
        difference = interval(change, len(self.samples), self.race.alpha, floor=-1)
        share = interval(own.correct, len(self.samples), self.race.alpha, floor=0)
        return Stopped(
            rival=name,
            samples=len(own.correct),
            planned=len(self.samples),
            difference=float(np.nanmean(change)),
            difference_low=difference.low,
            difference_high=difference.high,
            accuracy_low=share.low,
            accuracy_high=share.high,
            confidence=1 - self.race.alpha,
        )


class Raced(NamedTuple):
    """What became of a trial: its records, and why there are no more of them."""

    records: pl.DataFrame
    stopped: Stopped | None


def run_race(
    race: Race,
    samples: Sequence[Sample],
    shape: Shape,
    names: Sequence[str],
    rivals: Sequence[Rival],
    evaluate: Callable[[Sequence[Sample], Sequence[str]], Mapping[str, pl.DataFrame]],
) -> dict[str, Raced]:
    """Evaluates the trials `names` round by round; each races against the complete `rivals` and against the other trials.

    `evaluate` returns the records of some trials on some samples; records come back in the order of `samples`.
    """
    import polars as pl

    parts = race.parts(samples)
    track = Track(race, [sample for part in parts for sample in part], shape, rivals, names)
    found: dict[str, list[pl.DataFrame]] = {name: [] for name in names}
    stopped: dict[str, Stopped] = {}
    seen = 0
    for part in parts:
        running = [name for name in names if name not in stopped]
        for name, records in evaluate(part, running).items():
            found[name].append(records)
        seen += len(part)
        if running and seen < len(samples):
            stopped |= track.look({name: pl.concat(found[name]) for name in running}, seen)
    order = pl.DataFrame({"sample_id": [sample.id for sample in samples]})
    ordered = {name: order.join(pl.concat(own), on="sample_id", maintain_order="left") for name, own in found.items()}
    return {name: Raced(own.select(found[name][0].columns), stopped.get(name)) for name, own in ordered.items()}


def rivals_in(folder: Path | None, about: Sequence[str], samples: Sequence[Sample], costs: Sequence[str]) -> list[Rival]:
    """The complete trials in a sweep's folder that are on its front: others are beaten by one of these.

    Those of the same model and benchmark (`about`) that answered these samples; none without a folder.
    """
    ids = {sample.id for sample in samples}
    earlier = [
        trial
        for trial in (read_trials(folder) if folder else [])
        if trial.info.stopped is None
        and [trial.info.model, trial.info.benchmark] == list(about)
        and ids == set(trial.records["sample_id"])
    ]
    rows = rows_of(earlier)
    front = nondominated([(*(-getattr(row, cost) for cost in costs), row.accuracy) for row in rows])
    return [Rival(trial.info.name, trial.records) for trial, on in zip(earlier, front, strict=True) if on]
