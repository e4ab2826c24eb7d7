"""Reading video files: which frames, and one clear error for whatever cannot be read, in bounded time.

The decoder works in a process of its own (`decoder`), one for each process that reads, and more where clips are decoded ahead
(`ahead`).  `timeline` chooses frames by when they are on the screen, `films` reads and verifies them.
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
import threading
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prunesweep.lazy import torch
from prunesweep.types import Clip, Sample, Sampling
from prunesweep.video.timeline import chosen_indices, frame_indices, nothing_there, released_indices

__all__ = ["TooSlowError", "VideoError", "chosen_indices", "frame_indices", "read_clip", "released_indices"]

DECODE_SECONDS = 120.0
"""Most processor time for one clip, if `video.seconds` says nothing else: minutes of 4K video take seconds."""
WAITED = 20
"""Times as many seconds of the clock: a disk that hangs uses no processor, and a busy machine must not look like one."""

PIPE_BYTES = 2**20
"""Linux's largest without privileges, for fewer switches between the processes: a clip in full HD is 200 MB."""


class Answer(NamedTuple):
    """Of the decoder's process."""

    numbers: tuple[float, ...]
    """Timestamps; or the count of frames that was asked for."""
    pixels: torch.Tensor
    """uint8 `t height width 3`; or nothing."""


class VideoError(ValueError):
    """A video that cannot be read; the message names the file and says why."""


class TooSlowError(VideoError):
    """A video that took longer than it may; the next run tries it again."""


def read_clip(
    path: Path,
    video_id: str,
    frames: int,
    start: float | None = None,
    end: float | None = None,
    sampling: Sampling = "even",
    frame_rate: float | None = None,
    seconds: float = DECODE_SECONDS,
    decoder: Decoder | None = None,
) -> Clip:
    """`frames` frames spread evenly over a file, or over the seconds `start` to `end` of it.

    With a frame rate, `path` is a folder of frames.  A part that begins before the video or ends after it is what the video
    has of it.  Timestamps are the frames' own, counted from the video's first frame.  Raises VideoError if the file is
    missing, is no video, or does not hold the frames it promises, and TooSlowError if decoding takes more than `seconds` of
    processor time.  `decoder` is this process's own, if none is given.
    """
    if frame_rate is not None:
        return _read_folder(path, video_id, frames, start, end, sampling, frame_rate)
    if not path.is_file():
        raise VideoError(f"{path.name}: no such file")
    request = {"frames": frames, "start": start, "end": end, "sampling": sampling}
    timestamps, pixels = _ask(path, request, seconds, decoder)
    return Clip(video_id, pixels, timestamps)


def _ask(path: Path, request: dict[str, Any], seconds: float, decoder: Decoder | None = None) -> Answer:
    """Of this process's decoder if none is given, with the file's name in front of its errors."""
    decoder = decoder or own_decoder()
    try:
        return decoder.ask({"path": str(path), **request, "seconds": seconds, "waited": WAITED * seconds})
    except DecoderTimeError as error:
        raise TooSlowError(f"{path.name}: {error}") from error
    except DecoderError as error:
        raise VideoError(f"{path.name}: {error}") from error


SAME_PICTURE = 4.0
"""Levels of 255 by which two readings of one frame may differ on average: conversions of colour differ by one or two."""


def seen_otherwise(clip: Clip, sample: Sample, sampling: Sampling = "even", seconds: float = DECODE_SECONDS) -> int:
    """How many of a clip's frames decord shows as other pictures, if asked for the same ones as harnesses ask it.

    All of them if it cannot read the film.  A folder of frames needs no decoder.
    """
    if sample.frame_rate is not None:
        return 0
    asked = {"frames": len(clip.frames), "start": sample.start, "end": sample.end, "sampling": sampling, "decord": True}
    try:
        others = _ask(sample.path, asked, seconds).pixels
    except VideoError:
        return len(clip.frames)
    if others.shape != clip.frames.shape:
        return len(clip.frames)
    distances = (others.float() - clip.frames.float()).abs().flatten(1).mean(1)
    return int((distances > SAME_PICTURE).sum())


FAR_ABOVE = 2
"""Times as many frames as a video has, from which on somebody should know."""
LOOKED_AT = 4
"""Videos of a benchmark, spread evenly: their packets are listed, not decoded."""


def repeated(samples: Sequence[Sample], frames: int, seconds: float = DECODE_SECONDS) -> str | None:
    """What to say about `frames` that are far more than some videos have; None if a few of them have as many.

    Videos that cannot be read are left to their records.
    """
    count = min(LOOKED_AT, len(samples))
    for sample in (samples[(2 * i + 1) * len(samples) // (2 * count)] for i in range(count)):
        try:
            there = frames_in(sample, seconds) if sample.problem is None else frames
        except VideoError:
            continue
        if frames >= FAR_ABOVE * there:
            part = "" if sample.start is None and sample.end is None else " in the part that is asked about"
            return (
                f"video.frames={frames} is far above what {sample.path.name} has{part}: {there} frames, which are repeated; "
                "prunesweep data check counts such videos"
            )
    return None


def frames_in(sample: Sample, seconds: float = DECODE_SECONDS) -> int:
    """How many different frames a sample's video or part of it has; raises VideoError."""
    if sample.frame_rate is not None:
        files = _frame_files(sample.path)
        return len(chosen_indices(len(files), sample.frame_rate, len(files), sample.start, sample.end))
    if not sample.path.is_file():
        raise VideoError(f"{sample.path.name}: no such file")
    return int(_ask(sample.path, {"count": True, "start": sample.start, "end": sample.end}, seconds).numbers[0])


FIRST_FRAME = 1
"""Frames in folders are named from 00001 on, as those of TVQA in MVBench."""
FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")


def _read_folder(
    path: Path, video_id: str, frames: int, start: float | None, end: float | None, sampling: Sampling, rate: float
) -> Clip:
    from PIL import Image, UnidentifiedImageError

    files = _frame_files(path)
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


def _frame_files(path: Path) -> dict[int, Path]:
    """By their numbers; raises VideoError if there are none."""
    files = {int(file.stem): file for file in path.glob("*") if file.suffix.lower() in FRAME_SUFFIXES and file.stem.isdecimal()}
    if not files:
        raise VideoError(f"{path.name}: no folder of numbered frames")
    return files


class DecoderError(Exception):
    """Why there are no frames."""


class DecoderTimeError(DecoderError):
    """There might have been with more time."""


class DecoderEndedError(DecoderError):
    """Its process was ended: by the file, by hand, or by a machine that is out of memory."""


OWN, AHEAD = 0, 1
"""Numbers of a process's decoders: its own, and from there on those that decode ahead."""


def own_decoder(number: int = OWN) -> Decoder:
    """This process's decoder of that number; a forked process gets some of its own."""
    return _decoders(os.getpid())[number]


def end_decoders() -> None:
    """Those of this process; whoever asks one starts it again."""
    for decoder in _decoders(os.getpid()).values():
        decoder.close()


@functools.cache
def _decoders(process: int) -> defaultdict[int, Decoder]:
    return defaultdict(Decoder)


class Decoder:
    """A process that decodes, started when first asked and again after it was ended; threads ask in turn, any may close."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = 0
        """How often."""
        self._turn = threading.Lock()
        atexit.register(self.close)

    def ask(self, request: dict[str, Any]) -> Answer:
        """What `prunesweep.video.decoder` answers to a request; raises DecoderError.

        Of a process that is ended half-way it is asked once more: whoever ended it may not have meant the file.
        """
        with self._turn:
            closed = self._closed
            try:
                return self._ask(request)
            except DecoderEndedError:
                if self._closed != closed:
                    raise
                return self._ask(request)

    def _ask(self, request: dict[str, Any]) -> Answer:
        process = self._process = self._process or _start()
        try:
            return _exchange(process, request)
        except (EOFError, BrokenPipeError) as error:
            self._process = None
            raise _ending(process, request) from error
        except DecoderError:
            raise
        except BaseException:  # told to stop half-way through an answer: the next one would read its rest
            self.close()
            raise

    def close(self) -> None:
        process, self._process = self._process, None
        self._closed += 1
        if process is not None:
            process.kill()
            _reap(process)


def _start() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "prunesweep.video.decoder"]  # -P: the current folder may hold a numpy.py
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if hasattr(fcntl, "F_SETPIPE_SZ") and process.stdout:
        with suppress(OSError):
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return process


def _exchange(process: subprocess.Popen[bytes], request: dict[str, Any]) -> Answer:
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
    if pixels.numel() and process.stdout.readinto(pixels.view(-1).numpy().data) != pixels.numel():  # type: ignore[attr-defined]
        raise EOFError
    return Answer(tuple(header["timestamps"]), pixels)


def _reap(process: subprocess.Popen[bytes]) -> int:
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):  # what is left of a request has nowhere to go
            pipe.close()  # type: ignore[union-attr]
    return process.wait()


def _ending(process: subprocess.Popen[bytes], request: dict[str, Any]) -> DecoderError:
    """Why a decoder has ended."""
    code = _reap(process)
    if code == -signal.SIGPROF:
        return DecoderTimeError(f"decoding took more than {request['seconds']:g} s of processor time; set video.seconds higher")
    if code == -signal.SIGALRM:
        waited = f"decoding waited for more than {request['waited']:g} s"
        return DecoderTimeError(f"{waited}; see whether its disk answers, or set video.seconds higher")
    reason = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return DecoderEndedError(f"not a readable video: the decoder was ended by {reason}")
