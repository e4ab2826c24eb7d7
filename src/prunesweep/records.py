"""Records on disk: one parquet file per trial and a small JSON that says what the trial was.

A file is written under a temporary name, flushed to disk and renamed, so that a reader never sees half of one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from prunesweep.cost import Shape, VisionShape
from prunesweep.protocol import Protocol, names_target
from prunesweep.types import Answer, Record, Sample

if TYPE_CHECKING:
    import polars as pl

RECORDS = "records.parquet"
TRIAL = "trial.json"


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
    stopped: Stopped | None = None


class Trial(NamedTuple):
    """A trial read back."""

    info: TrialInfo
    records: pl.DataFrame
    folder: Path


def score(sample: Sample, trial: str, answer: Answer, frames: int, protocol: Protocol) -> Record:
    """The record of an answered sample.  Scored options are compared by index, generated text by its first words."""
    if answer.choice_scores:
        best = answer.choice_scores.index(max(answer.choice_scores))
        prediction, correct = sample.choices[best], best == sample.target
    else:
        prediction, correct = answer.text, names_target(answer.text, sample, protocol)
    return Record(
        **_identity(sample, trial),
        prediction=prediction,
        correct=correct,
        choice_scores=answer.choice_scores,
        visual_tokens=answer.visual_tokens,
        text_tokens=answer.text_tokens,
        generated_tokens=len(answer.token_ids),
        frames=frames,
        dense_tokens=answer.dense_tokens,
        reduction_flops=answer.reduction_flops,
    )


def failure(sample: Sample, trial: str, error: Exception) -> Record:
    """The record of a sample that could not be evaluated."""
    return Record(**_identity(sample, trial), prediction=None, correct=None, error=f"{type(error).__name__}: {error}")


def _identity(sample: Sample, trial: str) -> dict[str, Any]:
    return {
        "trial": trial,
        "sample_id": sample.id,
        "video_id": sample.video_id,
        "task": sample.task,
        "choices": sample.choices,
        "target": sample.choices[sample.target],
    }


def schema() -> dict[str, Any]:
    import polars as pl

    return {
        "trial": pl.String,
        "sample_id": pl.String,
        "video_id": pl.String,
        "task": pl.String,
        "choices": pl.List(pl.String),
        "target": pl.String,
        "prediction": pl.String,
        "correct": pl.Boolean,
        "choice_scores": pl.List(pl.Float64),
        "visual_tokens": pl.List(pl.Int64),
        "text_tokens": pl.Int64,
        "generated_tokens": pl.Int64,
        "frames": pl.Int64,
        "dense_tokens": pl.Int64,
        "reduction_flops": pl.Int64,
        "error": pl.String,
    }


def to_frame(records: Iterable[Record]) -> pl.DataFrame:
    import polars as pl

    rows = [{name: list(v) if isinstance(v, tuple) else v for name, v in vars(record).items()} for record in records]
    return pl.DataFrame(rows, schema=schema())


def write_parquet(frame: pl.DataFrame, path: Path) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        frame.write_parquet(file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_trial(folder: Path, info: TrialInfo, records: pl.DataFrame) -> None:
    """The description first: a folder with records is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TRIAL).write_text(json.dumps(asdict(info), indent=1), encoding="utf-8")
    write_parquet(records, folder / RECORDS)


def read_trial(folder: Path) -> Trial:
    import polars as pl

    raw = json.loads((folder / TRIAL).read_text(encoding="utf-8"))
    raw["overrides"] = tuple(raw["overrides"])
    raw["shape"] = Shape(**{**raw["shape"], "vision": VisionShape(**raw["shape"]["vision"])})
    raw["stopped"] = Stopped(**raw["stopped"]) if raw.get("stopped") else None
    return Trial(TrialInfo(**raw), pl.read_parquet(folder / RECORDS), folder)


def read_trials(sweep: Path) -> list[Trial]:
    """All complete trials below a sweep's folder, in the order of their folders' numbers."""
    folders = [path.parent for path in sweep.glob(f"*/{RECORDS}")]
    return [read_trial(folder) for folder in sorted(folders, key=lambda f: (not f.name.isdigit(), f.name.zfill(9)))]
