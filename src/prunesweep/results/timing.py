"""Where the seconds of a sweep went: one line a batch, in the sweep's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TIMING = "timing.jsonl"
"""What each batch of a sweep took, one line each, appended, so that several workers of one study may write it."""


def read_timing(sweep: Path) -> list[dict[str, Any]]:
    """Entries of all batches so far; a sweep whose records were all made elsewhere has none."""
    path = sweep / TIMING
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
