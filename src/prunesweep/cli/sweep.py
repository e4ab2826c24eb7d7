"""`prunesweep sweep` and `search`: sweeps by their names, which come with the package, or from a file."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from prunesweep.paths import SWEEPS, user_path

NO_HYDRA = ("wandb_sweep",)
"""Files among the sweeps that are for another program."""
SEARCH = "search"
Name = Annotated[
    str | None, typer.Argument(metavar="NAME|PATH", help="Of a sweep below, or a YAML file of your own.", show_default=False)
]


def names() -> dict[str, Path]:
    """Sweeps that come with the package."""
    return {path.stem: path for path in sorted(SWEEPS.glob("*.yaml")) if path.stem not in NO_HYDRA}


def says(path: Path) -> str:
    """The first sentence of a sweep's description: of the comment above its settings, without the commands that begin it."""
    comments = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    text = " ".join(line.lstrip("# ").rstrip() for line in comments if not line.startswith(("# prunesweep", "#  ")))
    return text.partition(". ")[0].partition(".  ")[0].rstrip(".")


def located(given: str) -> Path:
    """A sweep's file; raises ValueError for none."""
    path = user_path(given)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ValueError(f"{given} does not exist; prunesweep sweep lists the sweeps that come with the package")
        return path.absolute()
    known = names()
    if given not in known:
        close = difflib.get_close_matches(given, known, 1)
        meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
        raise ValueError(f"no sweep {given!r}; {meant} A sweep of your own is named by its file, which ends in .yaml")
    return known[given]


def hydras(path: Path, overrides: Sequence[str]) -> list[str]:
    """A sweep as Hydra's own arguments."""
    return ["--config-dir", str(path.parent), "--config-name", path.stem, *overrides]


def help_text() -> str:
    """With the names, which are known from the files."""
    first = "Run a named sweep, or one from a file; without a name, say what each of them does."
    return f"{first}\n\nNames: {', '.join(names())}.\n\nEvery setting can be overridden, as in prunesweep KEY=VALUE."


def sweep(context: typer.Context, name: Name = None) -> None:
    if name is None:
        _list()
    else:
        _start(name, context.args)


def search(context: typer.Context) -> None:
    """Search for the best settings with Optuna; the first word may name a search, `search` unless given.

    Running it again with the same hydra.sweep.dir goes on where it was.
    """
    named = context.args and "=" not in context.args[0] and not context.args[0].startswith(("-", "+", "~"))
    _start(*((context.args[0], context.args[1:]) if named else (SEARCH, context.args)))


def _start(name: str, overrides: Sequence[str]) -> None:
    arguments = hydras(located(name), overrides)
    from prunesweep.cli import run

    sys.argv = ["prunesweep", *arguments]
    run.main()


def _list() -> None:
    from prunesweep.layout import grid

    print(grid(("sweep", "what it runs"), [(name, says(path)) for name, path in names().items()], words=("what it runs",)))
    print("\nprunesweep sweep NAME runs one, prunesweep sweep NAME --cfg job shows its settings")
