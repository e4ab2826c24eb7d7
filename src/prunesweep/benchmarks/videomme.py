"""Video-MME (arXiv 2405.21075): 2700 questions on 900 short, medium and long videos, with and without subtitles.

A row of the hub's parquet file (or of a JSON list of the same rows); the letter before each option is taken off:

    {"videoID": "fFjv93ACGo8", "duration": "short", "question_id": "001-1", "task_type": "Counting Problem", "answer": "C",
     "question": "...", "options": ["A. Apples.", "B. Candles.", "C. Berries.", "D. The three kinds are of the same number."]}

or an item of `json/short.json`, `json/medium.json`, `json/long.json`, as PLLaVA's and PruneVid's code reads them:

    {"video": "fFjv93ACGo8.mp4", "question": "...", "candidates": ["Apples.", "Candles.", ...], "answer": "Berries."}

Videos lie in `data/`, subtitles in `subtitle/NAME.srt`.  With `subtitles: frames` the lines spoken at the sampled frames are put
before the question, as the benchmark's authors propose; with `all`, every line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prunesweep.benchmarks import choice_sample, inside, read_items, read_parquet, require_unique, root_folder, take_evenly
from prunesweep.benchmarks.subtitles import Subtitles, at_frames, read_srt, text_of
from prunesweep.checks import require_at_least, require_choice
from prunesweep.types import Sample

DURATIONS = ("short", "medium", "long")
UNKNOWN = "unknown duration"
COUNTS = dict.fromkeys(DURATIONS, 900)
LETTER = re.compile(r"^\s*\(?([A-Z])[.):]\s*")


def load(
    path: str,
    limit: int | None = None,
    durations: Sequence[str] = DURATIONS,
    subtitles: Subtitles = "none",
    frames: int = 16,
) -> list[Sample]:
    """Raises ValueError for an unknown duration, or if no file of questions is found."""
    require_choice("benchmark.subtitles", subtitles, Subtitles)
    require_at_least("benchmark.frames", frames, 1)
    for name in durations:
        if name not in DURATIONS:
            raise ValueError(f"unknown duration {name!r} in benchmark.durations; known: {', '.join(DURATIONS)}")
    root = root_folder(path, "Video-MME")
    samples = [sample for sample in _samples(root, durations) if sample.task in durations or sample.task == UNKNOWN]
    require_unique(samples, str(root))
    if subtitles != "none" and not (root / "subtitle").is_dir():
        raise ValueError(
            f"{root / 'subtitle'} does not exist, which benchmark.subtitles={subtitles} needs; fetch it, or set none"
        )
    chosen = take_evenly(samples, limit)
    return chosen if subtitles == "none" else [_with_subtitles(root, s, subtitles, frames) for s in chosen]


def _samples(root: Path, durations: Sequence[str]) -> list[Sample]:
    tables = [*root.glob("*.parquet"), *root.glob("videomme/*.parquet")]
    if tables:
        return [_of_row(root, row) for row in read_parquet(tables)]
    if (root / "questions.json").is_file():
        return [_of_row(root, row) for row in read_items(root / "questions.json")]
    return [
        _of_item(root, name, number, item)
        for name in durations
        for number, item in enumerate(read_items(root / "json" / f"{name}.json"))
    ]


def _of_item(root: Path, duration: str, number: int, item: dict[str, Any]) -> Sample:
    file, problem = inside(root / "data", item.get("video"))
    sample = choice_sample(item, id=f"{duration}-{number:03d}", path=file, task=duration, video_id=file.stem)
    return replace(sample, problem=problem or sample.problem)


def _of_row(root: Path, row: dict[str, Any]) -> Sample:
    video, options = row.get("videoID"), row.get("options")
    file, problem = inside(root / "data", f"{video}.mp4" if video else None)
    texts = [LETTER.sub("", str(option)) for option in options] if isinstance(options, list) else None
    letters = [found[1] for option in options or () if (found := LETTER.match(str(option)))]
    answer = str(row.get("answer")).strip()
    duration = str(row.get("duration")).strip().lower()
    unknown = None if duration in DURATIONS else f"duration {row.get('duration')!r} is none of {', '.join(DURATIONS)}"
    right = texts[letters.index(answer)] if texts and answer in letters and len(letters) == len(texts) else f"letter {answer}"
    sample = choice_sample(
        {"question": row.get("question"), "candidates": texts, "answer": right},
        id=str(row.get("question_id")),
        path=file,
        task=UNKNOWN if unknown else duration,
        video_id=str(video),
    )
    return replace(sample, problem=problem or sample.problem or unknown)


def _with_subtitles(root: Path, sample: Sample, subtitles: Subtitles, frames: int) -> Sample:
    """Videos without speech have no file of subtitles; one that holds no line is the sample's problem."""
    file = root / "subtitle" / f"{sample.path.stem}.srt"
    if not file.is_file():
        return replace(sample, subtitles="")
    lines = read_srt(file)
    if not lines:
        return replace(sample, problem=sample.problem or f"{file.name} holds no subtitle")
    if subtitles == "frames" and (duration := _duration(sample.path)):
        lines = at_frames(lines, duration, frames)
    return replace(sample, subtitles=text_of(lines))


def _duration(path: Path) -> float | None:
    """In seconds; None for a video that cannot be read, whose record will say so."""
    import av

    try:
        with av.open(str(path)) as container:
            return container.duration / av.time_base if container.duration else None
    except (av.error.FFmpegError, OSError):
        return None
