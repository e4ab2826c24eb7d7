"""Records, and a finished trial's folder: one parquet file and a small JSON that says what the trial was.

A file is written under a temporary name, flushed to disk and renamed, so that a reader never sees half of one.  While a
trial is being evaluated its records are in the store (`prunesweep.results.store`).
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from prunesweep.console.layout import visible
from prunesweep.cost import LinearShape, Shape, Usage, VisionShape
from prunesweep.disk.files import replace_file
from prunesweep.disk.foreign import read_json
from prunesweep.types import Record

if TYPE_CHECKING:
    import polars as pl

RECORDS = "records.parquet"
TRIAL = "trial.json"
CONFIG = "config.yaml"
"""A trial's configuration with every interpolation resolved; Hydra's own copy in .hydra/ keeps them."""
MEASURED = "measured.json"
LATEST = "latest"
"""A link beside the folders of runs or sweeps, to the one that was started last."""


@dataclass(frozen=True)
class Stopped:
    """Why a trial has fewer records than samples: a race showed it worse than a rival that costs no more."""

    rival: str
    samples: int
    planned: int
    difference: float
    """Accuracy minus the rival's on the samples seen."""
    difference_low: float
    difference_high: float
    """Of the difference over all planned samples; valid although the race looked several times, like the next interval."""
    accuracy_low: float
    accuracy_high: float
    confidence: float


@dataclass(frozen=True)
class TrialInfo:
    """What the numbers of a trial need besides its records."""

    name: str
    """Short and unique within a sweep: the reducer and the overrides that make the trial differ."""
    reducer: str
    model: str
    benchmark: str
    overrides: tuple[str, ...]
    """As given to Hydra."""
    settings: dict[str, Any]
    """The resolved reducer, video and protocol settings."""
    shape: Shape
    key: str = ""
    """Its fingerprint in the store; empty for what was evaluated without one."""
    stopped: Stopped | None = None
    model_key: str = ""
    """Fingerprint of the model with its weights."""
    samples_key: str = ""
    """Fingerprint of all samples that were to be answered."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of the libraries that made the records."""


class Trial(NamedTuple):
    """A trial read back."""

    info: TrialInfo
    records: pl.DataFrame
    folder: Path
    measured: dict[str, Any] | None = None
    """Seconds and memory, as `latency.as_columns` names them, if the trial was measured."""


PASSING = "TooSlowError: "
"""How errors begin that are of the day, not of the sample: a busy machine, a slow disk."""


def may_pass(error: str) -> bool:
    """Whether the next run tries such a sample again without being told to."""
    return error.startswith(PASSING)


def schema() -> dict[str, Any]:
    """Columns of the records with their types: the fields of Record, and in place of its usage those of Usage."""
    import polars as pl

    text, number, yes = pl.String, pl.Int64, pl.Boolean
    lists = {"choices": text, "choice_scores": pl.Float64, **dict.fromkeys(BY_LAYER, number)}
    plain = {"correct": yes, "chosen": number, "named": number}
    plain |= {name: number for name in USAGE if name not in lists}
    own = [name for field in fields(Record) for name in (USAGE if field.name == "usage" else (field.name,))]
    return {name: pl.List(lists[name]) if name in lists else plain.get(name, text) for name in own}


USAGE = tuple(field.name for field in fields(Usage))


BY_LAYER = ("visual_tokens", "cached_tokens", "fed_tokens", "attended_tokens", "tower_tokens")
"""Of USAGE, lists."""
ADDED = ("named", "fed_tokens", "attended_tokens", "tower_tokens")
"""Columns that records of earlier versions lack."""
SOURCES = {"cached_tokens": ("visual_tokens",), "named": ("chosen", "correct", "error")}
"""What such columns, or columns of another meaning, are worked out from."""


def completed(frame: pl.DataFrame, columns: Sequence[str] = ADDED) -> pl.DataFrame:
    """Records of any format as this one has them, with all of these columns that are newer than they."""
    import polars as pl

    if "named" in columns and "named" not in frame.columns:
        known = set(SOURCES["named"]).issubset(frame.columns)
        frame = frame.with_columns(_named_once() if known else pl.lit(None, pl.Int64).alias("named"))
    new = [name for name in columns if name in BY_LAYER and name in ADDED and name not in frame.columns]
    if new:
        frame = frame.with_columns(pl.lit(None, pl.List(pl.Int64)).alias(name) for name in new)
    return _cached_by_layer(frame)


def _named_once() -> pl.Expr:
    """Earlier records do not tell an answer that names several options from one that names one."""
    import polars as pl

    chosen, asked = pl.col("chosen").is_not_null(), pl.col("error").is_null() & pl.col("correct").is_not_null()
    return pl.when(chosen).then(1).when(asked).then(0).otherwise(None).cast(pl.Int64).alias("named")


def _cached_by_layer(rows: pl.DataFrame) -> pl.DataFrame:
    """Format 1 had one number of cached tokens, the same in all layers."""
    import polars as pl

    if rows.schema.get("cached_tokens") != pl.Int64:
        return rows
    number = pl.col("cached_tokens")
    in_all_layers = number.repeat_by(pl.col("visual_tokens").list.len())
    return rows.with_columns(cached_tokens=pl.when(number.is_not_null()).then(in_all_layers))


def to_frame(records: Iterable[Record]) -> pl.DataFrame:
    import polars as pl

    flat = ({**vars(record), **vars(record.usage)} for record in records)
    rows = [{name: list(v) if isinstance(v, tuple) else v for name, v in row.items() if name != "usage"} for row in flat]
    return pl.DataFrame(rows, schema=schema())


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def write_parquet(frame: pl.DataFrame, path: Path) -> None:
    replace_file(path, parquet_bytes(frame))


def write_trial(folder: Path, info: TrialInfo, records: pl.DataFrame, measured: dict[str, Any] | None = None) -> None:
    """The description first: a folder with records is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    if measured:
        replace_file(folder / MEASURED, json.dumps(measured, indent=1).encode())
    replace_file(folder / TRIAL, json.dumps(asdict(info), indent=1).encode())
    write_parquet(records, folder / RECORDS)


def read_trial(folder: Path, columns: Sequence[str] | None = None) -> Trial:
    """A trial as written, or with these columns of its records only.

    Raises ValueError for a description that is none.
    """
    info = read_info(folder)
    measured = folder / MEASURED
    times = read_json(measured) if measured.exists() else None
    records = _read_records(folder / RECORDS, columns)
    return Trial(info, records, folder, times)


def read_info(folder: Path) -> TrialInfo:
    """What a trial is, without its records.  Raises ValueError for a description that is none."""
    try:
        raw = _described(folder / TRIAL)
        raw["overrides"] = tuple(raw["overrides"])
        raw["shape"] = read_shape(raw["shape"])
        raw["stopped"] = Stopped(**raw["stopped"]) if raw.get("stopped") else None
        unknown = [visible(str(name)) for name in raw if name not in {field.name for field in fields(TrialInfo)}]
        if unknown:
            raise ValueError(f"{TRIAL} has {unknown[0]!r}, which no trial of this version has")
        return TrialInfo(**raw)
    except KeyError as error:
        raise ValueError(f"{TRIAL} has no {error}") from error
    except TypeError as error:
        raise ValueError(f"{TRIAL} does not describe a trial of this version") from error


def _described(path: Path) -> dict[str, Any]:
    """Raises ValueError if the names in it are no text: they are shown, compared and made part of file names."""
    raw = dict(read_json(path))
    for name in ("name", "reducer", "model", "benchmark"):
        if not isinstance(raw[name], str):
            raise ValueError(f"{path.name} has no text for {name}")
        raw[name] = visible(raw[name])
    raw["overrides"] = [visible(str(one)) for one in raw["overrides"]]
    if not isinstance(raw["settings"], dict):
        raise ValueError(f"{path.name} has no settings")
    return raw


def _read_records(path: Path, columns: Sequence[str] | None) -> pl.DataFrame:
    import polars as pl

    if columns is None:
        return completed(pl.read_parquet(path, glob=False))
    with path.open("rb") as file:
        there = pl.read_parquet_schema(file)
    beside = [source for name in columns if not (name in ADDED and name in there) for source in SOURCES.get(name, ())]
    wanted = [name for name in columns if name in there or name not in ADDED]
    needed = list(dict.fromkeys([*wanted, *(name for name in beside if name in there)]))
    own = pl.read_parquet(path, columns=needed, glob=False)
    return completed(own, columns).select(list(columns))


def read_shape(raw: Mapping[str, Any]) -> Shape:
    """A model's sizes, back from JSON; raises TypeError or ValueError for what has none."""
    raw = dict(raw)
    linear = raw.get("linear")
    return Shape(**{**raw, "vision": VisionShape(**raw["vision"]), "linear": linear and LinearShape(**linear)})


def trial_folders(sweep: Path) -> list[Path]:
    """The folders of all complete trials below a sweep's folder, in the order of their numbers."""
    return folders_with(sweep, RECORDS)


def folders_with(sweep: Path, name: str) -> list[Path]:
    """The folders directly below that have a file of this name, in order; `latest` is only another name of one of them."""
    return in_order(path.parent for path in sweep.glob(f"*/{name}") if path.parent.name != LATEST)


def in_order(folders: Iterable[Path]) -> list[Path]:
    """By their numbers, then those with names."""
    return sorted(folders, key=lambda folder: (not folder.name.isdigit(), folder.name.zfill(9)))


def read_trials(sweep: Path) -> list[Trial]:
    """All complete trials below a sweep's folder, in the order of their folders' numbers."""
    return [read_trial(folder) for folder in trial_folders(sweep)]
