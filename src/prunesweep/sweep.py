"""From composed configurations to finished trials: evaluate a batch at once, write each trial's folder, sum up a sweep."""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from prunesweep import tables
from prunesweep.analysis import Summary, failures, nondominated, numbers, require_cost, summarize, sweep_table, table_frame
from prunesweep.checks import require_at_least, require_flag
from prunesweep.racing import Race, Rival, run_race
from prunesweep.records import Stopped, TrialInfo, read_trials, write_parquet, write_trial
from prunesweep.records import Trial as FinishedTrial
from prunesweep.reducers import Reducer

if TYPE_CHECKING:
    import polars as pl

    from prunesweep.evaluate import Timing
    from prunesweep.protocol import Protocol
    from prunesweep.types import Sample

log = logging.getLogger(__name__)

CONFIG = "config.yaml"
"""A trial's configuration with every interpolation resolved; Hydra's own copy in .hydra/ keeps them."""
TIMING = "timing.json"
SHARED_SETTINGS = ("model", "benchmark", "trainer", "engine", "race")
"""Trials that agree in these are evaluated together."""


@dataclass(frozen=True)
class Finished:
    """One evaluated configuration, not yet on disk."""

    info: TrialInfo
    records: pl.DataFrame
    timing: Timing
    """Of the whole batch it was part of."""


def trial_name(config: DictConfig, overrides: Sequence[str], shared: frozenset[str]) -> str:
    """The reducer and the overrides that tell this trial from its neighbours, keys cut to their last part if unique."""
    own = [o for o in overrides if not o.startswith("reducer=") and (o.startswith("reducer.") or o not in shared)]
    pairs = [(key.lstrip("+~"), value) for key, _, value in (o.partition("=") for o in own)]
    leaves = [key.rpartition(".")[2] for key, _ in pairs]
    short = [leaf if leaves.count(leaf) == 1 else key for leaf, (key, _) in zip(leaves, pairs, strict=True)]
    return " ".join([config.reducer.name, *(f"{key}={value}" for key, (_, value) in zip(short, pairs, strict=True))])


def trial_names(configs: Sequence[DictConfig], overrides: Sequence[Sequence[str]]) -> list[str]:
    """Names that are unique within the batch; a repeated configuration gets a number."""
    shared = frozenset.intersection(*(frozenset(o) for o in overrides))
    names: list[str] = []
    for config, own in zip(configs, overrides, strict=True):
        name = trial_name(config, own, shared)
        repeats = sum(other == name or other.startswith(f"{name} #") for other in names)
        names.append(f"{name} #{repeats + 1}" if repeats else name)
    return names


class Planned(NamedTuple):
    """One configuration on its way to evaluation."""

    name: str
    config: DictConfig
    overrides: tuple[str, ...]
    reducer: Reducer
    protocol: Protocol


def evaluate_configs(configs: Sequence[DictConfig], overrides: Sequence[Sequence[str]]) -> list[Finished]:
    """All configurations, evaluated together as far as they use one model and benchmark; in the order given.

    Whatever can be checked without a model is checked before anything runs.  Raises ValueError, or Hydra's
    InstantiationException around it.
    """
    names = trial_names(configs, overrides)
    planned = [_plan(*one) for one in zip(names, configs, overrides, strict=True)]
    groups: dict[str, list[Planned]] = {}
    for one in planned:
        shared = {key: OmegaConf.to_container(one.config[key], resolve=True) for key in SHARED_SETTINGS}
        groups.setdefault(json.dumps(shared, sort_keys=True), []).append(one)
    finished = {result.info.name: result for group in groups.values() for result in _evaluate_group(group)}
    return [finished[name] for name in names]


def _plan(name: str, config: DictConfig, overrides: Sequence[str]) -> Planned:
    require_cost(config.analysis.cost)
    require_at_least("video.frames", config.video.frames, 1)
    require_at_least("trainer.devices", config.trainer.devices, 1)
    require_flag("trainer.progress", config.trainer.progress)
    require_flag("engine.share", config.engine.share)
    return Planned(name, config, tuple(overrides), instantiate(config.reducer), instantiate(config.protocol))


def _evaluate_group(group: list[Planned]) -> list[Finished]:
    config = group[0].config
    samples = instantiate(config.benchmark.load)

    from prunesweep.evaluate import Evaluated, Trial, evaluate, sum_timings  # Lightning: seconds, so after what may be wrong
    from prunesweep.stages import require_fit

    model = instantiate(config.model.load)
    for one in group:
        require_fit(one.reducer, model)
    several = config.trainer.devices > 1
    trials = {one.name: Trial(one.name, one.reducer, one.config.video.frames, one.protocol) for one in group}

    def evaluate_some(some: Sequence[Sample], names: Sequence[str]) -> Evaluated:
        return evaluate(
            functools.partial(instantiate, config.model.load) if several else lambda: model,
            some,
            [trials[name] for name in names],
            share=config.engine.share,
            devices=config.trainer.devices,
            accelerator=config.trainer.accelerator,
            progress=config.trainer.progress,
        )

    race: Race = instantiate(config.race)
    if race.rounds == 1:
        whole = evaluate_some(samples, list(trials))
        return [Finished(_info(one, model.shape), whole.records[one.name], whole.timing) for one in group]
    timings: list[Timing] = []

    def evaluate_round(some: Sequence[Sample], names: Sequence[str]) -> dict[str, pl.DataFrame]:
        result = evaluate_some(some, names)
        timings.append(result.timing)
        return result.records

    rivals = _rivals(config, samples, race)
    raced = run_race(race, samples, model.shape, list(trials), rivals, evaluate_round)
    timing = sum_timings(timings)
    return [Finished(_info(one, model.shape, raced[one.name].stopped), raced[one.name].records, timing) for one in group]


def _rivals(config: DictConfig, samples: Sequence[Sample], race: Race) -> list[Rival]:
    """The complete trials of the sweep so far that are on its front: others are beaten by one of these."""
    folder = _sweep_folder(config)
    ids = {sample.id for sample in samples}
    earlier = [
        trial
        for trial in (read_trials(folder) if folder else [])
        if trial.info.stopped is None
        and (trial.info.model, trial.info.benchmark) == (config.model.name, config.benchmark.name)
        and ids == set(trial.records["sample_id"])
    ]
    rows = [summarize(trial) for trial in earlier]
    points = [(*(-getattr(row, cost) for cost in race.costs), row.accuracy) for row in rows]
    front = nondominated(points)
    return [Rival(t.info.name, t.records) for t, on in zip(earlier, front, strict=True) if on]


def _sweep_folder(config: DictConfig) -> Path | None:
    """Of the multirun that the configuration belongs to; None outside of one."""
    hydra = config.get("hydra") or (HydraConfig.get() if HydraConfig.initialized() else None)
    return Path(hydra.sweep.dir) if hydra and hydra.mode == RunMode.MULTIRUN else None


def _info(one: Planned, shape: Any, stopped: Stopped | None = None) -> TrialInfo:
    config = one.config
    settings = {key: OmegaConf.to_container(config[key], resolve=True) for key in ("reducer", "video", "protocol")}
    names = (one.name, config.reducer.name, config.model.name, config.benchmark.name)
    return TrialInfo(*names, one.overrides, settings, shape, stopped)


def deliver(finished: Finished, folder: Path, config: DictConfig) -> dict[str, float]:
    """Write a trial's folder and its W&B run; returns its numbers, for searches."""
    write_trial(folder, finished.info, finished.records)
    (folder / CONFIG).write_text(OmegaConf.to_yaml(config, resolve=True), encoding="utf-8")
    trial = FinishedTrial(finished.info, finished.records, folder)
    summary = summarize(trial)
    log.info("%s", asdict(summary))
    if config.logger.name == "wandb":
        from prunesweep import tracking

        tracking.attempt(tracking.log_trial, config, trial, summary, group=_group(folder.parent))
    return numbers(summary, trial)


def _group(sweep: Path) -> str:
    """What the W&B runs of a sweep have in common: the date and time of its folder."""
    return "-".join(sweep.absolute().parts[-2:])


def run_single(config: DictConfig, folder: Path, overrides: Sequence[str], started: float) -> None:
    """Evaluate one configuration, write its folder, print its numbers."""
    (finished,) = evaluate_configs([config], [overrides])
    deliver(finished, folder, config)
    trial = FinishedTrial(finished.info, finished.records, folder)
    print(tables.single(summarize(trial), trial))
    print(tables.time_line([_timing_entry(finished.timing)], time.time() - started))
    print(f"records, configuration and log: {folder}")
    _report_failures([trial], [summarize(trial)])


def add_timing(sweep: Path, timings: Sequence[Timing], delivery: float) -> None:
    """Append a batch's times to the sweep's; `delivery` is what writing records and W&B runs took."""
    path = sweep / TIMING
    entries = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    distinct = {id(timing): timing for timing in timings}.values()
    entries += [_timing_entry(timing) for timing in distinct] + [{"seconds": {"records and W&B": delivery}, "run": 0, "alone": 0}]
    path.write_text(json.dumps(entries), encoding="utf-8")


def _timing_entry(timing: Timing) -> dict[str, Any]:
    return {"seconds": timing.seconds, "run": timing.run, "alone": timing.alone}


def summarize_sweep(config: DictConfig, elapsed: float) -> None:
    sweep = Path(config.hydra.sweep.dir)
    trials = read_trials(sweep)
    if not trials:
        return  # the sweep itself failed and says why
    table = sweep_table(trials, config.analysis.cost)
    write_table(table, sweep)
    from prunesweep import plots

    figure = plots.pareto_figure(plots.pareto_points(table, config.analysis.cost), title=_title(trials))
    figure.savefig(sweep / "pareto.png", dpi=150)
    if config.logger.name == "wandb":
        from prunesweep import tracking

        tracking.attempt(tracking.log_sweep, config, table, sweep, group=_group(sweep))
    print(tables.sweep(table, config.analysis.cost))
    timing = sweep / TIMING
    if timing.exists():
        print(tables.time_line(json.loads(timing.read_text(encoding="utf-8")), elapsed))
    print(f"table, chart and records: {sweep}")
    _report_failures(trials, table)


def _title(trials: Sequence[FinishedTrial]) -> str:
    models = dict.fromkeys(trial.info.model for trial in trials)
    benchmarks = dict.fromkeys(trial.info.benchmark for trial in trials)
    return f"{', '.join(models)} on {', '.join(benchmarks)}"


def write_table(table: Sequence[Summary], sweep: Path) -> None:
    """`summary.csv` and `summary.parquet`."""
    frame = table_frame(table)
    write_parquet(frame, sweep / "summary.parquet")
    frame.write_csv(sweep / "summary.csv")


def _report_failures(trials: Sequence[FinishedTrial], table: Sequence[Summary]) -> None:
    """Name the samples without an answer; ends the command with an error if no sample has one."""
    found = failures(trials)
    for line in tables.failure_lines(found):
        print(line)
    if not any(row.samples for row in table):
        raise SystemExit("prunesweep: no sample could be evaluated; the reasons are listed above")
