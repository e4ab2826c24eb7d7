"""`python -m prunesweep.dev.bench decoding`: whether the walk waits for frames, with and without decoding ahead, in one run.

A sleep stands for an accelerator: it takes as long for every video and needs no core.  How long is chosen by what decoding one
clip takes on this machine, in the same run, so that a table says how many decoders keep up with which speed.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch

from prunesweep.console.layout import grid
from prunesweep.embedded.h264 import write_video
from prunesweep.engine.candidate import Candidate
from prunesweep.engine.devices import available_cores
from prunesweep.engine.plan import seeing
from prunesweep.engine.prefix_tree import Clock, Job, evaluate_jobs
from prunesweep.engine.protocol import Protocol
from prunesweep.reducers import Reducer
from prunesweep.sweep.decoding import Upcoming
from prunesweep.types import Clip, Model, Sample
from prunesweep.video.prefetch import memory_for_clips
from prunesweep.video.reader import DECODE_SECONDS, end_decoders

SIZES = {"360p": (360, 640), "1080p": (1080, 1920)}
"""Heights and widths."""
AIM = 0.95
"""Of the time in compute, where the decoders together are fast enough."""
PACES = (1.6, 0.8)
"""Seconds of compute for one of decoding: what one decoder keeps up with, and what two do."""
TRIAL = Candidate("bench", Reducer("none"), 32, Protocol("words", "choose"))
MODEL: Any = SimpleNamespace(question_conditioned=False, device=torch.device("cpu"))


@dataclass(frozen=True)
class Compute:
    """Stands for all that an accelerator does on a video; gives some of the pixels, so that both sides can be compared."""

    seconds: float
    share = "compute"

    def __call__(self, clip: Clip, model: Model) -> tuple[int, float]:
        time.sleep(self.seconds)
        return int(clip.frames[:, ::40, ::40].long().sum()), clip.timestamps[-1]


class Walked(NamedTuple):
    seconds: float
    """From the first clip on: what comes before that is the same for all sides, and nothing in a long sweep."""
    waited: float
    """For clips, after the first one."""
    found: list[Any]


def moving(height: int, width: int, frames: int) -> np.ndarray:
    """A texture that moves across the screen, as a camera pans: uint8 `t height width 3`."""
    coarse = np.random.default_rng(0).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    picture = coarse.repeat(8, 0).repeat(8, 1)
    return np.stack([np.roll(picture, 3 * number, 1) for number in range(frames)])


def drawn(folder: Path, name: str, count: int, frames: int) -> list[tuple[Sample]]:
    """Videos of one question each: one file by many names."""
    write_video(folder / f"{name}.mp4", moving(*SIZES[name], frames), preset="veryfast")
    videos = []
    for number in range(count):
        path = folder / f"{name}_{number}.mp4"
        path.hardlink_to(folder / f"{name}.mp4")
        videos.append((Sample(path.stem, path, "what moves ?", ("red", "blue"), 0, "bench", path.stem),))
    return videos


def walked(videos: Sequence[tuple[Sample]], decoders: int, compute: float) -> Walked:
    """As an evaluation goes through its videos."""
    upcoming = Upcoming(videos, [TRIAL], MODEL, None, DECODE_SECONDS, lambda *_: False, decoders, memory_for_clips())
    clock, found = Clock(), []
    begin = first = 0.0
    try:
        for index, (sample,) in enumerate(videos):
            upcoming.reach(index)
            decode, _ = seeing(sample, TRIAL.frames, TRIAL.reducer, TRIAL.protocol, MODEL, read=upcoming.read)
            (outcome,) = evaluate_jobs(MODEL, [Job(index, (decode, Compute(compute)))], clock)
            if isinstance(outcome.result, Exception):
                raise outcome.result
            found.append(outcome.result)
            if index == 0:
                first, begin = clock.seconds["decode"], time.perf_counter() - clock.seconds["compute"]
    finally:
        upcoming.close()
    return Walked(time.perf_counter() - begin, clock.seconds["decode"] - first, found)


def bench_decoding(decoders: Sequence[int], videos: int, frames: int, rounds: int) -> str:
    """The table; exits if two sides saw other pictures."""
    parts = [f"{TRIAL.frames} of {frames} frames of {videos} videos, {available_cores()} cores"]
    for name in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            parts.append("\n".join(_of_size(name, drawn(Path(folder), name, videos, frames), decoders, rounds)))
        end_decoders()
    return "\n\n".join(parts)


def _of_size(name: str, videos: Sequence[tuple[Sample]], decoders: Sequence[int], rounds: int) -> Iterator[str]:
    walked(videos, max(decoders), 0.0)  # they have started
    alone = walked(videos, 0, 0.0)
    taken = alone.waited / (len(videos) - 1)
    yield f"{name}: a clip takes {taken:.2f} s to decode"
    rows = []
    for pace in PACES:
        compute = pace * taken
        sides = [[walked(videos, count, compute) for count in (0, *decoders)] for _ in range(rounds)]
        if any(side.found != alone.found for one_round in sides for side in one_round):
            sys.exit("python -m prunesweep.dev.bench: clips that were decoded ahead are others")
        for count, own in zip((0, *decoders), zip(*sides, strict=True), strict=True):
            rows.append(_row(compute, count, own, len(videos)))
    yield grid(("compute a video", "decoders", "in all", "waited for frames", "in compute", f"{AIM:.0%} reached"), rows)


def _row(compute: float, count: int, own: Sequence[Walked], videos: int) -> tuple[str, ...]:
    seconds, waited = (statistics.median(values) for values in zip(*((one.seconds, one.waited) for one in own), strict=True))
    share = statistics.median(compute * videos / one.seconds for one in own)
    ahead = str(count) if count else "0 (as before)"
    reached = "yes" if share >= AIM else "no"
    return f"{compute:.2f} s", ahead, f"{seconds:.1f} s", f"{waited:.1f} s", f"{share:.1%}", reached
