"""What the verbs have in common: what their help looks like, its panels, ways to say a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from prunesweep.errors import reported
from prunesweep.paths import user_path

RUN, READ, MODELS, UPKEEP = "Run", "Read", "Models and data", "Upkeep"
HELP_NAMES = {"help_option_names": ["-h", "--help"]}
HYDRAS: dict[str, Any] = {"context_settings": {"ignore_unknown_options": True, **HELP_NAMES}}
"""For verbs whose arguments are Hydra's."""


class Plain:
    """A flag takes no value, and has none in the help; an argument that is hidden is not in the usage either."""

    def get_params(self, ctx: Any) -> list[Any]:
        found: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for one in found:
            if getattr(one, "is_flag", False) and one.metavar is None:
                one.metavar = ""
        return found

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        hidden = [piece for one in self.get_params(ctx) if getattr(one, "hidden", False) for piece in one.get_usage_pieces(ctx)]
        return [piece for piece in super().collect_usage_pieces(ctx) if piece not in hidden]  # type: ignore[misc]


class Verb(Plain, TyperCommand):
    pass


class Parts(Plain, TyperGroup):
    pass


class Verbs(typer.Typer):
    """Verbs, or the parts of one, each with an example at the end of its help."""

    def __init__(self, example: str = "", **settings: Any) -> None:
        own = {"epilog": shown_example(example), "context_settings": HELP_NAMES, "no_args_is_help": True}
        super().__init__(**{"cls": Parts, "rich_markup_mode": "rich", **own, **settings})

    def command(self, name: str | None = None, *, example: str = "", **settings: Any) -> Any:
        return super().command(name, **{"cls": Verb, "epilog": shown_example(example), **settings})


def shown_example(text: str) -> str:
    """The end of a verb's help."""
    return f"[bold]Example[/bold]  [cyan]{text}[/cyan]"


Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="OVERRIDES", help="KEY=VALUE, GROUP=CHOICE, and options of Hydra's.", show_default=False),
]
COST = "llm_flops_ratio"

LATEST = "latest"


def sweep_path(text: str) -> Path:
    """A sweep as it was typed; `latest` is followed, so that its own name is shown.

    Ends the command if there is no such sweep: Typer, which calls this, words ValueErrors its own way.
    """
    path = user_path(text)
    if LATEST not in path.parts:
        return path
    from prunesweep.analysis.naming import sweep_called

    with reported():
        return sweep_called(text)


def trial_path(text: str, sweep: Path | None = None) -> Path:
    """A trial as it was typed: a folder, or what it is called in a sweep, the latest one unless named.

    Ends the command if there is no such trial, or several.
    """
    path = user_path(text)
    outside = len(path.parts) > 1 and not any(map(_holds_trials, path.parents))
    if LATEST not in path.parts and not _holds_trials(path) and (path.exists() or outside):
        return path
    from prunesweep.analysis.naming import sweep_called, trial_called

    with reported():
        says_where = sweep or len(path.parts) > 1 or path.exists() or text == LATEST
        return trial_called(text, sweep if says_where else sweep_called(LATEST))


def _holds_trials(folder: Path) -> bool:
    """Whether it is a sweep or a store, of which what follows may say a trial: a name may have slashes of its own."""
    from prunesweep.results.read import is_store
    from prunesweep.results.records import trial_folders

    return folder.is_dir() and (is_store(folder) or bool(trial_folders(folder)))


def trial_folder(text: str, sweep: Path | None = None) -> Path:
    """As `trial_path`, for verbs that read what a store does not keep: ends the command for one."""
    from prunesweep.results.read import require_sweep

    with reported():
        require_sweep(user_path(text))
    return trial_path(text, sweep)


def sweep_folder(text: str) -> Path:
    """As `sweep_path`, for verbs that read what a store does not keep: ends the command for one."""
    from prunesweep.results.read import require_sweep

    with reported():
        return require_sweep(sweep_path(text))


SweepFolder = Annotated[
    Path,
    typer.Argument(parser=sweep_path, metavar="SWEEP", help="Folder of a sweep, such as multirun/DATE/TIME, latest, or a store."),
]
TrialName = Annotated[
    str,
    typer.Argument(metavar="TRIAL", help="Folder of a trial; or of the latest sweep 7, dense, best, best@0.25x, knee, its name."),
]
Cost = Annotated[str, typer.Option(help="Axis of the front: any cost of the ledger.")]
Margin = Annotated[float, typer.Option(help="A loss of accuracy that is accepted.")]
