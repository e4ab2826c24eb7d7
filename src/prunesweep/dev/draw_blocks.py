"""Draws a split of `blocks` as mp4 files with a questions.jsonl: `python -m prunesweep.dev.draw_blocks SPLIT FOLDER`."""

from __future__ import annotations

from prunesweep.dev import parser_of
from prunesweep.embedded.build import SPLIT_SEEDS, draw_split
from prunesweep.embedded.worlds import BLOCKS, World
from prunesweep.errors import write_anywhere
from prunesweep.paths import user_path


def draw(world: World, file: str) -> None:
    """The command of one benchmark, by its script's `__file__`."""
    parser = parser_of(file, f"Draws a split of {world.name} as mp4 files with a questions.jsonl.")
    parser.add_argument("split", choices=SPLIT_SEEDS)
    parser.add_argument("folder", type=user_path)
    parser.add_argument("--per-family", type=int, default=100, help="questions per family (default 100)")
    arguments = parser.parse_args()
    if arguments.per_family < 1:
        parser.error(f"--per-family must be at least 1, got {arguments.per_family}")
    draw_split(SPLIT_SEEDS[arguments.split], arguments.folder, arguments.per_family, world)


def main() -> None:
    write_anywhere()
    draw(BLOCKS, __file__)


if __name__ == "__main__":
    main()
