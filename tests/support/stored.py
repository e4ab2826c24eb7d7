"""Trials and rows as a store keeps them."""

from __future__ import annotations

import polars as pl

from prunesweep.engine.candidate import Candidate
from prunesweep.engine.protocol import Protocol
from prunesweep.reducers import Reducer
from prunesweep.reducers.prunevid import Merge, Prune
from prunesweep.results.store import Store, read_file, to_rows
from prunesweep.sweep.work import (
    Addresses,
)
from prunesweep.types import Record, Sample

ROOTS = (
    "prunesweep.reducers.fastv.Prune",
    "prunesweep.reducers.prunevid.Merge",
    "prunesweep.engine.protocol.Protocol",
    "prunesweep.models.llava_onevision.load",
)
"""Of the code behind a usual trial."""

WORDS = Protocol("words", "choose")
TRIALS = [
    Candidate("dense", Reducer("none"), 4, WORDS),
    Candidate("merged", Reducer("prunevid", Merge(), None), 4, WORDS),
    Candidate("pruned", Reducer("prunevid", Merge(), Prune(layer=2)), 4, WORDS),
]


def record(sample: str = "a", error: str | None = None, prediction: str = "red") -> Record:
    answer = {"prediction": None, "correct": None} if error else {"prediction": prediction, "correct": True}
    return Record("named by a sweep", sample, "v", "t", ("red", "blue"), "red", **answer, error=error)


def rows(*records: Record, key: str = "k") -> pl.DataFrame:
    return to_rows((key, one.sample_id, one) for one in records)


def addresses(trials: list[Candidate], samples: list[Sample]) -> Addresses:
    return Addresses({trial.name: f"key of {trial.name}" for trial in trials}, {s.id: f"key of {s.id}" for s in samples})


def rows_in(store: Store) -> list[tuple[str, str]]:
    """The addresses of all rows in all files, as often as they are there."""
    return [row for path in store.folder.rglob("*.parquet") for row in read_file(path).select("key", "sample_key").iter_rows()]
