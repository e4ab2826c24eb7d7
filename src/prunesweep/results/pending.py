"""What an evaluation has still to finish, noted in its results' folder, so that it can be read while it runs or after a kill.

Trials get their folders once their whole batch is evaluated; until then their records lie in the store.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

from prunesweep.console.layout import visible
from prunesweep.disk.files import replace_file
from prunesweep.disk.foreign import read_json
from prunesweep.results.infeasible import all_infeasible
from prunesweep.results.latest import begun
from prunesweep.results.records import trial_folders

PENDING = "pending-*.json"
"""One for each process that works on a folder."""
SEARCHING = "searching-*.json"
MOST_BYTES = 256 * 2**20
"""Of a note: it names every question by 32 digits."""
MOST_NAMED = 3
"""Trials that could not be run, named with their reasons."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Note:
    """Of a process that works on a folder."""

    host: str
    process: int
    began: float
    """Of the process, in seconds since 1970: numbers of processes are used again."""

    @property
    def here(self) -> bool:
        return self.host == platform.node()

    @property
    def state(self) -> str:
        if self.running:
            return "running"
        if self.here:
            return "not running: the same command goes on from there"
        return f"started on {visible(self.host)}, which cannot be asked from here"

    @property
    def running(self) -> bool:
        """Whether its process lives on this machine."""
        try:
            process = psutil.Process(self.process)
            same = self.here and abs(process.create_time() - self.began) < 1.0
            return same and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.NoSuchProcess, ValueError, OverflowError):  # numbers of no process are in notes of others
            return False


@dataclass(frozen=True, kw_only=True)
class Pending(Note):
    """A batch that is not delivered yet."""

    trials: dict[str, str]
    """Key in the store by name."""
    samples: tuple[str, ...]
    """Keys of the questions."""
    store: str


@dataclass(frozen=True, kw_only=True)
class Searching(Note):
    """A search that has not had all its trials: its batches are noted one by one."""

    trials: int


@contextmanager
def noted(folder: Path | None, trials: dict[str, str], samples: Sequence[str], store: Path) -> Iterator[None]:
    """A note in `folder` as long as the evaluation takes; it stays where the process is killed, and goes with the next run."""
    if folder is None:
        yield
        return
    with _noting(folder, PENDING, {"trials": trials, "samples": list(samples), "store": str(store.absolute())}):
        begun(folder)
        yield


@contextmanager
def searching(folder: Path, trials: int) -> Iterator[None]:
    """The same for a search, with the number of trials that it is to have."""
    with _noting(folder, SEARCHING, {"trials": trials}):
        yield


@contextmanager
def _noting(folder: Path, pattern: str, content: Mapping[str, Any]) -> Iterator[None]:
    for path, raw in _raw_notes(folder, pattern):
        other = Note(**_process(raw))
        if other.here and not other.running:
            path.unlink(missing_ok=True)
    own = Note(host=platform.node(), process=os.getpid(), began=psutil.Process().create_time())
    path = folder / pattern.replace("*", f"{own.host}-{own.process}")
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps({**content, **asdict(own)}).encode())
    yield  # what is interrupted keeps its note: what it has made can be read
    path.unlink(missing_ok=True)


def read_pending(folder: Path) -> list[Pending]:
    """Of all processes that work, or worked, on a folder; notes that cannot be read are left out."""
    return [note for _, raw in _raw_notes(folder, PENDING) for note in _read(_pending, raw)]


def read_searching(folder: Path) -> list[Searching]:
    """Likewise of a search's workers."""
    return [note for _, raw in _raw_notes(folder, SEARCHING) for note in _read(_searching, raw)]


def unfinished(folder: Path) -> str | None:
    """Why a sweep or a run has no finished trial, and what shows the rest; None if it has one, or nothing is noted of it."""
    if trial_folders(folder):
        return None
    if notes := read_pending(folder):
        trials = {name for note in notes for name in note.trials}
        states = "; ".join(dict.fromkeys(note.state for note in notes))
        return f"{folder} has {len(trials)} trials and none is finished ({states}): prunesweep show {folder} shows what is there"
    if searches := read_searching(folder):
        states = "; ".join(dict.fromkeys(note.state for note in searches))
        return f"{folder} is a search for {searches[0].trials} trials and none is finished ({states})"
    if reasons := [one.line for one in all_infeasible(folder)]:
        more = f"; and {len(reasons) - MOST_NAMED} more" if len(reasons) > MOST_NAMED else ""
        return f"no trial of {folder} could be run: {'; '.join(reasons[:MOST_NAMED])}{more}"
    return None


def _raw_notes(folder: Path, pattern: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Those that tell their process."""
    for path in sorted(folder.glob(pattern)):
        try:
            raw = read_json(path, MOST_BYTES)
        except (OSError, ValueError):
            continue
        if _read(_process, raw):
            yield path, raw


def _process(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {"host": str(raw["host"]), "process": int(raw["process"]), "began": float(raw["began"])}


def _pending(raw: Mapping[str, Any]) -> Pending:
    trials = {visible(str(name)): str(key) for name, key in raw["trials"].items()}
    return Pending(trials=trials, samples=tuple(map(str, raw["samples"])), store=str(raw["store"]), **_process(raw))


def _searching(raw: Mapping[str, Any]) -> Searching:
    return Searching(trials=int(raw["trials"]), **_process(raw))


def _read(make: Callable[[Any], T], raw: Any) -> list[T]:
    """Nothing of what is none: folders of others hold anything."""
    try:
        return [make(raw)]
    except (ValueError, OverflowError, KeyError, TypeError, AttributeError):
        return []
