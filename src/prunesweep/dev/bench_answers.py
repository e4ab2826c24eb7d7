"""`python -m prunesweep.dev.bench answers`: many configurations on one question, by how the answer is given.

One at a time from the video on; shared, but one answer at a time; and shared with all answers written together.  All sides are
really run, in turns, on the stand-ins of `bench_engine`, and answer alike.  Beside the measured ratio stands the bound: FLOPs of
all configurations alone, over FLOPs of the work that is not the same in two of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from prunesweep.console.layout import grid
from prunesweep.cost import ledger
from prunesweep.dev.bench_engine import (
    FRAMES,
    Scale,
    build_model,
    counted_flops,
    encoded,
    grid_of,
    questions_on_one_video,
    require_same_answers,
)
from prunesweep.engine.devices import AUTO, at_once
from prunesweep.engine.latency import PeakMemory, resident_bytes
from prunesweep.engine.plan import plan
from prunesweep.engine.prefix_tree import Clock, Job, LastStages, Outcome, evaluate_jobs
from prunesweep.engine.protocol import Protocol

CONFIGURATIONS = 20
"""The first ones of the grid: 4 layers x 5 keep ratios behind one merge."""


class Side(NamedTuple):
    """One way to answer the same jobs."""

    name: str
    work: Callable[[], Sequence[Outcome]]


class Measured(NamedTuple):
    """Of a side, by round."""

    seconds: list[float]
    grown: float
    """MiB, at most."""


def sides_of(model: Any, jobs: Sequence[Job]) -> tuple[Side, ...]:
    def together() -> Sequence[Outcome]:
        clock = Clock()
        return evaluate_jobs(model, jobs, clock, last=LastStages(model, clock, at_once(AUTO, model.device)))

    return (
        Side("one at a time", partial(evaluate_jobs, model, jobs, Clock(), share=False)),
        Side("shared, one answer at a time", partial(evaluate_jobs, model, jobs, Clock())),
        Side("shared, answers together", together),
    )


def measured(sides: Sequence[Side], rounds: int) -> list[Measured]:
    """In turns.  Raises ValueError if two of them answer differently."""
    require_same_answers([side.work() for side in sides])
    found = [Measured([], 0.0) for _ in sides]
    for _ in range(rounds):
        for index, side in enumerate(sides):
            before = resident_bytes()
            with PeakMemory(torch.device("cpu")) as peak:
                begin = time.perf_counter()
                side.work()
                found[index].seconds.append(time.perf_counter() - begin)
            grown = max(found[index].grown, (peak.highest - before) / 2**20)
            found[index] = found[index]._replace(grown=grown)
    return found


def flops_of(model: Any, jobs: Sequence[Job]) -> int:
    """Of all of these, each by itself."""
    answers = require_same_answers([evaluate_jobs(model, jobs, Clock())])
    return sum(ledger(model.shape, answer.usage).total for answer in answers.values())


def bound_of(alone: int, chosen: int, unique: int) -> float:
    """FLOPs of all jobs alone over those of the work that is not the same in two of them: no walk can save more.

    `unique` is counted while the jobs choose, which alone takes `chosen`; what is written besides is nobody else's.
    """
    return alone / (unique + alone - chosen)


def rows_of(model: Any, protocol: str, jobs: Sequence[Job], rounds: int, bound: str) -> list[tuple[str, ...]]:
    sides = sides_of(model, jobs)
    found = measured(sides, rounds)
    rows: list[tuple[str, ...]] = []
    for side, own in zip(sides, found, strict=True):
        ratios = sorted(alone / mine for alone, mine in zip(found[0].seconds, own.seconds, strict=True))
        median, spread = statistics.median(own.seconds), f"{min(own.seconds):.2f} to {max(own.seconds):.2f}"
        faster = f"{statistics.median(ratios):.2f}x ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        rows.append((protocol, side.name, f"{median:.2f} s ({spread})", faster, bound, f"{own.grown:.0f} MiB"))
    return rows


def bench_answers(name: str, scale: Scale, tokens: Sequence[int], rounds: int) -> str:
    """Raises ValueError if two sides answer differently."""
    model = build_model(scale.small)
    sample = questions_on_one_video()[0]
    reducers = grid_of(encoded(model, sample, FRAMES), scale)[:CONFIGURATIONS]
    protocols = {"choose": Protocol("words", "choose")}
    protocols |= {f"generate {count}": Protocol("words", "generate", count) for count in tokens}
    rows: list[tuple[str, ...]] = []
    chosen = unique = 0
    for protocol, how in protocols.items():
        jobs = [Job(reducer, plan(sample, FRAMES, reducer, how, model)) for reducer in reducers]
        alone = flops_of(model, jobs)
        if not unique:
            chosen, unique = alone, counted_flops(partial(evaluate_jobs, model, jobs, Clock()))
        rows += rows_of(model, protocol, jobs, rounds, f"{bound_of(alone, chosen, unique):.2f}x")
    head = ("", "", f"median of {rounds} (range)", "faster", "bound by FLOPs", "memory")
    title = f"stand-in for {name}: {len(reducers)} configurations of PruneVid, one video of {FRAMES} frames, one question"
    return f"{title}; {torch.get_num_threads()} threads, same answers on all sides\n{grid(head, rows)}"
