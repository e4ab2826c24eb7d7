"""Which kind of device an evaluation will run on, how much of it at once, and how many processes decode for it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Any

from prunesweep.checks import require_at_least

NVIDIA_OR_AMD = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Without any of these Linux has no driver of a device that torch calls CUDA, and torch need not be asked."""


ACCELERATORS = ("auto", "cpu", "cuda", "gpu", "mps")
"""Lightning's names of those whose kinds records know."""


def require_accelerator(name: str, value: object) -> None:
    """Raises ValueError for a name that an evaluation cannot be run on; whether there is such a device, torch is asked later."""
    if value not in ACCELERATORS:
        raise ValueError(f"{name} must be one of {', '.join(ACCELERATORS)}, got {value!r}")


def device_kind(accelerator: str) -> str:
    """The kind of device that Lightning will choose; answers differ in the last bits between kinds."""
    if accelerator == "cpu" or (
        accelerator == "auto" and sys.platform == "linux" and not any(map(os.path.exists, NVIDIA_OR_AMD))
    ):
        return "cpu"
    import torch

    if accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available()):
        return "cuda"
    return "mps" if accelerator == "mps" or (accelerator == "auto" and torch.backends.mps.is_available()) else "cpu"


@dataclass(frozen=True)
class AtOnce:
    """How many branches are answered at once."""

    most: int = 1
    memory: int = 0
    """Bytes of padded caches."""


AUTO = "auto"
MOST_AT_ONCE = 64
"""Answers written together, where memory allows it: by then a step takes as long as its products, not as reading the weights."""
FREE_SHARE = {"cuda": 0.5, "cpu": 0.125}
"""Of the memory that is free when an evaluation begins, for padded caches: a host may have other processes, a device has one."""


def require_batch(name: str, value: object) -> None:
    """Raises ValueError for anything but auto and a whole number from 1 on."""
    if value == AUTO:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} must be {AUTO} or a whole number from 1 on, got {value!r}")
    require_at_least(name, value, 1)


def at_once(batch: int | str, device: Any) -> AtOnce:
    """How many branches are answered together on a device: 1, or what fits into memory but no more than asked for."""
    most = MOST_AT_ONCE if batch == AUTO else int(batch)
    return AtOnce(most, int(FREE_SHARE.get(device.type, FREE_SHARE["cpu"]) * _free_bytes(device)))


def _free_bytes(device: Any) -> int:
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available


MOST_DECODERS = 4
"""That `auto` starts for a device."""


def available_cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def require_decoders(name: str, value: object) -> None:
    """Raises ValueError for what is neither `auto` nor a number of processes."""
    if isinstance(value, str) and value != AUTO:
        raise ValueError(f"{name} must be {AUTO} or a whole number, got {value!r}")
    if value != AUTO:
        require_at_least(name, value, 0)  # type: ignore[arg-type]


def decoders_for(setting: int | str, devices: int, cores: int | None = None) -> int:
    """How many processes decode ahead for each device; `auto` leaves a device one of its cores, and takes four at most."""
    if isinstance(setting, int):
        return setting
    return min(MOST_DECODERS, max(0, (cores or available_cores()) // devices - 1))
