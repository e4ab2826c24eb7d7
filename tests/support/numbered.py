"""Films in which every frame shows its own number, as twelve black or white bars."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS = 12
MILLISECONDS = Fraction(1, 1000)


def bars(number: int, width: int, height: int) -> np.ndarray:
    picture = np.full((height, width, 3), 16, np.uint8)
    for bit in range(BITS):
        if number >> bit & 1:
            picture[:, bit * width // BITS : (bit + 1) * width // BITS] = 235
    return picture


def number_of(picture: np.ndarray) -> int:
    """That a frame of a film shows."""
    height, width, _ = picture.shape
    inner = picture[height // 4 : 3 * height // 4]
    bright = [inner[:, (2 * bit + 1) * width // (2 * BITS)].mean() > 125 for bit in range(BITS)]
    return sum(int(one) << bit for bit, one in enumerate(bright))


def write(
    path: Path,
    times: Sequence[float],
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    size: tuple[int, int] = (192, 96),
    base: Fraction = Fraction(1, 30),
    pixels: str = "yuv420p",
    turned: int = 0,
    muxer: dict[str, str] | None = None,
) -> Path:
    """Frame i is shown from `times[i]` on, in seconds."""
    with av.open(str(path), "w", options=muxer or {}) as film:
        stream = film.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.codec_context.time_base = stream.time_base = base
        stream.options = options or {}
        if turned:
            stream.set_display_rotation(turned)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(bars(number, *size), format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = round(time / base), base
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
    return path


def played(path: Path) -> list[int]:
    """The numbers that a player shows, from the beginning to the end."""
    with av.open(str(path)) as film:
        return [number_of(frame.to_ndarray(format="rgb24")) for frame in film.decode(video=0)]
