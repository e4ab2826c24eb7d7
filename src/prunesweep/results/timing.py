"""Where the seconds of a sweep went: one line a batch, in the sweep's folder."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

TIMING = "timing.jsonl"
"""What each batch of a sweep took, one line each, appended, so that several workers of one study may write it."""


def process() -> str:
    """Who writes: workers of one study have times of their own."""
    return f"{platform.node()}-{os.getpid()}"


def append_timing(sweep: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Adds lines of this process."""
    with (sweep / TIMING).open("a", encoding="utf-8") as file:
        file.write("".join(f"{json.dumps({**entry, 'by': process()})}\n" for entry in entries))


def read_timing(sweep: Path) -> list[dict[str, Any]]:
    """Entries of all batches so far; a sweep whose records were all made elsewhere has none."""
    path = sweep / TIMING
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def own_timing(sweep: Path) -> list[dict[str, Any]]:
    """Of this process: what its own seconds can be the sum of."""
    return [entry for entry in read_timing(sweep) if entry.get("by") == process()]
