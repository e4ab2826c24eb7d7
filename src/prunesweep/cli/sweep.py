"""`prunesweep sweep` and `search`: sweeps by their names, which come with the package, or from a file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from prunesweep.cli.shared import Overrides
from prunesweep.console.meant import unknown
from prunesweep.paths import SWEEPS, user_path

NO_HYDRA = ("wandb_sweep",)
"""Files among the sweeps that are for another program."""
SEARCH = "search"
BESIDE = 60
"""Columns of a terminal in which sentences fit beside the names of sweeps; in a narrower one they stand below."""
FILE = ".yaml"
SIGNS = ("-", "+", "~")
"""With one of these Hydra's options begin, and overrides that add or take away."""


def names() -> dict[str, Path]:
    """Sweeps that come with the package."""
    return {path.stem: path for path in sorted(SWEEPS.glob("*.yaml")) if path.stem not in NO_HYDRA}


def _completed(incomplete: str) -> list[str]:
    return [name for name in names() if name.startswith(incomplete)]


Name = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME|PATH",
        help="A named sweep, or a YAML file of your own.",
        show_default=False,
        autocompletion=_completed,
    ),
]


def says(path: Path) -> str:
    """The first sentence of a sweep's description: of the comment above its settings, without the commands that begin it."""
    comments = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    text = " ".join(line.lstrip("# ").rstrip() for line in comments if not line.startswith(("# prunesweep", "#  ")))
    return text.partition(". ")[0].partition(".  ")[0].rstrip(".")


def located(given: str) -> Path:
    """A sweep's file; raises ValueError for none."""
    path = user_path(given)
    if path.suffix == FILE:
        if not path.is_file():
            raise ValueError(f"{given} does not exist; prunesweep sweep lists the sweeps that come with the package")
        return path.absolute()
    if path.is_file():
        raise ValueError(f"Hydra reads files that end in {FILE}; give {given} such a name")
    if path.with_name(f"{path.name}{FILE}").is_file() and path.name != given:
        raise ValueError(f"a sweep of your own is named by its file: {given}{FILE}")
    known = names()
    if given not in known:
        raise ValueError(f"{unknown('sweep', given, known)}; a sweep of your own is named by its file, which ends in {FILE}")
    return known[given]


def hydras(path: Path, overrides: Sequence[str]) -> list[str]:
    """A sweep as Hydra's own arguments."""
    return ["--config-dir", str(path.parent), "--config-name", path.stem, *overrides]


def help_text() -> str:
    """With the names, which are known from the files."""
    first = "Run a named sweep, or one from a file; without a name, say what each of them does."
    return f"{first}\n\nNames: {', '.join(names())}.\n\nEvery setting can be overridden, as in prunesweep KEY=VALUE."


def is_name(word: str) -> bool:
    """Whether it is neither an override nor an option."""
    return "=" not in word and (word.startswith("~/") or not word.startswith(SIGNS))


def sweep(name: Name = None, overrides: Overrides = None) -> None:
    if name is None:
        _list()
    elif is_name(name):
        _start("sweep", name, overrides or [])
    else:
        raise typer.BadParameter(f"the sweep comes first: prunesweep sweep NAME {name}")


def search(name: Name = None, overrides: Overrides = None) -> None:
    """Search for the best settings with Optuna: as the sweep search says, unless another is named.

    Running it again with the same hydra.sweep.dir goes on where it was.
    """
    if name is None or is_name(name):
        _start("search", name or SEARCH, overrides or [])
    else:
        _start("search", SEARCH, [name, *(overrides or [])])


def _start(verb: str, name: str, overrides: Sequence[str]) -> None:
    arguments = hydras(located(name), overrides)
    from prunesweep.cli import run

    sys.argv = [f"prunesweep {verb}", *arguments]
    run.main()


def _list() -> None:
    from prunesweep.console.terminal import say, table, width_of

    found = [(name, says(path)) for name, path in names().items()]
    if (width_of() or BESIDE) < BESIDE:
        say("\n".join(f"{name}\n  {text}" for name, text in found))
    else:
        print(table(("sweep", "what it runs"), found))
    say("\nprunesweep sweep NAME runs one, prunesweep sweep NAME --cfg job shows its settings")
