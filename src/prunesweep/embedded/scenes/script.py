"""What happens in a `scenes` video: blocks, camera and background, frame by frame.

The camera follows its blocks, as in a tracking shot: the background pans behind them, a shaking hand moves both.  Events
are short and many, so that the frame that tells may be any.  Everything is drawn from one `numpy.random.Generator`: a seed is
a video.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from prunesweep.embedded.scene import BACKGROUNDS, COLOURS, PATTERNS
from prunesweep.embedded.scenes.paths import SIDE, WAITS, Path, enter, leave, move, stay, two_phases

FRAMES = 16
FRAMES_PER_SECOND = 4
SIZES = (14, 20, 28)
"""Sides of a block, in pixels."""
ROLES = ("still", "move", "phases", "appear", "brief", "enter", "leave", "recolour", "flash")
ROLE_SHARES = (0.02, 0.12, 0.20, 0.10, 0.18, 0.08, 0.06, 0.08, 0.16)
PATHS: dict[str, Callable[[np.random.Generator, int, int], Path]] = {
    "move": move,
    "phases": two_phases,
    "enter": enter,
    "leave": leave,
}
"""Of the roles that move; all others stay."""
BLOCKS = (2, 5)
MOST_BRIEF = 3
"""Frames that a brief block is seen."""
MOST_FLASHES = 3
CUT_SHARE = 0.6
PAN_PIXELS = 24.0
"""A frame, times a factor in PAN_FACTOR that each shot draws."""
PAN_FACTOR = (1.0, 1.8)
SHAKE_PIXELS = 5.0
"""Standard deviation of a jerk is half of it; more is cut off."""
LIGHT_DRIFT = 0.12
NOISE = (4.0, 10.0)
"""Standard deviation of the sensor noise, in grey levels; one for each video."""
MOST_HIDDEN = 0.5
"""Share of a block that may be hidden or outside of the frame where it counts as seen."""
TRIES = 30
"""To draw a path on which a block hides no other for long."""


@dataclass(frozen=True)
class Script:
    """One video of t frames with o blocks; all arrays are indexed by frame first.  Later blocks hide earlier ones."""

    centre: np.ndarray
    """`t o 2` float: row and column in pixels, without the shake."""
    heading: np.ndarray
    """`t o` int: index into `paths.HEADINGS` of the step to this frame."""
    present: np.ndarray
    """`t o` bool: drawn, if in the frame."""
    colour: np.ndarray
    """`t o` int: index into COLOURS."""
    flash: np.ndarray
    """`t o` bool: the block wears a white frame."""
    pattern: np.ndarray
    """`o` int: index into PATTERNS."""
    size: np.ndarray
    """`o` int: of its sides, in pixels."""
    phased: np.ndarray
    """`o` bool: it heads in two ways, one after the other."""
    texture: np.ndarray
    """`t 3` int: indices into BACKGROUNDS; the first one covers most."""
    camera: np.ndarray
    """`t 2` int: where the background is looked at, in pixels of its world."""
    shake: np.ndarray
    """`t 2` int: in pixels."""
    light: np.ndarray
    """`t` float: gain."""
    noise: float
    """In grey levels."""
    seed: int
    """Of noise, specks and the world's patches."""

    @property
    def frames(self) -> int:
        return len(self.centre)

    @property
    def blocks(self) -> int:
        return len(self.pattern)

    @cached_property
    def visible(self) -> np.ndarray:
        """`t o` bool: at least half of the block is in the frame and not behind another."""
        return seen(self.centre, self.size, self.present)

    @property
    def corner(self) -> np.ndarray:
        """`t o` int: index into CORNERS, the quarter of the picture that a block's centre is in."""
        below, right = (self.centre >= SIDE / 2).transpose(2, 0, 1)
        return 2 * below + right


def draw_script(rng: np.random.Generator, frames: int) -> Script:
    """A random script.  Colours and patterns are unique within a video, so that each names a block."""
    count = int(rng.integers(BLOCKS[0], BLOCKS[1] + 1))
    roles = rng.choice(ROLES, size=count, p=ROLE_SHARES).tolist()
    sizes = rng.choice(SIZES, size=count)
    present = np.stack([_present(rng, role, frames) for role in roles], axis=1)
    paths: list[Path] = []
    for block, role in enumerate(roles):
        paths.append(_path(rng, role, frames, sizes[: block + 1], present[:, : block + 1], paths))
    colours = rng.permutation(len(COLOURS))
    texture, camera = _shots(rng, frames)
    phase = rng.uniform(0, 2 * np.pi)
    return Script(
        centre=np.stack([path.centre for path in paths], axis=1),
        heading=np.stack([path.heading for path in paths], axis=1),
        present=present,
        colour=_colours(rng, roles, colours, frames),
        flash=np.stack([_flashes(rng, role, frames) for role in roles], axis=1),
        pattern=rng.permutation(len(PATTERNS))[:count],
        size=sizes,
        phased=np.array([role == "phases" and frames >= 4 for role in roles]),
        texture=texture,
        camera=camera,
        shake=np.round(np.clip(rng.normal(0, SHAKE_PIXELS / 2, (frames, 2)), -SHAKE_PIXELS, SHAKE_PIXELS)).astype(int),
        light=1 + LIGHT_DRIFT * rng.uniform() * np.sin(phase + np.arange(frames) * rng.uniform(0.1, 0.5)),
        noise=float(rng.uniform(*NOISE)),
        seed=int(rng.integers(2**31)),
    )


def _present(rng: np.random.Generator, role: str, frames: int) -> np.ndarray:
    there = np.ones(frames, bool)
    if role == "appear" and frames > 1:
        there[: rng.integers(1, frames)] = False
    elif role == "brief" and frames > 1:
        length = int(rng.integers(1, min(MOST_BRIEF, frames - 1) + 1))
        start = int(rng.integers(0, frames - length + 1))
        there[:start] = there[start + length :] = False
    return there


def _path(rng: np.random.Generator, role: str, frames: int, sizes: np.ndarray, present: np.ndarray, earlier: list[Path]) -> Path:
    """One on which no block is hidden in more than a quarter of the frames in which it is there, or else the last one tried."""
    for _ in range(TRIES):
        path = PATHS.get(role, stay)(rng, frames, int(sizes[-1]))
        centre = np.stack([*(one.centre for one in earlier), path.centre], axis=1)
        hidden = hidden_share(centre, sizes, present) * present
        if ((hidden > MOST_HIDDEN / 4).sum(0) <= present.sum(0) // 4).all():
            break
    return path


def _colours(rng: np.random.Generator, roles: list[str], colours: np.ndarray, frames: int) -> np.ndarray:
    """Blocks that change colour take one that no other has, near the beginning or the end more often than between."""
    colour = np.repeat(colours[None, : len(roles)], frames, axis=0)
    spare = iter(colours[len(roles) :].tolist())
    for block, role in enumerate(roles):
        if role == "recolour" and frames > 1:
            new = next(spare, None)
            edge = min(3, frames - 1)
            change = int(rng.integers(1, frames) if rng.random() < 0.4 else rng.integers(1, edge + 1))
            change = frames - change if rng.random() < 0.5 else change
            if new is not None:
                colour[change:, block] = new
    return colour


def _flashes(rng: np.random.Generator, role: str, frames: int) -> np.ndarray:
    flash = np.zeros(frames, bool)
    if role == "flash":
        number = int(rng.choice((1, 2, 3), p=(0.5, 0.25, 0.25)))
        flash[rng.choice(frames, size=min(number, frames), replace=False)] = True
    return flash


def _shots(rng: np.random.Generator, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Textures `t 3` and camera `t 2`: one shot, or two with another main texture each."""
    cut = int(rng.integers(2, frames - 1)) if frames > 3 and rng.random() < CUT_SHARE else frames
    texture = np.empty((frames, 3), int)
    camera = np.empty((frames, 2))
    order = rng.permutation(len(BACKGROUNDS))
    for shot, (start, end) in enumerate(((0, cut), (cut, frames))):
        texture[start:end] = [order[shot], *rng.permutation(np.delete(order, shot))[:2]]
        angle, speed = rng.uniform(0, 2 * np.pi), PAN_PIXELS * rng.uniform(*PAN_FACTOR)
        pan = speed * np.array([np.sin(angle), np.cos(angle)])
        camera[start:end] = rng.uniform(0, 1000, 2) + np.outer(np.arange(end - start), pan)
    return texture, np.round(camera).astype(int)


def hidden_share(centre: np.ndarray, size: np.ndarray, present: np.ndarray) -> np.ndarray:
    """`t o`: the largest part of a block that one later block covers."""
    half = size / 2
    covered = np.zeros(present.shape)
    for block in range(len(size) - 1):
        gap = np.abs(centre[:, block + 1 :] - centre[:, block : block + 1])
        both = np.clip(half[block] + half[None, block + 1 :, None] - gap, 0, np.minimum(size[block], size[block + 1 :])[:, None])
        covered[:, block] = (both.prod(-1) * present[:, block + 1 :]).max(1) / size[block] ** 2
    return covered


def seen(centre: np.ndarray, size: np.ndarray, present: np.ndarray) -> np.ndarray:
    low, high = centre - size[:, None] / 2, centre + size[:, None] / 2
    inside = np.clip(np.minimum(high, SIDE) - np.maximum(low, 0), 0, None).prod(-1) / size**2
    return present & (inside >= MOST_HIDDEN) & (hidden_share(centre, size, present) <= MOST_HIDDEN)


def moves(script: Script, block: int) -> set[int]:
    """Headings of a block where it is seen, waiting left out."""
    seen_there = script.heading[script.visible[:, block], block]
    return set(seen_there.tolist()) - {WAITS}
