"""Pixels of a `scenes` video: mosaics of textures that pan, specks and swaying leaves, blocks, light, noise, H.264."""

from __future__ import annotations

from functools import cache

import numpy as np

from prunesweep.embedded.render import FLASH, inked
from prunesweep.embedded.scene import BACKGROUNDS
from prunesweep.embedded.scenes.paths import SIDE
from prunesweep.embedded.scenes.script import Script

TEXTURE_SHARES = (0.5, 0.25, 0.25)
"""Of a mosaic's pixels."""
BLOB_PIXELS = 28
BLOBS = 128
"""Patches a side before the world repeats: 3584 pixels, more than the fastest pan crosses in 16 frames (648)."""
TILE = 512
"""Pixels a side before a texture repeats, under another mosaic."""
WARP_PIXELS = 6
SWAY_SHARE, SWAY_PIXELS = 0.4, 3
"""Of the patches, and how far what is on them sways."""
SPECKS, SPECK_SIDE, SPECK_STEP = 10, 3, 5.0
RIM = 3
"""Width of the white frame of a flash."""
PATTERN_UNITS = 14
"""A pattern is drawn on a grid of so many units a side, whatever the block's size."""


def render(script: Script) -> np.ndarray:
    """Frames as the sensor gives them, uint8 `t SIDE SIDE 3`."""
    rng = np.random.default_rng(script.seed)
    frames = _background(script, rng)
    _draw_specks(frames, rng)
    for frame in range(script.frames):
        for block in range(script.blocks):
            if script.present[frame, block]:
                _draw_block(frames[frame], script, frame, block)
    lit = frames * script.light.astype(np.float32)[:, None, None, None]
    noise = rng.standard_normal(lit.shape, np.float32)
    noise *= np.float32(script.noise)
    lit += noise
    return np.clip(lit, 0, 255, out=lit).astype(np.uint8)


PIXELS = np.arange(SIDE)


def mosaic(script: Script, pixels: np.ndarray = PIXELS) -> np.ndarray:
    """Index into BACKGROUNDS of the texture at these rows and columns, `t pixels pixels`."""
    rows, columns = _world_pixels(script, pixels)
    patch = _patches(script)[rows // BLOB_PIXELS % BLOBS, columns // BLOB_PIXELS % BLOBS]
    return np.take_along_axis(script.texture, patch.reshape(script.frames, -1), axis=1).reshape(patch.shape)


def _patches(script: Script) -> np.ndarray:
    rng = np.random.default_rng(script.seed + 1)
    return rng.choice(len(TEXTURE_SHARES), size=(BLOBS, BLOBS), p=TEXTURE_SHARES)


def _looked_at(script: Script, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows `t pixels 1` and columns `t 1 pixels` of the world in each frame."""
    corner = script.camera - script.shake
    return corner[:, 0, None, None] + pixels[None, :, None], corner[:, 1, None, None] + pixels[None, None, :]


def _world_pixels(script: Script, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same, warped so that patches have no straight edges."""
    y, x = _looked_at(script, pixels)
    return y + _WAVE[x % TILE], x + _WAVE[(y + 100) % TILE]


_WAVE = np.round(WARP_PIXELS * np.sin(np.arange(TILE) * 2 * np.pi * 9 / TILE)).astype(int)


def _background(script: Script, rng: np.random.Generator) -> np.ndarray:
    """Float32 `t SIDE SIDE 3`."""
    y, x = _looked_at(script, PIXELS)
    rows, columns = _world_pixels(script, PIXELS)
    swaying = rng.random((BLOBS, BLOBS)) < SWAY_SHARE
    turn = rng.uniform(0, 2 * np.pi) + np.arange(script.frames) * rng.uniform(0.5, 1.5)
    sway = np.round(SWAY_PIXELS * np.sin(turn)).astype(int)[:, None, None]
    there = swaying[rows // BLOB_PIXELS % BLOBS, columns // BLOB_PIXELS % BLOBS]
    pixel = (mosaic(script) * TILE + y % TILE) * TILE + (x + sway * there) % TILE
    return _textures().reshape(-1, 3)[pixel].astype(np.float32)


def _draw_specks(frames: np.ndarray, rng: np.random.Generator) -> None:
    place = rng.uniform(0, SIDE - SPECK_SIDE, (1, SPECKS, 2)) + rng.normal(0, SPECK_STEP, (len(frames), SPECKS, 2)).cumsum(0)
    grey = rng.uniform(60, 200, SPECKS)
    for frame, spots in zip(frames, (place % (SIDE - SPECK_SIDE)).astype(int), strict=True):
        for (y, x), level in zip(spots, grey, strict=True):
            frame[y : y + SPECK_SIDE, x : x + SPECK_SIDE] = level


def _draw_block(picture: np.ndarray, script: Script, frame: int, block: int) -> None:
    size = int(script.size[block])
    y, x = np.round(script.centre[frame, block] + script.shake[frame] - size / 2).astype(int)
    if script.flash[frame, block]:
        picture[max(0, y - RIM) : max(0, y + size + RIM), max(0, x - RIM) : max(0, x + size + RIM)] = FLASH
    sprite = _sprite(int(script.colour[frame, block]), int(script.pattern[block]), size)
    top, left = max(0, -y), max(0, -x)
    bottom, right = min(size, SIDE - y), min(size, SIDE - x)
    if top < bottom and left < right:
        picture[y + top : y + bottom, x + left : x + right] = sprite[top:bottom, left:right]


@cache
def _sprite(colour: int, pattern: int, size: int) -> np.ndarray:
    y, x = np.mgrid[:size, :size] * PATTERN_UNITS // size
    return inked(colour, pattern, y, x, PATTERN_UNITS)


@cache
def _textures() -> np.ndarray:
    """`background TILE TILE 3` uint8."""
    y, x = np.mgrid[:TILE, :TILE]
    turn = 2 * np.pi / TILE
    tiles = []
    for index, name in enumerate(BACKGROUNDS):
        speckle = np.random.default_rng(index).random(x.shape)
        base, wave = {
            "grass": ((70, 105, 70), np.where(speckle > 0.75, 14.0, 0.0)),
            "sand": ((150, 135, 105), 8 * np.sin(27 * turn * x + 16 * turn * y)),
            "brick": ((120, 85, 75), np.where((y % 8 == 0) | ((x + 8 * (y // 8 % 2)) % 16 == 0), 18.0, 0.0)),
            "water": ((75, 100, 130), 8 * np.sin(41 * turn * y)),
            "night": ((45, 45, 60), np.where(speckle > 0.97, 60.0, 0.0)),
        }[name]
        tiles.append(np.clip(np.array(base) + wave[..., None], 0, 255))
    return np.stack(tiles).astype(np.uint8)
