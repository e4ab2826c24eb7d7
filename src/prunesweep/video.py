"""Reading video files with decord: which frames, and one clear error for whatever cannot be read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from prunesweep.types import Clip, Sampling


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


def released_indices(first: int, last: int, frames: int) -> list[int]:
    """`frames` indices from `first` to `last`, both included, with the rounding of PLLaVA's and PruneVid's released code."""
    part = (last - first) / frames
    return [int(first + part / 2 + round(part * i)) for i in range(frames)]


LEAST_PER_SECOND = 4
"""Frames of a short video that is sampled once a second, as in ST-LLM's released code."""


def chosen_indices(
    length: int, rate: float, frames: int, start: float | None, end: float | None, sampling: Sampling = "even", origin: int = 0
) -> list[int]:
    """Which frames of `length`, counted from `origin`; empty if there are none from `start` to `end`, in seconds."""
    if sampling == "released":
        first = origin if start is None else max(origin, round(start * rate))
        last = length - 1 + origin if end is None else min(length - 1 + origin, round(end * rate))
        return [min(index, length - 1 + origin) for index in released_indices(first, last, frames)] if first <= last else []
    first = 0 if start is None else round(start * rate)
    last = length if end is None else min(length, round(end * rate))
    if first >= last:
        return []
    if sampling == "per_second":
        frames = min(max(LEAST_PER_SECOND, int((last - first) / rate)), frames)
    return [origin + index for index in frame_indices(first, last, frames)]


def read_clip(
    path: Path,
    video_id: str,
    frames: int,
    start: float | None = None,
    end: float | None = None,
    sampling: Sampling = "even",
    frame_rate: float | None = None,
) -> Clip:
    """`frames` frames spread evenly over a file, or over the seconds `start` to `end` of it.

    With a frame rate, `path` is a folder of frames.  Raises VideoError if the file is missing, is no video, or does not hold
    the frames it promises.
    """
    if frame_rate is not None:
        return _read_folder(path, video_id, frames, start, end, sampling, frame_rate)
    if not path.is_file():
        raise VideoError(f"{path}: no such file")
    with _quiet_decoder():
        return _read(path, video_id, frames, start, end, sampling)


FIRST_FRAME = 1
"""Frames in folders are named from 00001 on, as those of TVQA in MVBench."""
FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")


def _read_folder(
    path: Path, video_id: str, frames: int, start: float | None, end: float | None, sampling: Sampling, rate: float
) -> Clip:
    from PIL import Image, UnidentifiedImageError

    files = {int(file.stem): file for file in path.glob("*") if file.suffix.lower() in FRAME_SUFFIXES and file.stem.isdecimal()}
    if not files:
        raise VideoError(f"{path}: no folder of numbered frames")
    chosen = chosen_indices(len(files), rate, frames, start, end, sampling, FIRST_FRAME)
    if not chosen:
        raise VideoError(f"{path}: no frames {_span(start, end)}; it lasts {len(files) / rate:.1f} s")
    pixels = []
    for index in chosen:
        try:
            with Image.open(files[index]) as image:
                pixels.append(torch.from_numpy(np.array(image.convert("RGB"))))
        except (KeyError, OSError, UnidentifiedImageError) as error:
            raise VideoError(f"{path}: frame {index} of {len(files)} is missing or damaged") from error
    if len({p.shape for p in pixels}) > 1:
        raise VideoError(f"{path}: the frames differ in size")
    return Clip(video_id, torch.stack(pixels), tuple((index - FIRST_FRAME) / rate for index in chosen))


def _span(start: float | None, end: float | None) -> str:
    return f"from {start or 0:g} s" + ("" if end is None else f" to {end:g} s")


def _read(path: Path, video_id: str, frames: int, start: float | None, end: float | None, sampling: Sampling) -> Clip:
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        rate = reader.get_avg_fps()
        chosen = chosen_indices(len(reader), rate, frames, start, end, sampling)
        if not chosen:
            raise VideoError(f"{path}: no frames {_span(start, end)}; it lasts {len(reader) / rate:.1f} s")
        pixels = torch.from_numpy(reader.get_batch(chosen).asnumpy())
    except (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, IndexError, ZeroDivisionError) as error:
        raise VideoError(f"{path}: not a readable video: damaged, truncated or of another format") from error
    return Clip(video_id, pixels, tuple(index / rate for index in chosen))
