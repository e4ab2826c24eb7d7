"""Clips that are read before they are asked for, by several decoders at once, in bounded memory.

A thread for each decoder asks it and waits; the work is done in the decoders' own processes, with the limits that one without
company has (`decoder`).  Frames come through pipes: no shared memory that could be full.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from prunesweep.types import Clip
from prunesweep.video.reader import AHEAD, Decoder, own_decoder, read_clip

Asked = tuple[Any, ...]
"""Arguments of `read_clip`, in its order."""

MEMORY_SHARE = 1 / 16
"""Of the machine's memory, for clips that wait: two minutes of frames in full HD, sampled once a second, on 12 GB."""
PATIENCE_SECONDS = 5.0
"""For a thread to end: one that reads a folder of frames has no decoder that could be ended."""


def memory_for_clips(processes: int = 1) -> int:
    """Bytes that clips may take that wait for one of so many processes on this machine."""
    return int(MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / processes)


@dataclass(eq=False)
class Expected:
    """A clip that will be asked for."""

    asked: Asked
    begun: bool = False
    wanted: bool = False
    """Whether somebody waits for it."""
    found: Clip | BaseException | None = None

    @property
    def bytes(self) -> int:
        return self.found.frames.nbytes if isinstance(self.found, Clip) else 0


class Prefetch:
    """`read_clip` for one reader that says which clips come next; each is read once and handed out once.

    Whatever was not foreseen is read when it is asked for.
    """

    def __init__(self, decoders: int, most_bytes: int):
        """Clips that wait and those that are being decoded take `most_bytes` together, if one does not take more alone."""
        self.most_bytes = most_bytes
        self._change = threading.Condition()
        self._expected: dict[Asked, Expected] = {}
        self._largest = 0
        """Bytes of a clip so far, which any other may have."""
        self._closed = False
        self._decoders = [own_decoder(AHEAD + number) for number in range(decoders)]
        self._threads = [threading.Thread(target=self._work, args=(one,), daemon=True) for one in self._decoders]
        for thread in self._threads:
            thread.start()

    def expect(self, coming: Iterable[Asked]) -> None:
        """Which clips will be asked for from now on, in order; what else was read is dropped."""
        with self._change:
            self._expected = {asked: self._expected.get(asked) or Expected(asked) for asked in coming}
            self._change.notify_all()

    def __call__(self, *asked: Any) -> Clip:
        """As `read_clip`, and raises what that raises."""
        found = self._awaited(asked)
        if found is None:
            return read_clip(*asked)
        if isinstance(found, BaseException):
            raise found
        return found

    def _awaited(self, asked: Asked) -> Clip | BaseException | None:
        with self._change:
            one = self._expected.get(asked)
            if one is None:
                return None
            one.wanted = True
            self._change.notify_all()
            self._change.wait_for(lambda: one.found is not None)
            del self._expected[asked]
            self._change.notify_all()
            return one.found

    def close(self) -> None:
        """Ends what is being read; the decoders stay for the next one, as this process's own does."""
        with self._change:
            self._closed = True
            self._expected = {}
            self._change.notify_all()
        until = time.monotonic() + PATIENCE_SECONDS
        for thread, decoder in zip(self._threads, self._decoders, strict=True):
            thread.join(0.1)
            while thread.is_alive() and time.monotonic() < until:
                decoder.close()
                thread.join(0.1)

    # In a thread of its own

    def _work(self, decoder: Decoder) -> None:
        read = partial(read_clip, decoder=decoder)
        while one := self._next():
            try:
                found: Clip | BaseException = read(*one.asked)
            except BaseException as error:  # whoever waits for it gets it
                found = error
            with self._change:
                one.found = found
                self._largest = max(self._largest, one.bytes)
                self._change.notify_all()
            del one, found  # or a clip would stay until the next one is there

    def _next(self) -> Expected | None:
        """What to read now: what somebody waits for, or the next one there is room for; None at the end."""
        with self._change:
            while not self._closed:
                if one := self._chosen():
                    one.begun = True
                    return one
                self._change.wait()
        return None

    def _chosen(self) -> Expected | None:
        waiting = [one for one in self._expected.values() if not one.begun]
        wanted = next((one for one in waiting if one.wanted), None)
        return wanted or (waiting[0] if waiting and self._has_room() else None)

    def _has_room(self) -> bool:
        begun = [one for one in self._expected.values() if one.begun]
        running = sum(one.found is None for one in begun)
        return not begun or sum(one.bytes for one in begun) + (running + 1) * self._largest <= self.most_bytes
