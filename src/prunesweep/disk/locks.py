"""Locks between processes: the kernel's where they work, files where they do not.

The kernel lets go of a lock whatever ends its holder.  Some file systems have no such locks (NFS without a lock daemon), and some
grant them to everybody.  Both are found out by asking twice for one lock.  There a lock is a file that only one process can
make; its holder touches it, and one that nobody has touched for GRACE seconds is a dead process's.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

HEARTBEAT = 10.0
"""Seconds between two touches."""
GRACE = 60.0
"""Seconds without a touch after which a holder counts as dead: six missed ones."""
POLL = 0.05
"""Seconds between two tries."""
BY_FILES = "locks-are-files"
"""A file that says that those who share a folder lock by files, so that all of them do."""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """What begins here ends, too: Ctrl-C and SIGTERM wait until then, where half of it would be neither old nor new."""
    if threading.current_thread() is not threading.main_thread():  # where no signal arrives
        yield
        return
    came: list[int] = []
    before = {number: handler for number in (signal.SIGINT, signal.SIGTERM) if (handler := signal.getsignal(number)) is not None}
    for number in before:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for arrived in came[:1]:
            signal.raise_signal(arrived)


class Lock(Protocol):
    """A context in which no other process is."""

    def __enter__(self) -> Any: ...

    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> None: ...

    def acquire(self, timeout: float = ...) -> Any:
        """Raises filelock's Timeout if others hold it for so many seconds; waits for ever if that is negative."""
        ...

    def release(self) -> Any: ...


def kernel_locks(folder: Path) -> bool:
    """Whether a lock on a file here is granted once, and not twice."""
    probe = folder / f".lock-{secrets.token_hex(4)}"
    try:
        with probe.open("w") as one, probe.open("w") as other:
            try:
                fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            except OSError:
                return False
            return False
    finally:
        probe.unlink(missing_ok=True)


def lock_by_files(folder: Path) -> bool:
    """Whether processes that share a folder must lock by files; remembered there, for those who come from other machines."""
    noted = folder / BY_FILES
    if not noted.exists() and not kernel_locks(folder):
        noted.touch()
    return noted.exists()


def lock(file: Path) -> Lock:
    """The lock on a file's name; its folder says of which kind."""
    if (file.parent / BY_FILES).exists():
        return LockFile(file)
    return FileLock(file, fallback_to_soft=False)  # a soft lock of that library would outlive its process


class LockFile:
    """A file that is there while somebody holds the lock, as Optuna's JournalFileOpenLock; touched, so that long work is no end.

    O_EXCL makes it, which is atomic on local file systems and on NFS from version 3 on.
    """

    def __init__(self, file: Path):
        self.file = file.with_name(f"{file.name}.held")
        self._released = threading.Event()
        self._touching: threading.Thread | None = None

    def __enter__(self) -> LockFile:
        return self.acquire()

    def __exit__(self, *_: Any) -> None:
        self.release()

    def acquire(self, timeout: float = -1) -> LockFile:
        end = time.monotonic() + timeout
        while not self._make():
            self._clear_if_dead()
            if timeout >= 0 and time.monotonic() >= end:
                raise Timeout(str(self.file))
            time.sleep(POLL)
        self._released = threading.Event()
        self._touching = threading.Thread(target=self._touch, args=(self._released,), daemon=True)
        self._touching.start()
        return self

    def release(self) -> None:
        self._released.set()
        if self._touching:
            self._touching.join()
        self.file.unlink(missing_ok=True)

    def _make(self) -> bool:
        try:
            os.close(os.open(self.file, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        return True

    def _touch(self, released: threading.Event) -> None:
        while not released.wait(HEARTBEAT):
            with suppress(OSError):
                os.utime(self.file)

    def _clear_if_dead(self) -> None:
        """Takes a dead holder's file away: renamed first, which only one of those who want to can do."""
        with suppress(FileNotFoundError):
            if age(self.file) < GRACE:
                return
            grave = self.file.with_name(f"{self.file.name}.{secrets.token_hex(4)}")
            self.file.rename(grave)
            if age(grave) < GRACE:  # another was faster, and this is a living holder's
                with suppress(FileExistsError):
                    os.link(grave, self.file)
            grave.unlink()


def age(file: Path) -> float:
    """Seconds since a file was touched, by the clock of its file system, which machines share."""
    clock = file.with_name(f".clock-{secrets.token_hex(4)}")
    clock.touch()
    try:
        return clock.stat().st_mtime - file.stat().st_mtime
    finally:
        clock.unlink(missing_ok=True)
