"""The documentation page of `scenes`, `python -m prunesweep.dev.scenes_page FOLDER`: rules, pictures, answers, calibration.

Everything on the page is computed from the shipped test split, the scripts that it was drawn from, and the shipped model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from prunesweep.benchmarks import by_video, scenes
from prunesweep.console.layout import markdown, prose
from prunesweep.dev import parser_of
from prunesweep.dev.benchmark_pages import blindness, choose_examples, distributions, families, strip_figure
from prunesweep.dev.scenes_calibration import VIDEOS, drawn, tables
from prunesweep.embedded.build import SPLIT_SEEDS
from prunesweep.embedded.h264 import FRAMES_PER_SECOND
from prunesweep.embedded.scenes.paths import SIDE
from prunesweep.embedded.scenes.script import FRAMES, Script, draw_script
from prunesweep.errors import write_anywhere
from prunesweep.paths import DATA, user_path
from prunesweep.types import Sample
from prunesweep.video.reader import read_clip

MODEL = "tiny_scenes"
NEEDED = {
    "object_existence": "Was a block of this colour ever there? It is seen for at most four frames.",
    "fine_grained_attribute": "A block's pattern: any of the at most eight frames in which it is seen.",
    "moving_direction": "Where a block moves: two frames, often close to each other.",
    "object_count": "Blocks ever seen: all frames, many blocks being there for one to three of them only.",
    "action_count": "How often a block flashes, for a single frame each time: all frames.",
    "state_change": "The colour of a block at first or at last, which often changes within three frames of there.",
    "scene_transition": "Both backgrounds, before and after a cut, of several textures each: what there is most of.",
    "character_order": "When each of the blocks that come later is first seen: a list of two or three.",
    "action_sequence": "What a block does first and what then: move in one of four ways, or wait.",
    "action_localization": "The place and the second of a single flash, or of a block that is seen for at most four frames.",
}
"""What each family asks, and which evidence it needs."""
INTRODUCTION = """# The `scenes` benchmark

Videos as redundant as real ones, and answers of several words. `prunesweep benchmark=scenes model=tiny_scenes`, free answers with
`protocol=generate`. Written by `python -m prunesweep.dev.scenes_page`; numbers are those of the shipped test split.
What it shows of methods and caches is in [scenes_results](scenes_results.md), and on other videos in
[scenes_final](scenes_final.md).

`blocks` is for demo and quick tests. There still cells hardly differ, so that no static threshold matters, and answers are one
word, so that nothing that happens to a cache after the prompt can be seen. Here both matter.

## Design rules

1. **A camera that follows its blocks.** The background is a mosaic of three textures that pans by {pan} pixels a frame; a
   hand shakes by up to 5 pixels, light drifts, leaves sway, specks fly about, the sensor has noise, H.264 does its work. In
   many videos a cut changes all of the background. Blocks of 14, 20 or 28 pixels are anywhere, move on continuous paths,
   hide each other, enter and leave.
2. **Events are short.** Flashes last one frame, brief blocks one to three, moves three to seven, colours change near the
   ends: decided before any method was looked at.
3. **Answers are balanced, options come from the same video.** Where an answer has two parts, the wrong options have each
   part as often as the right one, so that options alone say nothing.
4. **Not fitted to a method.** The generator was calibrated on statistics of dense features alone, fixed before any accuracy.
5. **Everything comes from a seed.** First seeds: {seeds}. A video is taken if enough families lack one of its questions.
   The final split is for the last check of a finished design.
6. **Free answers are compared to the end**, word by word, and by the F1 of their words: `exact_match` and `token_f1` in a
   sweep's tables; `prunesweep show SWEEP --exact` and `prunesweep compare TRIAL BASELINE --exact` test with them.
"""


def main() -> None:
    write_anywhere()
    parser = parser_of(__file__, __doc__)
    parser.add_argument("folder", type=user_path, help="scenes.md and scenes/*.png are written here")
    folder = parser.parse_args().folder
    (folder / "scenes").mkdir(parents=True, exist_ok=True)
    samples = scenes.load()
    examples = choose_examples(samples)
    for task, example in examples.items():
        frames = read_clip(example.path, example.video_id, FRAMES).frames.numpy()
        strip_figure(frames, example).savefig(folder / "scenes" / f"{task}.png", dpi=80)
    seeds = ", ".join(f"{split} {seed:,}" for split, seed in SPLIT_SEEDS.items())
    text = [
        INTRODUCTION.format(seeds=seeds, pan="24 to 43"),
        *_statistics(samples),
        *families(samples, examples, NEEDED, "scenes"),
        *distributions(samples, list(examples)),
        *_calibration(),
        *blindness(samples, MODEL, FRAMES),
    ]
    (folder / "scenes.md").write_text(prose("\n".join(text)) + "\n", encoding="utf-8")
    print(folder / "scenes.md")


def _calibration() -> list[str]:
    from prunesweep.models.llava_onevision import load

    note = f"The first {VIDEOS} videos of the validation split (`python -m prunesweep.dev.scenes_calibration`)."
    return ["## Calibration", "", note, "", *tables(drawn(load(MODEL, str(DATA / MODEL)), VIDEOS)), ""]


def _statistics(samples: Sequence[Sample]) -> list[str]:
    first = SPLIT_SEEDS["test"]
    videos = [Path(group[0].video_id).stem for group in by_video(samples)]
    scripts = [draw_script(np.random.default_rng(first + int(video)), FRAMES) for video in videos]
    seen = np.concatenate([script.visible.sum(0) for script in scripts])
    rows = [
        ("videos, questions", f"{len(videos)}, {len(samples)}"),
        ("frames, rate, size", f"{FRAMES}, {FRAMES_PER_SECOND} per second, {SIDE} x {SIDE} pixels, H.264"),
        ("cuts per video", f"{np.mean([_cuts(script) for script in scripts]):.2f}"),
        ("blocks per video", f"{np.mean([script.blocks for script in scripts]):.2f}"),
        ("share of the picture that blocks cover", f"{np.mean([_covered(script) for script in scripts]):.1%}"),
        ("blocks that move, per video", f"{np.mean([(script.heading > 0).any(0).sum() for script in scripts]):.2f}"),
        ("blocks seen for at most three frames", f"{(seen <= 3).mean():.1%}"),
        ("videos in which a block is hidden or outside for a while", f"{np.mean([_hides(script) for script in scripts]):.1%}"),
    ]
    return ["## Videos", "", *markdown(("", "test split"), rows), ""]


def _cuts(script: Script) -> int:
    return int((np.diff(script.texture[:, 0]) != 0).sum())


def _covered(script: Script) -> float:
    return float((script.visible * script.size**2).sum(1).mean() / SIDE**2)


def _hides(script: Script) -> bool:
    return bool((script.present & ~script.visible).any())


if __name__ == "__main__":
    main()
