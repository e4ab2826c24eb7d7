"""What the benches of single parts share: a drawn video, and how many operations a call dispatches."""

from __future__ import annotations

import multiprocessing
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from prunesweep.engine.latency import PeakMemory, resident_bytes
from prunesweep.types import Tokens

SCENES = 4
MOVING_SHARE = 0.3
"""Of the patches of a scene: what is left static is averaged, what moves is clustered frame by frame."""
STILL_NOISE = 0.05


def drawn_video(frames: int, patches: int, channels: int) -> Tokens:
    """Scenes of equal length: the same patches move through a scene, the others hardly change."""
    generator = torch.Generator().manual_seed(0)
    parts = []
    for scene in range(SCENES):
        length = (scene + 1) * frames // SCENES - scene * frames // SCENES
        still = torch.randn(1, patches, channels, generator=generator)
        part = still + STILL_NOISE * torch.randn(length, patches, channels, generator=generator)
        moving = torch.rand(patches, generator=generator) < MOVING_SHARE
        part[:, moving] = torch.randn(length, int(moving.sum()), channels, generator=generator)
        parts.append(part)
    return Tokens("drawn", torch.cat(parts), torch.empty(0, channels))


class Counted(TorchDispatchMode):
    """How many torch operations are dispatched."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        return function(*args, **(kwargs or {}))


def operations(work: Callable[[], object]) -> int:
    with Counted() as counted:
        work()
    return counted.operations


def median_and_range(values: list[float], unit: str, digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} {unit} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def in_a_process_of_its_own(work: Callable[..., float], *arguments: Any) -> float:
    """What a module's function returns where nothing has been allocated before."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def growth(work: Callable[[], object], device: torch.device) -> float:
    """MiB by which this process grows at most meanwhile."""
    before = resident_bytes()
    with PeakMemory(device) as peak:
        work()
    return max(0, peak.highest - before) / 2**20
