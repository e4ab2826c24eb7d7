"""Runs do not step on each other: folders of their own, and locks where the kernel's are missing or granted to everybody."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import Timeout

from prunesweep.disk import locks
from prunesweep.disk.locks import LockFile, kernel_locks, lock, lock_by_files
from prunesweep.results import folders
from prunesweep.results.records import read_trial, read_trials
from prunesweep.search.workers import Worker
from support.places import ROOT


def refused(*_: object) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def granted(*_: object) -> None:
    """To everybody."""


BROKEN = {"missing": refused, "granted to everybody": granted}


@pytest.fixture(params=BROKEN)
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kernel's locks, as on some network file systems."""
    monkeypatch.setattr(fcntl, "flock", BROKEN[request.param])
    return request.param


def test_locks_that_work_are_the_kernels(tmp_path: Path) -> None:
    assert kernel_locks(tmp_path)
    assert not lock_by_files(tmp_path)
    assert not isinstance(lock(tmp_path / "a"), LockFile)
    assert list(tmp_path.iterdir()) == []


def test_locks_that_do_not_work_are_found_out_and_remembered(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not kernel_locks(tmp_path)
    assert lock_by_files(tmp_path)
    monkeypatch.undo()
    assert lock_by_files(tmp_path), "a machine where they work joins those where they do not"
    assert isinstance(lock(tmp_path / "a"), LockFile)


def test_a_lock_file_is_held_once(tmp_path: Path) -> None:
    one, other = LockFile(tmp_path / "a"), LockFile(tmp_path / "a")
    with one, pytest.raises(Timeout):
        other.acquire(timeout=0)
    other.acquire(timeout=0).release()
    assert list(tmp_path.iterdir()) == []


def test_a_dead_holders_lock_file_is_taken_over_and_a_living_ones_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "HEARTBEAT", 0.05)
    monkeypatch.setattr(locks, "GRACE", 0.5)
    (tmp_path / "a.held").touch()
    began = time.monotonic()
    with LockFile(tmp_path / "a"):
        assert time.monotonic() - began >= 0.4
        with pytest.raises(Timeout):
            LockFile(tmp_path / "a").acquire(timeout=1.5)


def count_up(folder: Path, times: int) -> None:
    for _ in range(times):
        with LockFile(folder / "a"):
            number = int((folder / "number").read_text())
            (folder / "number").write_text(str(number + 1))


def test_nobody_is_in_twice(tmp_path: Path) -> None:
    (tmp_path / "number").write_text("0")
    many = [multiprocessing.get_context("fork").Process(target=count_up, args=(tmp_path, 20)) for _ in range(4)]
    for one in many:
        one.start()
    for one in many:
        one.join(60)
    assert (tmp_path / "number").read_text() == "80"


def test_workers_without_locks_know_who_is_alive(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "GRACE", 0.5)
    monkeypatch.setattr("prunesweep.search.workers.GRACE", 0.5)
    monkeypatch.setattr(locks, "HEARTBEAT", 0.05)
    with Worker(tmp_path) as here, Worker(tmp_path) as there:
        with here.alone():
            assert here.is_alive(there.name)
            with pytest.raises(Timeout):
                there.lock("study").acquire(timeout=0)
        (tmp_path / "worker-dead.lock.held").touch()
        os.utime(tmp_path / "worker-dead.lock.held", (1, 1))
        assert not here.is_alive("dead")
        name = there.name
    assert not here.is_alive(name)


def test_a_search_runs_without_the_kernels_locks(broken: str, run) -> None:
    search = ("--config-dir", str(ROOT / "sweeps"), "--config-name", "search", "hydra.sweep.dir=s", "benchmark.limit=2")
    code, out, err = run(*search, "hydra.sweeper.trials=2", "hydra.sweeper.batch=1")
    assert code == 0, err
    assert "2 complete" in out
    assert "s has no file locks that can be relied on" in err


# Folders


def taking(folder: Path) -> str:
    return folders.claimed(folder / "12-00-00").name


def test_a_folder_is_claimed_by_one_process_only(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        names = pool.map(taking, [tmp_path / "2026-01-01"] * 12)
    assert sorted(names) == sorted(["12-00-00", *(f"12-00-00-{n}" for n in range(2, 13))])


def resolved_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra registers its own resolver of the time at every start."""
    import hydra.core.utils as utils

    class Fixed(utils.datetime):  # type: ignore[misc,name-defined]
        @classmethod
        def now(cls, tz: object = None) -> object:
            return cls(2026, 1, 1, 12, 0, 0)

    monkeypatch.setattr(utils, "datetime", Fixed)


@pytest.mark.parametrize(
    ("mode", "where"),
    [(["-m", "hydra/sweeper=basic"], "multirun"), (["-m", "hydra/sweeper=grids"], "multirun"), ([], "outputs")],
    ids=["multirun", "grids", "run"],
)
def test_runs_of_the_same_second_have_a_folder_each(
    run: Callable, mode: list[str], where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    resolved_alike(monkeypatch)
    for method in ("none", "random"):
        own = [f"hydra.sweeper.grids=[{{reducer: {method}}}]"] if "hydra/sweeper=grids" in mode else [f"reducer={method}"]
        assert run(*mode, *own, "benchmark.limit=2")[0] == 0
    names = ["12-00-00", "12-00-00-2"]
    for name, method in zip(names, ("none", "random"), strict=True):
        folder = tmp_path / where / "2026-01-01" / name
        trials = read_trials(folder) if mode else [read_trial(folder)]
        assert [trial.info.name for trial in trials] == [method]


@pytest.mark.parametrize(("key", "mode"), [("hydra.sweep.dir", ["-m"]), ("hydra.run.dir", [])], ids=["multirun", "run"])
def test_a_folder_named_by_hand_is_not_used_by_two_at_once(run: Callable, key: str, mode: list[str], tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held, done = context.Event(), context.Event()

    def hold() -> None:
        lock = folders.in_use(tmp_path / "mine", key)
        held.set()
        done.wait(60)
        lock.release()

    other = context.Process(target=hold)
    other.start()
    assert held.wait(60)
    code, _, _ = run(*mode, f"{key}=mine", "reducer=none", "benchmark.limit=2")
    assert code == f"prunesweep: mine is in use by another run; wait until that has ended, or choose another {key}"
    done.set()
    other.join()
    assert run(*mode, f"{key}=mine", "reducer=none", "benchmark.limit=2")[0] == 0
    assert run(*mode, f"{key}=mine", "reducer=none", "benchmark.limit=2")[0] == 0, "one after the other it may"
