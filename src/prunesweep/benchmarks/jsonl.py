"""Multiple-choice questions on your own video files: a JSONL, one question per line.

    {"video": "yoga.mp4", "question": "What is the person doing?", "choices": ["yoga", "cooking"], "answer": "yoga"}

`video` is relative to the JSONL's folder and may be a link, or it is a whole path.  Optional: `id` (default: the line number),
`task` (groups the results), and `start` and `end` in seconds.  `id` and `task` are strings.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from prunesweep.benchmarks import inside, is_blank, take_evenly
from prunesweep.types import Sample

QUESTIONS = "questions.jsonl"
REQUIRED: dict[str, Any] = {"video": str, "question": str, "choices": list, "answer": str}
OPTIONAL: dict[str, Any] = {"id": str, "task": str, "start": (int, float), "end": (int, float)}

WITHOUT_TASK = "all"


def load(path: str, limit: int | None = None) -> list[Sample]:
    """The samples of a JSONL file, or of the `questions.jsonl` in a folder.

    Raises ValueError, naming file and line, for a missing file or a line that does not fit.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        file = file / QUESTIONS
    if not file.is_file():
        raise ValueError(
            f"benchmark file {str(file)!r} does not exist; set benchmark.path to a JSONL or a folder with {QUESTIONS}"
        )
    samples = [_sample(line, number, file) for number, line in enumerate(_lines(file), 1) if line.strip()]
    if not samples:
        raise ValueError(f"benchmark file {str(file)!r} holds no questions")
    _require_unique_ids(samples, file)
    if any(sample.task != WITHOUT_TASK for sample in samples):
        samples = [replace(sample, task="no task") if sample.task == WITHOUT_TASK else sample for sample in samples]
    return take_evenly(samples, limit)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"benchmark file {str(file)!r} is not UTF-8 text: {error.reason}") from error


def _sample(line: str, number: int, file: Path) -> Sample:
    def wrong(why: str) -> ValueError:
        return ValueError(f"{file}, line {number}: {why}")

    try:
        item: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise wrong(f"not JSON ({error.msg})") from error
    if not isinstance(item, dict):
        raise wrong("not a JSON object")
    for name, kind in {**REQUIRED, **OPTIONAL}.items():
        if name in REQUIRED and name not in item:
            raise wrong(f"no {name!r}; needed are {', '.join(REQUIRED)}")
        if item.get(name) is not None and (not isinstance(item[name], kind) or isinstance(item[name], bool)):
            raise wrong(f"{name!r} must be {_kind_name(kind)}, got {item[name]!r}")
    choices = item["choices"]
    if len(choices) < 2 or len(set(choices)) < len(choices) or not all(isinstance(c, str) and not is_blank(c) for c in choices):
        raise wrong(f"'choices' must be at least two different non-empty strings, got {choices!r}")
    if item["answer"] not in choices:
        raise wrong(f"answer {item['answer']!r} is not one of the choices {choices!r}")
    if is_blank(item["question"]):
        raise wrong("'question' is empty")
    path, problem = _video(file.parent, item["video"])
    return Sample(
        id=item.get("id") or str(number),
        path=path,
        problem=problem,
        question=item["question"],
        choices=tuple(choices),
        target=choices.index(item["answer"]),
        task=item.get("task") or WITHOUT_TASK,
        video_id=item["video"],
        start=item.get("start"),
        end=item.get("end"),
    )


def _video(folder: Path, name: str) -> tuple[Path, str | None]:
    """Relative to the file, or a whole path, which somebody has written on purpose."""
    whole = Path(name).expanduser()
    return (whole, None) if whole.is_absolute() and ".." not in whole.parts else inside(folder, name)


def _kind_name(kind: Any) -> str:
    return {str: "a string", list: "a list", (int, float): "a number"}[kind]


def _require_unique_ids(samples: list[Sample], file: Path) -> None:
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise ValueError(f"{file}: id {sample.id!r} occurs twice; give each question its own")
        seen.add(sample.id)
