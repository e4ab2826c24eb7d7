"""The documentation page of `blocks`, `python -m prunesweep.dev.blocks_page FOLDER`: pictures, answers, video statistics.

Everything on the page is computed from the shipped test split and the scripts that it was drawn from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from prunesweep.benchmarks import blocks, by_video
from prunesweep.console.layout import markdown, prose
from prunesweep.dev import parser_of
from prunesweep.dev.benchmark_pages import blindness, choose_examples, distributions, families, strip_figure
from prunesweep.embedded.build import SPLIT_SEEDS
from prunesweep.embedded.h264 import FRAMES_PER_SECOND
from prunesweep.embedded.render import CELL, NOISE, SIZE
from prunesweep.embedded.scene import FRAMES, GRID, Scene, draw_scene
from prunesweep.errors import write_anywhere
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
    parser = parser_of(__file__, __doc__)
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
            *families(samples, examples, NEEDED, "blocks"),
            *distributions(samples, list(examples)),
            *blindness(samples, "tiny", FRAMES),
        ]
    )
    (folder / "blocks.md").write_text(prose(text) + "\n", encoding="utf-8")
    print(folder / "blocks.md")


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


if __name__ == "__main__":
    main()
