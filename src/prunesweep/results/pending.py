"""What an evaluation has still to finish, noted in its results' folder, so that it can be read while it runs or after a kill.

Trials get their folders once their whole batch is evaluated; until then their records lie in the store.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from prunesweep.analysis.summary import Accuracy, accuracy
from prunesweep.foreign import read_json
from prunesweep.results.infeasible import all_infeasible
from prunesweep.results.records import replace_file, trial_folders
from prunesweep.results.store import Store

if TYPE_CHECKING:
    import polars as pl

PENDING = "pending-*.json"
"""One for each process that works on a folder."""
MOST_BYTES = 256 * 2**20
"""Of a note: it names every question by 32 digits."""
MOST_NAMED = 3
"""Trials that could not be run, named with their reasons."""


@dataclass(frozen=True)
class Pending:
    """A batch that is not delivered yet."""

    trials: dict[str, str]
    """Key in the store by name."""
    samples: tuple[str, ...]
    """Keys of the questions."""
    store: str
    host: str
    process: int
    began: float
    """Of the process, in seconds since 1970: numbers of processes are used again."""

    @property
    def here(self) -> bool:
        return self.host == platform.node()

    @property
    def running(self) -> bool:
        """Whether its process lives on this machine."""
        try:
            process = psutil.Process(self.process)
            same = self.here and abs(process.create_time() - self.began) < 1.0
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


@contextmanager
def noted(folder: Path | None, trials: dict[str, str], samples: Sequence[str], store: Path) -> Iterator[None]:
    """A note in `folder` as long as the evaluation takes; it stays where the process is killed, and goes with the next run."""
    if folder is None:
        yield
        return
    for path, other in _notes(folder):
        if other.here and not other.running:
            path.unlink(missing_ok=True)
    own = psutil.Process()
    pending = Pending(trials, tuple(samples), str(store.absolute()), platform.node(), os.getpid(), own.create_time())
    path = folder / PENDING.replace("*", f"{platform.node()}-{os.getpid()}")
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps(asdict(pending)).encode())
    yield  # an interrupted evaluation keeps its note: what it has made can be read
    path.unlink(missing_ok=True)


def read_pending(folder: Path) -> list[Pending]:
    """Of all processes that work, or worked, on a folder; notes that cannot be read are left out."""
    return [pending for _, pending in _notes(folder)]


def unfinished(folder: Path) -> str | None:
    """Why a sweep or a run has no finished trial, and what shows the rest; None if it has one, or nothing is noted of it."""
    if trial_folders(folder):
        return None
    if notes := read_pending(folder):
        trials = {name for note in notes for name in note.trials}
        states = "; ".join(dict.fromkeys(map(_state, notes)))
        return f"{folder} has {len(trials)} trials and none is finished ({states}): prunesweep-stats {folder} shows what is there"
    if reasons := [one.line for one in all_infeasible(folder)]:
        more = f"; and {len(reasons) - MOST_NAMED} more" if len(reasons) > MOST_NAMED else ""
        return f"no trial of {folder} could be run: {'; '.join(reasons[:MOST_NAMED])}{more}"
    return None


def _notes(folder: Path) -> Iterator[tuple[Path, Pending]]:
    for path in sorted(folder.glob(PENDING)):
        try:
            raw: dict[str, Any] = read_json(path, MOST_BYTES)
            trials = {str(name): str(key) for name, key in raw["trials"].items()}
            samples = tuple(map(str, raw["samples"]))
            yield path, Pending(trials, samples, str(raw["store"]), str(raw["host"]), int(raw["process"]), float(raw["began"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue


@dataclass(frozen=True)
class Progress:
    """How far one trial is."""

    name: str
    records: int
    errors: int
    accuracy: Accuracy
    """Of the questions so far: those of some videos, so not yet of the benchmark."""


def progress(pending: Pending) -> list[Progress]:
    """Of each trial, from the records in the store.  Raises ValueError if the store is gone."""
    import polars as pl

    asked = pl.col("sample_key").is_in(list(pending.samples))
    names: dict[str, list[str]] = {}
    for name, key in pending.trials.items():
        names.setdefault(key, []).append(name)
    found = {
        name: _progress(name, rows.filter(asked))
        for key, rows in Store.existing(Path(pending.store)).each(names)
        for name in names[key]
    }
    return [found[name] for name in pending.trials]


def _progress(name: str, records: pl.DataFrame) -> Progress:
    return Progress(name, len(records), records["error"].count(), accuracy(records))


def lines(pending: Pending) -> list[str]:
    """What is there, as text: one line, then a table of the trials that have records.

    Raises ValueError if the store is gone.
    """
    from prunesweep.report.text import accuracy_text, grid

    found = progress(pending)
    whole, made = len(found) * len(pending.samples), sum(one.records for one in found)
    each = f"{len(pending.samples):,}"
    rows = [
        (one.name, f"{one.records:,} of {each}", str(one.errors), accuracy_text(*one.accuracy)) for one in found if one.records
    ]
    last = "" if pending.here else _last_written(Path(pending.store))
    said = f"{made:,} of {whole:,} records, {_state(pending)}{last}"
    return [said, *(grid(("trial", "records", "errors", "accuracy ± SE so far"), rows).splitlines() if rows else [])]


def _state(pending: Pending) -> str:
    if pending.running:
        return "running"
    if pending.here:
        return "not running: the same command goes on from there"
    return f"started on {pending.host}, which cannot be asked from here"


def _last_written(store: Path) -> str:
    ages = [time.time() - path.stat().st_mtime for path in Store.existing(store).folder.glob("**/*.parquet")]
    return f"; the store was last written to {min(ages):,.0f} s ago" if ages else ""
