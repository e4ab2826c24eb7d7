"""What happens in a `blocks` video: a seeded script of a few blocks on a background, frame by frame.

The design imitates what makes real video redundant: the background fills most of the picture and rarely changes, a few
small objects carry the content, and what is asked about may last a single frame.  Everything is drawn from one
`numpy.random.Generator`, so a seed is a video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FRAMES = 12
"""Of a video of the benchmark."""
GRID = 6
"""Cells per side.  A block fills one cell, and the tiny model sees one visual token per cell."""
COLOURS = ("red", "green", "blue", "yellow", "cyan", "magenta", "white", "orange")
PATTERNS = ("plain", "striped", "barred", "checked", "dotted", "crossed")
BACKGROUNDS = ("grass", "sand", "brick", "water", "night")
ROLES = ("still", "move", "appear", "brief", "recolour", "flash")
ROLE_SHARES = (0.06, 0.25, 0.16, 0.15, 0.14, 0.24)
MAX_BLOCKS = 5
CUT_PROBABILITY = 0.6
PAN_PROBABILITY = 0.3
MAX_FLASHES = 3


@dataclass(frozen=True)
class Scene:
    """The script of one video of t frames with o blocks; all arrays are indexed by frame first."""

    background: np.ndarray
    """`t` int: index into BACKGROUNDS."""
    pan: np.ndarray
    """`t` int: how many pixels the background has moved to the left."""
    visible: np.ndarray
    """`t o` bool."""
    cell: np.ndarray
    """`t o` int: row * GRID + column."""
    colour: np.ndarray
    """`t o` int: index into COLOURS."""
    flash: np.ndarray
    """`t o` bool: the block wears a white frame."""
    pattern: np.ndarray
    """`o` int: index into PATTERNS."""
    noise_seed: int

    @property
    def frames(self) -> int:
        return len(self.background)

    @property
    def blocks(self) -> int:
        return len(self.pattern)


def draw_scene(rng: np.random.Generator, frames: int) -> Scene:
    """A random script of `frames` frames.  Colours and patterns are unique within a video, so that each names a block."""
    count = int(rng.integers(2, MAX_BLOCKS + 1))
    colours = rng.permutation(len(COLOURS))
    roles = list(rng.choice(ROLES, size=count, p=ROLE_SHARES))
    if all(role in ("appear", "brief") for role in roles):
        roles[0] = "still"  # some block must be there at the start
    visible = np.ones((frames, count), bool)
    colour = np.repeat(colours[None, :count], frames, axis=0)
    flash = np.zeros((frames, count), bool)
    cell = np.repeat(rng.permutation(GRID * GRID)[None, :count], frames, axis=0)
    _move(rng, roles, cell)
    _change(rng, roles, visible, colour, flash, colours[count:])
    return Scene(
        background=_backgrounds(rng, frames),
        pan=np.arange(frames) * int(rng.random() < PAN_PROBABILITY),
        visible=visible,
        cell=cell,
        colour=colour,
        flash=flash,
        pattern=rng.permutation(len(PATTERNS))[:count],
        noise_seed=int(rng.integers(2**31)),
    )


def _move(rng: np.random.Generator, roles: Sequence[str], cell: np.ndarray) -> None:
    """Sets the cells of the blocks that move, in every frame; others keep theirs."""
    movers = [block for block, role in enumerate(roles) if role == "move"]
    passable = [block for block, role in enumerate(roles) if role == "still"]
    for block in movers:
        others = np.delete(cell, block, axis=1)
        solid = np.delete(cell, [block, *movers, *passable], axis=1)
        taken = set(others[[0, -1]].ravel().tolist())
        cell[:, block] = _path(rng, len(cell), taken=taken, solid=set(solid.ravel().tolist()))


def _change(
    rng: np.random.Generator,
    roles: Sequence[str],
    visible: np.ndarray,
    colour: np.ndarray,
    flash: np.ndarray,
    spare: np.ndarray,
) -> None:
    """Sets when blocks are seen, flash and have another colour, one of those to spare."""
    frames = len(visible)
    for block, role in enumerate(roles):
        if role == "appear" and frames > 1:
            visible[: rng.integers(1, frames), block] = False
        elif role == "brief" and frames > 1:
            length = int(rng.integers(1, min(3, frames) + 1))
            start = int(rng.integers(0, frames - length + 1))
            visible[:, block] = False
            visible[start : start + length, block] = True
        elif role == "recolour" and frames > 1:
            colour[rng.integers(1, frames) :, block] = spare[block % len(spare)]
        elif role == "flash":
            most = min(MAX_FLASHES, frames)
            flash[rng.choice(frames, size=rng.integers(1, most + 1), replace=False), block] = True


def _backgrounds(rng: np.random.Generator, frames: int) -> np.ndarray:
    first, second = rng.choice(len(BACKGROUNDS), size=2, replace=False)
    background = np.full(frames, first)
    if frames > 1 and rng.random() < CUT_PROBABILITY:
        background[rng.integers(1, frames) :] = second
    return background


def _path(rng: np.random.Generator, frames: int, taken: set[int], solid: set[int]) -> np.ndarray:
    """Cells of a block that moves in a straight line: it neither starts nor ends in a taken cell and crosses no solid one.

    It walks 2 to 5 cells, at most two a frame, waiting before and after; in one frame it only stands.
    """
    while True:
        steps = int(rng.integers(2, GRID)) if frames > 2 else int(rng.integers(1, 3))
        start, line = int(rng.integers(0, GRID - steps)), int(rng.integers(GRID))
        along = start + _progress(rng, frames, steps)
        if rng.random() < 0.5:
            along = GRID - 1 - along
        cells = line * GRID + along if rng.random() < 0.5 else along * GRID + line
        if not {cells[0], cells[-1]} & taken and not set(cells) & solid:
            return cells


def _progress(rng: np.random.Generator, frames: int, steps: int) -> np.ndarray:
    """`t` int from 0 to `steps`: how far the block has walked by each frame."""
    if frames == 1:
        return np.zeros(1, int)
    duration = min(frames - 1, int(rng.integers((steps + 1) // 2, 2 * steps + 1)))
    begin = int(rng.integers(0, frames - duration))
    share = np.clip((np.arange(frames) - begin) / duration, 0, 1)
    return np.round(share * steps).astype(int)
