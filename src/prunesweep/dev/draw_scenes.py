"""Draws a split of `scenes` as mp4 files with a questions.jsonl: `python -m prunesweep.dev.draw_scenes SPLIT FOLDER`."""

from __future__ import annotations

from prunesweep.dev.draw_blocks import draw
from prunesweep.embedded.worlds import SCENES
from prunesweep.errors import write_anywhere


def main() -> None:
    write_anywhere()
    draw(SCENES, __file__)


if __name__ == "__main__":
    main()
