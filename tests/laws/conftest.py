"""Settings of sweeps on the small model."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def settings(checkpoint: Path, benchmark_folder: Path) -> list[str]:
    plain = ["logger=none", "trainer.progress=false", "trainer.accelerator=cpu", "model.frames=4", "benchmark=jsonl"]
    return [f"model.checkpoint={checkpoint}", f"benchmark.path={benchmark_folder}", *plain]
