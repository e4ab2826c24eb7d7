"""Searches replayed among a finished grid's trials, whose results are looked up: sampler by sampler and seed by seed."""

from __future__ import annotations

import itertools
import math
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from prunesweep.analysis.table import rows_of
from prunesweep.results.read import read_source, settings
from prunesweep.search.curves import Curve, volume

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


# Hypervolume over trials


# Replayed searches


@dataclass(frozen=True)
class FinishedGrid:
    """A finished grid: every combination of the values of some settings, with what it scored."""

    values: dict[str, tuple[Any, ...]]
    """By setting, ascending where they are numbers."""
    found: dict[tuple[Any, ...], tuple[float, float]]
    """Accuracy and cost of each combination."""

    def curve(self, tried: Sequence[tuple[Any, ...]], worst: float) -> Float[np.ndarray, " trials"]:
        """The hypervolume after each."""
        accuracy, costs = np.array([self.found[key] for key in tried]).T
        return np.array([volume(costs[: n + 1], accuracy[: n + 1], worst) for n in range(len(tried))])

    def coarse(self, trials: int) -> list[tuple[Any, ...]]:
        """The grid that somebody with so many trials would take: evenly spread levels, as many as fit on all axes alike."""
        levels = dict.fromkeys(self.values, 1)
        while grown := [key for key in levels if levels[key] < len(self.values[key]) and _size(levels, key) <= trials]:
            levels[min(grown, key=lambda key: levels[key])] += 1
        return list(itertools.product(*(_spread_out(values, levels[key]) for key, values in self.values.items())))


def _size(levels: Mapping[str, int], grown: str) -> int:
    """Of a grid with one level more."""
    return math.prod(levels.values()) // levels[grown] * (levels[grown] + 1)


def _spread_out(values: Sequence[Any], levels: int) -> list[Any]:
    """The ends and what lies evenly between; the middle one if there is but one."""
    if levels == 1:
        return [values[len(values) // 2]]
    return [values[round(i * (len(values) - 1) / (levels - 1))] for i in range(levels)]


def read_grid(folder: Path, cost: str) -> FinishedGrid:
    """Raises ValueError unless the folder holds all combinations of the settings that its trials differ in."""
    trials = [trial for trial in read_source(folder) if trial.info.stopped is None]
    flat = [settings(trial.info) for trial in trials]
    if not flat:
        raise ValueError(f"{folder} holds no complete trials; name the folder of a sweep")
    distinct = {key: dict.fromkeys(own.get(key) for own in flat) for key in flat[0]}
    values = {key: tuple(sorted(some, key=_order)) for key, some in distinct.items() if len(some) > 1}
    rows = rows_of(trials)
    found = {tuple(own[key] for key in values): (row.accuracy, getattr(row, cost)) for own, row in zip(flat, rows, strict=True)}
    if len(found) != math.prod(map(len, values.values())):
        raise ValueError(f"{folder} holds {len(found)} settings and not all combinations of {', '.join(values)}")
    return FinishedGrid(values, found)


def _order(value: Any) -> tuple[bool, Any]:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (not number, value if number else str(value))


def replay(whole: FinishedGrid, sampler: str, seed: int, trials: int, batch: int, worst: float) -> Curve:
    """A search in batches whose results are looked up; `sampler` is one of conf/sampler, or `grid` for a coarse grid."""
    if sampler == "grid":
        tried = whole.coarse(trials)
        random.Random(seed).shuffle(tried)
        tried = [*tried, *[tried[-1]] * (trials - len(tried))]  # what a grid does not use is lost
    else:
        tried = _searched(whole, sampler, seed, trials, batch)
    return Curve(sampler, seed, whole.curve(tried, worst))


def _searched(whole: FinishedGrid, sampler: str, seed: int, trials: int, batch: int) -> list[tuple[Any, ...]]:
    from omegaconf import OmegaConf

    from prunesweep.paths import CONF
    from prunesweep.search.study import Proposals, quiet
    from prunesweep.search.workers import Worker
    from prunesweep.targets import instantiate

    if not (CONF / "sampler" / f"{sampler}.yaml").is_file():
        known = ", ".join(sorted(path.stem for path in (CONF / "sampler").glob("*.yaml")))
        raise ValueError(f"unknown sampler {sampler!r}; known: {known}")
    make = instantiate(OmegaConf.load(CONF / "sampler" / f"{sampler}.yaml"))
    axes = {key: _axis(values) for key, values in whole.values.items()}
    objectives = {"accuracy": "maximize", "cost": "minimize"}
    tried: list[tuple[Any, ...]] = []
    with tempfile.TemporaryDirectory() as folder, quiet(), Worker(Path(folder)) as worker, worker.alone():
        proposals = Proposals(Path(folder), None, "replay", objectives, axes, make, seed, worker)
        while len(tried) < trials:
            asked = [proposals.ask() for _ in range(min(batch, trials - len(tried)))]
            for trial in asked:
                key = tuple(whole.values[name][trial.params[name]] for name in whole.values)
                proposals.tell(trial, whole.found[key], {}, {})
                tried.append(key)
    return tried


def _axis(values: Sequence[Any]) -> BaseDistribution:
    """Places among the values: in order where they are numbers, or one of several."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    return IntDistribution(0, len(values) - 1) if numbers else CategoricalDistribution(range(len(values)))


# Tables and pictures


# Savings of a race
