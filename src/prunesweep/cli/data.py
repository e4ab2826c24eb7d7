"""`prunesweep data`: what a benchmark's folder lacks, before a long run; and submission files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunesweep.cli.shared import Overrides, TrialName, Verbs, trial_path
from prunesweep.paths import user_path

app = Verbs(
    "prunesweep data check benchmark=mvbench benchmark.path=FOLDER",
    help="Check a benchmark's folder before a long run; write submission files.",
)


@app.command(example="prunesweep data check benchmark=mvbench benchmark.path=FOLDER video.frames=16")
def check(
    overrides: Overrides = None,
    decord: Annotated[bool, typer.Option("--decord", help="Compare with the frames that the field's harnesses see.")] = False,
    config_dir: Annotated[
        Path | None, typer.Option("--config-dir", "-cd", parser=user_path, metavar="FOLDER", help="Of YAML files of your own.")
    ] = None,
) -> None:
    """Read every question and every video as an evaluation would, and say what is missing or broken."""
    from prunesweep.cli import run
    from prunesweep.sweep.data_check import run_check

    with run.reported():
        wrong = run_check(overrides or [], decord, config_dir)
    if wrong:
        raise typer.Exit(1)


@app.command(example="prunesweep data submission outputs/DATE/TIME answers.json")
def submission(
    trial: TrialName, file: Annotated[Path, typer.Argument(parser=user_path, metavar="FILE", help="To write.")]
) -> None:
    """Write a trial's answers as EgoSchema's server takes them."""
    from prunesweep.sweep.data_check import run_submission

    run_submission(trial_path(trial), file)
