"""Measured cost: seconds and memory of trials that run alone, after a warm-up, several times over.

The trials take turns, so that a machine that slows down slows all of them.  The ledger (`cost.py`) says what a trial must
cost; this says what it took here.
"""

from __future__ import annotations

import platform
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any, NamedTuple

import psutil

from prunesweep.checks import require_at_least
from prunesweep.engine.candidate import Candidate
from prunesweep.engine.plan import plan
from prunesweep.engine.stages import Writer, greedy
from prunesweep.lazy import torch
from prunesweep.types import Model, Sample
from prunesweep.video.reader import DECODE_SECONDS


class Quartiles(NamedTuple):
    """Median and quartiles of repeated measurements."""

    median: float
    low: float
    """First quartile."""
    high: float
    """Third quartile."""


@dataclass(frozen=True)
class Measured:
    """What one trial took, over all samples and repeats."""

    first_token_seconds: Quartiles
    """From the video file to the first token: decoding, vision, merging, prefill, output head."""
    llm_seconds: Quartiles
    """Of these, what the LLM took from its first layer to the first token, with the scoring of visual tokens."""
    tokens_per_second: Quartiles
    """Of decoding, after the first token."""
    peak_memory_bytes: Quartiles
    """Allocated by torch on a GPU; resident memory of the whole process, model included, on a CPU."""
    samples: int
    repeats: int
    device: str


class Timed(NamedTuple):
    """One trial on one sample, once."""

    first_token: float
    llm: float
    tokens_per_second: float
    peak_memory: int


@dataclass(frozen=True)
class Measuring:
    """How trials are measured: `engine.measure` and its neighbours."""

    samples: int = 4
    """The first ones of the benchmark."""
    repeats: int = 5
    tokens: int = 16
    """Decoded after the prefill, whatever they say: an end token does not end a measurement."""

    def __post_init__(self) -> None:
        require_at_least("engine.measuring.samples", self.samples, 1)
        require_at_least("engine.measuring.repeats", self.repeats, 2)
        require_at_least("engine.measuring.tokens", self.tokens, 2)


def measure(
    model: Model, samples: Sequence[Sample], candidates: Sequence[Candidate], how: Measuring, seconds: float = DECODE_SECONDS
) -> list[Measured]:
    """What each candidate takes on the model's device, in the order given; `seconds` are the most for decoding a clip.

    Raises ValueError for a sample that cannot be answered: a time without an answer means nothing.
    """
    chosen = samples[: how.samples]
    timed: list[list[Timed]] = [[] for _ in candidates]
    for repeat in range(how.repeats + 1):  # the first round warms up
        for sample in chosen:
            for candidate, times in zip(candidates, timed, strict=True):
                once = _run_named(model, sample, candidate, how.tokens, seconds)
                if repeat:
                    times.append(once)
    device = device_name(model.device)
    return [_measured(times, len(chosen), how.repeats, device) for times in timed]


def _run_named(model: Model, sample: Sample, candidate: Candidate, tokens: int, seconds: float) -> Timed:
    try:
        return run_once(model, sample, candidate, tokens, seconds)
    except ValueError as error:
        raise ValueError(
            f"engine.measure needs samples that can be answered, {sample.id} cannot ({error}); set benchmark.limit or mend it"
        ) from error


def run_once(model: Model, sample: Sample, candidate: Candidate, tokens: int, seconds: float = DECODE_SECONDS) -> Timed:
    """One trial on one sample, alone, with greedy decoding."""
    device = model.device
    protocol = replace(candidate.protocol, answering="generate")
    stages = plan(sample, candidate.frames, candidate.reducer, protocol, model, seconds=seconds)[:-1]
    with torch.inference_mode(), PeakMemory(device) as memory:
        begin = _now(device)
        state: Any = None
        llm_begin = begin
        for stage in stages:
            if stage.share == "LLM" and llm_begin == begin:
                llm_begin = _now(device)
            state = stage(state, model)
        answer = greedy(state, model, Writer(state, model, candidate.reducer.decode))
        next(answer)
        first = _now(device)
        for _ in islice(answer, tokens - 1):
            pass
        last = _now(device)
    return Timed(first - begin, first - llm_begin, (tokens - 1) / (last - first), memory.highest)


def _now(device: torch.device) -> float:
    """Seconds, when all work handed to the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _measured(times: Sequence[Timed], samples: int, repeats: int, device: str) -> Measured:
    first, llm, speed, memory = (quartiles([float(once[index]) for once in times]) for index in range(len(Timed._fields)))
    return Measured(first, llm, speed, memory, samples, repeats, device)


def quartiles(values: Sequence[float]) -> Quartiles:
    """Median and quartiles (inclusive method) of at least two values."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Quartiles(median, low, high)


def accelerator_device(accelerator: str) -> torch.device:
    """The first device that Lightning would choose for this name of an accelerator."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", 0)
    if accelerator in ("auto", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {device.type}, {torch.get_num_threads()} threads"


def as_columns(measured: Measured) -> dict[str, Any]:
    """One flat record, for JSON and tables: `first_token_seconds`, `first_token_seconds_low`, ..."""
    columns: dict[str, Any] = {}
    for name, value in asdict(measured).items():
        if isinstance(value, Quartiles):
            columns |= {name: value.median, f"{name}_low": value.low, f"{name}_high": value.high}
        else:
            columns[name] = value
    return columns


class PeakMemory:
    """Most memory in use while it is open: torch's own count on a GPU, resident memory of the process elsewhere.

    Resident memory is looked at every few milliseconds by a thread of its own.
    """

    INTERVAL = 0.002

    def __init__(self, device: torch.device):
        self.device = device
        self.highest = 0

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return self
        self.highest = resident_bytes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(self.INTERVAL):
            self.highest = max(self.highest, resident_bytes())

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            self.highest = torch.cuda.max_memory_allocated(self.device)
            return
        self._stop.set()
        self._thread.join()


def resident_bytes() -> int:
    """Of this process in memory now."""
    return psutil.Process().memory_info().rss
