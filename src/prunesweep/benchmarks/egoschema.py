"""EgoSchema (arXiv 2308.09126): 5031 questions with five options on three-minute videos; answers of 500 are public.

As its authors publish it, `questions.json`, with `subset_answers.json` ({"0074f737-...": 1, ...}) beside it:

    {"q_uid": "0074f737-11cb-497d-8d07-77c3a8127391", "question": "...", "option 0": "...", ..., "option 4": "..."}

as PLLaVA's and PruneVid's code reads it, `json/egoschema_fullset.json`, with `subset_answers.json` or with answers in it:

    {"video": "0074f737-11cb-497d-8d07-77c3a8127391.mp4", "question": "...", "candidates": ["...", ...], "answer": null}

or as on the hub, `Subset/*.parquet` (question_idx, question, video_idx, option, answer).  Videos lie in `videos/`.  The subset
is scored here; `prunesweep data submission` writes the full set's answers for the benchmark's server, which scores the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from prunesweep.benchmarks import (
    inside,
    numbered_sample,
    read_items,
    read_json,
    read_parquet,
    require_unique,
    root_folder,
    take_evenly,
)
from prunesweep.checks import require_choice
from prunesweep.types import Sample

Split = Literal["subset", "full"]
COUNTS = {"subset": {"subset": 500}, "full": {"subset": 500, "other": 4531}}
OPTIONS = 5
LETTERS = "ABCDE"


def load(path: str, limit: int | None = None, split: Split = "subset") -> list[Sample]:
    """The subset whose answers are public, or all questions.  Raises ValueError if the subset's answers are not found."""
    require_choice("benchmark.split", split, Split)
    root = root_folder(path, "EgoSchema")
    samples = _samples(root, split)
    if split == "subset":
        samples = [sample for sample in samples if sample.task == "subset"]
        if not samples:
            raise ValueError(f"{root} has no subset_answers.json and no other answers: the subset cannot be scored")
    require_unique(samples, str(root))
    return take_evenly(samples, limit)


def _samples(root: Path, split: Split) -> list[Sample]:
    tables = list((root / "Subset").glob("*.parquet"))
    if split == "subset" and tables:
        return [_of_row(root, row) for row in read_parquet(tables)]
    answers = read_json(root / "subset_answers.json") if (root / "subset_answers.json").is_file() else {}
    if not isinstance(answers, dict):
        raise ValueError(f"{root / 'subset_answers.json'} must hold an object of question ids and option numbers")
    if (root / "questions.json").is_file():
        return [_of_question(root, item, answers) for item in read_items(root / "questions.json")]
    return [_of_item(root, item, answers) for item in read_items(root / "json" / "egoschema_fullset.json")]


def _of_question(root: Path, item: dict[str, Any], answers: dict[str, Any]) -> Sample:
    options = [item.get(f"option {i}") for i in range(OPTIONS)]
    return _sample(root, str(item.get("q_uid")), item.get("question"), options, answers.get(str(item.get("q_uid"))))


def _of_item(root: Path, item: dict[str, Any], answers: dict[str, Any]) -> Sample:
    name = Path(str(item.get("video"))).stem
    options, answer = item.get("candidates"), item.get("answer")
    if answer is not None and isinstance(options, list):
        answers = {name: options.index(answer) if answer in options else repr(answer), **answers}
    return _sample(root, name, item.get("question"), options, answers.get(name))


def _of_row(root: Path, row: dict[str, Any]) -> Sample:
    return _sample(root, str(row.get("video_idx")), row.get("question"), row.get("option"), row.get("answer"))


def _sample(root: Path, name: str, question: Any, options: Any, answer: Any) -> Sample:
    """`answer` is the number of an option, as a number or as text; None for a question that only the server scores."""
    options = _without_letters(options)
    file, problem = inside(root / "videos", f"{name}.mp4")
    task = "other" if answer is None else "subset"
    sample = numbered_sample(question, options, answer, id=name, path=file, task=task, video_id=name)
    return replace(sample, problem=problem or sample.problem)


def _without_letters(options: Any) -> Any:
    """Some copies have "A. " to "E. " before the options; protocols put their own."""
    if isinstance(options, list) and all(str(o).startswith(f"{LETTERS[i : i + 1]}. ") for i, o in enumerate(options)):
        return [str(option)[3:] for option in options]
    return options


def submission(answers: Sequence[tuple[str, int]]) -> dict[str, int]:
    """What the benchmark's server takes: the number of the chosen option by the video's name."""
    return dict(answers)
