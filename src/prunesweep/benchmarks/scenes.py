"""`scenes`, the embedded benchmark with moving cameras and answers of several words, drawn by `prunesweep.embedded` and shipped.

An item of the test split (`data/scenes/test/questions.jsonl`):

    {"id": "action_sequence-000", "video": "00000.mp4", "task": "action_sequence", "question": "how does the red block move ?",
     "choices": ["left then up", "up then left", "right then up", "up then right"], "answer": "left then up"}

Only the test split is shipped.  `python -m prunesweep.dev.draw_scenes` draws the other splits.
"""

from __future__ import annotations

from prunesweep.benchmarks import jsonl
from prunesweep.paths import DATA
from prunesweep.types import Sample


def load(limit: int | None = None) -> list[Sample]:
    return jsonl.load(str(DATA / "scenes" / "test"), limit)
