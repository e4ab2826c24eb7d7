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

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from prunesweep import tables
from prunesweep.analysis import Summary, failures, require_cost, summarize, sweep_table, table_frame
from prunesweep.checks import require_at_least, require_flag
from prunesweep.records import Trial as FinishedTrial
from prunesweep.records import TrialInfo, read_trials, write_parquet, write_trial
from prunesweep.reducers import Reducer

if TYPE_CHECKING:
    import polars as pl

    from prunesweep.evaluate import Timing
    from prunesweep.matching import Solution
    from prunesweep.protocol import Protocol
    from prunesweep.types import Model, Sample

log = logging.getLogger(__name__)

CONFIG = "config.yaml"
"""A trial's configuration with every interpolation resolved; Hydra's own copy in .hydra/ keeps them."""
TIMING = "timing.json"
SHARED_SETTINGS = ("model", "benchmark", "trainer", "engine")
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
    pairs = [(key, "".join(value.split())) for key, value in pairs]  # a mapping has spaces; names are split at them
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
    solution: Solution | None = None
    """Of its match with a cost."""


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

    from prunesweep.evaluate import Trial, evaluate  # Lightning: seconds, so after what may be wrong
    from prunesweep.stages import require_fit

    model = instantiate(config.model.load)
    for one in group:
        require_fit(one.reducer, model)
    group = _matched(group, model, samples)
    several = config.trainer.devices > 1
    result = evaluate(
        functools.partial(instantiate, config.model.load) if several else lambda: model,
        samples,
        [Trial(one.name, one.reducer, one.config.video.frames, one.protocol) for one in group],
        share=config.engine.share,
        devices=config.trainer.devices,
        accelerator=config.trainer.accelerator,
        progress=config.trainer.progress,
    )
    return [Finished(_info(one, model.shape), result.records[one.name], result.timing) for one in group]


def _matched(group: list[Planned], model: Model, samples: Sequence[Sample]) -> list[Planned]:
    """Reducers that are to cost a certain share, with their free setting solved for it."""
    if not any(one.reducer.match for one in group):
        return group
    from prunesweep.matching import Calibration, solve

    calibration = Calibration(model, samples)
    matched = []
    for one in group:
        if one.reducer.match:
            reducer, solution = solve(one.reducer, calibration, one.config.video.frames, one.protocol)
            print(f"{one.name}: {solution}")
            one = one._replace(reducer=reducer, solution=solution)
        matched.append(one)
    return matched


def _info(one: Planned, shape: Any) -> TrialInfo:
    config = one.config
    settings = {key: OmegaConf.to_container(config[key], resolve=True) for key in ("reducer", "video", "protocol")}
    if one.solution is not None:
        settings["matched"] = asdict(one.solution)
    return TrialInfo(one.name, config.reducer.name, config.model.name, config.benchmark.name, one.overrides, settings, shape)


def deliver(finished: Finished, folder: Path, config: DictConfig) -> dict[str, float]:
    """Write a trial's folder and its W&B run; returns its summary's numbers, for searches."""
    write_trial(folder, finished.info, finished.records)
    (folder / CONFIG).write_text(OmegaConf.to_yaml(config, resolve=True), encoding="utf-8")
    trial = FinishedTrial(finished.info, finished.records, folder)
    summary = summarize(trial)
    log.info("%s", asdict(summary))
    if config.logger.name == "wandb":
        from prunesweep import tracking

        tracking.attempt(tracking.log_trial, config, trial, summary, group=_group(folder.parent))
    return {name: value for name, value in asdict(summary).items() if isinstance(value, (int, float))}


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
    _report_failures([trial])


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
    _report_failures(trials)


def _title(trials: Sequence[FinishedTrial]) -> str:
    models = dict.fromkeys(trial.info.model for trial in trials)
    benchmarks = dict.fromkeys(trial.info.benchmark for trial in trials)
    return f"{', '.join(models)} on {', '.join(benchmarks)}"


def write_table(table: Sequence[Summary], sweep: Path) -> None:
    """`summary.csv` and `summary.parquet`."""
    frame = table_frame(table)
    write_parquet(frame, sweep / "summary.parquet")
    frame.write_csv(sweep / "summary.csv")


def _report_failures(trials: Sequence[FinishedTrial]) -> None:
    """Name the samples without an answer; ends the command with an error if no sample has one."""
    found = failures(trials)
    for line in tables.failure_lines(found):
        print(line)
    if all(trial.records["error"].is_not_null().all() for trial in trials):
        raise SystemExit("prunesweep: no sample could be evaluated; the reasons are listed above")
