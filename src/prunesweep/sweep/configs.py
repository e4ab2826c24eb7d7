"""From composed configurations to finished trials: evaluate a batch at once, write each trial's folder, sum up a sweep."""

from __future__ import annotations

import functools
import json
import logging
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from prunesweep.analysis.axis import Denominator, counted, counted_name, kept, relative
from prunesweep.analysis.margins import require_margin
from prunesweep.analysis.outcomes import collect
from prunesweep.analysis.summary import (
    MEASURED_COSTS,
    Summary,
    failures,
    nondominated,
    not_run,
    numbers,
    require_cost,
    require_objective,
    rows_of,
    summarize,
    sweep_table,
    table_frame,
)
from prunesweep.benchmarks import by_video, remarks
from prunesweep.checks import EvaluationError, InfeasibleError, UnfitError, require_at_least, require_flag, require_seconds
from prunesweep.engine.devices import device_kind, require_accelerator
from prunesweep.engine.protocol import Protocol
from prunesweep.models.checkpoints import located
from prunesweep.reducers import Reducer, require_frames
from prunesweep.report import text as tables
from prunesweep.report.verdict import text as words
from prunesweep.report.verdict import verdict
from prunesweep.results.infeasible import INFEASIBLE, Infeasible, all_infeasible, lines, write_infeasible
from prunesweep.results.keys.changes import why_not_reused
from prunesweep.results.keys.fingerprint import Files, digest, of_samples
from prunesweep.results.pending import noted
from prunesweep.results.records import CONFIG, Stopped, TrialInfo, read_shape, read_trial, read_trials, write_parquet, write_trial
from prunesweep.results.records import Trial as FinishedTrial
from prunesweep.results.store import Store, StoredTrial
from prunesweep.results.timing import append_timing, own_timing
from prunesweep.sweep.ahead import forecast, largest, note_speed, place_of
from prunesweep.sweep.jobs import to_yaml
from prunesweep.sweep.racing import Race, Rival, run_race
from prunesweep.sweep.work import Addresses, Timing, Trial, Work, assembled, left_to_do, made_of, parts_of, sum_timings
from prunesweep.targets import instantiate
from prunesweep.types import Sample

if TYPE_CHECKING:
    import polars as pl

    from prunesweep.engine.budget import Solution
    from prunesweep.engine.latency import Measured
    from prunesweep.engine.protocol import Protocol
    from prunesweep.report.plots import ParetoPoints
    from prunesweep.sweep.evaluate import Evaluated
    from prunesweep.types import Model

log = logging.getLogger(__name__)

SHARED_SETTINGS = ("model", "benchmark", "trainer", "engine", "store", "race")
"""Trials that agree in these are evaluated together."""


@dataclass(frozen=True)
class Finished:
    """One evaluated configuration, not yet on disk."""

    info: TrialInfo
    batch: Mapping[str, pl.DataFrame]
    """The records of all trials of its batch, by name: read when they are asked for."""
    timing: Timing
    """Of the whole batch it was part of."""
    measured: Measured | None = None
    """What the trial took when it ran alone, if it was measured."""

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def records(self) -> pl.DataFrame:
        return self.batch[self.info.name]


def trial_name(config: DictConfig, overrides: Sequence[str], shared: frozenset[str]) -> str:
    """The reducer and the overrides that tell this trial from its neighbours, keys cut to their last part if unique."""
    own = [o for o in overrides if not o.startswith("reducer=") and (o.startswith("reducer.") or o not in shared)]
    pairs = [(key.lstrip("+~"), value) for key, _, value in (o.partition("=") for o in own)]
    pairs = [(key, str(OmegaConf.select(config, key)) if "$" in value else value) for key, value in pairs]
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


@dataclass(frozen=True)
class Batch:
    """Trials that use one model and benchmark, with what is known about them before anything runs."""

    config: DictConfig
    trials: tuple[Trial, ...]
    samples: tuple[Sample, ...]
    addresses: Addresses
    origins: dict[str, dict[str, Any]]
    """What each trial is made of, by its key."""
    parts: dict[str, dict[str, Any]]
    """What stands behind the fingerprints in it, by its key."""
    store: Store
    load: dict[str, Any]
    """`model.load`, with a hub checkpoint as the folder of its download."""

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.addresses.trials[trial.name] for trial in self.trials)


Spread = Callable[[Batch, Sequence[Planned], Work], Timing]
"""Evaluates what is left to do of a batch on workers elsewhere, into the batch's store; see `prunesweep.sweep.remote`."""


def evaluate_configs(
    configs: Sequence[DictConfig], overrides: Sequence[Sequence[str]], spread: Spread | None = None
) -> list[Finished | Infeasible]:
    """All configurations, evaluated together as far as they use one model and benchmark; in the order given.

    A trial that its model or benchmark does not allow comes back with the reason.  What the store has is not evaluated again.
    With `spread` the rest is evaluated elsewhere.  Whatever can be checked without a model is checked before anything runs.
    Raises ValueError, or Hydra's InstantiationException around it.
    """
    names = trial_names(configs, overrides)
    planned = [_plan(*one) for one in zip(names, configs, overrides, strict=True)]
    groups: dict[str, list[Planned]] = {}
    for one in planned:
        shared = {key: OmegaConf.to_container(one.config[key], resolve=True) for key in SHARED_SETTINGS}
        groups.setdefault(json.dumps([shared, one.config.retry_errors, one.config.video.seconds], sort_keys=True), []).append(one)
    finished = {result.name: result for group in groups.values() for result in _evaluate_group(group, spread)}
    return [finished[name] for name in names]


def _plan(name: str, config: DictConfig, overrides: Sequence[str]) -> Planned:
    require_cost(config.analysis.cost, "analysis.cost")
    require_margin(config.analysis.margin, "analysis.margin")
    for objective in config.analysis.returned:
        require_objective("analysis.returned", objective)
    require_at_least("video.frames", config.video.frames, 1)
    require_seconds("video.seconds", config.video.seconds)
    require_at_least("trainer.devices", config.trainer.devices, 1)
    require_accelerator("trainer.accelerator", config.trainer.accelerator)
    require_flag("trainer.progress", config.trainer.progress)
    require_flag("engine.share", config.engine.share)
    require_flag("engine.measure", config.engine.measure)
    if config.analysis.cost in MEASURED_COSTS and not config.engine.measure:
        raise ValueError(f"analysis.cost={config.analysis.cost} is measured; set engine.measure=true")
    instantiate(config.engine.measuring)
    require_flag("retry_errors", config.retry_errors)
    if config.store is None:
        raise ValueError("store=null takes its settings away; without a store: store.folder=null")
    protocol = instantiate(config.protocol)
    _require_same_subtitles(protocol, config.benchmark.get("subtitles", "none"))
    return Planned(name, config, tuple(overrides), instantiate(config.reducer), protocol)


def _require_same_subtitles(protocol: Protocol, subtitles: str) -> None:
    """Raises ValueError where a prompt announces subtitles that are not there, or those that are there go nowhere."""
    if protocol.reads_subtitles and subtitles == "none":
        raise ValueError("the protocol reads subtitles, and benchmark.subtitles is none; set it to frames or all (of videomme)")
    if subtitles != "none" and not protocol.reads_subtitles:
        raise ValueError(f"benchmark.subtitles={subtitles}, but the protocol puts them nowhere; set protocol=videomme_subtitles")


def _evaluate_group(group: list[Planned], spread: Spread | None) -> list[Finished | Infeasible]:
    config = group[0].config
    with _open_store(config) as store:
        load = located(OmegaConf.to_container(config.model.load, resolve=True))  # type: ignore[arg-type]
        make_model = functools.cache(functools.partial(instantiate, load))
        samples = tuple(instantiate(config.benchmark.load))
        for remark in remarks(samples):
            log.warning("%s", remark)
        begin = time.perf_counter()
        reasons = {one.name: why for one in group if (why := _too_few_frames(one))}
        matched, unsolved = _matched([one for one in group if one.name not in reasons], make_model, samples)
        reasons |= unsolved
        matching = time.perf_counter() - begin
        out: list[Finished | Infeasible] = [_infeasible(one, reasons[one.name]) for one in group if one.name in reasons]
        if not matched:
            return out
        batch = _batch(matched, samples, store, load)
        _say_why_not_reused(batch)
        try:
            return [*out, *_with(_evaluate_feasible(batch, matched, spread, make_model), "match", matching)]
        except UnfitError as error:  # nothing has been evaluated yet
            unfit = error.reasons
        out += [_infeasible(one, unfit[one.name]) for one in matched if one.name in unfit]
        fitting = [one for one in matched if one.name not in unfit]
        if not fitting:
            return out
        batch = _batch(fitting, samples, store, load)
        return [*out, *_with(_evaluate_feasible(batch, fitting, spread, make_model), "match", matching)]


def _with(batch: list[Finished], name: str, seconds: float) -> list[Finished]:
    """With what was spent on a whole batch besides: its trials share one timing."""
    timing = batch[0].timing.besides(name, seconds)
    return [replace(one, timing=timing) for one in batch]


def _too_few_frames(one: Planned) -> str | None:
    """Why the trial's merger has no answer for so few frames."""
    try:
        require_frames(one.reducer, one.config.video.frames, one.config.model.get("frames_per_step", 1))
    except ValueError as error:
        return str(error)
    return None


def _infeasible(one: Planned, reason: str) -> Infeasible:
    names = (one.name, one.config.reducer.name, one.config.model.name, one.config.benchmark.name)
    return Infeasible(*names, one.overrides, reason)


def _evaluate_feasible(
    batch: Batch, group: list[Planned], spread: Spread | None, make_model: Callable[[], Model]
) -> list[Finished]:
    """Raises UnfitError before anything is evaluated if the model does not allow some of the trials."""
    config, store, results = batch.config, batch.store, _results_folder(batch.config)
    work = left_to_do(store, batch.samples, batch.addresses, config.retry_errors)
    print(*forecast(batch, work, results).lines(), sep="\n", file=sys.stderr, flush=True)
    race: Race = instantiate(config.race)
    if spread is not None:
        _require_spreadable(config, race)
    stopped: dict[str, Stopped] = {}
    with noted(results, dict(batch.addresses.trials), list(batch.addresses.samples.values()), store.folder):
        if race.rounds == 1:
            records, timing = _evaluate_batch(batch, group, work, spread, make_model)
        else:
            records, timing, stopped = _race(batch, group, race, make_model)
    store.commit([key for name, key in batch.addresses.trials.items() if name not in stopped])
    kept = dict(records) if config.store.folder is None else records  # that store ends with the evaluation
    begin = time.perf_counter()
    measured = _measure(batch, group, make_model) if config.engine.measure else [None] * len(group)
    timing = timing.besides("measure", time.perf_counter() - begin)
    return [
        Finished(_info(one, batch, stopped.get(one.name)), kept, timing, took) for one, took in zip(group, measured, strict=True)
    ]


def _require_spreadable(config: DictConfig, race: Race) -> None:
    """Raises ValueError for what only the launcher `shared` can do."""
    way_out = "or use hydra/launcher=shared"
    if race.rounds > 1:
        raise ValueError(f"a race compares results while it runs: race.rounds must be 1 with this launcher, {way_out}")
    if config.engine.measure:
        raise ValueError(f"times are measured where the command runs: engine.measure must be false with this launcher, {way_out}")
    if config.store.folder is None:
        raise ValueError(f"jobs hand their records over through the store: set store.folder with this launcher, {way_out}")


@contextmanager
def _open_store(config: DictConfig) -> Iterator[Store]:
    """The configured store, or one that lasts as long as the evaluation."""
    if config.store.folder is not None:
        yield Store.open(Path(config.store.folder))
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Store.open(Path(folder))


def _batch(group: Sequence[Planned], samples: tuple[Sample, ...], store: Store, load: dict[str, Any]) -> Batch:
    config = group[0].config
    files = Files(store.files)
    device = device_kind(config.trainer.accelerator)
    trials = tuple(Trial(one.name, one.reducer, one.config.video.frames, one.protocol) for one in group)
    origins = {trial.name: made_of(trial, load, device, files, config.benchmark.name) for trial in trials}
    addresses = Addresses({name: digest(origin) for name, origin in origins.items()}, of_samples(samples, files))
    by_key = {addresses.trials[name]: origin for name, origin in origins.items()}
    parts = {addresses.trials[trial.name]: parts_of(trial, load, files) for trial in trials}
    files.remember()
    return Batch(config, trials, samples, addresses, by_key, parts, store, load)


def _say_why_not_reused(batch: Batch) -> None:
    """One line for each reason why the store's records of the same settings are not these trials'."""
    for line in why_not_reused(batch.store, batch.origins, batch.parts):
        print(f"not reused  {line}")


def _evaluate_batch(
    batch: Batch, group: Sequence[Planned], work: Work, spread: Spread | None, make_model: Callable[[], Model]
) -> tuple[Mapping[str, pl.DataFrame], Timing]:
    begin = time.perf_counter()
    if not work.videos:
        records = assembled(batch.store, batch.samples, batch.addresses)
        return records, Timing({}, 0.0, 0, 0, 0, work.known).besides("store", time.perf_counter() - begin)
    _warn_of_repeats(batch, group)
    if spread is not None:
        timing = spread(batch, group, work)
        records = assembled(batch.store, batch.samples, batch.addresses)
        total = time.perf_counter() - begin
        return records, replace(timing, total=total, seconds={**timing.seconds, "jobs": total - sum(timing.seconds.values())})
    evaluate_some = _evaluator(batch, group, make_model)
    loading = time.perf_counter() - begin
    result = evaluate_some(batch.samples, [trial.name for trial in batch.trials])
    return result.records, result.timing.besides("load", loading)


def _warn_of_repeats(batch: Batch, group: Sequence[Planned]) -> None:
    """Says before anything runs that videos have far fewer frames than are asked for."""
    from prunesweep.video.reader import repeated

    most = max((one.config.video.frames for one in group if one.protocol.sampling != "per_second"), default=0)
    firsts = [video[0] for video in by_video(batch.samples)]
    if text := repeated(firsts, most, batch.config.video.seconds):
        log.warning("%s", text)


def _race(
    batch: Batch, group: Sequence[Planned], race: Race, make_model: Callable[[], Model]
) -> tuple[Mapping[str, pl.DataFrame], Timing, dict[str, Stopped]]:
    """Records of all trials, of those that the race stopped fewer than there are samples, and why."""
    begin = time.perf_counter()
    _warn_of_repeats(batch, group)
    evaluate_some = _evaluator(batch, group, make_model)
    loading = time.perf_counter() - begin
    timings: list[Timing] = []

    def evaluate_round(samples: Sequence[Sample], names: Sequence[str]) -> Mapping[str, pl.DataFrame]:
        result = evaluate_some(samples, names)
        timings.append(result.timing)
        return result.records

    names = [trial.name for trial in batch.trials]
    rivals = _rivals(batch.config, batch.samples, race)
    raced = run_race(race, batch.samples, make_model().shape, names, rivals, evaluate_round)
    stopped = {name: one.stopped for name, one in raced.items() if one.stopped}
    timing = sum_timings(timings).besides("load", loading)
    timing = timing.besides("race", time.perf_counter() - begin - timing.total)
    return {name: one.records for name, one in raced.items()}, timing, stopped


def _evaluator(
    batch: Batch, group: Sequence[Planned], make_model: Callable[[], Model]
) -> Callable[[Sequence[Sample], Sequence[str]], Evaluated]:
    """Evaluates some samples by the trials of some names, here and into the batch's store."""
    config = batch.config

    from prunesweep.engine.encoder_cache import EncoderCache
    from prunesweep.engine.stages import require_all_fit
    from prunesweep.sweep.evaluate import evaluate, require_devices  # Lightning: seconds, so after what may be wrong

    require_devices(config.trainer.devices, config.trainer.accelerator, len(by_video(batch.samples)))
    model = make_model()
    require_all_fit({one.name: one.reducer for one in group}, model)
    _describe(batch, group, model.shape)
    several = config.trainer.devices > 1
    cache = EncoderCache(config.engine.cache, config.engine.cache_gib) if config.engine.cache else None
    load = functools.partial(instantiate, batch.load) if several else make_model

    def evaluate_some(samples: Sequence[Sample], names: Sequence[str]) -> Evaluated:
        result = evaluate(
            load,
            samples,
            [trial for trial in batch.trials if trial.name in names],
            share=config.engine.share,
            devices=config.trainer.devices,
            accelerator=config.trainer.accelerator,
            progress=config.trainer.progress,
            store=batch.store,
            addresses=batch.addresses,
            retry_errors=config.retry_errors,
            cache=cache,
            seconds=config.video.seconds,
        )
        note_speed(batch.store.folder, place_of(batch), result.kinds, largest(batch))
        return result

    return evaluate_some


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
    rows = rows_of(earlier)
    points = [(*(-getattr(row, cost) for cost in race.costs), row.accuracy) for row in rows]
    front = nondominated(points)
    return [Rival(t.info.name, t.records) for t, on in zip(earlier, front, strict=True) if on]


def _sweep_folder(config: DictConfig) -> Path | None:
    """Of the multirun that the configuration belongs to; None outside of one."""
    hydra = config.get("hydra") or (HydraConfig.get() if HydraConfig.initialized() else None)
    return Path(hydra.sweep.dir) if hydra and hydra.mode == RunMode.MULTIRUN else None


def _results_folder(config: DictConfig) -> Path | None:
    """Of the run or the multirun that the configuration belongs to; None outside of Hydra's."""
    if sweep := _sweep_folder(config):
        return sweep
    return Path(HydraConfig.get().runtime.output_dir) if HydraConfig.initialized() else None


def _matched(
    group: list[Planned], make_model: Callable[[], Model], samples: Sequence[Sample]
) -> tuple[list[Planned], dict[str, str]]:
    """Reducers that are to cost a certain share, with their free setting solved for it; why others cannot, by their names."""
    if not any(one.reducer.match for one in group):
        return group, {}
    from prunesweep.engine.budget import Calibration, solve

    calibration = Calibration(make_model(), samples, group[0].config.video.seconds)
    matched: list[Planned] = []
    reasons: dict[str, str] = {}
    for one in group:
        if not one.reducer.match:
            matched.append(one)
            continue
        try:
            reducer, solution = solve(one.reducer, calibration, one.config.video.frames, one.protocol)
        except InfeasibleError as error:
            reasons[one.name] = str(error)
            continue
        print(f"{one.name}: {solution}")
        matched.append(one._replace(reducer=reducer, solution=solution))
    return matched, reasons


def _measure(batch: Batch, group: Sequence[Planned], make_model: Callable[[], Model]) -> list[Measured]:
    from prunesweep.engine.latency import Candidate, accelerator_device, measure

    model = make_model()
    model.network.to(accelerator_device(batch.config.trainer.accelerator))
    candidates = [Candidate(one.reducer, one.config.video.frames, one.protocol) for one in group]
    how = instantiate(batch.config.engine.measuring)
    return measure(model, batch.samples, candidates, how, batch.config.video.seconds)


def _describe(batch: Batch, group: Sequence[Planned], shape: Any) -> None:
    for one in group:
        key = batch.addresses.trials[one.name]
        described = {**about(one), "shape": asdict(shape), "parts": batch.parts[key]}
        batch.store.describe(StoredTrial(key, batch.origins[key], described))


def about(one: Planned) -> dict[str, Any]:
    """How people call a trial."""
    names = {"reducer": one.config.reducer.name, "model": one.config.model.name, "benchmark": one.config.benchmark.name}
    return {**names, "settings": _settings(one)}


def _settings(one: Planned) -> dict[str, Any]:
    """The limit on decoding is none: it decides whether there is an answer, not which."""
    settings: dict[str, Any] = {key: OmegaConf.to_container(one.config[key], resolve=True) for key in ("reducer", "protocol")}
    settings["video"] = {key: value for key, value in one.config.video.items() if key != "seconds"}
    return settings | ({"matched": asdict(one.solution)} if one.solution else {})


def _info(one: Planned, batch: Batch, stopped: Stopped | None) -> TrialInfo:
    config, key = one.config, batch.addresses.trials[one.name]
    stored = batch.store.trial(key)
    if stored is None:
        raise EvaluationError(f"{batch.store.folder} has lost the description of trial {one.name!r}; run the same command again")
    shape = read_shape(dict(stored.about["shape"]))
    names = (one.name, config.reducer.name, config.model.name, config.benchmark.name)
    keys = {"model_key": digest(stored.made_of["model"]), "samples_key": digest(sorted(batch.addresses.samples.values()))}
    made_with = dict(stored.made_of.get("versions", {}))
    return TrialInfo(*names, one.overrides, _settings(one), shape, key, stopped, **keys, versions=made_with)


def deliver(finished: Finished | Infeasible, folder: Path, config: DictConfig) -> float | list[float]:
    """Write a trial's folder; returns what `analysis.returned` names, for sweepers that optimise it; NaN if it was not run."""
    if isinstance(finished, Infeasible):
        write_infeasible(folder, finished)
        log.info("%s", finished.line)
        return returned(dict.fromkeys(config.analysis.returned, math.nan), config.analysis.returned)
    from prunesweep.engine.latency import as_columns

    (folder / INFEASIBLE).unlink(missing_ok=True)
    write_trial(folder, finished.info, finished.records, as_columns(finished.measured) if finished.measured else None)
    (folder / CONFIG).write_text(to_yaml(config, resolve=True), encoding="utf-8")
    trial = read_trial(folder)
    summary = summarize(trial)
    log.info("%s", asdict(summary))
    return returned(numbers(relative(summary, _sweepers_axis(config, summary, trial.info)), trial), config.analysis.returned)


OWN_SWEEPERS = ("basic", "grids", "search")
"""They read records, and take no returned numbers."""
AXIS = "axis.json"
"""What the relative costs that another sweeper was told are shares of."""


def _sweepers_axis(config: DictConfig, row: Summary, info: TrialInfo) -> Denominator | None:
    """One for all trials of a sweeper that is not ours; None outside of one: the row is relative to its own dense model."""
    sweep = _sweep_folder(config)
    hydra = config.get("hydra") or (HydraConfig.get() if HydraConfig.initialized() else None)
    if sweep is None or hydra is None or hydra.runtime.choices["hydra/sweeper"] in OWN_SWEEPERS:
        return None
    return kept(sweep / AXIS, counted(vars(row), counted_name(info)))


def returned(found: Mapping[str, float], names: Sequence[str]) -> float | list[float]:
    """The named numbers, a single one by itself, as Hydra's sweepers want them; raises ValueError for unknown names."""
    if unknown := [name for name in names if name not in found]:
        raise ValueError(f"analysis.returned: unknown {unknown[0]!r}; known: {', '.join(found)}")
    values = [found[name] for name in names]
    return values[0] if len(values) == 1 else values


def run_single(config: DictConfig, folder: Path, overrides: Sequence[str], started: float) -> None:
    """Evaluate one configuration, write its folder, print its numbers."""
    begin = time.time()
    (finished,) = evaluate_configs([config], [overrides])
    if isinstance(finished, Infeasible):
        raise InfeasibleError(finished.reason)
    evaluated = time.time()
    deliver(finished, folder, config)
    trial = read_trial(folder)
    print(tables.single(summarize(trial), trial))
    timing = finished.timing.besides("plan", evaluated - begin - finished.timing.total).besides("start", begin - started)
    timing = timing.besides("records", time.time() - evaluated)
    _print_times([_timing_entry(timing)], time.time() - started, config)
    print(f"records, configuration and log: {folder}")
    _report_failures([trial])


def add_timing(sweep: Path, timings: Sequence[Timing], evaluating: float, around: Mapping[str, float]) -> None:
    """Append a batch's times to the sweep's: `evaluating` is what `evaluate_configs` took in all."""
    distinct = list({id(timing): timing for timing in timings}.values())
    seconds = {**around, "plan": evaluating - sum(timing.total for timing in distinct)}
    append_timing(sweep, [_timing_entry(timing) for timing in (*distinct, Timing(seconds, sum(seconds.values()), 0, 0))])


def _print_times(entries: Sequence[dict[str, Any]], total: float, config: DictConfig) -> None:
    print(tables.time_line(entries, total))
    reused, evaluated = (sum(entry[key] for entry in entries) for key in ("reused", "evaluated"))
    if reused:
        print(f"store       {reused:,} of {reused + evaluated:,} records were in {config.store.folder}")


def _timing_entry(timing: Timing) -> dict[str, Any]:
    return {key: value for key, value in asdict(timing).items() if key != "total"}


def summarize_sweep(config: DictConfig, elapsed: float) -> None:
    sweep, begin = Path(config.hydra.sweep.dir), time.time()
    trials, infeasible = read_trials(sweep), all_infeasible(sweep)
    if infeasible and not trials:
        raise SystemExit(f"prunesweep: no trial could be run: {'; '.join(one.line for one in infeasible)}")
    if not trials:
        return  # the sweep itself failed and says why
    table = [*sweep_table(trials, config.analysis.cost), *(not_run(one.name, one.reducer, one.reason) for one in infeasible)]
    write_table(table, sweep)
    if any(row.samples for row in table):
        from prunesweep.report import plots

        figure = plots.pareto_figure(_panels(trials, config.analysis.cost))
        figure.savefig(sweep / "pareto.png", dpi=150)
    print(tables.sweep(table, config.analysis.cost))
    for one in collect(trials, config.analysis.cost, config.analysis.margin):
        print(f"\n{words(verdict(one, with_importance=False))}")
    reporting = time.time() - begin
    if entries := own_timing(sweep):
        _print_times([*entries, _timing_entry(Timing({"report": reporting}, reporting, 0, 0))], elapsed + reporting, config)
    else:
        print(f"time        {elapsed + reporting:.1f} s: nothing was left to evaluate here")
    print(f"table, chart and records: {sweep}")
    print(*lines(infeasible, len(trials)), sep="\n", end="\n" if infeasible else "")
    _report_failures(trials)


def _panels(trials: Sequence[FinishedTrial], cost: str) -> dict[str, ParetoPoints]:
    """The points of every model and benchmark that has some, each by its title."""
    from prunesweep.report.plots import pareto_points

    groups: dict[str, list[FinishedTrial]] = {}
    for trial in trials:
        groups.setdefault(f"{trial.info.model} on {trial.info.benchmark}", []).append(trial)
    found = {title: pareto_points(sweep_table(own, cost), cost) for title, own in groups.items()}
    return {title: points for title, points in found.items() if points.points}


def write_table(table: Sequence[Summary], sweep: Path) -> None:
    """`summary.csv` and `summary.parquet`."""
    frame = table_frame(table)
    write_parquet(frame, sweep / "summary.parquet")
    frame.write_csv(sweep / "summary.csv")


def _report_failures(trials: Sequence[FinishedTrial]) -> None:
    """Name the samples without an answer; ends the command with an error if a trial has none at all, whatever others have."""
    for line in tables.failure_lines(failures(trials), len(trials)):
        print(line)
    failed = [trial.info.name for trial in trials if trial.records["error"].is_not_null().all()]
    if failed and len(failed) == len(trials):
        raise SystemExit("prunesweep: no sample could be evaluated; the reasons are listed above")
    if failed:
        which = f"{len(failed)} of {len(trials)} trials have no answer at all: {tables.few(failed)}"
        raise SystemExit(f"prunesweep: {which}; the reasons are above")
