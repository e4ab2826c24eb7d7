"""Reading video files: which frames, and one clear error for whatever cannot be read, in bounded time.

The decoder works in a process of its own (`prunesweep.decoding`), one for each process that reads.  A single frame that
cannot be decoded is decord's nearest one, as in the field's harnesses.
"""

from __future__ import annotations

import atexit
import fcntl
import functools
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from prunesweep.decoding import chosen_indices, frame_indices, nothing_there, released_indices
from prunesweep.lazy import torch
from prunesweep.types import Clip, Sampling

__all__ = ["VideoError", "chosen_indices", "frame_indices", "read_clip", "released_indices"]

DECODE_SECONDS = 120.0
"""Longest time for one clip: minutes of 4K video take seconds, the rest is for slow disks and busy machines."""


PIPE_BYTES = 2**20
"""Linux's largest without privileges, for fewer switches between the processes: a clip in full HD is 200 MB."""


class VideoError(ValueError):
    """A video that cannot be read; the message names the file and says why."""


def read_clip(
    path: Path,
    video_id: str,
    frames: int,
    start: float | None = None,
    end: float | None = None,
    sampling: Sampling = "even",
    frame_rate: float | None = None,
    seconds: float = DECODE_SECONDS,
) -> Clip:
    """`frames` frames spread evenly over a file, or over the seconds `start` to `end` of it.

    With a frame rate, `path` is a folder of frames.  Raises VideoError if the file is missing, is no video, does not hold the
    frames it promises, or takes more than `seconds` to decode.
    """
    if frame_rate is not None:
        return _read_folder(path, video_id, frames, start, end, sampling, frame_rate)
    if not path.is_file():
        raise VideoError(f"{path.name}: no such file")
    request = {"path": str(path), "frames": frames, "start": start, "end": end, "sampling": sampling, "seconds": seconds}
    try:
        timestamps, pixels = _decoder(os.getpid()).ask(request)
    except DecoderError as error:
        raise VideoError(f"{path.name}: {error}") from error
    return Clip(video_id, pixels, timestamps)


FIRST_FRAME = 1
"""Frames in folders are named from 00001 on, as those of TVQA in MVBench."""
FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")


def _read_folder(
    path: Path, video_id: str, frames: int, start: float | None, end: float | None, sampling: Sampling, rate: float
) -> Clip:
    from PIL import Image, UnidentifiedImageError

    files = {int(file.stem): file for file in path.glob("*") if file.suffix.lower() in FRAME_SUFFIXES and file.stem.isdecimal()}
    if not files:
        raise VideoError(f"{path.name}: no folder of numbered frames")
    chosen = chosen_indices(len(files), rate, frames, start, end, sampling, FIRST_FRAME)
    if not chosen:
        raise VideoError(f"{path.name}: {nothing_there(start, end, len(files) / rate)}")
    pixels = []
    for index in chosen:
        try:
            with Image.open(files[index]) as image:
                pixels.append(torch.from_numpy(np.array(image.convert("RGB"))))
        except (KeyError, OSError, UnidentifiedImageError) as error:
            raise VideoError(f"{path.name}: frame {index} of {len(files)} is missing or damaged") from error
    if len({p.shape for p in pixels}) > 1:
        raise VideoError(f"{path.name}: the frames differ in size")
    return Clip(video_id, torch.stack(pixels), tuple((index - FIRST_FRAME) / rate for index in chosen))


class DecoderError(Exception):
    """Why there are no frames."""


@functools.cache
def _decoder(process: int) -> Decoder:
    """This process's decoder; a forked process gets one of its own."""
    return Decoder()


class Decoder:
    """A process that decodes, started when first asked and again after it was ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def ask(self, request: dict[str, Any]) -> tuple[tuple[float, ...], torch.Tensor]:
        """Timestamps and uint8 frames `t height width 3`; raises DecoderError."""
        process = self._process = self._process or _start()
        try:
            return _exchange(process, request)
        except (EOFError, BrokenPipeError) as error:
            self._process = None
            raise DecoderError(_ending(process, request["seconds"])) from error
        except DecoderError:
            raise
        except BaseException:  # told to stop half-way through an answer: the next one would read its rest
            self.close()
            raise

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            _reap(self._process)
            self._process = None


def _start() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "prunesweep.decoding"]  # -P: the current folder may hold a numpy.py
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if hasattr(fcntl, "F_SETPIPE_SZ") and process.stdout:
        with suppress(OSError):
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return process


def _exchange(process: subprocess.Popen[bytes], request: dict[str, Any]) -> tuple[tuple[float, ...], torch.Tensor]:
    assert process.stdin is not None  # for mypy: both are pipes
    assert process.stdout is not None
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    header = json.loads(line)
    if "error" in header:
        raise DecoderError(header["error"])
    pixels = torch.empty(header["shape"], dtype=torch.uint8)
    if process.stdout.readinto(pixels.view(-1).numpy().data) != pixels.numel():  # type: ignore[attr-defined]
        raise EOFError
    return tuple(header["timestamps"]), pixels


def _reap(process: subprocess.Popen[bytes]) -> int:
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):  # what is left of a request has nowhere to go
            pipe.close()  # type: ignore[union-attr]
    return process.wait()


def _ending(process: subprocess.Popen[bytes], seconds: float) -> str:
    """Why a decoder has ended."""
    code = _reap(process)
    if code == -signal.SIGALRM:
        return f"not a readable video: decoding took more than {seconds:g} s"
    reason = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"not a readable video: the decoder was ended by {reason}"
