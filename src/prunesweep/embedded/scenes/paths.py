"""How a block of `scenes` moves: centres in pixels, frame by frame, and where it heads."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SIDE = 128
"""Of a frame, in pixels."""
HEADINGS = ("waits", "left", "right", "up", "down")
STEP = np.array([(0, 0), (0, -1), (0, 1), (-1, 0), (1, 0)])
"""Rows and columns of each heading."""
WAITS = 0
PHASE_PIXELS = (36, 76)
"""Least and most that a block moves in one go."""
LEAST_STRETCH, MOST_STRETCH = 3, 7
"""Frames that such a move takes."""


class Path(NamedTuple):
    """Of one block, by frame."""

    centre: np.ndarray
    """`t 2` float: row and column in pixels, outside the frame too."""
    heading: np.ndarray
    """`t` int: index into HEADINGS of the step to this frame."""


def stay(rng: np.random.Generator, frames: int, size: int) -> Path:
    low, high = size / 2 + 2, SIDE - size / 2 - 2
    return Path(np.tile(rng.uniform(low, high, 2), (frames, 1)), np.zeros(frames, int))


def move(rng: np.random.Generator, frames: int, size: int) -> Path:
    """One straight move of a few frames, standing still before and after."""
    if frames == 1:
        return stay(rng, frames, size)
    length = min(frames - 1, int(rng.integers(LEAST_STRETCH, MOST_STRETCH + 1)))
    begin = int(rng.integers(1, frames - length + 1))
    heading = np.zeros(frames, int)
    heading[begin : begin + length] = rng.integers(1, len(HEADINGS))
    return _placed(rng, heading, size)


def two_phases(rng: np.random.Generator, frames: int, size: int) -> Path:
    """Two different headings, one after the other, waiting being one of them; each lasts a quarter of the video or more."""
    if frames < 4:
        return move(rng, frames, size)
    first, second = rng.choice(len(HEADINGS), size=2, replace=False)
    turn = int(rng.integers(max(2, frames * 3 // 8), frames * 5 // 8 + 1))  # the first step is to the second frame
    return _placed(rng, np.r_[np.full(turn, first), np.full(frames - turn, second)], size)


def enter(rng: np.random.Generator, frames: int, size: int) -> Path:
    """From outside, across the nearest edge, to stand still within; from the middle of the first half at the earliest."""
    if frames < 4:
        return move(rng, frames, size)
    heading = int(rng.integers(1, len(HEADINGS)))
    length = min(frames - 1, int(rng.integers(LEAST_STRETCH, MOST_STRETCH + 1)))
    begin = int(rng.integers(1, frames - length + 1))
    inside = stay(rng, 1, size).centre[0]
    axis = int(np.abs(STEP[heading]).argmax())
    depth = float(rng.uniform(size * 0.7, size * 0.7 + 40))
    inside[axis] = depth if STEP[heading][axis] > 0 else SIDE - depth
    far = depth + size / 2 + 1
    share = np.clip((np.arange(frames) - begin + 1) / length, 0, 1)
    centre = inside - (1 - share)[:, None] * far * STEP[heading]
    moving = (np.arange(frames) >= begin) & (np.arange(frames) < begin + length)
    return Path(centre, np.where(moving, heading, WAITS))


def leave(rng: np.random.Generator, frames: int, size: int) -> Path:
    """As `enter`, backwards."""
    if frames < 4:
        return move(rng, frames, size)
    there = enter(rng, frames, size)
    heading = np.zeros(frames, int)
    moved = np.flatnonzero(there.heading)
    opposite = np.array([0, 2, 1, 4, 3])
    heading[frames - moved] = opposite[there.heading[moved]]  # the step to frame i is, backwards, the one to frame t - i
    return Path(there.centre[::-1].copy(), heading)


def _placed(rng: np.random.Generator, heading: np.ndarray, size: int) -> Path:
    """Each run of a heading moves PHASE_PIXELS as far as the frame has room, from a place where all of it is inside."""
    walked = np.zeros((len(heading), 2))
    starts = np.flatnonzero(np.r_[True, np.diff(heading) != 0])
    for start, end in zip(starts, [*starts[1:], len(heading)], strict=True):
        pixels = rng.uniform(*PHASE_PIXELS)
        steps = np.arange(end - start) + (start > 0)  # nothing moves before the first frame
        walked[start:end] = (walked[start - 1] if start else 0) + np.outer(
            steps / max(steps[-1], 1) * pixels, STEP[heading[start]]
        )
    low, high = walked.min(0), walked.max(0)
    room = SIDE - size - 4 - (high - low)
    return Path(size / 2 + 2 - low + rng.uniform(0, room) + walked, heading)
