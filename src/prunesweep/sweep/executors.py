"""Where jobs run: processes of this machine (joblib, submitit), Slurm (submitit), or a Ray cluster.

Each pool is the settings of one file in `conf/hydra/launcher/`.  The libraries are optional and imported when used.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prunesweep.checks import EvaluationError, require_at_least
from prunesweep.engine.devices import available_cores
from prunesweep.sweep.remote import Lost, Pool, work_on

RAY_STORE_BYTES = 100 * 2**20
"""Of a Ray that is started here: only short texts travel, and Ray would take a third of the memory."""
NO_ANSWER = "it was ended before it could answer (out of memory?)"


def _library(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError(f"this launcher needs the package {name}: pip install 'prunesweep[{extra}]'") from None


@dataclass(frozen=True)
class Joblib:
    """Processes of this machine that are used again by the next batch."""

    jobs: int
    threads: int

    def run(self, tasks: Sequence[str], allowed: Sequence[str]) -> list[str | Lost]:
        joblib = _library("joblib", "joblib")
        answers: list[str | Lost] = []
        parallel = joblib.Parallel(n_jobs=len(tasks), backend="loky", batch_size=1, return_as="generator")
        with suppress(BrokenProcessPool):  # one process that dies takes all of joblib's with it
            for answer in parallel(joblib.delayed(work_on)(task, allowed) for task in tasks):
                answers.append(answer)
        return [*answers, *([Lost(NO_ANSWER)] * (len(tasks) - len(answers)))]


@dataclass(frozen=True)
class Ray:
    """Tasks of a Ray cluster; without an address of one that is started here and ends with the command."""

    jobs: int
    address: str | None
    cpus: int
    gpus: float
    retries: int

    @property
    def threads(self) -> int:
        return self.cpus

    def run(self, tasks: Sequence[str], allowed: Sequence[str]) -> list[str | Lost]:
        ray = _library("ray", "ray")
        self._connect(ray)
        remote = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=self.retries)(work_on)
        running = [remote.remote(task, allowed) for task in tasks]
        try:
            return [self._answer(ray, one) for one in running]
        except KeyboardInterrupt:
            for one in running:
                ray.cancel(one, force=True)
            raise

    def _connect(self, ray: Any) -> None:
        if ray.is_initialized():
            return
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        here = {} if self.address else {"object_store_memory": RAY_STORE_BYTES, "include_dashboard": False}
        try:
            ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR, **here)
        except ConnectionError as error:
            raise ValueError(f"no Ray cluster at hydra.launcher.address={self.address}: {error}") from None
        _restore_handlers()

    @staticmethod
    def _answer(ray: Any, running: Any) -> str | Lost:
        try:
            return ray.get(running)
        except ray.exceptions.RayError as error:
            return Lost(f"{NO_ANSWER}: {type(error).__name__}")


def _restore_handlers() -> None:
    """Ray has the kernel abort the command at a SIGTERM, instead of calling the handler that Python knows of."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))


@dataclass(frozen=True)
class Resumable:
    """`work_on` for submitit: a job that is preempted, or out of time, is queued again and goes on from the store."""

    allowed: Sequence[str]

    def __call__(self, task: str) -> str:
        return work_on(task, self.allowed)

    def checkpoint(self, task: str) -> Any:
        import submitit

        return submitit.helpers.DelayedSubmission(self, task)


@dataclass(frozen=True)
class SubmititLocal:
    """Processes of this machine, each with GPUs of its own, with logs in a folder."""

    jobs: int
    folder: str
    gpus: int
    threads: int
    minutes: float

    def run(self, tasks: Sequence[str], allowed: Sequence[str]) -> list[str | Lost]:
        submitit = _library("submitit", "slurm")
        running = []
        for number, task in enumerate(tasks):
            # one folder for all: a job's own is made after its process has begun, which then may find none for its logs
            executor = submitit.LocalExecutor(Path(self.folder))
            own = list(range(number * self.gpus, (number + 1) * self.gpus))
            executor.update_parameters(timeout_min=self.minutes, gpus_per_node=self.gpus, visible_gpus=own)
            with _silent_children():
                running.append(executor.submit(Resumable(allowed), task))
        return _results(running)


@contextmanager
def _silent_children() -> Iterator[None]:
    """Of processes that are started meanwhile: submitit's controller prints a traceback when it is interrupted."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@dataclass(frozen=True)
class SubmititSlurm:
    """A Slurm array, one job per element."""

    jobs: int
    folder: str
    gpus: int
    cpus: int
    minutes: int
    restarts: int
    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Further ones of submitit's Slurm executor, such as partition, account, mem_gb, array_parallelism."""

    @property
    def threads(self) -> int:
        return self.cpus

    def run(self, tasks: Sequence[str], allowed: Sequence[str]) -> list[str | Lost]:
        submitit = _library("submitit", "slurm")
        try:
            executor = submitit.SlurmExecutor(Path(self.folder) / "%j", max_num_timeout=self.restarts)
        except RuntimeError:
            raise ValueError("no Slurm on this machine: srun is not there; try hydra/launcher=submitit_local") from None
        own = {"gpus_per_node": self.gpus} if self.gpus else {}
        try:
            executor.update_parameters(
                time=self.minutes,
                cpus_per_task=self.cpus,
                ntasks_per_node=1,
                nodes=1,
                job_name=self.name,
                **own,
                **self.parameters,
            )
        except Exception as error:  # submitit names the valid ones
            raise ValueError(f"hydra.launcher.parameters: {error}") from None
        try:
            running = executor.map_array(Resumable(allowed), list(tasks))
        except submitit.core.utils.FailedJobError as error:
            raise EvaluationError(f"sbatch refused the jobs: {str(error).strip().splitlines()[-1]}") from None
        return _results(running)


def _results(running: Sequence[Any]) -> list[str | Lost]:
    """Of submitit's jobs, once all have ended; an interrupt cancels them."""
    try:
        return [_result(job) for job in running]
    except KeyboardInterrupt:
        for job in running:
            job.cancel(check=False)
        raise


def _result(job: Any) -> str | Lost:
    import submitit

    try:
        return job.result()
    except (submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedJobError):
        return Lost(f"{NO_ANSWER}; state {job.state}, log {job.paths.stderr}")


POOLS: dict[str, Any] = {"joblib": Joblib, "ray": Ray, "submitit_local": SubmititLocal, "submitit_slurm": SubmititSlurm}


def make_pool(kind: str, settings: Mapping[str, Any]) -> Pool:
    """Raises ValueError for settings out of their bounds."""
    for name in ("jobs", "cpus", "threads"):
        if settings.get(name, 1) is not None:
            require_at_least(f"hydra.launcher.{name}", settings.get(name, 1), 1)
    given = dict(settings)
    if "threads" in given and given["threads"] is None:
        given["threads"] = max(1, available_cores() // given["jobs"])
    return POOLS[kind](**given)
