"""The command `prunesweep`: Hydra's overrides run an evaluation as they always did, a verb in their place does something else.

Nothing heavy is imported here or at the top of a verb's module, so that help and completion come at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated, Any

import typer

from prunesweep.cli import (
    ask,
    compare,
    cost,
    data,
    export,
    judge,
    methods,
    mistyped,
    model,
    replay,
    report,
    show,
    store,
    sweep,
    tokens,
    tune,
    wandb,
)
from prunesweep.cli.shared import HYDRAS, MODELS, READ, RUN, UPKEEP, Overrides, Verbs, shown_example
from prunesweep.console.waiting import watched

INTRODUCTION = """Sweep, search and compare token reduction settings of video LLMs: accuracy against FLOPs, with error bars.

[bold]prunesweep OVERRIDES[/bold] evaluates one setting, [bold]prunesweep -m OVERRIDES[/bold] several:
[cyan]prunesweep -m reducer.prune.keep_ratio=0.2,0.4,0.8[/cyan]"""
USAGE_ERROR: Any = typer.BadParameter.__base__
"""What a wrong argument is; typer has no name of its own for it."""
VERSION = "--version"
app = Verbs(name="prunesweep", help=INTRODUCTION, pretty_exceptions_enable=False, no_args_is_help=False)


@app.callback(epilog=shown_example("prunesweep sweep demo"))
def options(
    version: Annotated[bool, typer.Option(VERSION, help="Print the version.")] = False,
) -> None:
    """`main` has seen to the version, which may be asked for behind any verb."""


def run(overrides: Overrides = None) -> None:
    """Evaluate one setting, or with -m several that share their work: what prunesweep does without a verb.

    Every key of conf/ can be set; with -m to several values, as in KEY=VALUE,VALUE.

    --cfg job shows what would run, --hydra-help what Hydra takes besides.
    """
    _hydra(overrides or [], "run")


app.command(rich_help_panel=RUN, example="prunesweep run -m reducer=none,prunevid benchmark.limit=200", **HYDRAS)(run)
app.command(
    "sweep",
    help=sweep.help_text(),
    rich_help_panel=RUN,
    example="prunesweep sweep demo benchmark.limit=100",
    **HYDRAS,
)(sweep.sweep)
app.command("search", rich_help_panel=RUN, example="prunesweep search hydra.sweeper.trials=40", **HYDRAS)(sweep.search)
app.command(
    rich_help_panel=RUN,
    example="prunesweep ask clip.mp4 'what happens ?' reducer=prunevid",
)(ask.ask)
app.command("tune", rich_help_panel=RUN, example="prunesweep tune budget=0.25x margin=0.01")(tune.tune)
app.command(rich_help_panel=READ, example="prunesweep show latest --table against")(show.show)
app.command(rich_help_panel=READ, example="prunesweep compare latest/7 dense")(compare.compare)
app.command(rich_help_panel=READ, example="prunesweep methods multirun/DATE/TIME --reference 'fastv layer=2'")(methods.methods)
app.command(rich_help_panel=READ, example="prunesweep report latest")(report.report)
app.command(rich_help_panel=READ, example="prunesweep tokens latest/3 --flips 2")(tokens.tokens)
app.add_typer(replay.app, name="replay", rich_help_panel=READ)
app.command(rich_help_panel=MODELS, example="prunesweep cost model=llava_onevision_7b reducer=fastv", **HYDRAS)(cost.cost)
app.command(rich_help_panel=MODELS, example="prunesweep export preset.yaml --to vllm")(export.export)
app.add_typer(data.app, name="data", rich_help_panel=MODELS)
app.add_typer(model.app, name="model", rich_help_panel=MODELS)
app.command(rich_help_panel=MODELS, example="prunesweep judge FOLDER --url http://localhost:8000/v1 --model NAME")(judge.judge)
app.add_typer(store.app, name="store", rich_help_panel=UPKEEP)
app.command(rich_help_panel=UPKEEP, example="prunesweep wandb multirun/DATE/TIME --mode online")(wandb.wandb)


def main() -> None:
    """Raises SystemExit with what went wrong, on one line."""
    arguments = sys.argv[1:]
    if VERSION in arguments:
        from importlib.metadata import version

        print(f"prunesweep {version('prunesweep')}")
        return
    from prunesweep.errors import reported, write_anywhere

    write_anywhere()
    completes = COMPLETES in os.environ
    with nullcontext() if completes else watched(_shown(arguments)):
        if is_hydras(arguments) and not completes:
            _hydra(arguments)
            return
        with reported():
            code = _typed(arguments)
    if code:
        sys.exit(code)


def _shown(arguments: Sequence[str]) -> str:
    """What runs, before it says so itself."""
    return "prunesweep" if is_hydras(arguments) else f"prunesweep {arguments[0]}"


def _typed(arguments: Sequence[str]) -> int:
    """The exit code of a verb."""
    try:
        code = app(args=list(arguments), prog_name="prunesweep", standalone_mode=False)
    except USAGE_ERROR as error:
        if said := mistyped.usage(error, typer.main.get_command(app), arguments, sweep.names()):
            print(f"prunesweep: {said}", file=sys.stderr)
        return 2
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    return code if isinstance(code, int) else 0


COMPLETES = "_PRUNESWEEP_COMPLETE"
"""Set by a shell that asks, without arguments, what the words so far may go on with: nothing is to run then."""
OURS = ("--help", "-h", VERSION, "--install-completion", "--show-completion")


def is_hydras(arguments: Sequence[str]) -> bool:
    """Whether no verb was given: nothing at all, an override, or an option that Hydra has."""
    first = arguments[0] if arguments else ""
    return not first or "=" in first or (first.startswith(("-", "~", "+")) and first not in OURS)


def _hydra(arguments: Sequence[str], verb: str = "") -> None:
    from prunesweep.cli import run as evaluation

    sys.argv = [f"prunesweep {verb}".rstrip(), *arguments]
    evaluation.main()


if __name__ == "__main__":
    main()
