"""Where the seconds of an evaluation and of a sweep went: one line a batch, in the sweep's folder."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

TIMING = "timing.jsonl"
"""What each batch of a sweep took, one line each, appended, so that several workers of one study may write it."""


@dataclass(frozen=True)
class Timing:
    """Where the seconds of an evaluation went; `run` of `alone` stages were left to run after sharing."""

    seconds: dict[str, float]
    total: float
    run: int
    alone: int
    evaluated: int = 0
    """Records made."""
    reused: int = 0
    """Records that the store had."""
    evaluating: float = 0.0
    """Seconds of `total` from the first process's first video to the last one's last."""

    def besides(self, name: str, seconds: float) -> Timing:
        """With what was spent on something else, before it or after."""
        return replace(self, seconds={**self.seconds, name: self.seconds.get(name, 0.0) + seconds}, total=self.total + seconds)

    def entry(self) -> dict[str, Any]:
        """As it is kept; without the total, into which the sweep's own parts fall, too."""
        return {key: value for key, value in asdict(self).items() if key != "total"}


def sum_timings(timings: Sequence[Timing]) -> Timing:
    """Of evaluations one after the other."""
    names = dict.fromkeys(name for timing in timings for name in timing.seconds)
    seconds = {name: sum(timing.seconds.get(name, 0.0) for timing in timings) for name in names}
    numbers = {field.name: sum(getattr(timing, field.name) for timing in timings) for field in fields(Timing)[1:]}
    return Timing(seconds, **numbers)


def process() -> str:
    """Who writes: workers of one study have times of their own."""
    return f"{platform.node()}-{os.getpid()}"


def add_timing(sweep: Path, timings: Sequence[Timing], evaluating: float, around: Mapping[str, float]) -> None:
    """Append a batch's times to the sweep's: `evaluating` is what evaluating it took in all, `around` what was spent besides."""
    distinct = list({id(timing): timing for timing in timings}.values())
    seconds = {**around, "plan": evaluating - sum(timing.total for timing in distinct)}
    entries = [timing.entry() for timing in (*distinct, Timing(seconds, sum(seconds.values()), 0, 0))]
    with (sweep / TIMING).open("a", encoding="utf-8") as file:
        file.write("".join(f"{json.dumps({**entry, 'by': process()})}\n" for entry in entries))


def read_timing(sweep: Path) -> list[dict[str, Any]]:
    """Entries of all batches so far; a sweep whose records were all made elsewhere has none."""
    path = sweep / TIMING
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def own_timing(sweep: Path) -> list[dict[str, Any]]:
    """Of this process: what its own seconds can be the sum of."""
    return [entry for entry in read_timing(sweep) if entry.get("by") == process()]
