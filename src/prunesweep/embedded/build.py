"""A split of an embedded benchmark, drawn as mp4 files with a questions.jsonl."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np

from prunesweep.benchmarks.jsonl import QUESTIONS
from prunesweep.embedded.h264 import write_video
from prunesweep.embedded.questions import Question
from prunesweep.embedded.worlds import BLOCKS, World

SPLIT_SEEDS = {"validation": 100_000, "test": 200_000, "final": 300_000}
"""First seed of each split; training scenes use a stream of their own.  `final` is for the last check of a finished design."""


def draw_split(first_seed: int, folder: Path, per_family: int, world: World = BLOCKS) -> None:
    """Videos from consecutive seeds until every family has its questions, its kinds of answers equally often (within one)."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = {(task, answer): n for task, answers in world.answers.items() for answer, n in _shares(answers, per_family)}
    asked: Counter[str] = Counter()
    items: list[dict[str, object]] = []
    seed = first_seed
    while any(missing.values()):
        rng = np.random.default_rng(seed)
        script = world.draw(rng, world.length)
        video = f"{seed - first_seed:05d}.mp4"
        chosen = _choose(world.ask(script, rng), missing, rng, world)
        families = len({task for (task, _), number in missing.items() if number})
        if len(chosen) < min(world.least_questions, (families + 1) // 2):
            chosen = []
        if chosen:
            write_video(folder / video, world.render(script), **world.h264)
        for question in chosen:
            missing[question.task, world.kind(question)] -= 1
            items.append(_item(question, video, f"{question.task}-{asked[question.task]:03d}"))
            asked[question.task] += 1
        seed += 1
    (folder / QUESTIONS).write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    print(f"{len(items)} questions on {len({item['video'] for item in items})} videos in {folder}")


def _shares(answers: tuple[str, ...], total: int) -> list[tuple[str, int]]:
    return [(answer, total // len(answers) + (i < total % len(answers))) for i, answer in enumerate(answers)]


def _choose(
    questions: list[Question], missing: dict[tuple[str, str], int], rng: np.random.Generator, world: World
) -> list[Question]:
    """One question per family at most, among those whose kind of answer is still missing."""
    chosen = []
    for task in world.families:
        candidates = [q for q in questions if q.task == task and missing[q.task, world.kind(q)] > 0]
        if candidates:
            chosen.append(candidates[int(rng.integers(len(candidates)))])
    return chosen


def _item(question: Question, video: str, identifier: str) -> dict[str, object]:
    return {
        "id": identifier,
        "video": video,
        "task": question.task,
        "question": question.text,
        "choices": list(question.choices),
        "answer": question.answer,
    }
