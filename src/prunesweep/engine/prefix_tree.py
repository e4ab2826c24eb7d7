"""The engine: many trials on one video at once, every stage that several of them share run only once.

A job is one trial on one sample, a tuple of stages.  All jobs of a video form a prefix tree, `walk` goes through it depth
first with one live state per depth.  Sharing never changes an answer: a stage sees the same state either way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, NamedTuple

from prunesweep.engine.stages import Layers
from prunesweep.engine.stopwatch import Seconds, begun
from prunesweep.engine.together import AtOnce, Waiting, answer_all, can_wait
from prunesweep.lazy import torch
from prunesweep.types import Answer, Model


class Job(NamedTuple):
    """One trial on one sample; `key` is the caller's name for it."""

    key: Any
    stages: tuple[Any, ...]


class Outcome(NamedTuple):
    """What became of a job: its answer, or the exception that ended it."""

    key: Any
    result: Answer | Exception
    stage: Any = None
    """In which it ended, if one did."""


@dataclass
class Clock:
    """Seconds by kind of work, and how often a stage was run and how often it would have been without sharing."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    run: int = 0
    alone: int = 0
    kinds: dict[str, list[float]] = field(default_factory=dict)
    """Units (see `units`) and seconds by class of stage."""
    unread: list[tuple[str, str, Seconds, float]] = field(default_factory=list)
    """What is not in `seconds` and `kinds` yet: share, class of stage, and the part of these seconds that it took."""

    def book(self, stage: Any, seconds: Seconds, jobs: int, part: float = 1.0) -> None:
        """A stage that was run once for so many jobs, in a part of the seconds.  `read` adds them up."""
        self.run += 1
        self.alone += jobs
        name = type(stage).__name__
        self.kinds.setdefault(name, [0, 0.0])[0] += units(stage)
        self.unread.append((stage.share, name, seconds, part))

    def read(self) -> None:
        """Adds up what was booked; a GPU is waited for."""
        unread, self.unread = self.unread, []
        for share, name, seconds, part in unread:
            taken = seconds() * part
            self.seconds[share] += taken
            self.kinds[name][1] += taken


def units(stage: Any) -> int:
    """What a stage's time grows with: its layers, or 1."""
    return stage.stop - stage.start if isinstance(stage, Layers) else 1


def cut(jobs: Sequence[Job]) -> list[Job]:
    """The same jobs with every layer range split where another job's range begins or ends, so that ranges can be shared."""
    ranges = [stage for job in jobs for stage in job.stages if isinstance(stage, Layers)]
    bounds = sorted({layer for stage in ranges for layer in (stage.start, stage.stop)})
    return [Job(job.key, tuple(piece for stage in job.stages for piece in _pieces(stage, bounds))) for job in jobs]


def _pieces(stage: Any, bounds: list[int]) -> list[Any]:
    if not isinstance(stage, Layers):
        return [stage]
    inside = [layer for layer in bounds if stage.start < layer < stage.stop]
    edges = [stage.start, *inside, stage.stop]
    looks = [None] * len(inside) + [stage.look]  # at the end of the whole range
    return [replace(stage, start=a, stop=b, look=look) for (a, b), look in zip(pairwise(edges), looks, strict=True)]


def evaluate_jobs(
    model: Model, jobs: Sequence[Job], clock: Clock, share: bool = True, last: LastStages | None = None
) -> list[Outcome]:
    """The outcome of every job, in the order given.

    `share=False` runs each alone.  Otherwise what `last` takes is answered together, without it one at a time.
    """
    groups = [cut(jobs)] if share else [cut([job]) for job in jobs]
    last = last if share else None
    with torch.inference_mode():
        outcomes = {outcome.key: outcome for group in groups for outcome in walk(model, None, group, 0, clock, last)}
        outcomes |= {outcome.key: outcome for outcome in (last.answered() if last else ())}
    clock.read()  # what was answered is here, so nothing is waited for
    return [outcomes[job.key] for job in jobs]


class LastStages:
    """Branches that wait for their answer until there are enough of them to be answered together."""

    def __init__(self, model: Model, clock: Clock, at_once: AtOnce):
        self.model, self.clock, self.at_once = model, clock, at_once
        self._waiting: list[tuple[Waiting, list[Job]]] = []
        self._held = 0

    def takes(self, stage: Any) -> bool:
        return self.at_once.most > 1 and can_wait(stage, self.model)

    def add(self, stage: Any, prefix: Any, jobs: list[Job]) -> Iterator[Outcome]:
        """Outcomes of those that need not wait any longer."""
        one = Waiting(stage, prefix)
        self._waiting.append((one, jobs))
        self._held += sum(one.bytes)
        if len(self._waiting) >= self.at_once.most or self._held >= self.at_once.memory:
            yield from self.answered()

    def answered(self) -> Iterator[Outcome]:
        """Of all that wait."""
        waiting, self._waiting, self._held = self._waiting, [], 0
        if not waiting:
            return
        ended = begun(self.model.device)
        answers, self.at_once = answer_all([one for one, _ in waiting], self.model, self.at_once)
        seconds, each = ended(), 1 / len(waiting)
        for (one, jobs), answer in zip(waiting, answers, strict=True):
            self.clock.book(one.stage, seconds, len(jobs), each)
            yield from (Outcome(job.key, answer, one.stage if isinstance(answer, Exception) else None) for job in jobs)


def walk(
    model: Model, state: Any, jobs: Iterable[Job], depth: int, clock: Clock, last: LastStages | None = None
) -> Iterator[Outcome]:
    """Depth first through the prefix tree of `jobs`, all of which have been through their first `depth` stages.

    What `last` takes is answered later, and is not among the outcomes.
    """
    branches: dict[Any, list[Job]] = {}
    for job in jobs:
        branches.setdefault(job.stages[depth], []).append(job)
    for stage, group in branches.items():
        if last is not None and last.takes(stage):
            yield from last.add(stage, state, group)
            continue
        try:
            after = _timed(stage, state, model, clock, len(group))
        except Exception as error:  # whatever a bad sample provokes becomes its record; the sweep goes on
            yield from (Outcome(job.key, error, stage) for job in group)
            continue
        yield from (Outcome(job.key, after) for job in group if len(job.stages) == depth + 1)
        yield from walk(model, after, [job for job in group if len(job.stages) > depth + 1], depth + 1, clock, last)


def _timed(stage: Any, state: Any, model: Model, clock: Clock, jobs: int) -> Any:
    ended = begun(model.device)
    try:
        return stage(state, model)
    finally:
        clock.book(stage, ended(), jobs)
