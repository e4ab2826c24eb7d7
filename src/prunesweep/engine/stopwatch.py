"""Seconds between two moments of a device, without waiting for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from prunesweep.lazy import torch

if TYPE_CHECKING:
    from torch import device as Device

Seconds = Callable[[], float]
"""To be asked once they matter: on a GPU that waits for the work in between."""


def begun(device: Device) -> Callable[[], Seconds]:
    """Starts a stopwatch; what it gives is called at the end of the work, and gives the seconds.

    On CUDA both moments are events among the work's own kernels: a launch takes microseconds and says nothing of what it
    starts.  The seconds of stages one after the other then sum to the whole, with what the device waited for the host.
    """
    if device.type != "cuda":
        begin = time.perf_counter()

        def ended() -> Seconds:
            taken = time.perf_counter() - begin
            return lambda: taken

        return ended
    first = _event()

    def ended_there() -> Seconds:
        last = _event()

        def seconds() -> float:
            last.synchronize()
            return first.elapsed_time(last) / 1000  # from milliseconds

        return seconds

    return ended_there


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event
