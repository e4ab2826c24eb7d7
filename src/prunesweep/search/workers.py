"""Who else works on a study: one lock for short steps, and a sign of life per worker.

A worker holds a lock on a file of its own as long as it lives; the kernel lets go of it whatever ends the process.  A lock
that can be had is therefore a dead worker's.  File systems may keep locks to one machine, so a worker of another machine
is given up only after its file has not been touched for GRACE seconds, by the clock of the file system that both share.
Where the kernel's locks cannot be relied on, that holds for all workers (see `prunesweep.disk.locks`).
"""

from __future__ import annotations

import hashlib
import logging
import platform
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import Timeout

from prunesweep.disk.locks import BY_FILES, GRACE, HEARTBEAT, POLL, Lock, LockFile, age, lock, lock_by_files, uninterrupted

log = logging.getLogger(__name__)


class Worker:
    """This process as a worker on the study in `folder`; to be used as a context."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.name = f"{_machine()}-{secrets.token_hex(4)}"
        self._ended = threading.Event()

    def __enter__(self) -> Worker:
        self.folder.mkdir(parents=True, exist_ok=True)
        if lock_by_files(self.folder):
            log.warning(
                "%s has no file locks that can be relied on: workers tell each other by files there, and one that dies is missed "
                "after %d s; hydra.sweep.dir on another file system has it missed at once",
                self.folder.parent,
                GRACE,
            )
        self._lock = lock(self._file(self.name))
        self._lock.acquire()
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._lock.release()
        self._file(self.name).unlink(missing_ok=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A short context in which no other worker of the study is, and which an interruption does not end; others wait."""
        own = self.lock("study")
        while True:
            with uninterrupted():  # from the lock on: nobody would let go of one that was taken just before
                try:
                    own.acquire(timeout=0)
                except Timeout:
                    pass
                else:
                    try:
                        yield
                    finally:
                        own.release()
                    return
            time.sleep(POLL)

    def lock(self, what: str) -> Lock:
        """That only one worker of the study has."""
        return lock(self.folder / f"{what}.lock")

    def is_alive(self, name: str) -> bool:
        """Whether another worker is at work; call within `alone`."""
        file = self._file(name)
        if name == self.name:
            return True
        if (self.folder / BY_FILES).exists():
            held = LockFile(file).file
            return held.exists() and age(held) < GRACE
        if not file.exists():
            return False
        try:
            with lock(file).acquire(timeout=0):
                here = name.startswith(f"{_machine()}-")
                return not here and age(file) < GRACE
        except Timeout:
            return True

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT):
            self._file(self.name).touch()

    def _file(self, name: str) -> Path:
        return self.folder / f"worker-{name}.lock"


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


class JournalLock:
    """Optuna's own locks on a journal outlive a killed process for half a minute; the kernel's does not.

    Whoever takes it also cuts off a line that a killed process, or a full disk, left unfinished: the next line would be
    written behind it and make the journal unreadable.
    """

    def __init__(self, journal: Path):
        self.journal = journal
        lock_by_files(journal.parent)
        self._lock = lock(journal.with_name(f"{journal.name}.lock"))

    def acquire(self) -> bool:
        self._lock.acquire()
        _cut_unfinished_line(self.journal)
        return True

    def release(self) -> None:
        self._lock.release()


def _cut_unfinished_line(file: Path) -> None:
    with file.open("rb+") as journal:
        length = journal.seek(0, 2)
        if not length:
            return
        journal.seek(length - 1)
        if journal.read(1) != b"\n":
            journal.seek(0)
            journal.truncate(journal.read().rfind(b"\n") + 1)
