"""What searches are about."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.searches import (
    make_task,
)


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return make_task(tmp_path / "task")
