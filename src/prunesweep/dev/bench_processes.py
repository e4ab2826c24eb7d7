"""`python -m prunesweep.dev.bench processes`: several processes of one thread each against one, on the embedded benchmark.

The sides take turns and must give the same records.  What is compared is the time from the first process's first video to
the last one's last; starting a process, which costs the same whatever the sweep's length, is given beside it.
"""

from __future__ import annotations

import functools
import os
import statistics
import sys
from collections.abc import Sequence
from itertools import product

import torch

from prunesweep.benchmarks import blocks, by_video
from prunesweep.console.layout import grid
from prunesweep.engine.candidate import Candidate
from prunesweep.engine.protocol import Protocol
from prunesweep.models.llava_onevision import LlavaOnevision, load
from prunesweep.paths import DATA
from prunesweep.reducers import Reducer
from prunesweep.reducers.prunevid import Merge, Prune
from prunesweep.results.timing import Timing
from prunesweep.types import Sample

CHOOSE = Protocol("words", "choose")
FRAMES = 12
"""What the embedded model was trained on."""
TRIALS = [
    Candidate(f"layer={layer} keep_ratio={keep}", Reducer("prunevid", Merge(), Prune(layer, keep_ratio=keep)), FRAMES, CHOOSE)
    for layer, keep in product((2, 4, 6), (0.2, 0.4, 0.8))
] + [Candidate("dense", Reducer("none"), FRAMES, CHOOSE)]


def load_with_one_thread() -> LlavaOnevision:
    """The embedded model, in a process that computes with one thread from here on."""
    torch.set_num_threads(1)
    return load("tiny", str(DATA / "tiny"))


def bench_processes(processes: int, questions: int, rounds: int, trials: Sequence[Candidate] = tuple(TRIALS)) -> str:
    samples = blocks.load(questions)
    model = load_with_one_thread()
    sides = {"1 process": functools.partial(_one, model), f"{processes} processes": functools.partial(_several, processes)}
    taken: dict[str, list[Timing]] = {name: [] for name in sides}
    answers = []
    for round_number in range(rounds + 1):  # one more to warm up
        for name, side in sides.items():
            records, timing = side(samples, trials)
            answers.append(records)
            if round_number:
                taken[name].append(timing)
    if any(not one[name].equals(answers[0][name]) for one in answers for name in answers[0]):
        sys.exit("python -m prunesweep.dev.bench: several processes answered differently from one")
    about = (
        f"{len(trials)} trials on {len(samples)} questions on {len(by_video(samples))} videos, {os.cpu_count()} cores, "
        "one thread a process; same records on both sides"
    )
    return f"{about}\n{_table(taken)}"


def _one(model: LlavaOnevision, samples: Sequence[Sample], trials: Sequence[Candidate]):
    from prunesweep.sweep.evaluate import evaluate

    result = evaluate(lambda: model, samples, trials, accelerator="cpu", progress=False)
    return result.records, result.timing


def _several(processes: int, samples: Sequence[Sample], trials: Sequence[Candidate]):
    from prunesweep.sweep.evaluate import evaluate

    result = evaluate(load_with_one_thread, samples, trials, devices=processes, accelerator="cpu", progress=False)
    return result.records, result.timing


def _table(taken: dict[str, list[Timing]]) -> str:
    """Times of both sides and the median, over rounds, of their ratios."""
    rows: list[tuple[str, ...]] = []
    for name, timings in taken.items():
        seconds = [timing.evaluating for timing in timings]
        start = statistics.median(timing.total - timing.evaluating for timing in timings)
        rate = timings[0].evaluated / statistics.median(seconds)
        said = f"{statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})"
        rows.append((name, said, f"{rate:.0f}", f"{start:.1f} s"))
    one, several = ([timing.evaluating for timing in timings] for timings in taken.values())
    ratios = [alone / together for alone, together in zip(one, several, strict=True)]
    rows.append(("one / several", f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})", "", ""))
    return grid(("", f"evaluating, median of {len(ratios)} (range)", "records a second", "start and end"), rows)
