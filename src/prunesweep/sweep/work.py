"""What a batch of trials asks of a store: which records it has, and which videos are still to be evaluated."""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prunesweep.benchmarks import by_video
from prunesweep.checks import EvaluationError
from prunesweep.engine.candidate import Candidate
from prunesweep.results.keys.code import code_of
from prunesweep.results.keys.fingerprint import (
    RECORD_FORMAT,
    Files,
    described,
    of_checkpoint,
    of_model,
    roots_of,
    unplaced,
    versions,
)
from prunesweep.results.records import PASSING, may_pass, schema
from prunesweep.results.store import PORTION_ROWS, Store
from prunesweep.types import Sample

if TYPE_CHECKING:
    import polars as pl


class Addresses(NamedTuple):
    """Where the records of a batch are in a store."""

    trials: Mapping[str, str]
    """Key by trial name; trials that are made of the same share one."""
    samples: Mapping[str, str]
    """Key by sample id."""


class Done:
    """Addresses of records: a bit for each trial and sample, because a sweep has millions."""

    def __init__(self, trials: Iterable[str], samples: Iterable[str]):
        self.trials = {key: row for row, key in enumerate(dict.fromkeys(trials))}
        self.samples = {key: column for column, key in enumerate(dict.fromkeys(samples))}
        self.has = np.zeros((len(self.trials), len(self.samples)), dtype=bool)

    def __contains__(self, address: tuple[str, str]) -> bool:
        row, column = self.trials.get(address[0]), self.samples.get(address[1])
        return row is not None and column is not None and bool(self.has[row, column])

    def __len__(self) -> int:
        return int(self.has.sum())

    def add(self, trial: str, samples: Iterable[str]) -> None:
        """Samples that are none of these are left out."""
        self.has[self.trials[trial], [self.samples[key] for key in samples if key in self.samples]] = True

    def complete(self) -> set[str]:
        """Samples of which every trial has a record."""
        whole = np.flatnonzero(self.has.all(axis=0))
        keys = list(self.samples)
        return {keys[column] for column in whole}


@dataclass(frozen=True)
class Work:
    """What is left to do."""

    videos: tuple[tuple[Sample, ...], ...]
    """The questions of each video that lacks a record."""
    done: Done
    """The records that there are already."""
    missing: int
    """Records to make."""
    known: int
    """Records that are there."""


ONCE = "once"
"""In what a trial is made of where its code cannot be followed: no other run's records are its own."""
THIS_RUN = secrets.token_hex(16)


def made_of(trial: Candidate, load: Mapping[str, Any], device: str, files: Files, benchmark: str) -> dict[str, Any]:
    """Everything that determines a trial's records: see `prunesweep.results.keys.fingerprint`.

    `load` is the resolved `model.load`, `device` the kind of device it runs on; `benchmark` is a name, and its questions and
    videos are the addresses of the records.
    """
    reducer, protocol = described(trial.reducer), described(trial.protocol)
    code = code_of(roots_of(reducer, protocol, load))
    del reducer["name"]
    return {
        "format": RECORD_FORMAT,
        "trial": {"frames": trial.frames, "reducer": unplaced(reducer), "protocol": unplaced(protocol)},
        "model": of_model(load, files),
        "benchmark": benchmark,
        "device": device,
        "versions": versions(code),
        "code": code.digest,
        **({ONCE: THIS_RUN} if code.unfollowed else {}),
    }


def parts_of(trial: Candidate, load: Mapping[str, Any], files: Files) -> dict[str, Any]:
    """What stands behind the fingerprints in `made_of`, so that a change can be named."""
    roots = roots_of(described(trial.reducer), described(trial.protocol), load)
    code = code_of(roots)
    return {
        "roots": list(roots),
        "code": dict(code.parts),
        "checkpoint": of_checkpoint(load, files),
        "unfollowed": list(code.unfollowed),
    }


def left_to_do(store: Store, samples: Sequence[Sample], addresses: Addresses, retry_errors: bool = False) -> Work:
    """The videos that lack records; an error that may pass counts as lacking, with `retry_errors` any error."""
    import polars as pl

    error = pl.col("error")
    stays = error.is_null() if retry_errors else error.is_null() | ~error.str.starts_with(PASSING)
    done = _done(store, samples, addresses, stays)
    complete = done.complete()
    videos = tuple(video for video in by_video(samples) if any(addresses.samples[s.id] not in complete for s in video))
    return Work(videos, done, missing=len(done.trials) * len(samples) - len(done), known=len(done))


def _done(store: Store, samples: Sequence[Sample], addresses: Addresses, counts: pl.Expr) -> Done:
    """Which records there are of those for which `counts` holds."""
    done = Done(addresses.trials.values(), (addresses.samples[sample.id] for sample in samples))
    for key, rows in store.each(done.trials, ("error",)):
        if len(rows):  # a query takes longer than all else that is asked of a trial that has none
            done.add(key, rows.filter(counts)["sample_key"])
    return done


class Peers:
    """What is done, by this evaluation before it was interrupted or by others that work on the same store."""

    INTERVAL = 5.0
    """Seconds between looks: others write a shard at most that often."""

    def __init__(self, store: Store, done: Done, retry_errors: bool):
        self.store, self.done, self.retry_errors = store, done, retry_errors
        self._seen = store.shards()
        self._looked = time.monotonic()

    def look(self, own: Collection[str]) -> None:
        """Adds what others have written since the last look; `own` are the names of shards to leave out."""
        if time.monotonic() - self._looked < self.INTERVAL:
            return
        self._looked = time.monotonic()
        fresh = self.store.shards().difference(self._seen, own)
        for key, sample, error in self.store.read_shards(fresh, ("error",)).iter_rows():
            if key in self.done.trials and not (error and (self.retry_errors or may_pass(error))):
                self.done.add(key, (sample,))
        self._seen |= fresh


class Assembled(Mapping[str, "pl.DataFrame"]):
    """Each trial's records, by its name, in the order of the samples; read a portion at a time, so that any number fits.

    Raises EvaluationError for a trial that lacks some.
    """

    def __init__(self, store: Store, samples: Sequence[Sample], addresses: Addresses):
        import polars as pl

        self.store, self.addresses = store, addresses
        keys = pl.Series([addresses.samples[s.id] for s in samples], dtype=pl.String)
        self._order = pl.DataFrame({"sample_key": keys, "order": range(len(samples))})
        self._sorted, self._rank = keys.sort(), keys.arg_sort().arg_sort()
        """How a whole trial's rows are stored, and which of them is each sample's."""
        self.at_once = max(1, PORTION_ROWS // max(1, len(samples)))
        """Trials in a portion."""
        self._portion: dict[str, pl.DataFrame] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self.addresses.trials)

    def __len__(self) -> int:
        return len(self.addresses.trials)

    def __getitem__(self, name: str) -> pl.DataFrame:
        if name not in self._portion:
            names = list(self.addresses.trials)
            start = names.index(name)
            self._portion = self._read(names[start : start + self.at_once])
        return self._portion[name]

    def _read(self, names: Sequence[str]) -> dict[str, pl.DataFrame]:
        found = dict(self.store.each([self.addresses.trials[name] for name in names]))
        return {name: self._ordered(name, found[self.addresses.trials[name]]) for name in names}

    def _ordered(self, name: str, rows: pl.DataFrame) -> pl.DataFrame:
        import polars as pl

        if rows["sample_key"].equals(self._sorted):  # by places, without the start of a query for each of many trials
            whole = rows[self._rank]
            trial = pl.repeat(name, len(whole), dtype=pl.String, eager=True)
            return pl.DataFrame({column: trial if column == "trial" else whole[column] for column in schema()})
        own = rows.join(self._order, on="sample_key").sort("order")
        if len(own) != len(self._order):
            raise EvaluationError(
                f"{self.store.folder} has {len(own)} of {len(self._order)} records of trial {name!r}; "
                "prunesweep store verify names damaged files"
            )
        return own.with_columns(trial=pl.lit(name)).select(list(schema())).rechunk()


def assembled(store: Store, samples: Sequence[Sample], addresses: Addresses) -> Assembled:
    """Each trial's records, by its name; raises EvaluationError if one is not there."""
    import polars as pl

    found = Assembled(store, samples, addresses)
    if len(found) <= found.at_once or not _done(store, samples, addresses, pl.lit(True)).has.all():
        for name in found:
            _ = found[name]  # says which trial lacks how many
    return found
