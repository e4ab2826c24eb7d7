"""Which kind of device an evaluation will run on, and how many processes decode for it."""

from __future__ import annotations

import os
import sys

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


AUTO = "auto"
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
