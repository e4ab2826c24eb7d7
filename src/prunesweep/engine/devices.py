"""Which kind of device an evaluation will run on."""

from __future__ import annotations

import os
import sys

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
