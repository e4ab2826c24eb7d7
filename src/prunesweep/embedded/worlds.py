"""What the tiny models are trained on: `blocks` and `scenes`, each with its words, its videos and its questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np

from prunesweep.embedded import questions, render, scene
from prunesweep.embedded.h264 import compressed
from prunesweep.embedded.questions import CORNERS, NUMBERS, Question, corner_of
from prunesweep.embedded.scene import BACKGROUNDS, COLOURS, GRID, PATTERNS, Scene
from prunesweep.embedded.scenes import labels
from prunesweep.embedded.scenes import questions as scenes_questions
from prunesweep.embedded.scenes import render as scenes_render
from prunesweep.embedded.scenes.script import Script, draw_script

NO_LABEL = labels.NOTHING


@dataclass(frozen=True)
class World:
    """A benchmark's generator, from a seed to what a video LLM is taught."""

    name: str
    draw: Callable[[np.random.Generator, int], Any]
    """A script of so many frames."""
    render: Callable[[Any], np.ndarray]
    """Its frames as a model is shown them, `t H W 3` uint8."""
    ask: Callable[[Any, np.random.Generator], list[Question]]
    labels: Callable[[Any], dict[str, np.ndarray]]
    """What each token shows, `t cells` each: indices into `attributes` and `moments`, row and column, or NO_LABEL."""
    answers: Mapping[str, tuple[str, ...]]
    """Kinds of answers of each family; a split has as many of each."""
    kind: Callable[[Question], str]
    attributes: Mapping[str, tuple[str, ...]]
    """What a visual token is tied to, and the words for it."""
    grid: int
    """Visual tokens a side."""
    words: tuple[str, ...] = ()
    """Besides those of `blocks`."""
    moments: Mapping[str, int] = field(default_factory=dict)
    """What the LLM's early layers are asked about at each visual token, and how many answers there are."""
    ends: bool = False
    """Whether the end of an answer is taught, which free answers of several words need."""

    @property
    def families(self) -> tuple[str, ...]:
        return tuple(self.answers)


ATTRIBUTES = {
    "colour": COLOURS,
    "pattern": PATTERNS,
    "background": BACKGROUNDS,
    "flash": NUMBERS[:2],
    "corner": CORNERS,
}
"""What a token is grounded in, and the words for it: a block that flashes in a frame flashes there once."""


def cell_labels(scene: Scene) -> dict[str, np.ndarray]:
    """What each cell of each frame of `blocks` shows, `t cells` each: indices into ATTRIBUTES, and the cell's row and column."""
    empty = np.full((scene.frames, GRID * GRID), NO_LABEL)
    labels = {name: empty.copy() for name in ("colour", "pattern", "flash", "corner", "row", "column")}
    background = np.repeat(scene.background[:, None], GRID * GRID, axis=1)
    for frame, block in np.argwhere(scene.visible):
        cell = scene.cell[frame, block]
        labels["colour"][frame, cell] = scene.colour[frame, block]
        labels["pattern"][frame, cell] = scene.pattern[block]
        labels["flash"][frame, cell] = scene.flash[frame, block]
        row, column = divmod(int(cell), GRID)
        labels["row"][frame, cell], labels["column"][frame, cell] = row, column
        labels["corner"][frame, cell] = corner_of(row, column)
        background[frame, cell] = NO_LABEL
    return {**labels, "background": background}


BLOCKS = World(
    name="blocks",
    draw=scene.draw_scene,
    render=render.render,
    ask=questions.ask,
    labels=cell_labels,
    answers=questions.ANSWERS,
    kind=attrgetter("answer"),
    attributes=ATTRIBUTES,
    grid=GRID,
)


def _filmed(script: Script) -> np.ndarray:
    return compressed(scenes_render.render(script), **H264)


H264 = {"crf": "28", "preset": "veryfast"}
"""x264's options for `scenes`, in training as in the files."""
SCENES = World(
    name="scenes",
    draw=draw_script,
    render=_filmed,
    ask=scenes_questions.ask,
    labels=labels.token_labels,
    answers=scenes_questions.ANSWERS,
    kind=scenes_questions.kind,
    attributes=ATTRIBUTES,
    grid=labels.GRID,
    words=scenes_questions.WORDS,
    moments=labels.MOMENT_LABELS,
    ends=True,
)
WORLDS = {world.name: world for world in (BLOCKS, SCENES)}
