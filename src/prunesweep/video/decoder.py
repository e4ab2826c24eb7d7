"""The decoder's process: `python -m prunesweep.video.decoder` answers requests on its standard input until that is closed.

FFmpeg is C: a damaged file can hang it, crash it or make it ask for all memory, and no Python signal or exception stops
that.  In a process of its own the kernel does: a timer ends a decode that takes too long, a limit ends one that wants too
much memory, and whoever asked sees the process end.  Nothing heavy is imported here.

A request is a line of JSON: path, frames, start, end, sampling, seconds, waited.  The answer is a line of JSON, then the
pixels if it has a shape; to a request with `count` it is the number of frames there are, to one with `decord` that library's
frames.  `seconds` are of this process's processor time, so that a busy machine ends no decode; `waited` are of the clock, for
a disk that never answers.
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


def serve() -> None:
    """Answers requests; the caller's end closes the input."""
    answers = os.fdopen(os.dup(1), "wb")
    silent = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # ffmpeg writes what it likes
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
    _limit_time(request["seconds"], request["waited"])
    try:
        header, pixels = _decode(request)
    finally:
        _limit_time(0, 0)
    answers.write(json.dumps(header).encode() + b"\n")
    if pixels is not None:
        answers.write(pixels.data)


def _limit_time(seconds: float, waited: float) -> None:
    """Without handlers: the kernel ends the process."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, waited)


def _decode(request: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray | None]:
    from prunesweep.video.films import frames_between, read_frames
    from prunesweep.video.harness import decord_frames
    from prunesweep.video.packets import FilmError

    path, start, end = (request[name] for name in ("path", "start", "end"))
    try:
        if request.get("count"):
            return {"shape": [0], "timestamps": [frames_between(path, start, end)]}, None
        read = decord_frames if request.get("decord") else read_frames
        timestamps, pixels = read(path, request["frames"], start, end, request["sampling"])
    except FilmError as error:
        return {"error": str(error)}, None
    except MemoryError:
        return {"error": "not a readable video: its frames do not fit into half of the memory"}, None
    return {"shape": pixels.shape, "timestamps": timestamps}, pixels


if __name__ == "__main__":
    serve()
