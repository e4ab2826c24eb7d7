"""Draws a split of `scenes` as mp4 files with a questions.jsonl: `python -m prunesweep.dev.draw_scenes SPLIT FOLDER`."""

from __future__ import annotations

from prunesweep.dev.draw_blocks import draw
from prunesweep.embedded.worlds import SCENES

if __name__ == "__main__":
    draw(SCENES)
