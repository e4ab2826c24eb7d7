"""Evaluation: all trials of a batch over all samples of a benchmark, in Lightning, one video at a time.

Each process takes every n-th video and all trials on it, and writes its records to a shard of its own; no sample is
padded or repeated.  Lightning is imported here and only here (it costs seconds).
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from torch.utils.data import DataLoader, Sampler

from prunesweep import records as store
from prunesweep.benchmarks import by_video
from prunesweep.engine import Clock, Job, Outcome, evaluate_jobs
from prunesweep.protocol import Protocol
from prunesweep.reducers import Reducer
from prunesweep.stages import plan
from prunesweep.types import Model, Record, Sample
from prunesweep.video import VideoError

if TYPE_CHECKING:
    import polars as pl

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """One configuration to evaluate."""

    name: str
    reducer: Reducer
    frames: int
    protocol: Protocol


@dataclass(frozen=True)
class Timing:
    """Where the seconds of an evaluation went; `run` of `alone` stages were left to run after sharing."""

    seconds: dict[str, float]
    total: float
    run: int
    alone: int


def sum_timings(timings: Sequence[Timing]) -> Timing:
    """Of evaluations one after the other."""
    names = dict.fromkeys(name for timing in timings for name in timing.seconds)
    seconds = {name: sum(timing.seconds.get(name, 0.0) for timing in timings) for name in names}
    return Timing(seconds, sum(t.total for t in timings), sum(t.run for t in timings), sum(t.alone for t in timings))


@dataclass(frozen=True)
class Evaluated:
    """The records of each trial, and the time all of them took together."""

    records: dict[str, pl.DataFrame]
    timing: Timing


class Unpadded(Sampler[int]):
    """Every n-th index; Lightning's own distributed sampler repeats samples to make ranks even."""

    def __init__(self, length: int, rank: int, processes: int):
        self.indices = range(rank, length, processes)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


KNOWN_ACCELERATORS = ("auto", "cpu", "cuda", "gpu", "mps")
EXPECTED = (VideoError, ValueError)
"""What a bad sample provokes; anything else may be a fault of ours, and its traceback is shown and logged."""


class Progress(TQDMProgressBar):
    """Lightning's bar, counting videos."""

    @property
    def predict_description(self) -> str:
        return "Evaluating videos"

    def init_predict_tqdm(self) -> Tqdm:
        """As Lightning's, but on stderr: stdout is for results."""
        return Tqdm(desc=self.predict_description, dynamic_ncols=True, file=sys.stderr, smoothing=0, leave=False)

    def on_predict_batch_start(self, *arguments: Any, **keywords: Any) -> None:
        super().on_predict_batch_start(*arguments, **keywords)
        self.predict_progress_bar.set_description(self.predict_description)  # without Lightning's "DataLoader 0"


class Evaluation(L.LightningModule):
    """Evaluates all trials on the samples of one video per step."""

    def __init__(self, make_model: Callable[[], Model], videos: list[tuple[Sample, ...]], trials: Sequence[Trial], share: bool):
        super().__init__()
        self.make_model = make_model
        self.videos, self.trials, self.share = videos, tuple(trials), share
        self.model: Any = None
        self.records: list[Record] = []
        self.clock = Clock()

    def configure_model(self) -> None:
        """Loads the model in the process that uses it: transformers' hooks do not survive being sent to another."""
        _hush_lightning()
        if self.model is None:
            self.model = self.make_model()
            self.network = self.model.network  # a submodule, so that Lightning moves it to the device

    def predict_dataloader(self) -> DataLoader:
        sampler = Unpadded(len(self.videos), self.global_rank, self.trainer.world_size)
        return DataLoader(self.videos, batch_size=None, sampler=sampler, collate_fn=_unchanged)

    def transfer_batch_to_device(self, batch: tuple[Sample, ...], *_: Any) -> tuple[Sample, ...]:
        return batch

    def predict_step(self, samples: tuple[Sample, ...], _: int) -> int:
        """Evaluates one video's samples; returns how many records there are now (Lightning warns about None)."""
        jobs, broken = [], []
        for trial in self.trials:
            for sample in samples:
                key = (trial.name, sample.id)
                try:
                    jobs.append(Job(key, plan(sample, trial.frames, trial.reducer, trial.protocol, self.model)))
                except Exception as error:  # a question that the tokenizer refuses, say
                    broken.append(Outcome(key, error))
        outcomes = evaluate_jobs(self.model, jobs, self.clock, self.share) + broken
        self.records += self._to_records(samples, outcomes)
        return len(self.records)

    def _to_records(self, samples: tuple[Sample, ...], outcomes: list[Outcome]) -> Iterator[Record]:
        by_id = {sample.id: sample for sample in samples}
        by_name = {trial.name: trial for trial in self.trials}
        for (name, sample_id), result in outcomes:
            trial, sample = by_name[name], by_id[sample_id]
            if isinstance(result, Exception):
                if not isinstance(result, EXPECTED):
                    log.error("sample %s of trial %s failed", sample_id, name, exc_info=result)
                yield store.failure(sample, name, result)
            else:
                yield store.score(sample, name, result, trial.frames, trial.protocol)


def _unchanged(batch: Any) -> Any:
    return batch


class Shards(L.Callback):
    """Writes what each process has found to a folder, where the process that started them reads it."""

    def __init__(self, folder: Path):
        self.folder = folder

    def on_predict_end(self, trainer: L.Trainer, module: Evaluation) -> None:
        clock = module.clock
        times = {"seconds": dict(clock.seconds), "run": clock.run, "alone": clock.alone}
        (self.folder / f"clock-{trainer.global_rank}.json").write_text(json.dumps(times), encoding="utf-8")
        store.write_parquet(store.to_frame(module.records), self.folder / f"records-{trainer.global_rank}.parquet")


def evaluate(
    make_model: Callable[[], Model],
    samples: Sequence[Sample],
    trials: Sequence[Trial],
    share: bool = True,
    devices: int = 1,
    accelerator: str = "auto",
    progress: bool = True,
) -> Evaluated:
    """Records of all trials on all samples, in the order of the samples.

    `devices` processes are spawned if there are several; raises ValueError if there are more of them than videos.
    """
    begin = time.perf_counter()
    videos = by_video(samples)
    if devices > len(videos):
        raise ValueError(f"trainer.devices must be at most {len(videos)}, the number of videos, got {devices}")
    _hush_lightning()
    if accelerator not in KNOWN_ACCELERATORS:
        raise ValueError(f"trainer.accelerator must be one of {', '.join(KNOWN_ACCELERATORS)}, got {accelerator!r}")
    if accelerator in ("cuda", "gpu") and not torch.cuda.is_available():
        raise ValueError(f"trainer.accelerator is {accelerator!r}, but torch sees no CUDA device; use auto or cpu")
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            accelerator=accelerator,
            devices=devices,
            strategy="ddp_spawn" if devices > 1 else "auto",
            logger=False,
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=progress,
            inference_mode=True,
            callbacks=[Shards(Path(folder)), *([Progress(refresh_rate=1)] if progress else [])],
        )
        trainer.predict(Evaluation(make_model, videos, trials, share), return_predictions=False)
        found, clocks = _read_shards(Path(folder), devices)
    return Evaluated(_by_trial(found, samples, trials), _timing(clocks, time.perf_counter() - begin))


def _hush_lightning() -> None:
    """No banners and tips, no warnings about its own use of torch or about the number of workers."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")


def _read_shards(folder: Path, devices: int) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    import polars as pl

    frames = [pl.read_parquet(folder / f"records-{rank}.parquet") for rank in range(devices)]
    clocks = [json.loads((folder / f"clock-{rank}.json").read_text(encoding="utf-8")) for rank in range(devices)]
    return pl.concat(frames), clocks


def _by_trial(found: pl.DataFrame, samples: Sequence[Sample], trials: Sequence[Trial]) -> dict[str, pl.DataFrame]:
    import polars as pl

    order = pl.DataFrame({"sample_id": [sample.id for sample in samples], "order": range(len(samples))})
    ordered = found.join(order, on="sample_id", how="left").sort("order").drop("order")
    return {trial.name: ordered.filter(pl.col("trial") == trial.name) for trial in trials}


def _timing(clocks: list[dict[str, Any]], total: float) -> Timing:
    """Seconds are means over processes, which work at the same time."""
    names = dict.fromkeys(name for clock in clocks for name in clock["seconds"])
    seconds = {name: sum(clock["seconds"].get(name, 0.0) for clock in clocks) / len(clocks) for name in names}
    return Timing(seconds, total, sum(clock["run"] for clock in clocks), sum(clock["alone"] for clock in clocks))
