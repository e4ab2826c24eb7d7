"""The scripts of version 0.1, by their names: they say what they are called now, and do it.  They go with the next release."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

VERBS = {
    "prunesweep-compare": ("compare",),
    "prunesweep-convert": ("model", "convert"),
    "prunesweep-cost": ("cost",),
    "prunesweep-data": ("data",),
    "prunesweep-judge": ("judge",),
    "prunesweep-methods": ("methods",),
    "prunesweep-report": ("report",),
    "prunesweep-search": ("replay",),
    "prunesweep-stats": ("show",),
    "prunesweep-store": ("store",),
    "prunesweep-tokens": ("tokens",),
    "prunesweep-wandb": ("wandb",),
}
MODULES = {
    "prunesweep-bench": "prunesweep.dev.bench",
    "prunesweep-bench-analysis": "prunesweep.dev.bench_analysis",
    "prunesweep-blocks-page": "prunesweep.dev.blocks_page",
    "prunesweep-draw-blocks": "prunesweep.dev.draw_blocks",
    "prunesweep-evidence": "prunesweep.dev.evidence",
    "prunesweep-train-tiny": "prunesweep.dev.train_tiny",
}
SEVERAL = {"--reference": " ", "--samplers": ","}
"""Options that took several values, and take one with these between them."""


def main() -> None:
    name = Path(sys.argv[0]).stem
    arguments = today(name, sys.argv[1:])
    print(f"{name} is {now(name, arguments)} now; its former name goes with the next release", file=sys.stderr)
    if name in MODULES:
        runpy.run_module(MODULES[name], run_name="__main__", alter_sys=True)
        return
    sys.argv = ["prunesweep", *arguments]
    from prunesweep.cli.app import main as command

    command()


def now(name: str, arguments: Sequence[str]) -> str:
    """What a script is called today."""
    if name in MODULES:
        return f"python -m {MODULES[name]}"
    verb = VERBS[name]
    return " ".join(["prunesweep", *arguments[: len(verb)]])


def today(name: str, given: Sequence[str]) -> list[str]:
    """A former script's arguments as those of its verb."""
    if name in MODULES:
        return list(given)
    if name == "prunesweep-convert" and list(given[:1]) == ["check"]:
        return ["model", *given]
    if name == "prunesweep-search" and list(given[:1]) == ["replay"]:
        given = ["search", *given[1:]]
    return [*VERBS[name], *_joined(given)]


def _joined(given: Sequence[str]) -> list[str]:
    joined: list[str] = []
    option = None
    for argument in given:
        if argument.startswith("--"):
            option = argument if argument in SEVERAL else None
            joined.append(argument)
        elif option and joined[-1] != option:
            joined[-1] += SEVERAL[option] + argument
        else:
            joined.append(argument)
    return joined
