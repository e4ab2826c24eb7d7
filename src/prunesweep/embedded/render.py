"""Pixels of a `blocks` scene: 16 pixel cells, a 13 pixel sprite per block, low-contrast textures behind, sensor noise."""

from __future__ import annotations

from functools import cache

import numpy as np

from prunesweep.embedded.scene import BACKGROUNDS, GRID, PATTERNS, Scene

CELL = 16
SIZE = GRID * CELL
"""Frame height and width in pixels."""
SPRITE = 13
MARGIN = 1
NOISE = 3.0
"""Standard deviation of the sensor noise, in grey levels."""
COLOUR_RGB = np.array(
    [
        (220, 40, 40),
        (40, 190, 60),
        (50, 80, 230),
        (235, 220, 50),
        (60, 215, 215),
        (215, 60, 200),
        (240, 240, 240),
        (245, 140, 30),
    ],
    np.float32,
)
INK = np.array((15, 15, 15), np.float32)
FLASH = np.array((255, 255, 255), np.float32)


def render(scene: Scene) -> np.ndarray:
    """Frames of a scene, uint8 `t SIZE SIZE 3`."""
    rng = np.random.default_rng(scene.noise_seed)
    frames = np.stack([_texture(b)[:, p : p + SIZE] for b, p in zip(scene.background, scene.pan, strict=True)])
    for frame, block in np.argwhere(scene.visible):
        row, column = divmod(int(scene.cell[frame, block]), GRID)
        y, x = row * CELL, column * CELL
        if scene.flash[frame, block]:
            frames[frame, y : y + CELL, x : x + CELL] = FLASH
        y, x = y + MARGIN, x + MARGIN
        frames[frame, y : y + SPRITE, x : x + SPRITE] = _sprite(int(scene.colour[frame, block]), int(scene.pattern[block]))
    frames = frames + rng.standard_normal(frames.shape, np.float32) * NOISE
    return np.clip(frames, 0, 255).astype(np.uint8)


@cache
def _sprite(colour: int, pattern: int) -> np.ndarray:
    y, x = np.mgrid[:SPRITE, :SPRITE]
    return inked(colour, pattern, y, x, SPRITE)


def inked(colour: int, pattern: int, y: np.ndarray, x: np.ndarray, units: int) -> np.ndarray:
    """A block's face, float32 `... 3`, at places counted in units of which a side has so many."""
    ink = {
        "plain": np.zeros_like(x, bool),
        "striped": y % 4 >= 2,
        "barred": x % 4 >= 2,
        "checked": (x // 3 + y // 3) % 2 == 1,
        "dotted": (x % 4 < 2) & (y % 4 < 2),
        "crossed": (abs(x - y) <= 1) | (abs(x + y - units + 1) <= 1),
    }[PATTERNS[pattern]]
    return np.where(ink[..., None], INK, COLOUR_RGB[colour]).astype(np.float32)


@cache
def _texture(background: int) -> np.ndarray:
    """A background of `SIZE` rows and twice as many columns, so that it can be panned."""
    y, x = np.mgrid[:SIZE, : 2 * SIZE]
    speckle = np.random.default_rng(background).random(x.shape)
    base, wave = {
        "grass": ((70, 105, 70), np.where(speckle > 0.75, 14.0, 0.0)),
        "sand": ((150, 135, 105), 8 * np.sin(x / 3.0 + y / 5.0)),
        "brick": ((120, 85, 75), np.where((y % 8 == 0) | ((x + 6 * (y // 8 % 2)) % 12 == 0), 18.0, 0.0)),
        "water": ((75, 100, 130), 8 * np.sin(y / 2.0)),
        "night": ((45, 45, 60), np.where(speckle > 0.97, 60.0, 0.0)),
    }[BACKGROUNDS[background]]
    return (np.array(base, np.float32) + wave[..., None]).astype(np.float32)
