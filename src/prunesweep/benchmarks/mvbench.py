"""MVBench (arXiv 2311.17005): 20 tasks of 200 multiple-choice questions; the score is the mean accuracy.

An item of `json/action_sequence.json`; `start` and `end` are there in the tasks that ask about a part of the video:

    {"video": "ZS9XR.mp4", "question": "What happened after the person took the food?", "start": 11.1, "end": 19.6,
     "candidates": ["Ate the medicine.", "Tidied up the blanket."], "answer": "Ate the medicine."}

Layout: `json/TASK.json` and `video/FOLDER/VIDEO`.  One task comes as folders of frames, three a second.  Newer releases hold
clips that are already cut, of that task, too: with `precut` these are read, and the bounds are not applied a second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from prunesweep.benchmarks import choice_sample, inside, read_items, require_unique, root_folder, seconds, take_evenly
from prunesweep.types import Sample

FRAME_RATE = 3.0
"""Of the tasks that come as frames."""


class Task(NamedTuple):
    """Where a task's videos lie."""

    folder: str
    bounded: bool = False
    """Whether its questions are about a part of the video."""
    frames: bool = False
    """Whether its videos are folders of frames, where they are not cut already."""
    precut: str | None = None
    """Where newer releases have its clips already cut, or in another format."""


STAR, CLEVRER, PERCEPTION = "star/Charades_v1_480", "clevrer/video_validation", "perception/videos"
CUT_STAR = "star/Charades_segment"
TASKS = {
    "action_sequence": Task(STAR, bounded=True, precut=CUT_STAR),
    "action_prediction": Task(STAR, bounded=True, precut=CUT_STAR),
    "action_antonym": Task("ssv2_video", precut="ssv2_video_mp4"),
    "fine_grained_action": Task("Moments_in_Time_Raw/videos"),
    "unexpected_action": Task("FunQA_test/test"),
    "object_existence": Task(CLEVRER),
    "object_interaction": Task(STAR, bounded=True, precut=CUT_STAR),
    "object_shuffle": Task(PERCEPTION),
    "moving_direction": Task(CLEVRER),
    "action_localization": Task("sta/sta_video", bounded=True, precut="sta/sta_video_segment"),
    "scene_transition": Task("scene_qa/video"),
    "action_count": Task(PERCEPTION),
    "moving_count": Task(CLEVRER),
    "moving_attribute": Task(CLEVRER),
    "state_change": Task(PERCEPTION),
    "fine_grained_pose": Task("nturgbd", precut="nturgbd_convert"),
    "character_order": Task(PERCEPTION),
    "egocentric_navigation": Task("vlnqa"),
    "episodic_reasoning": Task("tvqa/frames_fps3_hq", bounded=True, frames=True, precut="tvqa/video_fps3_hq_segment"),
    "counterfactual_inference": Task(CLEVRER),
}
COUNTS = dict.fromkeys(TASKS, 200)


def load(path: str, limit: int | None = None, tasks: Sequence[str] | None = None, precut: bool = False) -> list[Sample]:
    """Raises ValueError for a task that is unknown or whose questions are missing."""
    root = root_folder(path, "MVBench")
    wanted = list(TASKS) if tasks is None else list(tasks)
    for name in wanted:
        if name not in TASKS:
            raise ValueError(f"unknown task {name!r} in benchmark.tasks; known: {', '.join(TASKS)}")
    samples = [sample for name in wanted for sample in _task_samples(root, name, precut)]
    require_unique(samples, str(root))
    return take_evenly(samples, limit)


def _task_samples(root: Path, name: str, precut: bool) -> list[Sample]:
    items = read_items(root / "json" / f"{name}.json")
    return [_sample(root, name, number, item, precut) for number, item in enumerate(items)]


def _sample(root: Path, name: str, number: int, item: dict, precut: bool) -> Sample:
    task = TASKS[name]
    cut = precut and task.precut is not None
    folder = root / "video" / (task.precut if cut and task.precut else task.folder)
    file, problem = inside(folder, item.get("video"))
    bounded = task.bounded and not cut
    try:
        start, end = (seconds(item, "start"), seconds(item, "end")) if bounded else (None, None)
        if bounded and (start is None or end is None):
            problem = problem or "no 'start' and 'end', which this task's questions need"
    except ValueError as error:
        start, end, problem = None, None, str(error)
    sample = choice_sample(
        item,
        id=f"{name}-{number:03d}",
        path=file,
        task=name,
        video_id=f"{file.relative_to(root / 'video')}"
        + (f" {start:g}-{end:g} s" if start is not None and end is not None else ""),
        start=start,
        end=end,
        frame_rate=FRAME_RATE if task.frames and not cut else None,
    )
    return replace(sample, problem=problem or sample.problem)
