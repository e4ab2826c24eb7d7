"""What the embedded benchmarks are drawn from and the tiny models trained on: the words, videos and questions of each."""

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
from prunesweep.embedded.scenes.script import FRAMES, draw_script

NO_LABEL = labels.NOTHING


@dataclass(frozen=True)
class World:
    """A benchmark's generator, from a seed to what a video LLM is taught."""

    name: str
    length: int
    """Frames of a video of the benchmark; training has shorter ones too."""
    draw: Callable[[np.random.Generator, int], Any]
    """A script of so many frames."""
    render: Callable[[Any], np.ndarray]
    """Its frames as the sensor gives them, `t H W 3` uint8."""
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
    h264: Mapping[str, str]
    """x264's options for its files."""
    films: bool = False
    """Whether training sees frames as they come out of such a file, or as the sensor gives them."""
    words: tuple[str, ...] = ()
    """Besides those of `blocks`."""
    moments: Mapping[str, int] = field(default_factory=dict)
    """What the LLM's early layers are asked about at each visual token, and how many answers there are."""
    least_questions: int = 1
    """Of a video in a split, as long as so many families lack some: fewer videos, smaller files."""
    ends: bool = False
    """Whether the end of an answer is taught, which free answers of several words need."""

    def filmed(self, script: Any) -> np.ndarray:
        """Frames as training shows them to a model."""
        sensed = self.render(script)
        return compressed(sensed, **self.h264) if self.films else sensed

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
    length=scene.FRAMES,
    draw=scene.draw_scene,
    render=render.render,
    ask=questions.ask,
    labels=cell_labels,
    answers=questions.ANSWERS,
    kind=attrgetter("answer"),
    attributes=ATTRIBUTES,
    grid=GRID,
    h264={"crf": "18"},
)

SCENES = World(
    name="scenes",
    length=FRAMES,
    draw=draw_script,
    render=scenes_render.render,
    ask=scenes_questions.ask,
    labels=labels.token_labels,
    answers=scenes_questions.ANSWERS,
    kind=scenes_questions.kind,
    attributes=ATTRIBUTES,
    grid=labels.GRID,
    h264={"crf": "28", "preset": "veryfast", "threads": "1"},
    films=True,
    words=scenes_questions.WORDS,
    moments=labels.MOMENT_LABELS,
    least_questions=5,
    ends=True,
)
WORLDS = {world.name: world for world in (BLOCKS, SCENES)}
