"""What the pages of the embedded benchmarks share: pictures, answers, and what a model says about another video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from prunesweep.benchmarks import by_video
from prunesweep.console.layout import markdown
from prunesweep.embedded.h264 import FRAMES_PER_SECOND
from prunesweep.types import Sample

MOST_LISTED = 8
"""Answers of a family that are named one by one."""
MOST_LETTERS = 90
"""Of a picture's title in one line."""
WIDTH, WORDS, LINE = 9.6, 0.7, 0.2
"""Inches: of a picture, of what stands above and between its two rows, and of a second line there."""


def strip_figure(frames: np.ndarray, sample: Sample) -> Any:
    """All frames of a video side by side in two rows, with the question above."""
    from matplotlib.figure import Figure

    options = ", ".join(f"[{c}]" if i == sample.target else c for i, c in enumerate(sample.choices))
    title = f"{sample.question}   {options}"
    long, columns = len(title) > MOST_LETTERS, len(frames) // 2
    figure = Figure(figsize=(WIDTH, 2 * WIDTH / columns + WORDS + LINE * long), layout="constrained")
    figure.suptitle(f"{sample.question}\n{options}" if long else title, fontsize=12)
    for index, axes in enumerate(figure.subplots(2, columns).flat):
        axes.imshow(frames[index], interpolation="nearest")
        axes.set_title(f"{index / FRAMES_PER_SECOND:.2f} s", fontsize=8)
        axes.set_axis_off()
    return figure


def choose_examples(samples: Sequence[Sample]) -> dict[str, Sample]:
    """The first question of each family about a video that is no other family's example."""
    examples: dict[str, Sample] = {}
    for task in dict.fromkeys(sample.task for sample in samples):
        taken = {example.video_id for example in examples.values()}
        examples[task] = next(sample for sample in samples if sample.task == task and sample.video_id not in taken)
    return examples


def families(samples: Sequence[Sample], examples: Mapping[str, Sample], needed: Mapping[str, str], folder: str) -> list[str]:
    """A section for each, with its picture in `folder` and what it needs."""
    lines = ["## Families", "", "One video each, the right option in brackets.", ""]
    for task, example in examples.items():
        count = sum(sample.task == task for sample in samples)
        lines += [f"### {task.replace('_', ' ')}", "", f"{needed[task]} {count} questions, {len(example.choices)} options.", ""]
        lines += [f"![{task}]({folder}/{task}.png)", ""]
    return lines


def distributions(samples: Sequence[Sample], tasks: Sequence[str]) -> list[str]:
    """How often each answer and each place of the right option occurs."""
    rows = []
    for task in tasks:
        own = [sample for sample in samples if sample.task == task]
        answers = Counter(sample.reference for sample in own)
        places = Counter(sample.choices.index(sample.reference) for sample in own)
        rows.append(
            (
                task.replace("_", " "),
                f"{np.mean([1 / len(sample.choices) for sample in own]):.2f}",
                f"{constant_policy(own):.2f}",
                _answers_text(answers),
                ", ".join(str(places[i]) for i in range(max(places) + 1)),
            )
        )
    header = ("family", "chance", "best fixed order", "answers", "right option first, second, ...")
    note = (
        "*Best fixed order* is the accuracy of always choosing, of the options given, the one that is most often right in "
        "this family, an upper bound fitted on the same questions."
    )
    return ["## Answers", "", *markdown(header, rows), "", note, ""]


def _answers_text(answers: Counter[str]) -> str:
    if len(answers) > MOST_LISTED:
        return f"{len(answers)} answers, {min(answers.values())} to {max(answers.values())} questions each"
    return ", ".join(f"{answer} {n}" for answer, n in sorted(answers.items()))


def constant_policy(samples: Sequence[Sample]) -> float:
    """Accuracy of ranking answers by how often they are right when they are offered, and choosing the highest."""
    offered, right = Counter[str](), Counter[str]()
    for sample in samples:
        offered.update(sample.choices)
        right[sample.reference] += 1
    rate = {choice: right[choice] / n for choice, n in offered.items()}
    return float(np.mean([max(sample.choices, key=lambda c: (rate[c], c)) == sample.reference for sample in samples]))


def exchanged(samples: Sequence[Sample]) -> list[Sample]:
    """Each question about the next video of the benchmark instead of its own."""
    videos = [group[0] for group in by_video(samples)]
    following = {a.video_id: b for a, b in zip(videos, [*videos[1:], videos[0]], strict=True)}
    return [replace(s, path=following[s.video_id].path, video_id=following[s.video_id].video_id) for s in samples]


def blindness(samples: Sequence[Sample], name: str, frames: int) -> list[str]:
    """What the embedded model of this name answers with its own video, and with another one."""
    from prunesweep.analysis.accuracy import accuracy, task_accuracies
    from prunesweep.analysis.wording import accuracy_text
    from prunesweep.engine.candidate import Candidate
    from prunesweep.engine.protocol import Protocol
    from prunesweep.models.llava_onevision import load
    from prunesweep.paths import DATA
    from prunesweep.reducers import Reducer
    from prunesweep.sweep.evaluate import evaluate

    model = load(name, str(DATA / name))
    trial = Candidate("dense", Reducer("none"), frames, Protocol("words", "choose"))
    found = [evaluate(lambda: model, own, [trial], progress=False).records["dense"] for own in (samples, exchanged(samples))]
    by_task = [task_accuracies(records) for records in found]
    rows = [(task.replace("_", " "), *(accuracy_text(*tasks[task]) for tasks in by_task)) for task in by_task[0]]
    overall = ("all", *(accuracy_text(*accuracy(records)) for records in found))
    lines = [
        "## Is the video needed?",
        "",
        f"The model `{name}` on each question with its own video, and with the next one's:",
        "",
    ]
    return [*lines, *markdown(("family", "own video", "another video"), [*rows, overall]), ""]
