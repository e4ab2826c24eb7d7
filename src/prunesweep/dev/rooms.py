"""Counts the rooms of the house: `python -m prunesweep.dev.rooms [SRC]`.

A room is what stands directly in the package, a module or a package of modules.  An arrow leads from a room to one that it
imports; a circle is a set of rooms that reach one another; a room stands one floor above the highest room that it reaches.
SRC is the folder `src` of another checkout to be counted instead.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Set
from pathlib import Path

from prunesweep.dev import parser_of
from prunesweep.errors import write_anywhere
from prunesweep.paths import user_path

PACKAGE = "prunesweep"
WIDE = 450
"""Lines of a file from which on it is one of the worst."""


def main() -> None:
    write_anywhere()
    parser = parser_of(__file__, __doc__)
    parser.add_argument("src", type=user_path, nargs="?", default=Path(__file__).parents[2], help="folder src of a checkout")
    src = parser.parse_args().src
    arrows = imports(src)
    together = circles(arrows)
    print(f"rooms    {len(arrows)}\nfloors   {1 + max(floors(arrows).values())}")
    print(f"arrows   {sum(map(len, arrows.values()))}\ncircles  {len(together)}")
    for circle in together:
        print(f"         {', '.join(sorted(circle))}")
    for path in sorted((src / PACKAGE).rglob("*.py")):
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > WIDE:
            print(f"long     {path.relative_to(src)}: {lines} lines")


def imports(src: Path) -> dict[str, set[str]]:
    """Rooms with the rooms that they import, from the package in `src`."""
    import grimp

    sys.path.insert(0, str(src))
    sys.modules.pop(PACKAGE, None)  # it may be another one
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    rooms: dict[str, set[str]] = {room(child): set() for child in graph.find_children(PACKAGE)}
    for module in graph.modules - {PACKAGE}:
        others = {room(other) for other in graph.find_modules_directly_imported_by(module) - {PACKAGE}}
        rooms[room(module)] |= others - {room(module)}
    return rooms


def room(module: str) -> str:
    return module.split(".")[1]


def reached(arrows: Mapping[str, Set[str]], start: str) -> set[str]:
    """Rooms to which a way leads, `start` itself only in a circle."""
    found: set[str] = set()
    waiting = [*arrows[start]]
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            waiting += arrows[name]
    return found


def circles(arrows: Mapping[str, Set[str]]) -> set[frozenset[str]]:
    below = {name: reached(arrows, name) for name in arrows}
    return {frozenset(other for other in below[name] if name in below[other]) for name in arrows if name in below[name]}


def floors(arrows: Mapping[str, Set[str]]) -> dict[str, int]:
    """The lowest is 0; rooms of a circle stand on one floor."""
    below = {name: reached(arrows, name) for name in arrows}
    heights: dict[str, int] = {}

    def height(name: str) -> int:
        if name not in heights:
            lower = [other for other in below[name] if name not in below[other]]
            heights[name] = 1 + max(map(height, lower), default=-1)
        return heights[name]

    return {name: height(name) for name in arrows}


if __name__ == "__main__":
    main()
