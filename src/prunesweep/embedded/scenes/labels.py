"""What each visual token of a `scenes` video shows, for training: what a picture tells, and moments that only a video tells."""

from __future__ import annotations

import numpy as np

from prunesweep.embedded.scenes.paths import HEADINGS, SIDE
from prunesweep.embedded.scenes.questions import QUARTERS
from prunesweep.embedded.scenes.render import mosaic
from prunesweep.embedded.scenes.script import FRAMES_PER_SECOND, Script

GRID = 8
"""Visual tokens a side."""
CELL = SIDE // GRID
LEAST_COVERED = 0.3
"""Of a token's pixels, where it counts as showing a block; the token at a block's centre does anyway."""
NOTHING = -100
MOMENT_LABELS = {"quarter": len(QUARTERS), "heading": len(HEADINGS), "flashes": 4, "since": 3, "arrival": 4, "turned": 2}
"""What the LLM's early layers are asked about at each visual token, and how many answers there are: the second; the block's
heading, flashes so far, and whether it is new, was there in the frame before, or from the beginning on; whether it was the first
to arrive after the beginning, the second or third; and whether it has turned."""


def token_labels(script: Script) -> dict[str, np.ndarray]:
    """`t cells` each: indices into colours and so on, row and column, and MOMENT_LABELS; NOTHING where one does not apply."""
    frames = script.frames
    names = ("colour", "pattern", "flash", "corner", "row", "column", *MOMENT_LABELS)
    labels = {name: np.full((frames, GRID * GRID), NOTHING) for name in names}
    labels["background"] = mosaic(script, np.arange(CELL // 2, SIDE, CELL)).reshape(frames, -1)
    labels["quarter"] = np.repeat(np.arange(frames)[:, None] // FRAMES_PER_SECOND, GRID * GRID, axis=1)
    flashes = (script.flash & script.visible).cumsum(0)
    row, column = np.divmod(np.arange(GRID * GRID), GRID)
    for frame, block in np.argwhere(script.present):
        covered = _covered(script.centre[frame, block] + script.shake[frame], script.size[block])
        labels["background"][frame, covered > 0] = NOTHING
        if script.visible[frame, block]:
            cells = covered >= min(LEAST_COVERED, covered.max())
            of_block = {
                "colour": script.colour[frame, block],
                "pattern": script.pattern[block],
                "flash": script.flash[frame, block],
                "corner": script.corner[frame, block],
                "row": row[cells],
                "column": column[cells],
                "heading": script.heading[frame, block] if frame else NOTHING,
                "flashes": flashes[frame, block],
                "since": _since(script.visible[: frame + 1, block]),
                "arrival": _arrival(script.visible[: frame + 1], block),
                "turned": (script.heading[1 : frame + 1, block] != script.heading[1, block]).any() if frame else NOTHING,
            }
            for name, value in of_block.items():
                labels[name][frame, cells] = value
    return labels


def _since(seen: np.ndarray) -> int:
    """0: for the first time; 1: before, but not from the beginning on; 2: from the beginning on."""
    return 2 if seen[0] else int(seen[:-1].any())


def _arrival(seen: np.ndarray, block: int) -> int:
    """0: there from the beginning on; else its place, at most 3, among the blocks `o` that were first seen later than that."""
    first = seen.argmax(0)
    late = seen.any(0) & (first > 0)
    return min(3, int((late & (first <= first[block])).sum())) if late[block] else 0


def _covered(centre: np.ndarray, size: float) -> np.ndarray:
    """`cells` float: share of each token's pixels that a square covers."""
    edges = np.arange(GRID) * CELL
    low, high = centre - size / 2, centre + size / 2
    rows, columns = (
        np.clip(np.minimum(b, edges + CELL) - np.maximum(a, edges), 0, None) / CELL for a, b in zip(low, high, strict=True)
    )
    return np.outer(rows, columns).ravel()
