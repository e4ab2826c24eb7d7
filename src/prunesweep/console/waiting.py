"""What a terminal shows while a command is silent: what it is doing and for how long; gone without a trace at the next word.

Two seconds of silence are enough.  A line that is still open, such as a bar, shows progress itself and is left alone; a pipe
and a log get nothing of this.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from shutil import get_terminal_size
from typing import Any, TextIO

SILENCE = 2.0
"""Seconds after which a terminal that shows nothing new looks like one that hangs."""
BEAT = 0.5
"""Seconds between two looks."""


class Status:
    """The line that tells what is being done, on a terminal."""

    def __init__(self, stream: TextIO, what: str):
        self.stream, self.steps = stream, [(what, time.monotonic())]
        self.heard_at, self.open, self.shown = time.monotonic(), False, 0
        self.renew()

    def renew(self) -> None:
        """Nobody writes: also in a process that was forked while somebody did."""
        self.turn = threading.RLock()  # a signal's handler may write in the middle of a word

    def heard(self, text: str) -> None:
        """Something is about to be written: it takes the line's place."""
        self.clear()
        if text:
            self.heard_at, self.open = time.monotonic(), not text.endswith(("\n", "\r"))

    def clear(self) -> None:
        if self.shown:
            shown, self.shown = self.shown, 0
            self.stream.write(f"\r{' ' * shown}\r")
            self.stream.flush()

    def beat(self) -> None:
        """Shows the step, if nothing was heard for long enough."""
        with self.turn:
            self._show(time.monotonic())

    def _show(self, now: float) -> None:
        if self.open or now - self.heard_at < SILENCE:
            return
        what, since = self.steps[-1]
        if not what:
            return
        text = f"{what} ... {now - since:.0f} s"[: get_terminal_size().columns - 1]
        self.stream.write(f"\r{text.ljust(self.shown)}")
        self.stream.flush()
        self.shown = len(text)


class Watched:
    """A stream as it was, whose status hears what is written."""

    def __init__(self, stream: TextIO, status: Status):
        self.stream, self.status = stream, status

    def write(self, text: str) -> int:
        with self.status.turn:  # else the line may come back between being cleared and the word
            self.status.heard(text)
            return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def watched(what: str) -> Iterator[None]:
    """Whatever runs inside is never silent for long on a terminal; `what` it is, where nothing says it better."""
    out, err = sys.stdout, sys.stderr
    if not err.isatty() or os.environ.get("TERM") == "dumb":  # which cannot go back to the beginning of a line
        yield
        return
    status, ended = Status(err, what), threading.Event()
    os.register_at_fork(after_in_child=status.renew)
    beats = threading.Thread(target=_beats, args=(status, ended), daemon=True)
    sys.stderr = Watched(err, status)
    if out.isatty():
        sys.stdout = Watched(out, status)
    beats.start()
    try:
        yield
    finally:
        ended.set()
        beats.join()
        status.clear()
        sys.stdout, sys.stderr = out, err


def _beats(status: Status, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        status.beat()


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Names the step that takes its time, for whoever looks at a terminal meanwhile; "" where other processes show theirs."""
    if not isinstance(sys.stderr, Watched):
        yield
        return
    steps = sys.stderr.status.steps
    steps.append((what, time.monotonic()))
    try:
        yield
    finally:
        steps.pop()
