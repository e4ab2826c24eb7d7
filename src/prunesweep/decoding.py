"""The decoder's process: `python -m prunesweep.decoding` answers requests on its standard input until that is closed.

Decord is C++: a damaged file can hang it, crash it or make it ask for all memory, and no Python signal or exception stops
that.  In a process of its own the kernel does: an alarm ends a decode that takes too long, a limit ends one that wants
too much memory, and whoever asked sees the process end.  Nothing heavy is imported here.

A request is a line of JSON: path, frames, start, end, sampling, seconds.  The answer is a line of JSON, then the pixels if
it has a shape.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import numpy as np

    from prunesweep.types import Sampling

MEMORY_SHARE = 0.5
"""Of the machine's memory, which the decoder may not go beyond: damaged headers promise frames of any size."""


def frame_indices(start: int, stop: int, frames: int) -> list[int]:
    """`frames` indices in [start, stop), each in the middle of an equal share; a short range repeats some.

    The protocol of MVBench and PLLaVA, without its rounding at the ends.
    """
    length = stop - start
    return [start + min(int((i + 0.5) * length / frames), length - 1) for i in range(frames)]


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


def nothing_there(start: float | None, end: float | None, seconds: float) -> str:
    """Why no frame was chosen of a video of that length."""
    wanted = f"from {start or 0:g} s" + ("" if end is None else f" to {end:g} s")
    return f"no frames {wanted}; it lasts {seconds:.1f} s"


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
        header, pixels = _decode(request)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    answers.write(json.dumps(header).encode() + b"\n")
    if pixels is not None:
        answers.write(pixels.data)


def _decode(request: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray | None]:
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    start, end = request["start"], request["end"]
    try:
        reader = decord.VideoReader(request["path"], num_threads=1)
        rate = reader.get_avg_fps()
        chosen = chosen_indices(len(reader), rate, request["frames"], start, end, request["sampling"])
        if not chosen:
            return {"error": nothing_there(start, end, len(reader) / rate)}, None
        pixels = reader.get_batch(chosen).asnumpy()
    except Exception:  # decord raises many kinds, among them plain AssertionErrors
        return {"error": "not a readable video: damaged, truncated or of another format"}, None
    return {"shape": pixels.shape, "timestamps": [index / rate for index in chosen]}, pixels


if __name__ == "__main__":
    serve()
