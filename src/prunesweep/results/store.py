"""The store: every record ever made, addressed by the fingerprints of its trial and its sample.

    store.json                   the format
    trials/KEY/trial.json        what the trial was: KEY is the fingerprint of `made_of` in it
    trials/KEY/HASH.parquet      its records
    shards/HASH.parquet          records of evaluations that run or were interrupted, of any trials
    files.json                   hashes of files seen before
    solved/KEY.json              settings that were solved for a cost; see `prunesweep.sweep.solved`

A parquet file is named after the hash of its bytes and never changed.  So damage shows, writing twice is writing once,
and merging stores is copying files.  A file is removed only after all its rows are in another one that is safely on disk;
readers look at shards before trials and start over when a file goes away meanwhile.  That makes any number of processes
on one store safe without a lock: the worst case is work done twice.  Nothing here looks at clocks or process ids.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from prunesweep.checks import EvaluationError
from prunesweep.disk.files import PARTIAL, replace_file
from prunesweep.disk.foreign import read_json
from prunesweep.results.keys.fingerprint import LENGTH, RECORD_FORMAT, digest
from prunesweep.results.records import (
    TRIAL,
    completed,
    parquet_bytes,
    schema,
    to_frame,
)
from prunesweep.types import Record

if TYPE_CHECKING:
    import polars as pl

log = logging.getLogger(__name__)
T = TypeVar("T")

FORMAT = "store.json"
TRIALS, SHARDS, FILES = "trials", "shards", "files.json"
SOLVED = "solved"
SPEED = "speed.json"
"""What stages took with a model on a machine; see `prunesweep.sweep.ahead`."""
MODELS = "models.json"
"""Whose layers were compared with their stock forward; see `prunesweep.engine.selfcheck`."""
ADDRESS = ("key", "sample_key")
"""Columns that say which trial and sample a row is about."""
NEEDED = (*ADDRESS, "at", "error")
"""To choose among rows of one address."""
PORTION_ROWS = 50_000
"""Rows of shards that are in memory at once: 50 MB of them."""
Shards = list[tuple[Path, dict[str, int]]]
"""Files, with the number of rows of each trial in them."""
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

    def solved(self, key: str) -> Path:
        """Where the solution of that key is, if it is known."""
        return self.folder / SOLVED / f"{key}.json"

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
        for path, _ in self._undisturbed(lambda: self._gather_all(wanted)):
            path.unlink(missing_ok=True)

    def _gather_all(self, wanted: set[str]) -> list[tuple[Path, set[str]]]:
        """Writes the trials' files; returns the shards that hold nothing else."""
        shards = self._index()
        for portion in _portions(sorted(wanted), shards):
            fresh = self._fresh(portion, shards)
            for key in portion:
                self._gather(key, fresh.get(key))
        return [(path, set(counts)) for path, counts in shards if counts and wanted.issuperset(counts)]

    def _gather(self, key: str, fresh: pl.DataFrame | None) -> None:
        folder = self.folder / TRIALS / key
        committed = list(self._read(folder.glob("*.parquet")))
        if fresh is None and len(committed) < 2:
            return
        folder.mkdir(parents=True, exist_ok=True)
        parts = [rows for _, rows in committed]
        gathered = _write(_resolved([*([] if fresh is None else [fresh]), *parts]), folder)
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

    def records(self, keys: Collection[str], columns: Sequence[str] | None = None) -> pl.DataFrame:
        """One row for each trial and sample that has any, with its address; an answer beats an error."""
        import polars as pl

        parts = [rows for _, rows in self.each(sorted(keys), columns)]
        return pl.concat([pl.DataFrame(schema=row_schema()).select(*_kept(columns)), *parts])

    def each(self, keys: Collection[str], columns: Sequence[str] | None = None) -> Iterator[tuple[str, pl.DataFrame]]:
        """A trial after the other, as given, with its rows as `records` has them: memory is that of a portion, not of a store."""
        shards = self._undisturbed(self._index)
        for portion in _portions(list(dict.fromkeys(keys)), shards):
            fresh = self._undisturbed(functools.partial(self._fresh_by_now, portion, shards, columns))
            for key in portion:
                yield key, self._undisturbed(functools.partial(self._of_trial, key, fresh.get(key), columns))

    def _fresh_by_now(self, keys: Sequence[str], shards: Shards, columns: Sequence[str] | None) -> dict[str, pl.DataFrame]:
        """What is gone from `shards` since is in its trials' files, which are read afterwards."""
        gone = any(not path.exists() for path, _ in shards)
        return self._fresh(keys, self._index() if gone else shards, columns)

    def _of_trial(self, key: str, fresh: pl.DataFrame | None, columns: Sequence[str] | None) -> pl.DataFrame:
        committed = [rows for _, rows in self._read((self.folder / TRIALS / key).glob("*.parquet"), columns)]
        return _resolved([*([] if fresh is None else [fresh]), *committed], columns)

    def _index(self) -> Shards:
        """All sound shards, with the number of rows of each trial."""
        found = self._read(self._shards(), ())
        return [(path, dict(rows.group_by("key").len().iter_rows())) for path, rows in found]

    def _fresh(self, keys: Sequence[str], shards: Shards, columns: Sequence[str] | None = None) -> dict[str, pl.DataFrame]:
        """Rows of shards, by trial."""
        import polars as pl

        holding = [path for path, counts in shards if not counts.keys().isdisjoint(keys)]
        parts = [rows.filter(pl.col("key").is_in(keys)) for _, rows in self._read(holding, columns)]
        if not parts:
            return {}
        together = pl.concat(parts).sort(ADDRESS, maintain_order=True)  # once, and none of its trials has to be
        return {key: rows for (key,), rows in together.partition_by("key", as_dict=True).items()}

    def _undisturbed(self, look: Callable[[], T]) -> T:
        """Looks again when a file is gone: another process has gathered it, and its rows are in a newer one."""
        for _ in range(PATIENCE):
            try:
                return look()
            except FileNotFoundError:
                continue
        raise EvaluationError(f"{self.folder} is changed by others all the time; try again")

    def require_own_folders(self) -> None:
        """Raises ValueError if a folder in it is a link: what is written or removed there would be somewhere else.

        For what changes a store that somebody else may have made.
        """
        for folder in (self.folder / TRIALS, self.folder / SHARDS, *(self.folder / TRIALS).glob("*")):
            if folder.is_symlink():
                raise ValueError(f"{folder} is a link, and a store has none; put the folder itself there, or remove the link")

    def shards(self) -> set[str]:
        """Names of the files that are there now."""
        return {path.name for path in self._shards()}

    def read_shards(self, names: Iterable[str], columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Rows of those that are still there."""
        paths = (self.folder / SHARDS / name for name in names)
        return _resolved([rows for _, rows in self._read(paths, columns, skip_gone=True)], columns)

    def _shards(self) -> list[Path]:
        return sorted((self.folder / SHARDS).glob("*.parquet"))

    def _read(
        self, paths: Iterable[Path], columns: Sequence[str] | None = None, skip_gone: bool = False
    ) -> Iterator[tuple[Path, pl.DataFrame]]:
        for path in list(paths):
            try:
                yield path, read_file(path, columns)
            except DamagedError as error:
                _warn_once(path, str(error))
            except FileNotFoundError:
                if not skip_gone:
                    raise


def _portions(keys: Sequence[str], shards: Shards) -> Iterator[list[str]]:
    """Keys of so many trials that their rows in shards fit into memory together."""
    rows = Counter[str]()
    for _, counts in shards:
        rows.update(counts)
    portion: list[str] = []
    held = 0
    for key in keys:
        if portion and held + rows[key] > PORTION_ROWS:
            yield portion
            portion, held = [], 0
        portion.append(key)
        held += rows[key]
    if portion:
        yield portion


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


def read_file(path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """A file's rows, all or these columns of them besides what `_resolved` needs.

    Raises DamagedError if it is truncated, garbage or of another origin.
    """
    import polars as pl

    content = path.read_bytes()
    if content_name(content) != path.stem:
        raise DamagedError("not the bytes that its name stands for: truncated, changed or foreign")
    names = [*row_schema()] if columns is None else [name for name in row_schema() if name in (*NEEDED, *columns)]
    beside = ("visual_tokens",) if "cached_tokens" in names else ()  # of files of format 1, which `completed` counts by
    try:
        there = pl.read_parquet_schema(io.BytesIO(content))
        rows = pl.read_parquet(io.BytesIO(content), columns=[name for name in there if name in (*names, *beside)])
        if list(rows.schema.items()) == [(name, kind) for name, kind in row_schema().items() if name in names]:
            return rows
        return completed(rows, names).select(names).cast({name: kind for name, kind in row_schema().items() if name in names})
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DamagedError(f"not records of this format: {' '.join(str(error).split())[:200]}") from error


def content_name(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:LENGTH]


@cache
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


def _resolved(parts: Sequence[pl.DataFrame], columns: Sequence[str] | None = None) -> pl.DataFrame:
    """One row per trial and sample: an answer beats an error, then the oldest answer and the newest error win."""
    import polars as pl

    if len(parts) == 1 and _is_resolved(parts[0]):
        return parts[0][_kept(columns)]
    if not parts:
        return pl.DataFrame(schema={name: row_schema()[name] for name in _kept(columns)})
    rows = pl.concat([pl.DataFrame(schema=row_schema()).select(*_kept(columns, NEEDED)), *parts])
    failed = pl.col("error").is_not_null()
    order = [*ADDRESS, failed, pl.when(failed).then(-pl.col("at")).otherwise(pl.col("at"))]
    chosen = rows.sort(order, maintain_order=True).unique(ADDRESS, keep="first", maintain_order=True)
    return chosen.select(*_kept(columns))


def _is_resolved(rows: pl.DataFrame) -> bool:
    """Whether these are one trial's rows as a gathered file has them: in order, each sample once.  Sorting takes far longer."""
    samples = rows["sample_key"]
    return rows["key"].n_unique() <= 1 and samples.is_sorted() and samples.n_unique() == len(rows)


def _kept(columns: Sequence[str] | None, needed: Sequence[str] = ADDRESS) -> list[str]:
    """The asked for columns in their order, those that are needed among them."""
    return [name for name in row_schema() if columns is None or name in (*needed, *columns)]


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
