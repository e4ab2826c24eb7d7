"""Specs to finished trials: those that use one model and benchmark are evaluated as one batch, in the order of their sections."""

from __future__ import annotations

import functools
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunesweep.benchmarks import by_video, warnings
from prunesweep.checks import UnfitError
from prunesweep.console.layout import visible
from prunesweep.console.terminal import say
from prunesweep.console.waiting import doing
from prunesweep.engine.devices import decoders_for
from prunesweep.models.checkpoints import located, stated_layers
from prunesweep.results.infeasible import Infeasible
from prunesweep.results.keys.fingerprint import Files, digest
from prunesweep.results.pending import noted
from prunesweep.results.records import Stopped, read_shape
from prunesweep.results.store import Store
from prunesweep.results.timing import Timing, sum_timings
from prunesweep.sweep.ahead import forecast, largest, note_speed, place_of
from prunesweep.sweep.batch import Batch, Finished, Spread, describe, info_of, make_batch
from prunesweep.sweep.kept import Kept
from prunesweep.sweep.planned import Planned, plan_trial
from prunesweep.sweep.racing import Race, rivals_in, run_race
from prunesweep.sweep.spec import Spec
from prunesweep.sweep.work import Addresses, Assembled, Work, assembled, left_to_do
from prunesweep.targets import instantiate
from prunesweep.types import Sample

if TYPE_CHECKING:
    import polars as pl

    from prunesweep.cost import Shape
    from prunesweep.engine.latency import Measured
    from prunesweep.sweep.evaluate import Evaluated
    from prunesweep.types import Model

log = logging.getLogger(__name__)

SHARED = ("model", "benchmark", "questions", "trainer", "engine", "store", "race", "retry_errors")
"""Trials that agree in these, and in how long a video may take, are evaluated together."""


def evaluate_specs(
    specs: Sequence[Spec], results: Path | None, spread: Spread | None = None, kept: Kept | None = None
) -> list[Finished | Infeasible]:
    """All specs, evaluated together as far as they use one model and benchmark; in the order given.

    A trial that its model or benchmark does not allow comes back with the reason.  What the store has is not evaluated again.
    With `spread` the rest is evaluated elsewhere.  Whatever can be checked without a model is checked before anything runs.
    `results` is the folder in which trials get theirs; rivals of a race that ran before are read there.  `kept` has what was
    loaded for earlier ones.
    Raises ValueError, or Hydra's InstantiationException around it.
    """
    groups: dict[str, list[Planned]] = {}
    for one in [plan_trial(spec) for spec in specs]:
        shared = [[getattr(one.spec, section) for section in SHARED], one.spec.video["seconds"]]
        groups.setdefault(json.dumps(shared, sort_keys=True), []).append(one)
    finished = {
        result.name: result for group in groups.values() for result in _evaluate_group(group, results, spread, kept or Kept())
    }
    return [finished[spec.name] for spec in specs]


def _evaluate_group(group: list[Planned], results: Path | None, spread: Spread | None, kept: Kept) -> list[Finished | Infeasible]:
    spec = group[0].spec
    with _open_store(spec) as store:
        load = located(spec.model["load"])
        files = Files(store.files)
        make_model = functools.cache(functools.partial(_loaded, kept, load, files))
        samples = instantiate(spec.questions, at="questions")(kept.samples(spec.benchmark["load"]))
        for remark in warnings(samples):
            log.warning("%s", visible(remark))
        begin = time.perf_counter()
        layers = stated_layers(load)
        reasons = {one.name: why for one in group if (why := one.unfit(layers))}
        feasible, unsolved = _matched([one for one in group if one.name not in reasons], make_model, store, load, samples)
        reasons |= unsolved
        matching = time.perf_counter() - begin
        out: list[Finished | Infeasible] = [one.infeasible(reasons[one.name]) for one in group if one.name in reasons]
        if not feasible:
            return out
        with doing(f"planning {len(feasible)} trials"):
            batch = make_batch(feasible, samples, store, results, load, files)
        for line in batch.not_reused():
            say(f"not reused  {line}", labels=True)
        try:
            return [*out, *_with(_evaluate_feasible(batch, feasible, spread, make_model), "match", matching)]
        except UnfitError as error:  # nothing has been evaluated yet
            unfit = error.reasons
        out += [one.infeasible(unfit[one.name]) for one in feasible if one.name in unfit]
        fitting = [one for one in feasible if one.name not in unfit]
        if not fitting:
            return out
        batch = make_batch(fitting, samples, store, results, load, files)
        return [*out, *_with(_evaluate_feasible(batch, fitting, spread, make_model), "match", matching)]


def _matched(
    group: list[Planned], make_model: Callable[[], Model], store: Store, load: Mapping[str, Any], samples: Sequence[Sample]
) -> tuple[list[Planned], Mapping[str, str]]:
    """As `solved.matched`, which is imported only where something is to be solved."""
    if not any(one.reducer.match for one in group):
        return group, {}
    from prunesweep.sweep.solved import Place, matched

    return matched(group, make_model, Place(store, load, Files(store.files), samples))


def _loaded(kept: Kept, load: Mapping[str, Any], files: Files) -> Model:
    with doing("loading the model"):
        return kept.model(load, files)


def _with(batch: list[Finished], name: str, seconds: float) -> list[Finished]:
    """With what was spent on a whole batch besides: its trials share one timing."""
    timing = batch[0].timing.besides(name, seconds)
    return [replace(one, timing=timing) for one in batch]


def _evaluate_feasible(
    batch: Batch, group: list[Planned], spread: Spread | None, make_model: Callable[[], Model]
) -> list[Finished]:
    """Raises UnfitError before anything is evaluated if the model does not allow some of the trials."""
    spec, store = batch.spec, batch.store
    work = left_to_do(store, batch.samples, batch.addresses, spec.retry_errors)
    say("\n".join(forecast(batch, work).lines()), labels=True, file=sys.stderr)
    race: Race = instantiate(spec.race, at="race")
    if spread is not None:
        _require_spreadable(spec, race)
    stopped: dict[str, Stopped] = {}
    with noted(batch.results, dict(batch.addresses.trials), list(batch.addresses.samples.values()), store.folder):
        if race.rounds == 1:
            records, timing = _evaluate_batch(batch, group, work, spread, make_model)
        else:
            records, timing, stopped = _race(batch, group, race, make_model)
    store.commit([key for name, key in batch.addresses.trials.items() if name not in stopped])
    kept = dict(records) if spec.store["folder"] is None else records  # that store ends with the evaluation
    begin = time.perf_counter()
    measured = _measure(batch, make_model) if spec.engine["measure"] else [None] * len(group)
    timing = timing.besides("measure", time.perf_counter() - begin)
    samples_key = digest(sorted(batch.addresses.samples.values()))
    infos = [info_of(one, batch, samples_key, stopped.get(one.name)) for one in group]
    return [Finished(info, kept, timing, took) for info, took in zip(infos, measured, strict=True)]


def _require_spreadable(spec: Spec, race: Race) -> None:
    """Raises ValueError for what only the launcher `shared` can do."""
    way_out = "or use hydra/launcher=shared"
    if race.rounds > 1:
        raise ValueError(f"a race compares results while it runs: race.rounds must be 1 with this launcher, {way_out}")
    if spec.engine["measure"]:
        raise ValueError(f"times are measured where the command runs: engine.measure must be false with this launcher, {way_out}")
    if spec.store["folder"] is None:
        raise ValueError(f"jobs hand their records over through the store: set store.folder with this launcher, {way_out}")


@contextmanager
def _open_store(spec: Spec) -> Iterator[Store]:
    """The configured store, or one that lasts as long as the evaluation."""
    if spec.store["folder"] is not None:
        yield Store.open(Path(spec.store["folder"]))
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Store.open(Path(folder))


def _evaluate_batch(
    batch: Batch, group: Sequence[Planned], work: Work, spread: Spread | None, make_model: Callable[[], Model]
) -> tuple[Mapping[str, pl.DataFrame], Timing]:
    begin = time.perf_counter()
    if not work.videos:
        records = Assembled(batch.store, batch.samples, batch.addresses)  # whose records were there a moment ago
        return records, Timing({}, 0.0, 0, 0, 0, work.known).besides("store", time.perf_counter() - begin)
    _warn_of_repeats(batch, group)
    if spread is not None:
        with doing("evaluating in jobs elsewhere"):
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

    most = max((one.frames for one in group if one.protocol.sampling != "per_second"), default=0)
    firsts = [video[0] for video in by_video(batch.samples)]
    if text := repeated(firsts, most, batch.spec.video["seconds"]):
        log.warning("%s", text)


def _race(
    batch: Batch, group: Sequence[Planned], race: Race, make_model: Callable[[], Model]
) -> tuple[Mapping[str, pl.DataFrame], Timing, dict[str, Stopped]]:
    """Records of all trials, of those that the race stopped fewer than there are samples, and why."""
    begin = time.perf_counter()
    loading: list[float] = []
    timings: list[Timing] = []

    @functools.cache
    def evaluate_some() -> Callable[[Sequence[Sample], Sequence[str]], Evaluated]:
        _warn_of_repeats(batch, group)
        start = time.perf_counter()
        made = _evaluator(batch, group, make_model)
        loading.append(time.perf_counter() - start)
        return made

    def evaluate_round(samples: Sequence[Sample], names: Sequence[str]) -> Mapping[str, pl.DataFrame]:
        if (known := _known(batch, samples, names)) is not None:  # a race that ran before: no model, no Lightning
            timings.append(known[1])
            return known[0]
        result = evaluate_some()(samples, names)
        timings.append(result.timing)
        return result.records

    names = [trial.name for trial in batch.trials]
    rivals = rivals_in(batch.results, batch.spec.names[1:], batch.samples, race.costs)
    shape = _stored_shape(batch)
    if shape is None:
        evaluate_some()  # says what does not fit before the first round, and describes what the store does not know
        shape = make_model().shape
    raced = run_race(race, batch.samples, shape, names, rivals, evaluate_round)
    stopped = {name: one.stopped for name, one in raced.items() if one.stopped}
    timing = sum_timings(timings).besides("load", sum(loading))
    timing = timing.besides("race", time.perf_counter() - begin - timing.total)
    return {name: one.records for name, one in raced.items()}, timing, stopped


def _stored_shape(batch: Batch) -> Shape | None:
    """The model's sizes, where the store describes every trial."""
    stored = [batch.store.trial(key) for key in batch.keys]
    return read_shape(stored[0].about["shape"]) if stored[0] is not None and None not in stored else None


def _known(batch: Batch, samples: Sequence[Sample], names: Sequence[str]) -> tuple[Mapping[str, pl.DataFrame], Timing] | None:
    """Records of these trials on these samples, if none is left to make."""
    begin = time.perf_counter()
    addresses = Addresses({name: batch.addresses.trials[name] for name in names}, batch.addresses.samples)
    work = left_to_do(batch.store, samples, addresses, batch.spec.retry_errors)
    if work.videos:
        return None
    records = assembled(batch.store, samples, addresses)
    return records, Timing({}, 0.0, 0, 0, 0, work.known).besides("store", time.perf_counter() - begin)


def _evaluator(
    batch: Batch, group: Sequence[Planned], make_model: Callable[[], Model]
) -> Callable[[Sequence[Sample], Sequence[str]], Evaluated]:
    """Evaluates some samples by the trials of some names, here and into the batch's store."""
    spec, trainer, engine = batch.spec, batch.spec.trainer, batch.spec.engine

    with doing("loading libraries"):
        from prunesweep.engine.devices import AUTO
        from prunesweep.engine.encoder_cache import EncoderCache
        from prunesweep.sweep.evaluate import evaluate, require_devices  # Lightning: seconds, so after what may be wrong

    require_devices(trainer["devices"], trainer["accelerator"], len(by_video(batch.samples)))
    with doing("checking the model"):
        _make_ready(batch, group, make_model())
    several = trainer["devices"] > 1
    cache = EncoderCache(engine["cache"], engine["cache_gib"]) if engine["cache"] else None
    load = functools.partial(instantiate, batch.load) if several else make_model

    def evaluate_some(samples: Sequence[Sample], names: Sequence[str]) -> Evaluated:
        result = evaluate(
            load,
            samples,
            [trial for trial in batch.trials if trial.name in names],
            share=engine["share"],
            devices=trainer["devices"],
            accelerator=trainer["accelerator"],
            progress=trainer["progress"],
            store=batch.store,
            addresses=batch.addresses,
            retry_errors=spec.retry_errors,
            cache=cache,
            seconds=spec.video["seconds"],
            batch=engine.get("batch", AUTO),
            decoders=decoders_for(trainer["decoders"], trainer["devices"]),
        )
        note_speed(batch.store.folder, place_of(batch), result.kinds, largest(batch))
        return result

    return evaluate_some


def _make_ready(batch: Batch, group: Sequence[Planned], model: Model) -> None:
    """Puts a model where it is to run; raises UnfitError or ValueError for one that these trials, or anything, cannot use."""
    from prunesweep.engine.latency import accelerator_device
    from prunesweep.engine.plan import require_all_fit
    from prunesweep.engine.selfcheck import check_once

    require_all_fit({one.name: one.reducer for one in group}, model)
    model.network.to(accelerator_device(batch.spec.trainer["accelerator"]))
    check_once(model, batch.origins[batch.keys[0]]["model"], batch.store.folder)
    describe(batch, group, model.shape)


def _measure(batch: Batch, make_model: Callable[[], Model]) -> list[Measured]:
    from prunesweep.engine.latency import accelerator_device, measure

    model = make_model()
    model.network.to(accelerator_device(batch.spec.trainer["accelerator"]))
    how = instantiate(batch.spec.engine["measuring"], at="engine.measuring")
    with doing(f"measuring the times of {len(batch.trials)} trials"):
        return measure(model, batch.samples, batch.trials, how, batch.spec.video["seconds"])
