"""The store: every record ever made, addressed by the fingerprints of its trial and its sample.

    store.json                   the format
    trials/KEY/trial.json        what the trial was: KEY is the fingerprint of `made_of` in it
    trials/KEY/HASH.parquet      its records
    shards/HASH.parquet          records of evaluations that run or were interrupted, of any trials
    files.json                   hashes of files seen before

A parquet file is named after the hash of its bytes and never changed.  So damage shows, writing twice is writing once,
and merging stores is copying files.  A file is removed only after all its rows are in another one that is safely on disk;
readers look at shards before trials and start over when a file goes away meanwhile.  That makes any number of processes
on one store safe without a lock: the worst case is work done twice.  Nothing here looks at clocks or process ids.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from prunesweep.checks import EvaluationError
from prunesweep.fingerprint import LENGTH, RECORD_FORMAT, digest
from prunesweep.foreign import read_json
from prunesweep.records import PARTIAL, TRIAL, completed, parquet_bytes, replace_file, schema, to_frame
from prunesweep.types import Record

if TYPE_CHECKING:
    import polars as pl

log = logging.getLogger(__name__)
T = TypeVar("T")

FORMAT = "store.json"
TRIALS, SHARDS, FILES = "trials", "shards", "files.json"
SPEED = "speed.json"
"""What stages took with a model on a machine; see `prunesweep.ahead`."""
ADDRESS = ("key", "sample_key")
"""Columns that say which trial and sample a row is about."""
FLUSH_SECONDS, FLUSH_SHARE, FLUSH_MOST_SECONDS = 5.0, 0.01, 60.0
"""A shard is written when the last one is older than 1 % of the evaluation's time, but at least 5 s and at most 60 s: so
much a kill loses besides the videos in flight.  Writing one takes milliseconds, and ten hours make a thousand files."""
PATIENCE = 100
"""How often a reader starts over because files were gathered by others meanwhile."""


class StoredTrial(NamedTuple):
    """A trial that the store knows; `made_of` determines its records, `about` says how people call it."""

    key: str
    made_of: Mapping[str, Any]
    about: Mapping[str, Any]


class Problem(NamedTuple):
    """A file of the store that is not what it should be."""

    path: Path
    reason: str


class DamagedError(Exception):
    """A file that does not hold records."""


@dataclass(frozen=True)
class Store:
    """A folder of records."""

    folder: Path

    @classmethod
    def open(cls, folder: Path) -> Store:
        """Makes the folder if there is none; raises ValueError for a folder with other things in it."""
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is a file; set store.folder to a folder")
        if not (folder / FORMAT).exists():
            if folder.exists() and any(not path.name.endswith(PARTIAL) for path in folder.iterdir()):
                raise ValueError(f"{folder} holds other things than a store; set store.folder to a new folder")
            folder.mkdir(parents=True, exist_ok=True)
            _write_format(folder)
        if _format(folder) < RECORD_FORMAT:  # from now on it may hold records that older versions do not know
            _write_format(folder)
        return cls(folder)

    @classmethod
    def existing(cls, folder: Path) -> Store:
        """Raises ValueError if the folder is no store, or one of a format that is not known yet."""
        _format(folder)
        return cls(folder)

    @property
    def files(self) -> Path:
        """Where hashes of files are remembered."""
        return self.folder / FILES

    # writing

    def describe(self, trial: StoredTrial) -> None:
        """Notes what a trial is, before its first record."""
        path = self.folder / TRIALS / trial.key / TRIAL
        if read_description(path) is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            content = {"made_of": trial.made_of, "about": trial.about}
            replace_file(path, json.dumps(content, indent=1, sort_keys=True).encode())

    def add(self, rows: pl.DataFrame) -> str:
        """Writes rows of any trials as a shard; returns its file's name."""
        folder = self.folder / SHARDS
        folder.mkdir(exist_ok=True)
        return _write(rows, folder).name

    def commit(self, keys: Collection[str]) -> None:
        """Gathers all records of trials into one file each and removes the files that are covered by them."""
        wanted = set(keys)
        for path, rows in self._undisturbed(lambda: self._gather_all(wanted)):
            if wanted.issuperset(rows["key"]):
                path.unlink(missing_ok=True)

    def _gather_all(self, wanted: set[str]) -> list[tuple[Path, pl.DataFrame]]:
        """Writes the trials' files; returns the shards that have rows in them."""
        shards = [(path, rows) for path, rows in self._read(self._shards()) if wanted.intersection(rows["key"])]
        for key in sorted(wanted):
            self._gather(key, [rows for _, rows in shards])
        return shards

    def _gather(self, key: str, shards: Sequence[pl.DataFrame]) -> None:
        import polars as pl

        folder = self.folder / TRIALS / key
        committed = list(self._read(folder.glob("*.parquet")))
        fresh = [own for rows in shards if len(own := rows.filter(pl.col("key") == key))]
        if not fresh and len(committed) < 2:
            return
        folder.mkdir(parents=True, exist_ok=True)
        gathered = _write(_resolved([*fresh, *(rows for _, rows in committed)]), folder)
        for path, _ in committed:
            if path != gathered:
                path.unlink(missing_ok=True)

    # reading

    def trials(self) -> list[StoredTrial]:
        """All that are described, by key."""
        found = ((path, read_description(path)) for path in sorted((self.folder / TRIALS).glob(f"*/{TRIAL}")))
        return [trial for path, trial in found if trial is not None and trial.key == path.parent.name]

    def trial(self, key: str) -> StoredTrial | None:
        return read_description(self.folder / TRIALS / key / TRIAL)

    def records(self, keys: Collection[str]) -> pl.DataFrame:
        """One row for each trial and sample that has any; an answer beats an error."""
        wanted = list(dict.fromkeys(keys))
        return self._undisturbed(lambda: self._records(wanted))

    def _undisturbed(self, look: Callable[[], T]) -> T:
        """Looks again when a file is gone: another process has gathered it, and its rows are in a newer one."""
        for _ in range(PATIENCE):
            try:
                return look()
            except FileNotFoundError:
                continue
        raise EvaluationError(f"{self.folder} is changed by others all the time; try again")

    def _records(self, keys: Sequence[str]) -> pl.DataFrame:
        import polars as pl

        parts = [own for _, rows in self._read(self._shards()) if len(own := rows.filter(pl.col("key").is_in(keys)))]
        for key in keys:
            parts += [rows for _, rows in self._read((self.folder / TRIALS / key).glob("*.parquet"))]
        return _resolved(parts)

    def shards(self) -> set[str]:
        """Names of the files that are there now."""
        return {path.name for path in self._shards()}

    def read_shards(self, names: Iterable[str]) -> pl.DataFrame:
        """Rows of those that are still there."""
        return _resolved([rows for _, rows in self._read((self.folder / SHARDS / name for name in names), skip_gone=True)])

    def _shards(self) -> list[Path]:
        return sorted((self.folder / SHARDS).glob("*.parquet"))

    def _read(self, paths: Iterable[Path], skip_gone: bool = False) -> Iterator[tuple[Path, pl.DataFrame]]:
        for path in list(paths):
            try:
                yield path, read_file(path)
            except DamagedError as error:
                _warn_once(path, str(error))
            except FileNotFoundError:
                if not skip_gone:
                    raise


def _format(folder: Path) -> int:
    """Of a store: 1 to RECORD_FORMAT, all of which are read.  Raises ValueError for any other folder."""
    try:
        found = read_json(folder / FORMAT)["format"]
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{folder} is no store: it has no {FORMAT}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / FORMAT} is damaged; write {{'format': {RECORD_FORMAT}}} into it") from error
    if found not in range(1, RECORD_FORMAT + 1):
        raise ValueError(
            f"{folder} has store format {found}, this version reads formats up to {RECORD_FORMAT}; choose another store.folder"
        )
    return int(found)


def _write_format(folder: Path) -> None:
    replace_file(folder / FORMAT, json.dumps({"format": RECORD_FORMAT}).encode())


@cache
def _warn_once(path: Path, reason: str) -> None:
    log.warning("%s in the store: %s; left out, and its records are made again", path.name, reason)


def read_file(path: Path) -> pl.DataFrame:
    """A file's rows; raises DamagedError if it is truncated, garbage or of another origin."""
    import polars as pl

    content = path.read_bytes()
    if content_name(content) != path.stem:
        raise DamagedError("not the bytes that its name stands for: truncated, changed or foreign")
    try:
        rows = pl.read_parquet(content)
        return completed(rows).select(list(row_schema())).cast(row_schema())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DamagedError(f"not records of this format: {' '.join(str(error).split())[:200]}") from error


def content_name(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:LENGTH]


def row_schema() -> pl.Schema:
    """A record's columns, its address, and when it was made (seconds since 1970)."""
    import polars as pl

    return pl.Schema({"key": pl.String, "sample_key": pl.String, "at": pl.Float64, **schema()})


def to_rows(records: Iterable[tuple[str, str, Record]]) -> pl.DataFrame:
    """Records with the keys of their trial and sample; a trial's name is not kept, it differs between sweeps."""
    import polars as pl

    listed = list(records)
    keys, samples = pl.Series([one[0] for one in listed]), pl.Series([one[1] for one in listed])
    frame = to_frame(record for *_, record in listed)
    return frame.with_columns(key=keys, trial=keys, sample_key=samples, at=pl.lit(time.time())).select(list(row_schema()))


def _resolved(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One row per trial and sample: an answer beats an error, then the oldest answer and the newest error win."""
    import polars as pl

    rows = pl.concat([pl.DataFrame(schema=row_schema()), *parts])
    failed = pl.col("error").is_not_null()
    order = [*ADDRESS, failed, pl.when(failed).then(-pl.col("at")).otherwise(pl.col("at"))]
    return rows.sort(order, maintain_order=True).unique(ADDRESS, keep="first", maintain_order=True)


def _write(rows: pl.DataFrame, folder: Path) -> Path:
    content = parquet_bytes(rows)
    path = folder / f"{content_name(content)}.parquet"
    replace_file(path, content)
    return path


def read_description(path: Path) -> StoredTrial | None:
    """What a trial.json says; None if it cannot be read."""
    try:
        raw = read_json(path)
        return StoredTrial(digest(raw["made_of"]), {**raw["made_of"]}, {**raw["about"]})
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


class Writer:
    """Collects records and hands them to a store in shards, rarely enough not to slow the evaluation down."""

    def __init__(self, store: Store):
        self.store = store
        self.written: set[str] = set()
        """Names of its shards."""
        self._waiting: list[tuple[str, str, Record]] = []
        self._began = self._flushed = time.monotonic()

    def add(self, records: Iterable[tuple[str, str, Record]]) -> None:
        """Records with the keys of their trial and sample."""
        self._waiting += records
        now = time.monotonic()
        pause = min(max(FLUSH_SECONDS, FLUSH_SHARE * (now - self._began)), FLUSH_MOST_SECONDS)
        if now - self._flushed >= pause:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            self.written.add(self.store.add(to_rows(self._waiting)))
            self._waiting = []
        self._flushed = time.monotonic()
