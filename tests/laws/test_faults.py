"""Faults: whatever ends a sweep, what it had finished is kept, and the same command goes on to the same records.

Sweeps run in forked processes (see support/forks.py), write a shard after every video, and are killed without warning.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from prunesweep.results.records import read_trials
from prunesweep.results.store import Store
from prunesweep.sweep.upkeep import problems
from support import forks
from support.stored import rows_in

KILLS = 8
TRIALS = 5
GRIDS = (
    "hydra.sweeper.grids=[{reducer: prunevid, reducer.prune.layer: '2,4', reducer.prune.keep_ratio: '0.2,0.4'}, {reducer: none}]"
)


@dataclass(frozen=True)
class Unbroken:
    """A sweep that nothing happened to."""

    arguments: list[str]
    records: dict[str, bytes]
    """Of each trial's folder."""
    seconds: float


@pytest.fixture(scope="module")
def unbroken(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    folder = tmp_path_factory.mktemp("unbroken")
    arguments = ["-m", "hydra/sweeper=grids", GRIDS, *settings, "hydra.sweep.dir=sweep"]
    code, out = forks.finish(arguments, folder, folder / "first.log")  # the first one pays for imports
    assert code == 0, out
    again = folder / "again"
    again.mkdir()
    begin = time.monotonic()
    assert forks.finish(arguments, again, again / "log")[0] == 0
    found = records_in(again / "sweep")
    assert len(found) == TRIALS
    assert found == records_in(folder / "sweep")
    return Unbroken(arguments, found, time.monotonic() - begin)


def records_in(sweep: Path) -> dict[str, bytes]:
    return {trial.folder.name: (trial.folder / "records.parquet").read_bytes() for trial in read_trials(sweep)}


def assert_whole(folder: Path, unbroken: Unbroken) -> None:
    """All records are there once, and are those of the unbroken sweep but for their times."""
    assert records_in(folder / "sweep") == unbroken.records
    store = Store.existing(folder / "store")
    assert store.shards() == set()
    rows = rows_in(store)
    assert len(rows) == len(set(rows)) == TRIALS * 20
    left_behind = {problem.reason for problem in problems(store)}
    assert all("unfinished" in reason for reason in left_behind)


# Killed processes


def test_a_sweep_killed_at_random_moments_goes_on_to_the_same_records(unbroken: Unbroken, tmp_path: Path) -> None:
    dice = random.Random(0)
    killed = Counter[str]()
    whole = 0
    while killed.total() < KILLS:
        folder = tmp_path / str(whole)
        folder.mkdir(exist_ok=True)
        shards = len(shards_in(folder))
        process = forks.start(unbroken.arguments, folder, folder / "log")
        if killed.total() % 2:  # every other kill comes soon after a record, however busy the machine is
            while process.exitcode is None and len(shards_in(folder)) <= shards:
                time.sleep(0.01)
            process.join(dice.uniform(0.0, 0.1) * unbroken.seconds)
        else:
            process.join(dice.uniform(0.05, 1.0) * unbroken.seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            killed[progress_of(folder)] += 1
        else:
            assert process.exitcode == 0, (folder / "log").read_text()
            assert_whole(folder, unbroken)
            whole += 1
    code, out = forks.finish(unbroken.arguments, tmp_path / str(whole), tmp_path / "last.log")
    assert code == 0, out
    assert_whole(tmp_path / str(whole), unbroken)
    print(f"{KILLS} kills: {dict(killed)}; {whole + 1} sweeps ended whole")
    assert killed["while evaluating"] >= 3, killed


def shards_in(folder: Path) -> list[Path]:
    return list((folder / "store" / "shards").glob("*.parquet"))


def progress_of(folder: Path) -> str:
    if not (folder / "store" / "store.json").exists():
        return "before the store was opened"
    rows = len(set(rows_in(Store.existing(folder / "store"))))
    return "before the first record" if rows == 0 else "while evaluating" if rows < TRIALS * 20 else "after the last record"


# Disks


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system with some options; skipped where that is not permitted."""
    folder = tmp_path / "mounted"
    folder.mkdir()

    def call(options: str) -> Path:
        if os.getuid() != 0:
            pytest.skip("mounting a small file system takes root")
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
        return folder

    yield call
    subprocess.run(["umount", folder], capture_output=True)


def test_a_full_disk_ends_the_sweep_in_a_line_and_it_goes_on_when_there_is_space(
    unbroken: Unbroken, mount: Callable[[str], Path], tmp_path: Path
) -> None:
    disk = mount("size=4m")
    filler = disk / "filler"
    filler.write_bytes(bytes(4 * 2**20 - 96 * 2**10))
    code, out = forks.finish(unbroken.arguments, disk, tmp_path / "log")
    assert code == 1
    line = out.strip().splitlines()[-1]
    assert line.startswith("prunesweep: cannot write")
    assert "No space left on device" in line
    assert "free some space and run the same command again" in line
    store = Store.existing(disk / "store")
    before = set(rows_in(store))
    assert 0 < len(before) < TRIALS * 20
    filler.unlink()
    code, out = forks.finish(unbroken.arguments, disk, tmp_path / "log")
    assert code == 0, out
    assert f"{len(before)} of {TRIALS * 20} records were in store" in out
    assert_whole(disk, unbroken)


def test_a_read_only_output_folder_is_named(unbroken: Unbroken, mount: Callable[[str], Path], tmp_path: Path) -> None:
    disk = mount("ro,size=1m")
    code, out = forks.finish(unbroken.arguments, disk, tmp_path / "log")
    assert code == 1
    (line,) = out.strip().splitlines()
    assert "prunesweep: cannot write" in line
    assert "Read-only file system" in line
    assert "choose a folder that can be written with hydra.run.dir, hydra.sweep.dir and store.folder" in line


# The store


def test_two_sweeps_at_once_on_one_store(unbroken: Unbroken, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        folder.mkdir()
    arguments = [*unbroken.arguments, f"store.folder={tmp_path / 'store'}"]
    both = [forks.start(arguments, folder, folder / "log") for folder in folders]
    for process, folder in zip(both, folders, strict=True):
        process.join(forks.PATIENCE)
        assert process.exitcode == 0, (folder / "log").read_text()
        assert records_in(folder / "sweep") == unbroken.records
    store = Store.existing(tmp_path / "store")
    assert len(set(rows_in(store))) == TRIALS * 20
    assert problems(store) == []


def test_damaged_files_are_named_by_verify_and_their_records_made_again(unbroken: Unbroken, tmp_path: Path) -> None:
    assert forks.finish(unbroken.arguments, tmp_path, tmp_path / "log")[0] == 0
    store = Store.existing(tmp_path / "store")
    truncated, garbage, foreign = sorted(store.folder.glob("trials/*/*.parquet"))[:3]
    truncated.write_bytes(truncated.read_bytes()[:-100])
    garbage.write_bytes(random.Random(0).randbytes(5000))
    pl.DataFrame({"another": ["table"]}).write_parquet(foreign)
    (store.folder / "shards" / "notes.txt").write_text("from another program")
    shutil.rmtree(tmp_path / "sweep")
    code, out = forks.finish(unbroken.arguments, tmp_path, tmp_path / "log")
    assert code == 0, out
    assert f"{(TRIALS - 3) * 20} of {TRIALS * 20} records were in store" in out
    assert records_in(tmp_path / "sweep") == unbroken.records
    named = {problem.path.name for problem in problems(store)}
    assert named == {truncated.name, garbage.name, foreign.name, "notes.txt"}
