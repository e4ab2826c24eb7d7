"""A batch spread over jobs elsewhere: every job takes some of the videos, all trials, and writes to the batch's store.

So the trials of a batch share their work inside each job as they would in one process, and nothing but text travels: a job
is told in JSON what to evaluate, and answers in JSON how long it took.  Records are handed over by the store, which all
jobs must reach.  A job finds out for itself what its trials and samples are made of, and refuses to work if that is not
what it was asked for: other weights, videos or versions on one of many machines would otherwise go unnoticed.

A job's text is data.  What it names is looked up among what the package registers; code of the user's own runs in a job if
the command was told of it: its names travel with the call, which is code itself, and not in the text.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from prunesweep.checks import EvaluationError, UnfitError
from prunesweep.disk.foreign import Group, build, require_registered, restored, targets, unregistered
from prunesweep.engine.candidate import Candidate
from prunesweep.engine.devices import AUTO, decoders_for, device_kind
from prunesweep.models.checkpoints import located
from prunesweep.models.loading import legible
from prunesweep.results.keys.fingerprint import Files, classes, described, digest, of_samples
from prunesweep.results.store import Store, StoredTrial
from prunesweep.results.timing import Timing
from prunesweep.sweep.batch import Batch
from prunesweep.sweep.planned import Planned
from prunesweep.sweep.work import ONCE, Addresses, Work, made_of
from prunesweep.targets import instantiate
from prunesweep.types import Model, Sample

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

TASK = "the job's text"


class Lost(NamedTuple):
    """In place of the answer of a job that ended without one."""

    reason: str


class Pool(Protocol):
    """A way to run `work_on` elsewhere."""

    @property
    def jobs(self) -> int: ...

    @property
    def threads(self) -> int | None:
        """Of each job; None leaves it to torch."""
        ...

    def run(self, tasks: Sequence[str], allowed: Sequence[str]) -> list[str | Lost]:
        """The answers of `work_on`, called with a task and `allowed`, in the order of the tasks, once all of them have ended."""
        ...


# Where the command runs


def spread(pool: Pool, batch: Batch, group: Sequence[Planned], work: Work) -> Timing:
    """Evaluates what is left to do of a batch by a pool's jobs; raises EvaluationError after all have ended if some failed."""
    shares = [work.videos[first :: pool.jobs] for first in range(min(pool.jobs, len(work.videos)))]
    answers = pool.run([_task(pool, batch, group, share) for share in shares], _own_code(batch))
    results = [_failed(one.reason) if isinstance(one, Lost) else json.loads(one) for one in answers]
    _require_success(results)
    return _together([Timing(**result["timing"]) for result in results], work.known)


def _task(pool: Pool, batch: Batch, group: Sequence[Planned], videos: Sequence[Sequence[Sample]]) -> str:
    spec, keys = batch.spec, batch.addresses
    trials = [
        {
            "name": trial.name,
            "frames": trial.frames,
            "reducer": described(trial.reducer),
            "protocol": described(trial.protocol),
            "about": one.about(),
            "made_of": batch.origins[keys.trials[trial.name]],
            "parts": batch.parts[keys.trials[trial.name]],
        }
        for trial, one in zip(batch.trials, group, strict=True)
    ]
    task = {
        "folder": str(Path.cwd()),
        "store": str(batch.store.folder.absolute()),
        "trials": trials,
        "samples": {sample.id: keys.samples[sample.id] for video in videos for sample in video},
        "model": spec.model["load"],
        "benchmark": spec.benchmark["load"],
        "name": spec.benchmark["name"],
        "trainer": {key: spec.trainer[key] for key in ("devices", "accelerator", "decoders")},
        "engine": {key: spec.engine[key] for key in ("share", "batch", "cache", "cache_gib")},
        "retry_errors": spec.retry_errors,
        "seconds": spec.video["seconds"],
        "threads": pool.threads,
    }
    return json.dumps(task)


def _own_code(batch: Batch) -> tuple[str, ...]:
    """Names of what the command runs besides the package's classes and functions."""
    spec = batch.spec
    named: dict[Group, set[str]] = {"model": set(targets(spec.model["load"])), "benchmark": set(targets(spec.benchmark["load"]))}
    named["reducer"] = {name for trial in batch.trials for name in classes(described(trial.reducer))}
    named["protocol"] = {name for trial in batch.trials for name in classes(described(trial.protocol))}
    return tuple(sorted({name for group, names in named.items() for name in unregistered(names, group)}))


def _failed(reason: str, unexpected: str | None = None) -> dict[str, Any]:
    """The answer of a job that failed; with a traceback if that may be a fault of ours."""
    return {"error": " ".join(reason.split()), "unexpected": unexpected}


def _require_success(results: Sequence[Mapping[str, Any]]) -> None:
    """Raises UnfitError if the model does not allow some trials, which every job finds out before it evaluates any."""
    if unfit := next((result["unfit"] for result in results if "unfit" in result), None):
        raise UnfitError(unfit)
    failed: dict[str, list[int]] = {}
    for number, result in enumerate(results, start=1):
        if "error" in result:
            failed.setdefault(result["error"], []).append(number)
            if result["unexpected"]:
                log.error("job %d of %d failed\n%s", number, len(results), result["unexpected"])
    if failed:
        reasons = "; ".join(f"job {', '.join(map(str, numbers))}: {reason}" for reason, numbers in failed.items())
        raise EvaluationError(
            f"{sum(map(len, failed.values()))} of {len(results)} jobs failed: {reasons}; "
            "what was finished is in the store, and the same command goes on from there"
        )


def _together(timings: Sequence[Timing], reused: int) -> Timing:
    """Seconds are means over jobs, which work at the same time."""
    names = dict.fromkeys(name for timing in timings for name in timing.seconds)
    seconds = {name: sum(timing.seconds.get(name, 0.0) for timing in timings) / len(timings) for name in names}
    run, alone, evaluated = (sum(getattr(timing, key) for timing in timings) for key in ("run", "alone", "evaluated"))
    total, evaluating = (max(getattr(timing, key) for timing in timings) for key in ("total", "evaluating"))
    return Timing(seconds, total, run, alone, evaluated, reused, evaluating)


# In a job


def work_on(task: str, allowed: Sequence[str] = ()) -> str:
    """Evaluates a job's share; its answer is its timing, or its error.  `allowed` is code besides the package's that may run."""
    told = json.loads(task)
    try:
        with contextlib.chdir(told["folder"]):
            return json.dumps({"timing": asdict(_evaluate(told, allowed))})
    except UnfitError as error:
        return json.dumps({"unfit": error.reasons})
    except (ValueError, EvaluationError, OSError) as error:
        return json.dumps(_failed(str(error)))
    except Exception as error:
        return json.dumps(_failed(f"unexpected {type(error).__name__}: {error}", traceback.format_exc()))


def _evaluate(told: Mapping[str, Any], allowed: Sequence[str]) -> Timing:
    from prunesweep.engine.encoder_cache import EncoderCache
    from prunesweep.sweep.evaluate import evaluate, require_devices

    store = Store.existing(Path(told["store"]))
    files = Files(store.files)
    require_registered(targets(told["model"]), "model", TASK, allowed)
    trials = [_trial(one, allowed) for one in told["trials"]]
    samples = [sample for sample in _built(told["benchmark"], "benchmark", allowed) if sample.id in told["samples"]]
    trainer, engine = told["trainer"], told["engine"]
    videos = len({sample.video_id for sample in samples})
    devices = min(trainer["devices"], videos)
    require_devices(devices, trainer["accelerator"], videos)
    device = device_kind(trainer["accelerator"])
    told = {**told, "model": located(told["model"])}
    origins = {trial.name: made_of(trial, told["model"], device, files, told["name"]) for trial in trials}
    for one in told["trials"]:
        origins[one["name"]] |= {ONCE: one["made_of"][ONCE]} if ONCE in one["made_of"] else {}
    addresses = Addresses({name: digest(origin) for name, origin in origins.items()}, of_samples(samples, files))
    files.remember()
    _require_same(told, origins, addresses)
    make_model = _model_maker(told, origins[trials[0].name]["model"], allowed)
    _describe(told, trials, make_model(), store, addresses, origins)
    _set_threads(told["threads"])
    return evaluate(
        functools.partial(_built, told["model"], "model", allowed) if devices > 1 else make_model,
        samples,
        trials,
        share=engine["share"],
        devices=devices,
        accelerator=trainer["accelerator"],
        progress=False,
        store=store,
        addresses=addresses,
        retry_errors=told["retry_errors"],
        seconds=told["seconds"],
        batch=engine.get("batch", AUTO),
        decoders=decoders_for(trainer["decoders"], devices, told["threads"]),
        cache=EncoderCache(engine["cache"], engine["cache_gib"]) if engine["cache"] else None,
    ).timing


def _require_same(told: Mapping[str, Any], origins: Mapping[str, Mapping[str, Any]], found: Addresses) -> None:
    """Raises EvaluationError if this machine would not answer what it was asked."""
    for one in told["trials"]:
        theirs, ours = one["made_of"], origins[one["name"]]
        if theirs["device"] != ours["device"]:
            raise EvaluationError(
                f"this job runs on {ours['device']}, the command takes it for {theirs['device']}; "
                f"set trainer.accelerator={ours['device']} if that is what its jobs should use"
            )
        other = [key for key in theirs if digest(theirs[key]) != digest(ours.get(key))]
        if other:
            raise EvaluationError(
                f"trial {one['name']!r} has another {' and '.join(other)} in this job than where the command runs; "
                "give both the same installation and checkpoint"
            )
    other = [sample for sample, key in told["samples"].items() if found.samples.get(sample) != key]
    if other:
        raise EvaluationError(
            f"{len(other)} samples, {other[0]!r} among them, are not in this job what they are where the command runs; "
            "give both the same benchmark folder"
        )


def _trial(one: Mapping[str, Any], allowed: Sequence[str]) -> Candidate:
    reducer, protocol = (restored(one[group], group, TASK, allowed) for group in ("reducer", "protocol"))
    return Candidate(one["name"], reducer, one["frames"], protocol)


def _built(node: Any, group: Group, allowed: Sequence[str]) -> Any:
    """As Hydra makes it if it names code of the user's allowed, which may use all that Hydra offers."""
    require_registered(targets(node), group, TASK, allowed)
    return instantiate(node) if unregistered(targets(node), group) else build(node, group, TASK)


def _model_maker(told: Mapping[str, Any], weights: Mapping[str, Any], allowed: Sequence[str]) -> Callable[[], Model]:
    return functools.partial(_model, json.dumps(told["model"]), digest(weights), tuple(allowed))


@functools.lru_cache(maxsize=1)
def _model(load: str, weights: str, allowed: tuple[str, ...]) -> Model:
    """Kept for the next batch of a search, as long as the weights are the same: Ray and joblib use processes again."""
    told = json.loads(load)
    with legible(told):
        return _built(told, "model", allowed)


def _describe(
    told: Mapping[str, Any],
    trials: Sequence[Candidate],
    model: Model,
    store: Store,
    addresses: Addresses,
    origins: Mapping[str, Mapping[str, Any]],
) -> None:
    from prunesweep.engine.plan import require_all_fit
    from prunesweep.engine.selfcheck import check_once

    require_all_fit({trial.name: trial.reducer for trial in trials}, model)
    check_once(model, origins[trials[0].name]["model"], store.folder)
    for trial, one in zip(trials, told["trials"], strict=True):
        shaped = {**one["about"], "shape": asdict(model.shape), "parts": one["parts"]}
        store.describe(StoredTrial(addresses.trials[trial.name], origins[trial.name], shaped))


def _set_threads(threads: int | None) -> None:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
