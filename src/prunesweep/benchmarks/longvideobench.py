"""LongVideoBench (arXiv 2407.15754): questions that refer to moments of videos of up to an hour, with subtitles.

`lvb_val.json` holds items of this form (made up here); fields that are not read are left out:

    {"id": "aBcDeFgHiJk_0", "video_id": "aBcDeFgHiJk", "video_path": "aBcDeFgHiJk.mp4", "subtitle_path": "aBcDeFgHiJk_en.json",
     "question": "On a beach with two red boats a man in a hat appears. What is he doing?",
     "candidates": ["mending a net", "painting a boat", "speaking", "running"], "correct_choice": 2,
     "question_category": "O2E", "duration_group": 600, "duration": 422.66, "starting_timestamp_for_subtitles": 0}

Videos lie in `videos/`, subtitles in `subtitles/`, as the archives of longvideobench/LongVideoBench on the hub unpack.  1,337
questions have public answers; `split: test` reads `lvb_test_wo_gt.json`, whose answers are not.  Subtitles are those of the film
that a video was cut from, which began so many seconds before it.  They are a list in one of two forms:

    {"start": "00:00:01.500", "end": "00:00:03.000", "line": "and then we went"}
    {"timestamp": [1.5, 3.0], "text": "and then we went"}

With `subtitles: frames` the lines at the frames are put before the question, with `all` every line spoken in the video.  The
authors' loader puts each line between the frames instead; that order is not possible here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from prunesweep.benchmarks import (
    WHOLE,
    inside,
    numbered_sample,
    of_tasks,
    on_disk,
    read_items,
    require_unique,
    root_folder,
    seconds,
    take_evenly,
)
from prunesweep.benchmarks.subtitles import Line, Subtitles, at_frames, text_of
from prunesweep.checks import require_at_least, require_choice
from prunesweep.types import Sample

Split = Literal["val", "test"]
By = Literal["duration", "category"]
"""What results are grouped by."""
FILES = {"val": "lvb_val.json", "test": "lvb_test_wo_gt.json"}
Reader = Callable[[Path], list[dict[str, Any]]]
DURATIONS: dict[float, str] = {15: "8-15s", 60: "15-60s", 600: "180-600s", 3600: "900-3600s"}
"""The published groups by `duration_group`."""
COUNTS: dict[str, Any] = {
    "val": {
        "duration": {"8-15s": 189, "15-60s": 172, "180-600s": 412, "900-3600s": 564},
        "category": {
            **{"S2E": 93, "S2O": 72, "S2A": 88, "E2O": 65, "O2E": 87, "T2E": 65, "T2O": 76, "T2A": 79},
            **{"E3E": 94, "O3O": 66, "SSS": 97, "SOS": 81, "SAA": 72, "T3E": 73, "T3O": 74, "TOS": 73, "TAA": 82},
        },
    },
    "test": {WHOLE: 5341},
}
TASKS = {"duration": tuple(DURATIONS.values()), "category": tuple(COUNTS["val"]["category"])}
SHORTEST = 1.0
"""Seconds that a line counts as spoken at least, about its middle; as in the authors' loader."""


def load(
    path: str,
    limit: int | None = None,
    split: Split = "val",
    by: By = "duration",
    tasks: Sequence[str] | None = None,
    subtitles: Subtitles = "none",
    frames: int = 16,
) -> list[Sample]:
    """Raises ValueError for an unknown task, or if questions or the folder of subtitles are missing."""
    require_choice("benchmark.split", split, Split)
    require_choice("benchmark.by", by, By)
    require_choice("benchmark.subtitles", subtitles, Subtitles)
    require_at_least("benchmark.frames", frames, 1)
    root = root_folder(path, "LongVideoBench")
    items = read_items(root / FILES[split])
    samples = [_sample(root, item, split, by) for item in items]
    require_unique(samples, str(root / FILES[split]))
    if subtitles != "none" and not (root / "subtitles").is_dir():
        raise ValueError(
            f"{root / 'subtitles'} does not exist, which benchmark.subtitles={subtitles} needs; unpack subtitles.tar, or set none"
        )
    chosen = take_evenly(of_tasks(samples, tasks, TASKS[by]), limit)
    if subtitles == "none":
        return chosen
    read, by_id = cache(read_items), {str(item.get("id")): item for item in items}
    shown = frames if subtitles == "frames" else None
    return [_with_subtitles(root, sample, by_id[sample.id], read, shown) for sample in chosen]


def _sample(root: Path, item: dict[str, Any], split: Split, by: By) -> Sample:
    file, problem = inside(root / "videos", item.get("video_path"))
    task = _duration(item.get("duration_group")) if by == "duration" else str(item.get("question_category"))
    if split == "val" and item.get("correct_choice") is None:
        problem = problem or "no 'correct_choice'"
    sample = numbered_sample(
        item.get("question"),
        item.get("candidates"),
        item.get("correct_choice") if split == "val" else None,
        id=str(item.get("id")),
        path=on_disk(file),
        task=task,
        video_id=str(item.get("video_path")),
    )
    if task not in TASKS[by]:
        problem = problem or sample.problem or f"{by} {task!r} is none of {', '.join(TASKS[by])}"
    return replace(sample, problem=problem or sample.problem)


def _duration(group: Any) -> str:
    return DURATIONS.get(group, f"{group:g}") if isinstance(group, (int, float)) else str(group)


def _with_subtitles(root: Path, sample: Sample, item: dict[str, Any], read: Reader, frames: int | None) -> Sample:
    """Lines at so many frames; all of the video's where that is None."""
    file, problem = inside(root / "subtitles", item.get("subtitle_path"))
    try:
        duration, offset = seconds(item, "duration"), seconds(item, "starting_timestamp_for_subtitles") or 0.0
        if problem or not duration or duration <= 0:
            raise ValueError(problem or f"'duration' must be above 0, got {item.get('duration')!r}")
        lines = [line for entry in read(file) if (line := _line(entry, offset, duration))]
    except ValueError as error:
        return replace(sample, problem=sample.problem or f"subtitles: {error}")
    return replace(sample, subtitles=text_of(lines if frames is None else at_frames(lines, duration, frames)))


def _line(entry: dict[str, Any], offset: float, duration: float) -> Line | None:
    """A line in the video's own time; None if it is not spoken in it, or has no text.  Raises ValueError for a damaged one."""
    times = entry.get("timestamp") or [entry.get("start"), entry.get("end")]
    first, last = times if isinstance(times, list) and len(times) == 2 else [times, None]
    text = " ".join(str(entry.get("text") or entry.get("line") or "").split())
    start = _clock(first) - offset
    end = duration if last is None else _clock(last) - offset
    middle, half = (start + end) / 2, max(end - start, SHORTEST) / 2
    return Line(middle - half, middle + half, text) if text and middle + half > 0 and middle - half < duration else None


def _clock(time: Any) -> float:
    """Seconds of a number, or of hours, minutes and seconds between colons."""
    try:
        if isinstance(time, str):
            hours, minutes, rest = time.replace(",", ".").split(":")
            return 3600 * int(hours) + 60 * int(minutes) + float(rest)
        return float(time)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{time!r} is no time of a line") from error
