"""A split of `blocks`, drawn as mp4 files with a questions.jsonl."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np

from prunesweep.benchmarks.jsonl import QUESTIONS
from prunesweep.embedded.questions import ANSWERS, Question, ask
from prunesweep.embedded.render import render
from prunesweep.embedded.scene import draw_scene

FRAMES = 12
FRAMES_PER_SECOND = 4
QUALITY = 18
"""x264's constant rate factor."""
SPLIT_SEEDS = {"validation": 100_000, "test": 200_000, "final": 300_000}
"""First seed of each split; training scenes use a stream of their own.  `final` is for the last check of a finished design."""


def draw_split(first_seed: int, folder: Path, per_family: int) -> None:
    """Scenes from consecutive seeds until every family has its questions, its answers equally often (within one)."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = {(task, answer): n for task, answers in ANSWERS.items() for answer, n in _shares(answers, per_family)}
    asked: Counter[str] = Counter()
    items: list[dict[str, object]] = []
    seed = first_seed
    while any(missing.values()):
        rng = np.random.default_rng(seed)
        scene = draw_scene(rng, FRAMES)
        video = f"{seed - first_seed:05d}.mp4"
        chosen = _choose(ask(scene, rng), missing, rng)
        if chosen:
            write_video(folder / video, render(scene))
        for question in chosen:
            missing[question.task, question.answer] -= 1
            items.append(_item(question, video, f"{question.task}-{asked[question.task]:03d}"))
            asked[question.task] += 1
        seed += 1
    (folder / QUESTIONS).write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    print(f"{len(items)} questions on {len({item['video'] for item in items})} videos in {folder}")


def _shares(answers: tuple[str, ...], total: int) -> list[tuple[str, int]]:
    return [(answer, total // len(answers) + (i < total % len(answers))) for i, answer in enumerate(answers)]


def _choose(questions: list[Question], missing: dict[tuple[str, str], int], rng: np.random.Generator) -> list[Question]:
    """One question per family at most, among those whose answer is still missing."""
    chosen = []
    for task in ANSWERS:
        candidates = [q for q in questions if q.task == task and missing[q.task, q.answer] > 0]
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


def write_video(path: Path, frames: np.ndarray) -> None:
    """Frames `t H W 3` uint8 as H.264."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options={"crf": str(QUALITY)})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
