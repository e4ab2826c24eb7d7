"""The W&B runs of a sweep or a store, made from its records at any time.

During a sweep a process of its own makes them (`Reporter`), told which trials are finished.  The sweep writes a line to it and
goes on: neither a server out of reach nor a missing key can stop or slow it, and at its end it waits `logger.wait` seconds
at most.  Online runs that cannot be started are made offline, for `wandb sync`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from prunesweep.analysis.outcomes import MARGIN, read_outcomes
from prunesweep.analysis.table import summarize
from prunesweep.report import wandb
from prunesweep.report.wandb import Destination
from prunesweep.results.read import is_store, read_folder, read_source

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)

HERE = "wandb"
"""W&B's own folder."""
SERVICE = "WANDB_SERVICE"
"""By this W&B would share a background process with whoever started this one; runs must be able to end theirs."""
LONGEST_REASON = 200
MOST_PROBLEMS = 2
"""Named in the line."""
NOTHING_TO_SHOW = "no runs: no trial was finished"


@dataclass
class Publisher:
    """Makes runs one by one; with `fall_back`, those that cannot be made online are made offline from then on."""

    destination: Destination
    fall_back: bool = False
    made: int = 0
    problems: list[str] = field(default_factory=list)

    def attempt(self, publish: Callable[[Destination], None]) -> None:
        """Raises whatever goes wrong, unless it falls back."""
        try:
            publish(self.destination)
            self.made += 1
        except Exception as error:
            if not self.fall_back:
                raise
            self.problems.append(f"{type(error).__name__}: {' '.join(str(error).split())[:LONGEST_REASON]}")
            if not self.destination.offline:
                self.destination = replace(self.destination, mode="offline")
                wandb.forget()
                self.attempt(publish)

    def trial(self, folder: Path) -> None:
        trial = read_folder(folder)
        alone = folder.absolute() == self.destination.folder.absolute()  # no sweep's: its own dense model is the axis
        self.attempt(lambda where: wandb.publish_trial(trial, where, summarize(trial) if alone else None))

    def summary(self, source: Path, cost: str, margin: float) -> None:
        found = partial(read_outcomes, source, cost, margin)
        self.attempt(lambda where: wandb.publish_sweep(source, read_source(source), found(), where))

    def report(self) -> str:
        """One line: how many runs are where, and what went wrong first."""
        where = self.destination.folder / HERE
        said = "; then: ".join(dict.fromkeys(self.problems[:MOST_PROBLEMS]))
        if not self.made:
            again = f"prunesweep wandb {self.destination.folder} makes the runs from the records"
            return f"no runs: W&B said: {said}; the records are not affected: {again}" if said else NOTHING_TO_SHOW
        told = f"{self.made} run{'s' if self.made != 1 else ''} {self.destination.mode}"
        if self.destination.offline:
            told += f"; wandb sync {where}/offline-run-* uploads them"
        return told + (f" (W&B said: {said}; the records are not affected)" if said else "")


# The process beside a sweep


class Reporter:
    """Tells a process of its own which trials are finished.  Nothing it does raises or waits, but `finish`, for so long."""

    def __init__(self, destination: Destination, wait: float):
        self.destination, self.wait = destination, wait
        arguments = [f"--{name}={getattr(destination, name)}" for name in ("project", "mode", "group")]
        self._output = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - read when the process has ended
        self._process = subprocess.Popen(
            [sys.executable, "-m", "prunesweep", "wandb", str(destination.folder), "--follow", *arguments],
            stdin=subprocess.PIPE,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            text=True,
            env={name: value for name, value in os.environ.items() if name != SERVICE},
            start_new_session=True,  # Ctrl-C is for the sweep; this process ends when its input does
        )

    def trial(self, folder: Path) -> None:
        self._tell({"trial": str(folder)})

    def summary(self, sweep: Path, cost: str, margin: float = MARGIN) -> None:
        self._tell({"summary": str(sweep), "cost": cost, "margin": str(margin)})

    def _tell(self, message: dict[str, str]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended; `finish` says so
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def finish(self) -> str:
        """What became of it, in one line."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        again = f"prunesweep wandb {self.destination.folder} makes the runs from the records"
        try:
            code = self._process.wait(self.wait)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return f"not all runs were made within logger.wait={self.wait:g} s; {again}"
        self._output.seek(0)
        lines = self._output.read().split("\n")
        said = next((line for line in reversed(lines) if line.strip()), "no word")
        return said if code == 0 else f"failed: {said[:LONGEST_REASON]}; {again}"


def reporter(config: DictConfig, folder: Path) -> Reporter | None:
    """For a sweep or a single evaluation in `folder`; None if W&B is switched off.  Raises ValueError for a wrong setting."""
    if config.logger.name != "wandb" or (mode := wandb.mode(config.logger)) == "disabled":
        return None
    group = config.logger.group or wandb.group_name(folder)
    return Reporter(Destination(config.logger.project, mode, group, folder), float(config.logger.wait))


def _follow(publisher: Publisher) -> None:
    """Makes runs as lines come in, until there are no more.  A thread reads them, so that no writer ever waits."""
    messages: queue.SimpleQueue[dict[str, str] | None] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            messages.put(json.loads(line))
        messages.put(None)

    threading.Thread(target=read, daemon=True).start()
    while (message := messages.get()) is not None:
        if "trial" in message:
            publisher.trial(Path(message["trial"]))
        else:
            publisher.summary(Path(message["summary"]), message["cost"], float(message["margin"]))


# The command


def publish_all(source: Path, cost: str, margin: float, publisher: Publisher) -> Iterator[str]:
    """Every trial's run and the summary; names what it makes."""
    found = read_outcomes(source, cost, margin)  # before anything is made: a folder without trials makes no run
    rows = {folder: row for outcomes in found for folder, row in zip(outcomes.folders, outcomes.table, strict=True)}
    for trial in read_source(source):
        publisher.attempt(lambda where, one=trial: wandb.publish_trial(one, where, rows[one.folder]))  # type: ignore[misc]
        yield trial.info.name
    publisher.attempt(lambda where: wandb.publish_sweep(source, read_source(source), found, where))
    yield "summary"


def keep_here(folder: Path) -> None:
    """Files of artifacts wait for their upload beside the runs, not in the user's home, unless told otherwise."""
    os.environ.setdefault("WANDB_DATA_DIR", str(folder / HERE))
    os.environ.setdefault("WANDB_CACHE_DIR", str(folder / HERE / "cache"))


def publish(
    source: Path,
    mode: str | None,
    project: str,
    group: str | None,
    out: Path | None,
    cost: str,
    margin: float,
    follow: bool = False,
) -> None:
    """Makes the runs of a sweep or a store and prints where they are; with `follow` those that lines on stdin name.

    Raises ValueError for a wrong setting; SystemExit with W&B's reason where runs cannot be made.
    """
    place = out or (Path() if not follow and is_store(source) else source)
    if out and place.exists() and not place.is_dir():
        raise ValueError(f"{place} is a file; name a folder with --out")
    mode = mode or wandb.mode(SimpleNamespace(mode="offline"))  # type: ignore[arg-type]
    if mode == "disabled":
        raise ValueError("WANDB_MODE=disabled: nothing to do; --mode offline or --mode online makes runs")
    try:
        publisher = Publisher(Destination(project, mode, group or wandb.group_name(source), place), fall_back=follow)
        keep_here(place.absolute())
        if follow:
            _follow(publisher)
        else:
            begin = time.monotonic()
            names = list(publish_all(source, cost, margin, publisher))
            log.debug("%d runs in %.1f s", len(names), time.monotonic() - begin)
        print(publisher.report())
    except ValueError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:LONGEST_REASON]
        advice = f"; --mode offline keeps the runs in {place / HERE}" if mode == "online" else ""
        raise SystemExit(f"prunesweep: W&B: {type(error).__name__}: {reason}{advice}") from error
