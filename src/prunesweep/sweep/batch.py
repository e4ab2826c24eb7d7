"""Trials that are evaluated together, and what is known of them: before anything runs, and when it is finished."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunesweep.checks import EvaluationError
from prunesweep.engine.candidate import Candidate
from prunesweep.engine.devices import device_kind
from prunesweep.results.changes import why_not_reused
from prunesweep.results.keys.fingerprint import Files, digest, of_samples
from prunesweep.results.records import Stopped, TrialInfo, read_shape
from prunesweep.results.store import Store, StoredTrial
from prunesweep.results.timing import Timing
from prunesweep.sweep.planned import Planned
from prunesweep.sweep.spec import Spec
from prunesweep.sweep.work import Addresses, Work, made_of, parts_of
from prunesweep.types import Sample

if TYPE_CHECKING:
    import polars as pl

    from prunesweep.engine.latency import Measured


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


@dataclass(frozen=True)
class Batch:
    """Trials that use one model and benchmark, with what is known about them before anything runs."""

    spec: Spec
    """Of any of its trials: what they share."""
    trials: tuple[Candidate, ...]
    samples: tuple[Sample, ...]
    addresses: Addresses
    origins: dict[str, dict[str, Any]]
    """What each trial is made of, by its key."""
    parts: dict[str, dict[str, Any]]
    """What stands behind the fingerprints in it, by its key."""
    store: Store
    results: Path | None
    """Where the trials' folders will be; None where their results go to the caller."""
    load: dict[str, Any]
    """`model.load`, with a hub checkpoint as the folder of its download."""

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.addresses.trials[trial.name] for trial in self.trials)

    def not_reused(self) -> Iterable[str]:
        """A line for each reason why the store's records of the same settings are not these trials'."""
        return why_not_reused(self.store, self.origins, self.parts)


Spread = Callable[[Batch, Sequence[Planned], Work], Timing]
"""Evaluates what is left to do of a batch on workers elsewhere, into the batch's store; see `prunesweep.sweep.remote`."""


def make_batch(
    group: Sequence[Planned], samples: tuple[Sample, ...], store: Store, results: Path | None, load: dict[str, Any], files: Files
) -> Batch:
    spec = group[0].spec
    device = device_kind(spec.trainer["accelerator"])
    trials = tuple(Candidate(one.name, one.reducer, one.frames, one.protocol) for one in group)
    origins = {trial.name: made_of(trial, load, device, files, spec.benchmark["name"]) for trial in trials}
    addresses = Addresses({name: digest(origin) for name, origin in origins.items()}, of_samples(samples, files))
    by_key = {addresses.trials[name]: origin for name, origin in origins.items()}
    parts = {addresses.trials[trial.name]: parts_of(trial, load, files) for trial in trials}
    files.remember()
    return Batch(spec, trials, samples, addresses, by_key, parts, store, results, load)


def describe(batch: Batch, group: Sequence[Planned], shape: Any) -> None:
    for one in group:
        key = batch.addresses.trials[one.name]
        described = {**one.about(), "shape": asdict(shape), "parts": batch.parts[key]}
        batch.store.describe(StoredTrial(key, batch.origins[key], described))


def info_of(one: Planned, batch: Batch, samples_key: str, stopped: Stopped | None) -> TrialInfo:
    key = batch.addresses.trials[one.name]
    stored = batch.store.trial(key)
    if stored is None:
        raise EvaluationError(f"{batch.store.folder} has lost the description of trial {one.name!r}; run the same command again")
    shape = read_shape(stored.about["shape"])
    keys = {"model_key": digest(stored.made_of["model"]), "samples_key": samples_key}
    made_with = dict(stored.made_of.get("versions", {}))
    return TrialInfo(
        one.name, *one.spec.names, one.spec.overrides, one.settings(), shape, key, stopped, **keys, versions=made_with
    )
