"""Decoders that somebody kills."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from typing import Self

from prunesweep.video.reader import Decoder


class Killing:
    """Kills a decoder's process whenever there is one."""

    def __init__(self, decoder: Decoder, number: signal.Signals = signal.SIGKILL, times: int | None = None):
        self.decoder, self.number, self.times = decoder, number, times
        self.killed: list[int] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(0.01) and len(self.killed) != self.times:
            process = self.decoder._process
            if process is not None and process.pid not in self.killed:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, self.number)
                self.killed.append(process.pid)
