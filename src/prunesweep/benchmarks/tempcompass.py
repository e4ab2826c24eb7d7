"""TempCompass (arXiv 2403.00476): actions, directions, speeds, orders and changes in short videos, some of them reversed.

`questions/multi-choice.json` and `questions/yes_no.json`, as in its authors' repository, hold questions by video and aspect, of
this form (made up here):

    {"1000": {"action": [{"question": "What does she do?\\nA. row\\nB. bake\\nC. swim", "answer": "B. bake"}, ...], ...}, ...}
    {"1000": {"action": [{"question": "Is the girl baking?", "answer": "yes"}, ...], ...}, ...}

lmms-lab/TempCompass on the hub has them as rows (video_id, question, answer, dim) of `multi-choice/test-*.parquet` and
`yes_no/test-*.parquet`.  Videos lie in `videos/ID.mp4`.  Each part is a benchmark of its own here, with its own protocol; its
score is the accuracy, by aspect.  Left out: `captioning`, which a judge grades, and `caption_matching`, where a judge is asked
about answers that do not begin with the caption's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, Literal

from prunesweep.benchmarks import (
    WHOLE,
    choice_sample,
    inside,
    is_blank,
    of_tasks,
    on_disk,
    read_json,
    read_parquet,
    require_unique,
    root_folder,
    take_evenly,
)
from prunesweep.checks import require_choice
from prunesweep.types import Sample

Part = Literal["multi-choice", "yes_no"]
ASPECTS = ("action", "direction", "speed", "order", "attribute_change")
COUNTS = {"multi-choice": {WHOLE: 1580}, "yes_no": {WHOLE: 2453}}
"""Of each aspect not known to us from a source that could be cited."""
LETTERS = "ABCDEFGH"
OPTION = re.compile(r"^\s*([A-H])\.\s*(.*)$")
LETTERED_ANSWER = re.compile(r"[A-H](\.|$)")
YES_NO = ("yes", "no")


def load(path: str, part: Part, limit: int | None = None, tasks: Sequence[str] | None = None) -> list[Sample]:
    """Raises ValueError for an unknown aspect or part, or if the part's questions are missing or damaged."""
    require_choice("benchmark.load.part", part, Part)
    root = root_folder(path, "TempCompass")
    numbers: dict[tuple[str, str], Iterator[int]] = {}
    samples = [
        _sample(root, part, video, aspect, next(numbers.setdefault((video, aspect), count())), item)
        for video, aspect, item in _items(root, part)
    ]
    require_unique(samples, str(root))
    return take_evenly(of_tasks(samples, tasks, ASPECTS), limit)


def _items(root: Path, part: Part) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Video, aspect and item of each question."""
    file = root / "questions" / f"{part}.json"
    if not file.is_file() and (tables := list((root / part).glob("test-*.parquet"))):
        for row in read_parquet(tables):
            yield str(row.get("video_id") or ""), str(row.get("dim")), row
        return
    for video, aspects in _object(read_json(file), f"{file} must hold an object of videos").items():
        for aspect, items in _object(aspects, f"{file}: video {video!r} must have an object of aspects").items():
            if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                raise ValueError(f"{file}: {aspect!r} of video {video!r} must be a list of objects")
            for item in items:
                yield video, aspect, item


def _object(value: Any, wrong: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(wrong)
    return value


def _sample(root: Path, part: Part, video: str, aspect: str, number: int, item: dict[str, Any]) -> Sample:
    file, problem = inside(root / "videos", video)
    question, options = _lettered(str(item.get("question") or "")) if part == "multi-choice" else (item.get("question"), YES_NO)
    sample = choice_sample(
        {"question": question, "candidates": list(options), "answer": _right(str(item.get("answer")).strip(), part, options)},
        id=f"{video}-{aspect}-{number}",
        path=on_disk(file),
        task=aspect,
        video_id=video,
    )
    unknown = None if aspect in ASPECTS else f"aspect {aspect!r} is none of {', '.join(ASPECTS)}"
    return replace(sample, problem=problem or sample.problem or unknown)


def _lettered(text: str) -> tuple[str, tuple[str, ...]]:
    """A question and its options, which follow in lines of their own: A., B. and so on."""
    lines = text.strip().split("\n")
    first = next((i for i, line in enumerate(lines) if re.match(r"\s*A\.", line)), len(lines))
    options = [OPTION.match(line) for line in lines[first:] if not is_blank(line)]
    letters = [option[1] if option else "" for option in options]
    texts = tuple(option[2].strip() for option in options if option)
    return "\n".join(lines[:first]).strip(), texts if letters == list(LETTERS[: len(letters)]) else ()


def _right(answer: str, part: Part, options: Sequence[str]) -> str:
    """The words of the option whose letter the right answer begins with; the answer itself if there is none."""
    if part == "yes_no":
        return answer.lower()
    number = LETTERS.find(answer[0]) if LETTERED_ANSWER.match(answer) else -1
    return options[number] if 0 <= number < len(options) else answer
