"""What a benchmark's own harness makes of a trial's answers, in two files beside its records.

`official.json` has the aggregates and who made them, or why there are none; `official.parquet` a row for each answer and metric.
Records have our own score, and are the same with or without these files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunesweep.disk.files import replace_file
from prunesweep.disk.foreign import read_json
from prunesweep.results.records import write_parquet

if TYPE_CHECKING:
    import polars as pl

OFFICIAL = "official.json"
SCORES = "official.parquet"


@dataclass(frozen=True)
class Official:
    """The aggregates of a trial; without any, `problem` says why."""

    source: str
    """`lmms-eval 0.7.3`."""
    answers: str
    """Fingerprint of what was scored."""
    scored: int = 0
    left_out: int = 0
    """Samples without an answer."""
    aggregates: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Of each task, by metric, as the harness has them: some in percent, some not."""
    problem: str | None = None


def answers_of(records: pl.DataFrame) -> str:
    """A fingerprint of what a harness scores."""
    rows = records.select("sample_id", "prediction", "choice_scores").rows()
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:32]


def write_official(folder: Path, found: Official, rows: Sequence[Mapping[str, Any]]) -> None:
    """The scores first: a folder with aggregates has them."""
    import polars as pl

    kinds = {"sample_id": pl.String, "metric": pl.String, "score": pl.Float64, "detail": pl.String}
    write_parquet(pl.DataFrame(list(rows), schema=kinds), folder / SCORES)
    replace_file(folder / OFFICIAL, json.dumps(asdict(found), indent=1).encode())


def read_official(folder: Path) -> Official | None:
    """None for a trial on a benchmark without a harness.  Raises ValueError for a file that is none of ours."""
    path = folder / OFFICIAL
    if not path.is_file():
        return None
    raw = read_json(path)
    try:
        aggregates = {str(task): {str(k): float(v) for k, v in own.items()} for task, own in raw["aggregates"].items()}
        return Official(**{**raw, "aggregates": aggregates})
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} does not hold the scores of a harness") from error
