"""MLVU (arXiv 2406.04264): seven multiple-choice tasks on videos of three minutes to two hours, its development set.

`json/5_order.json` and its like hold items of this form (made up here); `question_type` and `duration` are not read:

    {"video": "order_0.mp4", "duration": 485.77, "question_type": "order", "question": "In which order do these happen?",
     "candidates": ["rowing --> baking", "baking --> rowing"], "answer": "baking --> rowing"}

Layout, as of MLVU/MVLU on the hub (that is its name): `json/N_TASK.json` and `video/N_TASK/VIDEO`, both in the folder `MLVU` of
the download or in the folder itself.  The published score, M-Avg, is the mean over tasks, which stands beside the accuracy of all
questions.  Left out: the tasks `sub_scene` and `summary`, whose free answers a judge grades, and MLVU-Test, whose answers are not
public.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prunesweep.benchmarks import WHOLE, choice_sample, inside, on_disk, read_items, require_unique, root_folder, take_evenly
from prunesweep.types import Sample

TASKS = {
    "plotQA": "1_plotQA",
    "needle": "2_needle",
    "ego": "3_ego",
    "count": "4_count",
    "order": "5_order",
    "anomaly_reco": "6_anomaly_reco",
    "topic_reasoning": "7_topic_reasoning",
}
"""What files and folders of a task are called."""
JUDGED = ("sub_scene", "summary")
COUNTS = {"plotQA": 539, WHOLE: 2174}
"""Of the other tasks not known to us from a source that could be cited; the whole as it is usually quoted."""


def load(path: str, limit: int | None = None, tasks: Sequence[str] | None = None) -> list[Sample]:
    """Raises ValueError for a task that is unknown, left out, or whose questions are missing."""
    root = root_folder(path, "MLVU")
    root = root / "MLVU" if (root / "MLVU" / "json").is_dir() else root
    wanted = list(TASKS) if tasks is None else list(tasks)
    for name in wanted:
        if name in JUDGED:
            raise ValueError(
                f"task {name!r} in benchmark.tasks has free answers, which a judge grades; known: {', '.join(TASKS)}"
            )
        if name not in TASKS:
            raise ValueError(f"unknown task {name!r} in benchmark.tasks; known: {', '.join(TASKS)}")
    samples = [
        _sample(root, name, number, item)
        for name in wanted
        for number, item in enumerate(read_items(root / "json" / f"{TASKS[name]}.json"))
    ]
    require_unique(samples, str(root))
    return take_evenly(samples, limit)


def _sample(root: Path, name: str, number: int, item: dict[str, Any]) -> Sample:
    file, problem = inside(root / "video" / TASKS[name], item.get("video"))
    if item.get("answer") is None:
        problem = problem or "no 'answer'"
    sample = choice_sample(
        item,
        id=f"{name}-{number:03d}",
        path=on_disk(file),
        task=name,
        video_id=f"{file.relative_to(root / 'video')}",
    )
    return replace(sample, problem=problem or sample.problem)
