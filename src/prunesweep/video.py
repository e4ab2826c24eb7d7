"""Reading video files with decord: which frames, and one clear error for whatever cannot be read."""

from __future__ import annotations

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


def read_clip(path: Path, video_id: str, frames: int, start: float | None = None, end: float | None = None) -> Clip:
    """`frames` frames spread evenly over a file, or over the seconds `start` to `end` of it.

    Raises VideoError if the file is missing, is no video, or does not hold the frames it promises.
    """
    import decord

    decord.logging.set_level(decord.logging.QUIET)  # FFmpeg's own messages; what matters becomes the VideoError
    if not path.is_file():
        raise VideoError(f"{path}: no such file")
    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        rate = reader.get_avg_fps()
        first = 0 if start is None else round(start * rate)
        last = len(reader) if end is None else min(len(reader), round(end * rate))
        if first >= last:
            raise VideoError(f"{path}: no frames between {start} s and {end} s; it lasts {len(reader) / rate:.1f} s")
        chosen = frame_indices(first, last, frames)
        pixels = torch.from_numpy(reader.get_batch(chosen).asnumpy())
    except (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, IndexError, ZeroDivisionError) as error:
        raise VideoError(f"{path}: not a readable video ({_reason(error)})") from error
    return Clip(video_id, pixels, tuple(index / rate for index in chosen))


def _reason(error: Exception) -> str:
    """decord's message without source locations and stack."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].split("] ")[-1][:160] if lines else type(error).__name__
