"""`prunesweep-search`: what searching and racing gained, from the folders that sweeps and searches left.  No model.

    prunesweep-search replay GRID                  searches among a finished grid's trials, sampler by sampler and seed by seed
    prunesweep-search hypervolume FOLDER...        how good the front of finished searches is after so many trials
    prunesweep-search race SWEEP                   races among the trials of a finished sweep: what they save and lose
    prunesweep-search savings RACED FULL           the same of a sweep that raced and one that did not

The hypervolume is the area below the front from no cost to `--worst`, accuracy counted from 0, as a share of the rectangle
up to full accuracy.  It is measured on the samples that were searched on, like the search's own aim: which sampler finds
the front of these samples sooner, not how accurate its settings are on others.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from prunesweep.analysis.comparison import Difference, paired
from prunesweep.analysis.front import pareto_front
from prunesweep.analysis.significance import hypervolume, steps
from prunesweep.analysis.summary import Summary, scores_of
from prunesweep.analysis.table import rows_of
from prunesweep.analysis.wording import accuracy_text
from prunesweep.checks import require_at_least
from prunesweep.errors import reported
from prunesweep.foreign import read_yaml
from prunesweep.layout import grid
from prunesweep.paths import user_path
from prunesweep.results.read import settings
from prunesweep.results.records import Trial, read_trials
from prunesweep.sweep.racing import Race, run_race
from prunesweep.types import Sample

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from optuna.distributions import BaseDistribution

TABLE = "search.parquet"
NOT_STARTED = "not started"
DEFAULT_SAMPLER = "TPESampler"
"""Of a search without `sampler`."""
ENOUGH = 0.99
"""Of the best hypervolume: how soon it is reached says how fast a sampler is."""


# Hypervolume over trials


class Curve(NamedTuple):
    """One search: its sampler, and the hypervolume after each trial."""

    sampler: str
    seed: int
    volumes: Float[np.ndarray, " trials"]


@dataclass(frozen=True)
class Curves:
    """All searches of one sampler, cut to the shortest."""

    sampler: str
    volumes: Float[np.ndarray, "searches trials"]


def volume(costs: Float[np.ndarray, " trials"], accuracy: Float[np.ndarray, " trials"], worst: float) -> float:
    """0 without a trial."""
    return float(hypervolume(*steps(costs, accuracy), worst)) if len(costs) and not np.isnan(costs).all() else 0.0


def read_curve(folder: Path, cost: str, worst: float) -> Curve:
    """Raises ValueError if the folder holds no finished search for accuracy and this cost."""
    import polars as pl

    if not (folder / TABLE).is_file():
        raise ValueError(f"{folder} holds no {TABLE}; name the folder of a finished search")
    sweeper = read_yaml(folder / "multirun.yaml")["hydra"]["sweeper"]
    table = pl.read_parquet(folder / TABLE)
    if missing := [name for name in ("accuracy", cost) if name not in table.columns]:
        raise ValueError(f"{folder} did not search for {missing[0]}; known: {', '.join(sweeper['objectives'])}")
    own = table.filter(pl.col("from").is_null() & (pl.col("outcome") != NOT_STARTED)).sort("trial")
    costs, accuracy = (own[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in (cost, "accuracy"))
    volumes = np.array([volume(costs[: n + 1], accuracy[: n + 1], worst) for n in range(len(own))])
    target = sweeper["sampler"]["_target_"] if sweeper["sampler"] else DEFAULT_SAMPLER
    return Curve(target.rpartition(".")[2].removesuffix("Sampler"), sweeper["seed"], volumes)


def by_sampler(curves: Sequence[Curve]) -> list[Curves]:
    """Raises ValueError if a search has no trial."""
    grouped: dict[str, list[Curve]] = {}
    for curve in curves:
        grouped.setdefault(curve.sampler, []).append(curve)
    budget = min(len(curve.volumes) for curve in curves)
    if not budget:
        raise ValueError("a search has no trial of its own; there is nothing to compare")
    return [Curves(name, np.array([curve.volumes[:budget] for curve in own])) for name, own in grouped.items()]


def pool_volume(folder: Path, cost: str, worst: float) -> float:
    """Of all complete trials of a sweep; raises ValueError if there is none."""
    rows = rows_of([trial for trial in read_trials(folder) if trial.info.stopped is None])
    if not rows:
        raise ValueError(f"{folder} holds no complete trials; name the folder of a sweep")
    return volume(np.array([getattr(row, cost) for row in rows]), np.array([row.accuracy for row in rows]), worst)


# Replayed searches


@dataclass(frozen=True)
class Pool:
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


def read_pool(folder: Path, cost: str) -> Pool:
    """Raises ValueError unless the folder holds all combinations of the settings that its trials differ in."""
    trials = [trial for trial in read_trials(folder) if trial.info.stopped is None]
    flat = [settings(trial.info) for trial in trials]
    if not flat:
        raise ValueError(f"{folder} holds no complete trials; name the folder of a sweep")
    distinct = {key: dict.fromkeys(own.get(key) for own in flat) for key in flat[0]}
    values = {key: tuple(sorted(some, key=_order)) for key, some in distinct.items() if len(some) > 1}
    rows = rows_of(trials)
    found = {tuple(own[key] for key in values): (row.accuracy, getattr(row, cost)) for own, row in zip(flat, rows, strict=True)}
    if len(found) != math.prod(map(len, values.values())):
        raise ValueError(f"{folder} holds {len(found)} settings and not all combinations of {', '.join(values)}")
    return Pool(values, found)


def _order(value: Any) -> tuple[bool, Any]:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (not number, value if number else str(value))


def replay(pool: Pool, sampler: str, seed: int, trials: int, batch: int, worst: float) -> Curve:
    """A search in batches whose results are looked up; `sampler` is one of conf/sampler, or `grid` for a coarse grid."""
    if sampler == "grid":
        tried = pool.coarse(trials)
        random.Random(seed).shuffle(tried)
        tried = [*tried, *[tried[-1]] * (trials - len(tried))]  # what a grid does not use is lost
    else:
        tried = _searched(pool, sampler, seed, trials, batch)
    return Curve(sampler, seed, pool.curve(tried, worst))


def _searched(pool: Pool, sampler: str, seed: int, trials: int, batch: int) -> list[tuple[Any, ...]]:
    from omegaconf import OmegaConf

    from prunesweep.paths import CONF
    from prunesweep.search.study import Proposals, quiet
    from prunesweep.search.workers import Worker
    from prunesweep.targets import instantiate

    if not (CONF / "sampler" / f"{sampler}.yaml").is_file():
        known = ", ".join(sorted(path.stem for path in (CONF / "sampler").glob("*.yaml")))
        raise ValueError(f"unknown sampler {sampler!r}; known: {known}")
    make = instantiate(OmegaConf.load(CONF / "sampler" / f"{sampler}.yaml"))
    axes = {key: _axis(values) for key, values in pool.values.items()}
    objectives = {"accuracy": "maximize", "cost": "minimize"}
    tried: list[tuple[Any, ...]] = []
    with tempfile.TemporaryDirectory() as folder, quiet(), Worker(Path(folder)) as worker, worker.alone():
        proposals = Proposals(Path(folder), None, "replay", objectives, axes, make, seed, worker)
        while len(tried) < trials:
            asked = [proposals.ask() for _ in range(min(batch, trials - len(tried)))]
            for trial in asked:
                key = tuple(pool.values[name][trial.params[name]] for name in pool.values)
                proposals.tell(trial, pool.found[key], {}, {})
                tried.append(key)
    return tried


def _axis(values: Sequence[Any]) -> BaseDistribution:
    """Places among the values: in order where they are numbers, or one of several."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    return IntDistribution(0, len(values) - 1) if numbers else CategoricalDistribution(range(len(values)))


# Tables and pictures


def volumes_text(groups: Sequence[Curves], best: float | None) -> str:
    """One line a sampler: mean and range over its searches, a third, two thirds and all of the way."""
    budget = groups[0].volumes.shape[1]
    looks = sorted({max(1, budget // 3), max(1, 2 * budget // 3), budget})
    head = ["sampler", "searches", *(f"hypervolume after {n}: mean (range)" for n in looks)]
    rows = [[group.sampler, str(len(group.volumes)), *(_spread(group.volumes[:, n - 1]) for n in looks)] for group in groups]
    if best is not None:
        head.append(f"trials to {ENOUGH:.0%} of the pool's")
        rows = [[*row, _soon(group.volumes, ENOUGH * best)] for row, group in zip(rows, groups, strict=True)]
    text = grid(head, [tuple(row) for row in rows])
    return text if best is None else f"{text}\nall settings of the pool: {best:.4f}"


def _spread(values: Float[np.ndarray, " searches"]) -> str:
    return f"{values.mean():.4f} ({values.min():.4f} to {values.max():.4f})"


def _soon(volumes: Float[np.ndarray, "searches trials"], enough: float) -> str:
    """The first trial that gets there in each search, in order; `-` where none does."""
    first = sorted(int(np.argmax(v >= enough)) + 1 if (v >= enough).any() else np.inf for v in volumes)
    return ", ".join("-" if n == np.inf else str(n) for n in first)


def volumes_figure(groups: Sequence[Curves], best: float | None, title: str) -> Figure:
    """Mean over the searches of each sampler, and their range as a band."""
    from matplotlib.figure import Figure

    from prunesweep.report.plots import COLOURS

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    trials = np.arange(1, groups[0].volumes.shape[1] + 1)
    for index, group in enumerate(groups):
        colour = COLOURS[index % len(COLOURS)]
        shown = group.volumes if best is None else best - group.volumes
        axes.fill_between(trials, shown.min(0), shown.max(0), color=colour, alpha=0.12, linewidth=0)
        axes.plot(trials, shown.mean(0), color=colour, label=f"{group.sampler} ({len(shown)} searches)")
    if best is not None:
        axes.set_yscale("log")
    axes.set_xlabel("trials")
    axes.set_ylabel("hypervolume of the front" if best is None else f"hypervolume short of all settings' {best:.3f}")
    axes.set_title(f"{title}\nlines: mean over searches with different seeds; bands: their range", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


# Savings of a race


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
    return f"{grid(head, rows)}\nfewer by {mean:.2f}x on average ({min(factors):.2f}x to {max(factors):.2f}x)"


def savings_text(found: Savings, cost: str) -> str:
    head = (f"front of all {found.trials} trials in full", "accuracy ± SE", cost, "in the race", "difference, 95 % interval")
    return "\n".join(
        [
            f"{found.raced:,} instead of {found.full:,} sample evaluations: {found.full / found.raced:.2f}x fewer; "
            f"{found.stopped} of {found.trials} trials stopped",
            grid(head, [_kept_line(kept, cost) for kept in found.front]),
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
        change = f"{d.mean:+.3f} ({d.low:+.3f} to {d.high:+.3f}, n={d.samples}) by {kept.instead.trial}"
    return (row.trial, accuracy_text(*scores_of(row)), f"{getattr(row, cost):.3f}", fate, change)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    replayed = parts.add_parser("replay", help="searches among a finished grid's trials, sampler by sampler and seed by seed")
    replayed.add_argument("grid", type=user_path, help="folder of a sweep over all combinations of some values")
    replayed.add_argument("--samplers", nargs="+", default=["tpe", "nsga2", "random", "grid"], help="of conf/sampler")
    replayed.add_argument("--seeds", type=int, default=3)
    replayed.add_argument("--trials", type=int, default=32)
    replayed.add_argument("--batch", type=int, default=4, help="proposed at once, as hydra.sweeper.batch")
    volumes = parts.add_parser("hypervolume", help="how good the front is after so many trials, sampler by sampler")
    volumes.add_argument("searches", type=user_path, nargs="+", metavar="FOLDER", help="of finished searches")
    volumes.add_argument("--pool", type=user_path, help="folder of a sweep over all settings: the best front there is")
    for part in (replayed, volumes):
        part.add_argument("--worst", type=float, default=1.0, help="cost up to which the area counts (1)")
        part.add_argument("--picture", type=user_path, help="file to draw to")
    races = parts.add_parser("race", help="races among a finished sweep's trials: what they save, and what of the front is kept")
    races.add_argument("sweep", type=user_path, help="folder of a sweep without a race")
    races.add_argument("--rounds", type=int, default=10)
    races.add_argument("--alpha", type=float, default=0.05)
    races.add_argument("--seeds", type=int, default=3, help="orders of the samples")
    saved = parts.add_parser("savings", help="what a sweep that raced saved over one that did not")
    saved.add_argument("raced", type=user_path)
    saved.add_argument("full", type=user_path)
    for part in (replayed, volumes, races, saved):
        part.add_argument("--cost", default="llm_flops_ratio", help="llm_flops_ratio, or another of analysis.cost")
    arguments = parser.parse_args()
    with reported():
        if arguments.part == "savings":
            raced, full = (read_trials(folder) for folder in (arguments.raced, arguments.full))
            if not raced or not full:
                raise ValueError("a folder holds no trials; name the folders of two sweeps, the raced one first")
            print(savings_text(savings(raced, full, arguments.cost), arguments.cost))
        elif arguments.part == "race":
            _race(arguments)
        elif arguments.part == "replay":
            _replay(arguments)
        else:
            _hypervolume(arguments)


def _race(arguments: argparse.Namespace) -> None:
    require_at_least("--rounds", arguments.rounds, 2)
    require_at_least("--seeds", arguments.seeds, 1)
    full = [trial for trial in read_trials(arguments.sweep) if trial.info.stopped is None]
    if not full:
        raise ValueError(f"{arguments.sweep} holds no complete trials; name the folder of a sweep")
    seeds = range(arguments.seeds)
    costs = (arguments.cost,)
    races = [Race(arguments.rounds, arguments.alpha, seed, costs=costs) for seed in seeds]
    found = [savings(race_again(full, race), full, arguments.cost) for race in races]
    print(f"{found[0].trials} trials on {len(full[0].records)} samples, {arguments.rounds} rounds, alpha {arguments.alpha:g}")
    print(races_text(found, seeds))


def _replay(arguments: argparse.Namespace) -> None:
    for name in ("seeds", "trials", "batch"):
        require_at_least(f"--{name}", getattr(arguments, name), 1)
    pool = read_pool(arguments.grid, arguments.cost)
    curves = [
        replay(pool, sampler, seed, arguments.trials, arguments.batch, arguments.worst)
        for sampler in arguments.samplers
        for seed in range(arguments.seeds)
    ]
    best = float(pool.curve(list(pool.found), arguments.worst)[-1])
    sizes = " x ".join(f"{len(values)} {key.rpartition('.')[2]}" for key, values in pool.values.items())
    print(f"{len(pool.found)} settings: {sizes}; a coarse grid has {len(pool.coarse(arguments.trials))} of them")
    _show(by_sampler(curves), best, f"searches among {len(pool.found)} settings", arguments)


def _hypervolume(arguments: argparse.Namespace) -> None:
    groups = by_sampler([read_curve(folder, arguments.cost, arguments.worst) for folder in arguments.searches])
    best = pool_volume(arguments.pool, arguments.cost, arguments.worst) if arguments.pool else None
    _show(groups, best, "searches", arguments)


def _show(groups: Sequence[Curves], best: float | None, title: str, arguments: argparse.Namespace) -> None:
    print(volumes_text(groups, best))
    if arguments.picture:
        volumes_figure(groups, best, f"{title}: accuracy against {arguments.cost}").savefig(arguments.picture, dpi=120)


if __name__ == "__main__":
    main()
