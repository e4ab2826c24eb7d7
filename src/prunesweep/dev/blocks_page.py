"""The documentation page of `blocks`, `python -m prunesweep.dev.blocks_page FOLDER`: pictures, answers, video statistics.

Everything on the page is computed from the shipped test split and the scripts that it was drawn from.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from prunesweep.benchmarks import blocks, by_video
from prunesweep.embedded.build import FRAMES, FRAMES_PER_SECOND, SPLIT_SEEDS
from prunesweep.embedded.render import CELL, NOISE, SIZE
from prunesweep.embedded.scene import GRID, Scene, draw_scene
from prunesweep.errors import write_anywhere
from prunesweep.layout import markdown, prose
from prunesweep.paths import user_path
from prunesweep.types import Sample
from prunesweep.video.reader import read_clip

STILL = 2 * NOISE
"""Mean absolute change, in grey levels, up to which a cell counts as static from one frame to the next."""
NEEDED = {
    "object_existence": "Was a block of this colour ever there? One frame of a few may decide.",
    "fine_grained_attribute": "A block's pattern: any frame in which it is seen.",
    "moving_direction": "Where a block walks: two frames from different times.",
    "moving_attribute": "Which block walks, among others that do not: two frames from different times.",
    "object_count": "Blocks ever seen: all frames, some blocks being there for one to three of them only.",
    "action_count": "How often a block flashes, for a single frame each time: all frames.",
    "appearance_order": "Which block comes last: when each one is first seen.",
    "scene_transition": "The background of the first or last frame, on either side of a cut.",
    "state_change": "The colour of a block before or after it changes: the first or last frame.",
    "position": "The quarter of the picture a block is in at first or at last.",
}
"""What each family asks, and which evidence it needs."""
INTRODUCTION = """# The `blocks` benchmark

Short videos with the redundancy of real ones, and questions that need the right token at the right time. Written by
`python -m prunesweep.dev.blocks_page`; the numbers are those of the shipped test split.

## Design rules

1. **Redundant like real video.** A textured background fills most of the picture and hardly changes; sometimes it pans
   slowly, and in many videos a cut replaces it. Two to five small blocks carry the content.
2. **What is asked about may be short.** Blocks appear, show up for one to three frames, change colour, flash for single
   frames, or walk in straight lines; a walker may hide a block that stands still.
3. **Distractors are in the picture.** Colours and patterns are unique within a video, so a question names one block among
   several, and its wrong options come from the other blocks of the same video first. Every block can be asked about: what
   matters is decided by the question, not by the video.
4. **Answers are balanced.** Each family asks for each of its answers equally often (within one), "yes" as often as "no".
   Options are shuffled, which leaves their places balanced only by chance: see the last column under *Answers*.
5. **Not fitted to a method.** The generator knows cells, roles and questions; no threshold, segment or token of any
   reducer appears in it, and no question was kept or thrown out after looking at a model's answer. One cell is one visual
   token of the tiny model, which helps the model, and every method alike. Families differ on purpose in what they
   need: one frame, the first or last one, all of them, or a single short event.
6. **Everything comes from a seed.** Video n of a split is `draw_scene(default_rng(first seed + n))`. Training scenes are
   drawn on the fly from a stream of their own. First seeds: {seeds}.
   The final split is for the last check of a finished design, see [evidence](evidence.md).
"""


def main() -> None:
    write_anywhere()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=user_path, help="blocks.md and blocks/*.png are written here")
    folder = parser.parse_args().folder
    pictures = folder / "blocks"
    pictures.mkdir(parents=True, exist_ok=True)
    samples = blocks.load()
    clips = {group[0].video_id: read_clip(group[0].path, group[0].video_id, FRAMES).frames.numpy() for group in by_video(samples)}
    examples = choose_examples(samples)
    for task, example in examples.items():
        strip_figure(clips[example.video_id], example).savefig(pictures / f"{task}.png", dpi=80)
    text = "\n".join(
        [
            INTRODUCTION.format(seeds=", ".join(f"{split} {seed:,}" for split, seed in SPLIT_SEEDS.items())),
            *_statistics(samples, clips),
            *_families(samples, examples),
            *_distributions(samples, list(examples)),
            *_blindness(samples),
        ]
    )
    (folder / "blocks.md").write_text(prose(text) + "\n", encoding="utf-8")
    print(folder / "blocks.md")


def strip_figure(frames: np.ndarray, sample: Sample) -> Any:
    """All frames of a video side by side in two rows, with the question above."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.9), layout="constrained")
    options = ", ".join(f"[{c}]" if i == sample.target else c for i, c in enumerate(sample.choices))
    figure.suptitle(f"{sample.question}   {options}", fontsize=12)
    for index, axes in enumerate(figure.subplots(2, FRAMES // 2).flat):
        axes.imshow(frames[index], interpolation="nearest")
        axes.set_title(f"{index / FRAMES_PER_SECOND:.2f} s", fontsize=8)
        axes.set_axis_off()
    return figure


def static_shares(frames: np.ndarray) -> np.ndarray:
    """Share of cells that stay as they are, for each step from a frame to the next; frames are `t H W 3` uint8."""
    change = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean(-1)
    cells = change.reshape(len(change), GRID, CELL, GRID, CELL).mean((2, 4))
    return (cells <= STILL).mean((1, 2))


def hides_a_block(scene: Scene) -> bool:
    return any(len(set(cells[seen].tolist())) < seen.sum() for cells, seen in zip(scene.cell, scene.visible, strict=True))


def _statistics(samples: Sequence[Sample], clips: dict[str, np.ndarray]) -> list[str]:
    first = SPLIT_SEEDS["test"]
    scenes = {video: draw_scene(np.random.default_rng(first + int(Path(video).stem)), FRAMES) for video in clips}
    static = {video: float(static_shares(frames).mean()) for video, frames in clips.items()}
    panned = [share for video, share in static.items() if scenes[video].pan.any()]
    unpanned = [share for video, share in static.items() if not scenes[video].pan.any()]
    cuts = [int((np.diff(scene.background) != 0).sum()) for scene in scenes.values()]
    walks = [(np.diff(scene.cell, axis=0) != 0).any(0).sum() for scene in scenes.values()]
    seen = np.concatenate([scene.visible.sum(0) for scene in scenes.values()])
    rows = [
        ("videos, questions", f"{len(clips)}, {len(samples)}"),
        ("frames, rate, size", f"{FRAMES}, {FRAMES_PER_SECOND} per second, {SIZE} x {SIZE} pixels, H.264"),
        ("static cells from one frame to the next", f"{np.mean(list(static.values())):.1%}"),
        (f"the same, {len(unpanned)} videos without panning", f"{np.mean(unpanned):.1%}"),
        (f"the same, {len(panned)} videos with panning", f"{np.mean(panned):.1%}"),
        ("cuts per video", f"{np.mean(cuts):.2f}"),
        ("blocks per video", f"{np.mean([scene.blocks for scene in scenes.values()]):.2f}"),
        (
            "share of the picture that blocks cover",
            f"{np.mean([s.visible.sum(1).mean() for s in scenes.values()]) / GRID**2:.1%}",
        ),
        ("blocks that walk, per video", f"{np.mean(walks):.2f}"),
        ("blocks seen for at most three frames", f"{(seen <= 3).mean():.1%}"),
        ("videos in which a walker hides another block", f"{np.mean([hides_a_block(s) for s in scenes.values()]):.1%}"),
    ]
    note = f"A cell is {CELL} x {CELL} pixels; static: it changes by at most {STILL:g} grey levels on average (noise: {NOISE:g})."
    return ["## Videos", "", *markdown(("", "test split"), rows), "", note, ""]


def choose_examples(samples: Sequence[Sample]) -> dict[str, Sample]:
    """The first question of each family about a video that is no other family's example."""
    examples: dict[str, Sample] = {}
    for task in dict.fromkeys(sample.task for sample in samples):
        taken = {example.video_id for example in examples.values()}
        examples[task] = next(sample for sample in samples if sample.task == task and sample.video_id not in taken)
    return examples


def _families(samples: Sequence[Sample], examples: dict[str, Sample]) -> list[str]:
    lines = ["## Families", "", "One video each, the right option in brackets.", ""]
    for task, example in examples.items():
        count = sum(sample.task == task for sample in samples)
        lines += [f"### {task.replace('_', ' ')}", "", f"{NEEDED[task]} {count} questions, {len(example.choices)} options.", ""]
        lines += [f"![{task}](blocks/{task}.png)", ""]
    return lines


def _distributions(samples: Sequence[Sample], tasks: Sequence[str]) -> list[str]:
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
                ", ".join(f"{answer} {n}" for answer, n in sorted(answers.items())),
                ", ".join(str(places[i]) for i in range(max(places) + 1)),
            )
        )
    header = ("family", "chance", "best fixed order", "answers", "right option first, second, ...")
    note = (
        "*Best fixed order* is the accuracy of always choosing, of the options given, the one that is most often right in "
        "this family, an upper bound fitted on the same questions."
    )
    return ["## Answers", "", *markdown(header, rows), "", note, ""]


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


def _blindness(samples: Sequence[Sample]) -> list[str]:
    from prunesweep.analysis.accuracy import accuracy, task_accuracies
    from prunesweep.analysis.wording import accuracy_text
    from prunesweep.engine.candidate import Candidate
    from prunesweep.engine.protocol import Protocol
    from prunesweep.models.llava_onevision import load
    from prunesweep.paths import DATA
    from prunesweep.reducers import Reducer
    from prunesweep.sweep.evaluate import evaluate

    model = load("tiny", str(DATA / "tiny"))
    trial = Candidate("dense", Reducer("none"), FRAMES, Protocol("words", "choose"))
    found = [evaluate(lambda: model, own, [trial], progress=False).records["dense"] for own in (samples, exchanged(samples))]
    by_task = [task_accuracies(records) for records in found]
    rows = [(task.replace("_", " "), *(accuracy_text(*tasks[task]) for tasks in by_task)) for task in by_task[0]]
    overall = ("all", *(accuracy_text(*accuracy(records)) for records in found))
    lines = ["## Is the video needed?", "", "The tiny model on each question with its own video, and with the next one's:", ""]
    return [*lines, *markdown(("family", "own video", "another video"), [*rows, overall]), ""]


if __name__ == "__main__":
    main()
