"""Reading video files with decord: which frames, and one clear error for whatever cannot be read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from prunesweep.types import Clip


class VideoError(Exception):
    """A video that cannot be read; the message names the file and says why."""


def frame_indices(start: int, stop: int, frames: int) -> list[int]:
    """`frames` indices in [start, stop), each in the middle of an equal share; a short range repeats some.

    The protocol of MVBench and PLLaVA, without its rounding at the ends.
    """
    length = stop - start
    return [start + min(int((i + 0.5) * length / frames), length - 1) for i in range(frames)]


@contextmanager
def _quiet_decoder() -> Iterator[None]:
    """Keeps the decoder's C++ messages off the terminal: they go to file descriptor 2 whatever Python's streams are."""
    sys.stderr.flush()
    saved = os.dup(2)
    silent = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(silent, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(silent)
        os.close(saved)


def read_clip(path: Path, video_id: str, frames: int, start: float | None = None, end: float | None = None) -> Clip:
    """`frames` frames spread evenly over a file, or over the seconds `start` to `end` of it.

    Raises VideoError if the file is missing, is no video, or does not hold the frames it promises.
    """
    if not path.is_file():
        raise VideoError(f"{path}: no such file")
    with _quiet_decoder():
        return _read(path, video_id, frames, start, end)


def _read(path: Path, video_id: str, frames: int, start: float | None, end: float | None) -> Clip:
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        rate = reader.get_avg_fps()
        first = 0 if start is None else round(start * rate)
        last = len(reader) if end is None else min(len(reader), round(end * rate))
        if first >= last:
            wanted = f"from {start or 0:g} s" + ("" if end is None else f" to {end:g} s")
            raise VideoError(f"{path}: no frames {wanted}; it lasts {len(reader) / rate:.1f} s")
        chosen = frame_indices(first, last, frames)
        pixels = torch.from_numpy(reader.get_batch(chosen).asnumpy())
    except (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, IndexError, ZeroDivisionError) as error:
        raise VideoError(f"{path}: not a readable video: damaged, truncated or of another format") from error
    return Clip(video_id, pixels, tuple(index / rate for index in chosen))
