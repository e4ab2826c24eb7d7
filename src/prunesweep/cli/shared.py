"""What the verbs have in common: panels of the help, ways to say a folder, an example in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from prunesweep.paths import user_path

RUN, READ, MODELS, UPKEEP = "Run", "Read", "Models and data", "Upkeep"
HELP_NAMES = {"help_option_names": ["-h", "--help"]}
HYDRA: dict[str, Any] = {
    "names": HELP_NAMES,
    "takes": {
        "context_settings": {"ignore_unknown_options": True, "allow_extra_args": True, **HELP_NAMES},
        "options_metavar": "[OVERRIDES]",
    },
}
"""For verbs whose arguments are Hydra's."""
COST = "llm_flops_ratio"

Sweep = Annotated[
    Path, typer.Argument(parser=user_path, metavar="SWEEP", help="Folder of a sweep, such as multirun/DATE/TIME, or a store.")
]
Trial = Annotated[
    Path, typer.Argument(parser=user_path, metavar="TRIAL", help="Folder of a trial, such as multirun/DATE/TIME/3.")
]
Cost = Annotated[str, typer.Option(help="Axis of the front: any cost of the ledger.")]
Margin = Annotated[float, typer.Option(help="A loss of accuracy that is accepted.")]


def example(text: str) -> str:
    """The epilog of a verb's help."""
    return f"[bold]Example[/bold]  [cyan]{text}[/cyan]"
