"""What bookkeeping costs: the start of sweeps with many trials, and reading stores with many records.

Every figure is of a process of its own.  A trial's cost is the difference between sweeps of two sizes on one question, divided
by the trials that they differ in: all that a trial takes besides its questions, from composing it to its folder.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from prunesweep.console.layout import grid
from prunesweep.dev.bench_analysis import QUESTIONS_PER_VIDEO, drawn_settings, drawn_table, drawn_trial

FEW = 10
"""Trials of the sweep that others are compared with."""
SAMPLES = 4000
"""Of each trial in a drawn store."""
SECONDS_PER_TRIAL, BYTES = 0.05, 0.3e9
"""What a trial may take, and what reading a store may take beside what importing does."""


def bench_start(trials: Sequence[int]) -> str:
    rows = []
    for kind, arguments in {"-m": _grid, "search": _search}.items():
        with tempfile.TemporaryDirectory() as folder:
            few = _cpu_seconds(arguments(FEW), Path(folder))
        for number in trials:
            with tempfile.TemporaryDirectory() as folder:
                taken = _cpu_seconds(arguments(number), Path(folder))
            each = (taken - few) / (number - FEW)
            within = "yes" if each <= SECONDS_PER_TRIAL else "no"
            rows.append((kind, f"{number:,}", f"{taken:.1f} s", f"{each:.3f} s", within))
    return grid(("", "trials", "CPU time", "a trial", f"within {SECONDS_PER_TRIAL:g} s"), rows)


COMMON = ("benchmark.limit=1", "logger=none", "trainer.progress=false", "hydra.sweep.dir=sweep", "store.folder=store")


def _grid(trials: int) -> list[str]:
    ratios = ",".join(f"{(1 + number) / (1 + trials):.6f}" for number in range(trials))
    return ["-m", "reducer=prunevid", f"reducer.prune.keep_ratio={ratios}", *COMMON]


SEARCH = """
defaults: [eval, {sampler: random}, {override hydra/sweeper: search}, _self_]
hydra: {mode: MULTIRUN, sweeper: {space: {reducer.prune.keep_ratio: "interval(0.1, 0.9)"}, batch: 10}}
"""
"""At random: a sampler's own time grows with the trials that it learns from."""


def _search(trials: int) -> list[str]:
    return ["--config-dir", ".", "--config-name", "bench", f"hydra.sweeper.trials={trials}", *COMMON]


def _cpu_seconds(arguments: Sequence[str], folder: Path) -> float:
    """Of a command and of all processes that it starts; what it prints is shown if it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    (folder / "bench.yaml").write_text(SEARCH, encoding="utf-8")
    command = [sys.executable, "-m", "prunesweep.cli.run", *arguments]
    done = subprocess.run(command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"python -m prunesweep.dev.bench: the sweep failed: {done.stderr or done.stdout}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def bench_resume(millions: Sequence[float], gathered: bool) -> str:
    rows = []
    for number in millions:
        with tempfile.TemporaryDirectory() as folder:
            trials = max(1, round(number * 1e6 / SAMPLES))
            write_drawn_store(Path(folder) / "store", trials, gathered)
            for name in MEASURED:
                rows.append((name, f"{trials * SAMPLES:,}", *_measured(name, Path(folder) / "store")))
    return grid(("", "records", "time", "memory", "of it importing", f"at most {BYTES / 1e9:g} GB beside it"), rows)


def _measured(name: str, store: Path) -> tuple[str, ...]:
    command = [sys.executable, "-m", "prunesweep.dev.bench_store", name, str(store)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    seconds, before, peak = json.loads(done.stdout.splitlines()[-1])
    within = "yes" if peak - before <= BYTES else "no"
    return f"{seconds:.1f} s", f"{peak / 1e9:.2f} GB", f"{before / 1e9:.2f} GB", within


def write_drawn_store(folder: Path, trials: int, gathered: bool = True, samples: int = SAMPLES) -> None:
    """A store as a sweep leaves it, or, not gathered, as a killed one does."""
    import numpy as np
    import polars as pl

    from prunesweep.results.keys.fingerprint import digest
    from prunesweep.results.store import Store, StoredTrial, row_schema

    store, draw = Store.open(folder), np.random.default_rng(0)
    table = drawn_table(samples, draw)
    addresses = pl.Series(sample_keys(samples))
    for number, chosen in zip(range(trials), drawn_settings(trials), strict=False):
        made_of = {"trial": {"frames": number, "reducer": chosen}}
        key = digest(made_of)
        names = {"reducer": chosen["name"], "model": "7b", "benchmark": "drawn", "settings": {"reducer": chosen}}
        store.describe(StoredTrial(key, made_of, names))
        records = drawn_trial(table, chosen, key, draw).with_columns(key=pl.lit(key), sample_key=addresses, at=pl.lit(0.0))
        store.add(records.select(list(row_schema())))
        if gathered:
            store.commit([key])


def sample_keys(samples: int) -> list[str]:
    from prunesweep.results.keys.fingerprint import digest

    return [digest(f"question {number}") for number in range(samples)]


def peak_bytes() -> int:
    """Of this process; `ru_maxrss` counts what it was before it was this program, so it is the second choice."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def resume(store: Path) -> None:
    """What a sweep asks of a store before it evaluates anything."""
    from prunesweep.results.store import TRIALS, Store
    from prunesweep.sweep.work import Addresses, left_to_do
    from prunesweep.types import Sample

    keys = {path.name: path.name for path in (store / TRIALS).iterdir()}
    addresses = Addresses(keys, {str(number): key for number, key in enumerate(sample_keys(SAMPLES))})
    videos = [f"v{number // QUESTIONS_PER_VIDEO}" for number in range(SAMPLES)]
    samples = [Sample(str(n), Path("v.mp4"), "?", ("a", "b"), 0, "t", video) for n, video in enumerate(videos)]
    work = left_to_do(Store.existing(store), samples, addresses)
    assert work.known == len(keys) * SAMPLES


def list_trials(store: Path) -> None:
    from prunesweep.results.store import Store
    from prunesweep.sweep.upkeep import listed

    for _ in listed(Store.existing(store)):
        pass


MEASURED = {"resume": resume, "prunesweep store list": list_trials}


def main() -> None:
    """Seconds, and memory before and at most, of one of MEASURED on a store."""
    import polars as pl

    from prunesweep.errors import write_anywhere
    from prunesweep.sweep import work  # noqa: F401  # so that importing is not measured

    write_anywhere()
    pl.DataFrame({"a": [1]}).sort("a")
    before, begin = peak_bytes(), time.perf_counter()
    MEASURED[sys.argv[1]](Path(sys.argv[2]))
    print(json.dumps([time.perf_counter() - begin, before, peak_bytes()]))


if __name__ == "__main__":
    main()
