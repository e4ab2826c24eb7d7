"""`prunesweep wandb`: W&B runs of a sweep or a store, made from its records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from prunesweep.checks import MARGIN
from prunesweep.cli.shared import COST, Cost, Margin, SweepFolder
from prunesweep.paths import user_path


def wandb(
    sweep: SweepFolder,
    mode: Annotated[Literal["online", "offline"] | None, typer.Option(help="Offline unless given here or by WANDB_MODE.")] = None,
    project: Annotated[str, typer.Option(envvar="WANDB_PROJECT", show_envvar=False)] = "prunesweep",
    group: Annotated[str | None, typer.Option(help="Of all runs; the folder's date and time, or its name.")] = None,
    out: Annotated[
        Path | None, typer.Option(parser=user_path, metavar="FOLDER", help="For wandb/; the sweep's, or here for a store.")
    ] = None,
    cost: Cost = COST,
    margin: Margin = MARGIN,
    follow: Annotated[bool, typer.Option("--follow", hidden=True)] = False,
) -> None:
    """Make W&B runs of a sweep or a store, from its records: one a trial, and one with the table and the front."""
    from prunesweep.report import wandb_process

    wandb_process.publish(sweep, mode, project, group, out, cost, margin, follow)
