"""`blocks`, the embedded benchmark: short mp4 clips of coloured blocks, drawn by `prunesweep.embedded` and shipped.

An item of the test split (`data/blocks/test/questions.jsonl`):

    {"id": "moving_direction-000", "video": "00000.mp4", "task": "moving_direction",
     "question": "which way does the yellow block move ?", "choices": ["right", "down", "left", "up"], "answer": "right"}

Only the test split is shipped, as fixed bytes: encoding again on another machine changes pixels, and pixel noise flips
clustering decisions.  `python -m prunesweep.dev.draw_blocks` draws the other splits.
"""

from __future__ import annotations

from prunesweep.benchmarks import jsonl
from prunesweep.paths import DATA
from prunesweep.types import Sample


def load(limit: int | None = None) -> list[Sample]:
    return jsonl.load(str(DATA / "blocks" / "test"), limit)
