"""NExT-QA (arXiv 2105.08276), multiple choice: why and how something happens, what comes before and after, and what is seen.

A row of `val.csv` or `test.csv`, the files of its authors; `frame_count`, `width` and `height` are not read:

    video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4
    5840177726,377,640,480,how are the men positioned in the video,0,3,DO,riding the cycle,half squat,...,stand closely

or a row with the same names of `MC/test-*.parquet`, as of lmms-lab/NExTQA on the hub, which has the test split alone.  Videos lie
in `NExTVideo/` or `videos/`: `FOLDER/VIDEO.mp4` as `map_vid_vidorID.json` ({"5840177726": "1164/5840177726", ...}) says where it
is there, else `VIDEO.mp4`, or that in any one folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from prunesweep.benchmarks import (
    SUFFIXES,
    WHOLE,
    inside,
    numbered_sample,
    of_tasks,
    on_disk,
    read_csv,
    read_json,
    read_parquet,
    require_unique,
    root_folder,
    take_evenly,
)
from prunesweep.checks import require_choice
from prunesweep.types import Sample

Split = Literal["val", "test"]
By = Literal["group", "type"]
"""What results are grouped by."""


class Kind(NamedTuple):
    """Of a question."""

    group: str
    type: str


CAUSAL, TEMPORAL, DESCRIPTIVE = "causal", "temporal", "descriptive"
KINDS = {
    "CW": Kind(CAUSAL, "why"),
    "CH": Kind(CAUSAL, "how"),
    "TN": Kind(TEMPORAL, "before_after"),
    "TP": Kind(TEMPORAL, "before_after"),  # previous and next are one type in the authors' evaluation
    "TC": Kind(TEMPORAL, "when"),
    "DC": Kind(DESCRIPTIVE, "count"),
    "DL": Kind(DESCRIPTIVE, "place"),
    "DO": Kind(DESCRIPTIVE, "other"),
}
TASKS = {by: tuple(dict.fromkeys(getattr(kind, by) for kind in KINDS.values())) for by in ("group", "type")}
COUNTS = {"val": {WHOLE: 4996}, "test": {WHOLE: 8564}}
"""As they are usually quoted; of each task not known to us from a source that could be cited."""
FIELDS = ("video", "question", "answer", "qid", "type", "a0", "a1", "a2", "a3", "a4")
FOLDERS = ("NExTVideo", "videos")
MAP = "map_vid_vidorID.json"


def load(
    path: str, limit: int | None = None, split: Split = "test", by: By = "group", tasks: Sequence[str] | None = None
) -> list[Sample]:
    """Raises ValueError for an unknown task, or if the split's questions are missing or damaged."""
    require_choice("benchmark.split", split, Split)
    require_choice("benchmark.by", by, By)
    root = root_folder(path, "NExT-QA")
    find = Videos(root)
    samples = [_sample(find, row, by) for row in _rows(root, split)]
    require_unique(samples, str(root))
    return take_evenly(of_tasks(samples, tasks, TASKS[by]), limit)


def _rows(root: Path, split: Split) -> Sequence[Mapping[str, Any]]:
    tables = list((root / "MC").glob(f"{split}-*.parquet"))
    if tables and not (root / f"{split}.csv").is_file():
        return read_parquet(tables)
    return read_csv(root / f"{split}.csv", FIELDS)


class Videos:
    """Where the videos of a folder lie, by their names."""

    def __init__(self, root: Path):
        """Raises ValueError for a map that is none."""
        self.folder = next((root / name for name in FOLDERS if (root / name).is_dir()), root / FOLDERS[0])
        self.map = read_json(root / MAP) if (root / MAP).is_file() else {}
        if not isinstance(self.map, dict):
            raise ValueError(f"{root / MAP} must hold an object of videos and where they lie")
        self._nested: dict[str, Path] | None = None

    def __call__(self, name: str) -> tuple[Path, str | None]:
        """The file of a video, and what is wrong with its name."""
        file, problem = inside(self.folder, self.map.get(name, name))
        found = on_disk(file)
        return (found if problem or found.is_file() else self.nested.get(name, found)), problem

    @property
    def nested(self) -> dict[str, Path]:
        """Videos one folder further down, looked for once."""
        if self._nested is None:
            files = sorted(self.folder.glob("*/*"), reverse=True)
            self._nested = {file.stem: file for file in files if file.suffix.lower() in SUFFIXES}
        return self._nested


def _sample(find: Videos, row: Mapping[str, Any], by: By) -> Sample:
    video, code = str(row.get("video") or ""), str(row.get("type")).strip()
    file, problem = find(video)
    kind = KINDS.get(code)
    if row.get("answer") is None:
        problem = problem or "no 'answer'"
    sample = numbered_sample(
        row.get("question"),
        [row.get(f"a{i}") for i in range(5)],
        row.get("answer"),
        id=f"{video}_{row.get('qid')}",
        path=file,
        task=getattr(kind, by) if kind else "unknown type",
        video_id=video,
    )
    unknown = None if kind else f"type {code!r} is none of {', '.join(KINDS)}"
    return replace(sample, problem=problem or sample.problem or unknown)
