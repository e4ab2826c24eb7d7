"""Evaluation: all trials of a batch over all samples of a benchmark, in Lightning, one video at a time.

Each process takes every n-th video that lacks records and all trials on it, and writes its records to the store in shards
of its own; no sample is padded or repeated.  Every few seconds it looks what other evaluations on the same store have
done, and leaves that out.  Lightning is imported here and only here (it costs seconds).
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException
from torch.utils.data import DataLoader, Sampler

from prunesweep.benchmarks import by_video
from prunesweep.checks import EvaluationError
from prunesweep.console.waiting import doing
from prunesweep.engine import scoring
from prunesweep.engine.candidate import Candidate
from prunesweep.engine.devices import AUTO, at_once, require_accelerator
from prunesweep.engine.encoder_cache import EncoderCache
from prunesweep.engine.plan import plan
from prunesweep.engine.prefix_tree import Clock, Job, LastStages, Outcome, evaluate_jobs
from prunesweep.engine.stages import METHOD_STAGES
from prunesweep.engine.validity import InvalidError
from prunesweep.results.store import Store, Writer
from prunesweep.results.timing import Timing
from prunesweep.sweep.ahead import duration_text, merged_speeds
from prunesweep.sweep.decoding import Upcoming
from prunesweep.sweep.ranks import OwnRanks, own_environment
from prunesweep.sweep.work import Addresses, Peers, Work, assembled, left_to_do
from prunesweep.types import Clip, Model, Record, Sample
from prunesweep.video.prefetch import memory_for_clips
from prunesweep.video.reader import DECODE_SECONDS

if TYPE_CHECKING:
    import polars as pl

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluated:
    """The records of each trial, and the time all of them took together."""

    records: Mapping[str, pl.DataFrame]
    timing: Timing
    kinds: dict[str, tuple[int, float]]
    """Stages run and their seconds, by class, as `engine.Clock` has them."""


class Unpadded(Sampler[int]):
    """Every n-th index; Lightning's own distributed sampler repeats samples to make ranks even."""

    def __init__(self, length: int, rank: int, processes: int):
        self.indices = range(rank, length, processes)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


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
        self.predict_progress_bar.desc = f"{self.predict_description}: "  # without Lightning's "DataLoader 0"


LOGGED = 20
"""Lines in a log at the most: one every five percent."""
LOG_SECONDS = 5.0
"""At least, between two of them: a log, or a notebook that searches, is read by people."""


class Lines(L.Callback):
    """In place of the bar where stderr is no terminal: now and then a line, by the first process of its own videos."""

    def on_predict_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.began = self.told = time.monotonic()

    def on_predict_batch_end(self, trainer: L.Trainer, module: Evaluation, _: Any, __: Any, index: int, *___: Any) -> None:
        done, total = index + 1, len(range(0, len(module.videos), trainer.world_size))
        now = time.monotonic()
        due = done == total or (now - self.told >= LOG_SECONDS and done * LOGGED // total > index * LOGGED // total)
        if trainer.is_global_zero and due:
            self.told, gone = now, now - self.began
            whose = f" of process 1 of {trainer.world_size}" if trainer.world_size > 1 else ""
            left = f", about {duration_text(gone / done * (total - done))} left" if done < total else ""
            print(
                f"evaluated   {done:,} of {total:,} videos{whose} ({100 * done // total} %) in {duration_text(gone)}{left}",
                file=sys.stderr,
                flush=True,
            )


def _shown(progress: bool) -> list[L.Callback]:
    """How far the evaluation is: a bar on a terminal, lines in a log."""
    if not progress:
        return []
    return [Progress()] if sys.stderr.isatty() else [Lines()]


class Evaluation(L.LightningModule):
    """Evaluates all trials on the samples of one video per step, but for what is done already."""

    def __init__(
        self,
        make_model: Callable[[], Model],
        work: Work,
        trials: Sequence[Candidate],
        share: bool,
        store: Store,
        addresses: Addresses,
        retry_errors: bool,
        cache: EncoderCache | None,
        seconds: float,
        decoders: int,
        batch: int | str,
    ):
        super().__init__()
        self.make_model, self.decoders = make_model, decoders
        self.videos, self.share, self.cache, self.seconds = work.videos, share, cache, seconds
        self.trials = tuple({addresses.trials[trial.name]: trial for trial in reversed(trials)}.values())[::-1]
        self.addresses = addresses
        self.model: Any = None
        self.upcoming: Upcoming | None = None
        self.writer = Writer(store)
        self.peers = Peers(store, work.done, retry_errors)
        self.made = 0
        self.logged: set[tuple[Any, ...]] = set()
        """Kinds of unexpected exceptions that have had their traceback in the log."""
        self.clock = Clock()
        self.batch = batch
        self.last: LastStages | None = None

    def __setstate__(self, state: dict[str, Any]) -> None:
        """In a spawned process, before Lightning says there what it is about to do."""
        super().__setstate__(state)
        _hush_lightning()

    def configure_model(self) -> None:
        """Loads the model in the process that uses it: transformers' hooks do not survive being sent to another."""
        _hush_lightning()
        if self.model is None:
            self.model = self.make_model()
            self.network = self.model.network  # a submodule, so that Lightning moves it to the device

    def on_predict_start(self) -> None:
        own = self.videos[self.global_rank :: self.trainer.world_size]
        seeing = (self.trials, self.model, self.cache, self.seconds, self._is_done)
        self.upcoming = Upcoming(own, *seeing, self.decoders, memory_for_clips(self.trainer.world_size))

    def end_decoding(self) -> None:
        if self.upcoming:
            self.upcoming.close()

    def predict_dataloader(self) -> DataLoader:
        sampler = Unpadded(len(self.videos), self.global_rank, self.trainer.world_size)
        return DataLoader(self.videos, batch_size=None, sampler=sampler, collate_fn=_unchanged)

    def transfer_batch_to_device(self, batch: tuple[Sample, ...], *_: Any) -> tuple[Sample, ...]:
        return batch

    def predict_step(self, samples: tuple[Sample, ...], index: int) -> int:
        """Evaluates one video's samples; returns how many records were made so far (Lightning warns about None)."""
        assert self.upcoming is not None  # since the start
        with self._booked("store"):
            self.peers.look(self.writer.written)
        with self._booked("prompts"):
            self.upcoming.reach(index)
            jobs, broken = self._jobs(samples, self.upcoming.read)
        self.last = self.last or LastStages(self.model, self.clock, at_once(self.batch, self.model.device))
        outcomes = evaluate_jobs(self.model, jobs, self.clock, self.share, self.last) + broken
        records = [(*self._address(record.trial, record.sample_id), record) for record in self._to_records(samples, outcomes)]
        self.made += len(records)
        with self._booked("store"):
            self.writer.add(records)
        return self.made

    @contextmanager
    def _booked(self, name: str) -> Iterator[None]:
        """Seconds of what is no stage, beside those of the stages."""
        begin = time.perf_counter()
        yield
        self.clock.seconds[name] += time.perf_counter() - begin

    def _jobs(self, samples: Sequence[Sample], read: Callable[..., Clip]) -> tuple[list[Job], list[Outcome]]:
        """What there is to do about the samples; and those that cannot be asked."""
        jobs, broken = [], []
        for trial in self.trials:
            for sample in samples:
                if self._is_done(trial, sample):
                    continue
                key = (trial.name, sample.id)
                try:
                    how = (trial.frames, trial.reducer, trial.protocol)
                    jobs.append(Job(key, plan(sample, *how, self.model, self.cache, self.seconds, read)))
                except Exception as error:  # a question that the tokenizer refuses, say
                    broken.append(Outcome(key, error))
        return jobs, broken

    def _is_done(self, trial: Candidate, sample: Sample) -> bool:
        return self._address(trial.name, sample.id) in self.peers.done

    def _address(self, trial: str, sample: str) -> tuple[str, str]:
        return self.addresses.trials[trial], self.addresses.samples[sample]

    def _to_records(self, samples: tuple[Sample, ...], outcomes: list[Outcome]) -> Iterator[Record]:
        by_id = {sample.id: sample for sample in samples}
        by_name = {trial.name: trial for trial in self.trials}
        for (name, sample_id), result, stage in outcomes:
            trial, sample = by_name[name], by_id[sample_id]
            if isinstance(result, Exception):
                if is_unexpected(result, stage) and (kind := kind_of(result)) not in self.logged:
                    self.logged.add(kind)
                    log.error(FAILED, sample_id, name, type(stage).__name__, type(result).__name__, exc_info=result)
                yield scoring.failure(sample, name, result)
            else:
                yield scoring.score(sample, name, result, trial.protocol)


FAILED = "sample %s of trial %s failed in %s with %s; more of this kind are counted at the end, not logged"


def is_unexpected(error: Exception, stage: Any) -> bool:
    """Whether the place of an error matters: a method's own code raised it, or it is nothing that a bad sample provokes."""
    if isinstance(error, InvalidError):
        return False  # it says itself who handed on what
    return isinstance(stage, METHOD_STAGES) or not isinstance(error, ValueError)


def kind_of(error: Exception) -> tuple[Any, ...]:
    """Equal for exceptions of one type from one line of code."""
    places = traceback.extract_tb(error.__traceback__, -1)
    return (type(error), *((place.filename, place.lineno) for place in places))


def _unchanged(batch: Any) -> Any:
    return batch


class Ending(L.Callback):
    """Hands over what a process has found when it ends, and ends it at once when it is told to."""

    def __init__(self, folder: Path):
        self.folder = folder

    def on_predict_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Lightning's own handler of SIGTERM only takes a note, and an evaluation never looks at it."""
        signal.signal(signal.SIGTERM, _interrupt)
        self.began = time.time()  # a clock that processes share

    def on_predict_end(self, trainer: L.Trainer, module: Evaluation) -> None:
        module.end_decoding()
        with module._booked("store"):
            module.writer.flush()
        clock = module.clock
        times = {"seconds": dict(clock.seconds), "run": clock.run, "alone": clock.alone, "made": module.made}
        times |= {"kinds": clock.kinds}
        times |= {"began": self.began, "ended": time.time()}
        (self.folder / f"clock-{trainer.global_rank}.json").write_text(json.dumps(times), encoding="utf-8")

    def on_exception(self, trainer: L.Trainer, module: Evaluation, error: BaseException) -> None:
        module.end_decoding()
        with suppress(OSError):  # the disk may be what failed
            module.writer.flush()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def evaluate(
    make_model: Callable[[], Model],
    samples: Sequence[Sample],
    trials: Sequence[Candidate],
    share: bool = True,
    devices: int = 1,
    accelerator: str = "auto",
    progress: bool = True,
    store: Store | None = None,
    addresses: Addresses | None = None,
    retry_errors: bool = False,
    cache: EncoderCache | None = None,
    seconds: float = DECODE_SECONDS,
    batch: int | str = AUTO,
    decoders: int = 0,
) -> Evaluated:
    """Records of all trials on all samples, in the order of the samples.

    What the store has at these addresses is not evaluated again; without a store everything is.  At most `devices`
    processes are spawned, one per video that lacks records.  Decoding a clip may take `seconds` of processor time.
    `decoders` processes decode each one's next videos, or none where trials run alone: then their times say what each takes.
    Of answers `batch` are generated together.

    Raises ValueError if there are more devices than videos, and KeyboardInterrupt when told to stop; the store then has all that
    was finished.
    """
    begin = time.perf_counter()
    require_devices(devices, accelerator, len(by_video(samples)))
    if addresses is None:
        addresses = Addresses({trial.name: trial.name for trial in trials}, {sample.id: sample.id for sample in samples})
    addresses = Addresses({trial.name: addresses.trials[trial.name] for trial in trials}, addresses.samples)
    with _given_or_temporary(store) as place:
        work = left_to_do(place, samples, addresses, retry_errors)
        clocks = []
        if work.videos:
            start = random.randrange(len(work.videos)) if store else 0  # several evaluations of the same then meet late
            work = Work(work.videos[start:] + work.videos[:start], work.done, work.missing, work.known)
            how = (retry_errors, cache, seconds, decoders if share else 0, batch)
            module = Evaluation(make_model, work, trials, share, place, addresses, *how)
            clocks = _predict(module, min(devices, len(work.videos)), accelerator, progress)
        evaluated = time.perf_counter()
        found = assembled(place, samples, addresses)
        records = found if store else dict(found)  # another store goes away
    kinds = merged_speeds(clock["kinds"] for clock in clocks)
    timing = _timing(clocks, evaluated - begin, work.known).besides("store", time.perf_counter() - evaluated)
    return Evaluated(records, timing, kinds)


def require_devices(devices: int, accelerator: str, videos: int) -> None:
    """Raises ValueError for devices that are not there, or more than videos."""
    if devices > videos:
        raise ValueError(f"trainer.devices must be at most {videos}, the number of videos, got {devices}")
    require_accelerator("trainer.accelerator", accelerator)
    if accelerator in ("cuda", "gpu") and not torch.cuda.is_available():
        raise ValueError(f"trainer.accelerator is {accelerator!r}, but torch sees no CUDA device; use auto or cpu")


@contextmanager
def _given_or_temporary(store: Store | None) -> Iterator[Store]:
    if store is not None:
        yield store
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Store.open(Path(folder))


def _predict(module: Evaluation, processes: int, accelerator: str, progress: bool) -> list[dict[str, Any]]:
    """Runs Lightning; returns each process's clock."""
    _hush_lightning()
    with tempfile.TemporaryDirectory() as folder, _told_to_stop(), _one_line_failures(processes), own_environment():
        trainer = L.Trainer(
            accelerator=accelerator,
            devices=processes,
            strategy="ddp_spawn" if processes > 1 else "auto",
            plugins=[OwnRanks()],
            logger=False,
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=progress and sys.stderr.isatty(),
            inference_mode=True,
            callbacks=[Ending(Path(folder)), *_shown(progress)],
        )
        with doing("evaluating videos" if processes == 1 else ""):  # the first of several processes has the bar
            trainer.predict(module, return_predictions=False)
        paths = [Path(folder) / f"clock-{rank}.json" for rank in range(processes)]
        return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


@contextmanager
def _told_to_stop() -> Iterator[None]:
    """Turns SIGTERM, and Lightning's way of ending a program, into KeyboardInterrupt; ends the ranks then."""
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _interrupt) if in_main else None
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        for rank in multiprocessing.active_children():
            rank.terminate()
        raise KeyboardInterrupt from stop
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before)
            signal.signal(signal.SIGINT, on_interrupt)  # Lightning ignores it from the first one on


@contextmanager
def _one_line_failures(processes: int) -> Iterator[None]:
    """Says in a line what ended a rank."""
    kept = "what was finished is in the store, and the same command goes on from there"
    try:
        yield
    except ProcessRaisedException as error:
        last = str(error).strip().splitlines()[-1]
        raise EvaluationError(f"process {error.error_index + 1} of {processes} failed: {last}; {kept}") from error
    except ProcessExitedException as error:
        reason = error.signal_name or f"exit code {error.exit_code}"
        memory = " (out of memory?)" if reason == "SIGKILL" else ""
        raise EvaluationError(f"process {error.error_index + 1} of {processes} was ended by {reason}{memory}; {kept}") from error


def _hush_lightning() -> None:
    """No banners and tips, no warnings about its own use of torch or about the number of workers."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")


def _timing(clocks: list[dict[str, Any]], total: float, reused: int) -> Timing:
    """Seconds are means over processes, which work at the same time, and wait for the last one."""
    if not clocks:
        return Timing({}, total, 0, 0, 0, reused)
    names = dict.fromkeys(name for clock in clocks for name in clock["seconds"])
    seconds = {name: sum(clock["seconds"].get(name, 0.0) for clock in clocks) / len(clocks) for name in names}
    run, alone, made = (sum(clock[key] for clock in clocks) for key in ("run", "alone", "made"))
    evaluating = max(clock["ended"] for clock in clocks) - min(clock["began"] for clock in clocks)
    waiting = evaluating - sum(clock["ended"] - clock["began"] for clock in clocks) / len(clocks)
    seconds |= {"processes": total - evaluating, "waiting": waiting}
    return Timing(seconds, total, run, alone, made, reused, evaluating)
