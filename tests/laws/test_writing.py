"""A kill or a full disk at any step of writing the store loses nothing that was written."""

from __future__ import annotations

import errno
import functools
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from prunesweep.results.store import Store, StoredTrial, to_rows
from prunesweep.types import Record
from support import forks
from support.stored import rows_in


def record(sample: str, error: str | None = None) -> Record:
    answer = {"prediction": None, "correct": None} if error else {"prediction": "red", "correct": True}
    return Record("trial", sample, "v", "t", ("red", "blue"), "red", **answer, error=error)


def work_on_store(folder: Path, acknowledged: Path | None = None) -> None:
    """Three shards of two trials, each committed in between; notes each shard that is safely written."""
    store = Store.open(folder)
    for number in range(3):
        samples = [record(f"s{number}"), record(f"t{number}")]
        for key in ("k", "l"):
            store.describe(StoredTrial(key, {}, {}))
        store.add(to_rows((key, one.sample_id, one) for key in ("k", "l") for one in samples))
        if acknowledged:
            acknowledged.write_text(str(number + 1))
        if number:
            store.commit(["k"])
    store.commit(["k", "l"])


STEPS = (
    ("os.fsync", os, "fsync"),
    ("Path.replace", Path, "replace"),
    ("Path.unlink", Path, "unlink"),
    ("Path.mkdir", Path, "mkdir"),
)
"""What a store asks of the file system."""


def at_step(step: int, act: Callable[[], None], patch: Callable[[Any, str, Any], None]) -> list[int]:
    """Acts before the file system's step of that number; returns a list whose length counts the steps."""
    taken: list[int] = []

    def wrapped(original: Callable) -> Callable:
        @functools.wraps(original)
        def call(*arguments: Any, **keywords: Any) -> Any:
            taken.append(len(taken))
            if len(taken) == step:
                act()
            return original(*arguments, **keywords)

        return call

    for _, owner, name in STEPS:
        patch(owner, name, wrapped(getattr(owner, name)))
    return taken


def kill_at_every_step(folder: Path) -> None:
    """One process after the other, each killed before another step, until one is done before its step comes."""
    status, step = -1, 0
    while status:
        step += 1
        (folder / str(step)).mkdir()
        child = os.fork()
        if not child:
            at_step(step, lambda: os.kill(os.getpid(), signal.SIGKILL), setattr)
            work_on_store(folder / str(step) / "store", folder / str(step) / "acknowledged")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        (folder / str(step) / "status").write_text(str(os.waitstatus_to_exitcode(status)))


def assert_kept(folder: Path, acknowledged: int) -> None:
    """What was acknowledged is there, and doing all of it again gives all of it."""
    store = Store.open(folder)
    expected = {f"{name}{number}" for number in range(acknowledged) for name in "st"}
    for key in ("k", "l"):
        assert expected <= set(store.records([key])["sample_id"])
    work_on_store(folder)
    for key in ("k", "l"):
        assert store.records([key])["sample_id"].to_list() == ["s0", "s1", "s2", "t0", "t1", "t2"]
    assert store.shards() == set()
    assert len(rows_in(store)) == 12


def test_a_kill_before_any_step_of_writing_loses_nothing_that_was_written(tmp_path: Path) -> None:
    process = forks.CONTEXT.Process(target=kill_at_every_step, args=(tmp_path,))
    process.start()
    process.join(forks.PATIENCE)
    statuses = []
    for folder in sorted(tmp_path.iterdir(), key=lambda folder: int(folder.name)):
        noted = folder / "acknowledged"
        assert_kept(folder / "store", int(noted.read_text()) if noted.exists() else 0)
        statuses.append(int((folder / "status").read_text()))
    print(f"killed before each of {len(statuses) - 1} steps")
    assert statuses == [-signal.SIGKILL] * (len(statuses) - 1) + [0]
    assert len(statuses) > 20


class NoSpaceError(OSError):
    """Told from any other error."""


def test_a_full_disk_at_any_step_of_writing_loses_nothing_that_was_written(tmp_path: Path) -> None:
    def full() -> None:
        raise NoSpaceError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for step in range(1, 1000):
        folder, noted = tmp_path / str(step), tmp_path / f"{step}.acknowledged"
        with pytest.MonkeyPatch.context() as patch:
            taken = at_step(step, full, patch.setattr)
            with suppress(NoSpaceError):
                work_on_store(folder, noted)
        assert_kept(folder, int(noted.read_text()) if noted.exists() else 0)
        if len(taken) < step:
            break
    assert step > 20
