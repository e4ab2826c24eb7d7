"""The decoder's process: `python -m prunesweep.decoding` answers requests on its standard input until that is closed.

Decord is C++: a damaged file can hang it, crash it or make it ask for all memory, and no Python signal or exception stops
that.  In a process of its own the kernel does: an alarm ends a decode that takes too long, a limit ends one that wants
too much memory, and whoever asked sees the process end.  Nothing heavy is imported here.

A request is a line of JSON: path, frames, start, end, seconds.  The answer is a line of JSON, then the pixels if it has a
shape.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import numpy as np

MEMORY_SHARE = 0.5
"""Of the machine's memory, which the decoder may not go beyond: damaged headers promise frames of any size."""


def frame_indices(start: int, stop: int, frames: int) -> list[int]:
    """`frames` indices in [start, stop), each in the middle of an equal share; a short range repeats some.

    The protocol of MVBench and PLLaVA, without its rounding at the ends.
    """
    length = stop - start
    return [start + min(int((i + 0.5) * length / frames), length - 1) for i in range(frames)]


def serve() -> None:
    """Answers requests; the caller's end closes the input."""
    answers = os.fdopen(os.dup(1), "wb")
    silent = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # decord and ffmpeg write what they like
        os.dup2(silent, stream)
    for number in (signal.SIGINT, signal.SIGTERM):  # the caller's to handle; an ended decoder would look like a bad file
        signal.signal(number, signal.SIG_IGN)
    _limit_memory()
    for line in sys.stdin.buffer:
        _answer(json.loads(line), answers)
        answers.flush()


def _limit_memory() -> None:
    import resource

    most = int(MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def _answer(request: dict[str, Any], answers: BinaryIO) -> None:
    signal.setitimer(signal.ITIMER_REAL, request["seconds"])  # without a handler: the kernel ends the process
    try:
        header, pixels = _decode(request["path"], request["frames"], request["start"], request["end"])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    answers.write(json.dumps(header).encode() + b"\n")
    if pixels is not None:
        answers.write(pixels.data)


def _decode(path: str, frames: int, start: float | None, end: float | None) -> tuple[dict[str, Any], np.ndarray | None]:
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(path, num_threads=1)
        rate = reader.get_avg_fps()
        first = 0 if start is None else round(start * rate)
        last = len(reader) if end is None else min(len(reader), round(end * rate))
        if first >= last:
            wanted = f"from {start or 0:g} s" + ("" if end is None else f" to {end:g} s")
            return {"error": f"no frames {wanted}; it lasts {len(reader) / rate:.1f} s"}, None
        chosen = frame_indices(first, last, frames)
        pixels = reader.get_batch(chosen).asnumpy()
    except Exception:  # decord raises many kinds, among them plain AssertionErrors
        return {"error": "not a readable video: damaged, truncated or of another format"}, None
    return {"shape": pixels.shape, "timestamps": [index / rate for index in chosen]}, pixels


if __name__ == "__main__":
    serve()
