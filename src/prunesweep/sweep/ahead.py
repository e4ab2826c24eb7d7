"""What an evaluation is about to do, said before anything heavy: records, stages after sharing, time, memory, folders.

Nothing here loads a model or torch.  Stages are counted on plans made for a stand-in of the model; time follows from what
stages of each kind took on this machine before, noted in the store.
"""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunesweep.benchmarks import by_video
from prunesweep.console.layout import count
from prunesweep.disk.files import replace_file
from prunesweep.disk.foreign import read_json
from prunesweep.engine.plan import plan
from prunesweep.engine.prefix_tree import Job, cut, units
from prunesweep.paths import from_here
from prunesweep.results.keys.fingerprint import digest
from prunesweep.results.store import SPEED

if TYPE_CHECKING:
    from prunesweep.engine.candidate import Candidate
    from prunesweep.sweep.batch import Batch
    from prunesweep.sweep.work import Addresses, Work
    from prunesweep.types import Sample

VIDEOS_COUNTED = 8
"""Of those left to do, evenly spread: their stages are counted, those of the others estimated from them."""
HALF_PRECISION, FULL_PRECISION = 2, 4
"""Bytes of a value."""
BOUND_OF_CACHES = 4
"""Alive at once, each no larger than the video's: before the question, with it, cut, and with what is answered."""
LIKE, SHORT = 2, 1000
"""Times as many frames or characters as have been run are still alike; below so many characters all questions are."""


@dataclass(frozen=True)
class Blueprint:
    """Stands for a model in `plan`: its number of layers, and a tokenizer of bytes.

    Texts that differ make prompts that differ, as with the model's own tokenizer, so equal stages stay equal.
    """

    layers: int
    question_conditioned: bool = False

    def prompt(self, text: str, system: str = "", prefix: str = "") -> tuple[tuple[int, ...], tuple[int, ...]]:
        return tuple(system.encode()), tuple(f"{text}\n{prefix}".encode())

    def tokenize(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode())


@dataclass(frozen=True)
class Stages:
    """How many there are to run."""

    shared: int
    alone: int
    """One trial and question at a time."""
    kinds: Mapping[str, int] = field(default_factory=dict)
    """After sharing, by class; layer ranges by layer."""
    estimated: bool = False


def stages_ahead(trials: Sequence[Candidate], work: Work, addresses: Addresses, model: Any, share: bool = True) -> Stages:
    """What is left to do, counted on at most VIDEOS_COUNTED videos; questions that cannot be asked have none."""
    step = max(1, len(work.videos) // VIDEOS_COUNTED)
    some = work.videos[::step][:VIDEOS_COUNTED]
    kinds: Counter[str] = Counter()
    shared = alone = 0
    for video in some:
        jobs = _jobs(trials, video, work, addresses, model)
        batches = [cut(jobs)] if share else [cut([job]) for job in jobs]
        for batch in batches:
            nodes = {job.stages[: depth + 1] for job in batch for depth in range(len(job.stages))}
            shared += len(nodes)
            for path in nodes:
                kinds[type(path[-1]).__name__] += units(path[-1])
        alone += sum(len(job.stages) for batch in batches for job in batch)
    scale = len(work.videos) / len(some) if some else 0.0
    return Stages(
        round(shared * scale),
        round(alone * scale),
        {name: round(number * scale) for name, number in kinds.items()},
        estimated=len(some) < len(work.videos),
    )


def _jobs(trials: Sequence[Candidate], video: Sequence[Sample], work: Work, addresses: Addresses, model: Any) -> list[Job]:
    jobs = []
    for trial in trials:
        for sample in video:
            if (addresses.trials[trial.name], addresses.samples[sample.id]) in work.done:
                continue
            try:
                jobs.append(Job((trial.name, sample.id), plan(sample, trial.frames, trial.reducer, trial.protocol, model)))
            except ValueError:  # its record will say why it cannot be asked
                continue
    return jobs


# Time


@dataclass(frozen=True)
class Size:
    """The largest of what is evaluated, on which a stage's time depends."""

    frames: int
    characters: int
    """Of a question with its options."""

    def is_like(self, other: Size) -> bool:
        """Whether stages of the other size foretell the time of these."""
        return self.frames <= LIKE * other.frames and self.characters <= LIKE * max(other.characters, SHORT)


@dataclass(frozen=True)
class Speed:
    """What stages took so far: units run and seconds, by class."""

    taken: Mapping[str, tuple[int, float]]
    largest: Size = Size(0, 0)

    def seconds(self, kinds: Mapping[str, int], largest: Size) -> float | None:
        """Of so many stages; None if a kind of them, or anything like the largest of them, was never run."""
        if not largest.is_like(self.largest) or any(
            number and not self.taken.get(name, (0, 0.0))[0] for name, number in kinds.items()
        ):
            return None
        return sum(number * self.taken[name][1] / self.taken[name][0] for name, number in kinds.items() if number)


def place_of(batch: Batch) -> str:
    """What a speed holds for: a model with its weights, on this machine's device."""
    origin = next(iter(batch.origins.values()))
    return f"{digest(origin['model'])} {origin['device']} {platform.node()}"


def largest(batch: Batch) -> Size:
    texts = (len(sample.question) + sum(map(len, sample.choices)) for sample in batch.samples)
    return Size(max(trial.frames for trial in batch.trials), max(texts, default=0))


def read_speed(store: Path, place: str) -> Speed:
    """Nothing if nothing was noted, or what was noted is damaged: an estimate is worth no error."""
    try:
        noted = read_json(store / SPEED)[place]
        taken = {str(name): (int(number), float(seconds)) for name, (number, seconds) in noted["stages"].items()}
        return Speed(taken, Size(*map(int, noted["largest"])))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Speed({})


def note_speed(store: Path, place: str, taken: Mapping[str, tuple[int, float]], largest: Size) -> None:
    """The latest run's, for it is likeliest to be like the next one; kinds that it had none of stay."""
    try:
        noted = dict(read_json(store / SPEED))
    except (OSError, ValueError, TypeError):
        noted = {}
    stages = {**read_speed(store, place).taken, **{name: both for name, both in taken.items() if both[0]}}
    noted[place] = {"stages": stages, "largest": [largest.frames, largest.characters]}
    replace_file(store / SPEED, json.dumps(noted).encode())


# Memory


def weight_bytes(checkpoint: str) -> int | None:
    """Of a checkpoint's folder; None for what is not downloaded yet."""
    files = [file for file in Path(checkpoint).expanduser().glob("*.safetensors") if not file.name.startswith(".")]
    return sum(file.stat().st_size for file in files) or None


def cache_bytes(model: Mapping[str, Any], largest: Size) -> int | None:
    """A bound on what one video's visual tokens and one question's text take in caches while trials run.

    From the sizes in the model's YAML; None without them.  A character is at most one token.
    """
    sizes, per_frame = model.get("sizes"), model.get("tokens_per_frame")
    if not sizes or not per_frame:
        return None
    llm = sizes["llm"]
    value = FULL_PRECISION if model.get("dtype") == "float32" else HALF_PRECISION
    return (
        BOUND_OF_CACHES
        * 2
        * llm["layers"]
        * llm["kv_heads"]
        * llm["head_size"]
        * value
        * (largest.frames * per_frame + largest.characters)
    )


def bytes_text(size: float) -> str:
    """`7.4 MB`, `14.3 GB`."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"


def duration_text(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min`, `2 d 4 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


# In words


@dataclass(frozen=True)
class Forecast:
    """All that is said of an evaluation before it starts."""

    trials: int
    questions: int
    videos: int
    known: int
    """Records that the store has."""
    missing: int
    """Records to make."""
    stages: Stages | None
    seconds: float | None
    weights: int | None
    caches: int | None
    processes: int
    store: str | None
    results: str

    def lines(self) -> list[str]:
        where = f"kept in {self.store}" if self.store else "known"
        records = f"{count(self.trials, 'trial')} x {count(self.questions, 'question')} on {count(self.videos, 'video')}"
        lines = [f"plan        {records}: {self.known:,} records are {where}, {self.missing:,} to make"]
        if self.missing:
            lines += [f"            {line}" for line in (self._work(), self._memory()) if line]
        store = f", every record in {self.store} as it is made" if self.store else ""
        return [*lines, f"            results go to {self.results}{store}"]

    def _work(self) -> str:
        stages = self.stages
        if stages is None:
            return "how many stages and how long: not known without the model's sizes in its YAML"
        about = "about " if stages.estimated else ""
        shared = f"{about}{stages.shared:,} stages after sharing, of {stages.alone:,}"
        if self.seconds is None:
            return f"{shared}; how long is not known before stages like these, of such size, have run here"
        return f"{shared}; about {duration_text(self.seconds)}, going by what such stages took here"

    def _memory(self) -> str:
        parts = [f"{bytes_text(self.weights)} of weights"] if self.weights else []
        parts += [f"at most {bytes_text(self.caches)} in caches for a video with a question"] if self.caches else []
        each = f" in each of {self.processes} processes" if self.processes > 1 else ""
        return f"memory: {' and '.join(parts)}{each}" if parts else ""


def blueprint(model: Mapping[str, Any]) -> Blueprint | None:
    """Of a model's configuration; None without sizes."""
    sizes = model.get("sizes")
    return Blueprint(sizes["llm"]["layers"], bool(model.get("reads_question", False))) if sizes else None


def merged_speeds(clocks: Iterable[Mapping[str, Sequence[float]]]) -> dict[str, tuple[int, float]]:
    """Units and seconds by class, over processes."""
    total: dict[str, tuple[int, float]] = {}
    for clock in clocks:
        for name, (number, seconds) in clock.items():
            before = total.get(name, (0, 0.0))
            total[name] = (before[0] + int(number), before[1] + seconds)
    return total


def forecast(batch: Batch, work: Work) -> Forecast:
    """Of a batch."""
    spec = batch.spec
    model, devices = spec.model, spec.trainer["devices"]
    stand_in = blueprint(model)
    stages = stages_ahead(batch.trials, work, batch.addresses, stand_in, spec.engine["share"]) if stand_in else None
    size = largest(batch)
    seconds = read_speed(batch.store.folder, place_of(batch)).seconds(stages.kinds, size) if stages else None
    return Forecast(
        trials=len(batch.trials),
        questions=len(batch.samples),
        videos=len(by_video(batch.samples)),
        known=work.known,
        missing=work.missing,
        stages=stages,
        seconds=seconds and seconds / devices,
        weights=weight_bytes(model["checkpoint"]),
        caches=cache_bytes(model, size),
        processes=devices,
        store=spec.store["folder"],
        results=from_here(batch.results) if batch.results else "the caller",
    )
