"""What a batch of trials asks of a store: which records it has, and which videos are still to be evaluated."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from prunesweep.answering import code_of
from prunesweep.benchmarks import by_video
from prunesweep.checks import EvaluationError
from prunesweep.fingerprint import (
    RECORD_FORMAT,
    Files,
    described,
    of_checkpoint,
    of_model,
    roots_of,
    unplaced,
    versions,
)
from prunesweep.protocol import Protocol
from prunesweep.records import PASSING, schema
from prunesweep.reducers import Reducer
from prunesweep.store import ADDRESS, Store
from prunesweep.types import Sample

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Trial:
    """One configuration to evaluate."""

    name: str
    reducer: Reducer
    frames: int
    protocol: Protocol


@dataclass(frozen=True)
class Timing:
    """Where the seconds of an evaluation went; `run` of `alone` stages were left to run after sharing."""

    seconds: dict[str, float]
    total: float
    run: int
    alone: int
    evaluated: int = 0
    """Records made."""
    reused: int = 0
    """Records that the store had."""
    evaluating: float = 0.0
    """Seconds of `total` from the first process's first video to the last one's last."""


def sum_timings(timings: Sequence[Timing]) -> Timing:
    """Of evaluations one after the other."""
    names = dict.fromkeys(name for timing in timings for name in timing.seconds)
    seconds = {name: sum(timing.seconds.get(name, 0.0) for timing in timings) for name in names}
    numbers = {field.name: sum(getattr(timing, field.name) for timing in timings) for field in fields(Timing)[1:]}
    return Timing(seconds, **numbers)


class Addresses(NamedTuple):
    """Where the records of a batch are in a store."""

    trials: Mapping[str, str]
    """Key by trial name; trials that are made of the same share one."""
    samples: Mapping[str, str]
    """Key by sample id."""


@dataclass(frozen=True)
class Work:
    """What is left to do."""

    videos: tuple[tuple[Sample, ...], ...]
    """The questions of each video that lacks a record."""
    done: frozenset[tuple[str, str]]
    """Addresses of the records that these videos' questions have already."""
    missing: int
    """Records to make."""
    known: int
    """Records that are there."""


ONCE = "once"
"""In what a trial is made of where its code cannot be followed: no other run's records are its own."""
THIS_RUN = secrets.token_hex(16)


def made_of(trial: Trial, load: Mapping[str, Any], device: str, files: Files, benchmark: str) -> dict[str, Any]:
    """Everything that determines a trial's records: see `prunesweep.fingerprint`.

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


def parts_of(trial: Trial, load: Mapping[str, Any], files: Files) -> dict[str, Any]:
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

    keys = set(addresses.trials.values())
    found = store.records(keys).filter(pl.col("sample_key").is_in([addresses.samples[sample.id] for sample in samples]))
    error = pl.col("error")
    found = found.filter(error.is_null() if retry_errors else error.is_null() | ~error.str.starts_with(PASSING))
    counts = dict(found.group_by("sample_key").len().iter_rows())
    complete = {sample.id for sample in samples if counts.get(addresses.samples[sample.id], 0) == len(keys)}
    videos = tuple(video for video in by_video(samples) if any(sample.id not in complete for sample in video))
    inside = [addresses.samples[sample.id] for video in videos for sample in video]
    done = frozenset(found.filter(pl.col("sample_key").is_in(inside)).select(ADDRESS).iter_rows())
    return Work(videos, done, missing=len(keys) * len(samples) - len(found), known=len(found))


def assembled(store: Store, samples: Sequence[Sample], addresses: Addresses) -> dict[str, pl.DataFrame]:
    """Each trial's records, by its name, in the order of the samples; raises EvaluationError if one is not there."""
    import polars as pl

    found = store.records(addresses.trials.values())
    order = pl.DataFrame({"sample_key": [addresses.samples[sample.id] for sample in samples], "order": range(len(samples))})
    ordered = found.join(order, on="sample_key").sort("order").drop("order")
    by_key = {key: part for (key,), part in ordered.group_by("key", maintain_order=True)}
    for name, key in addresses.trials.items():
        if len(by_key.get(key, ())) != len(samples):
            raise EvaluationError(
                f"{store.folder} has {len(by_key.get(key, ()))} of {len(samples)} records of trial {name!r}; "
                "prunesweep-store verify names damaged files"
            )
    columns = list(schema())
    return {
        name: by_key[key].with_columns(trial=pl.lit(name)).select(columns).rechunk() for name, key in addresses.trials.items()
    }
