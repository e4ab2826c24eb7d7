"""`prunesweep tokens`: what each stage did to the tokens of a video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from prunesweep.cli.shared import TrialName, trial_folder
from prunesweep.console.layout import visible
from prunesweep.paths import from_here, user_path


def tokens(
    trial: TrialName,
    other: Annotated[
        str | None, typer.Argument(metavar="OTHER", help="A second trial; without it, the sweep's dense one.")
    ] = None,
    sample: Annotated[list[str] | None, typer.Option(metavar="ID", help="Of a question; may be given several times.")] = None,
    flips: Annotated[int, typer.Option(min=1, help="Without --sample: draw so many flipped questions.")] = 1,
    movie: Annotated[Literal["gif", "mp4"] | None, typer.Option(help="A movie of each, too.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(parser=user_path, metavar="FOLDER", help="For the pictures; tokens/NUMBER beside the trial."),
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Allow configurations that name code of other packages.")] = False,
) -> None:
    """Draw what each stage did to the tokens of a video, on its frames."""
    from prunesweep.analysis.naming import require_two
    from prunesweep.console.waiting import doing
    from prunesweep.report.token_maps import load_trials
    from prunesweep.report.token_pictures import draw, flips_of

    first = trial_folder(trial)
    folders = [first, *([trial_folder(other, first.parent)] if other else [])]
    require_two(folders)
    out = out or first.resolve().parent / "tokens" / first.resolve().name
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; name a folder for the pictures with --out")
    samples, folders = (list(sample), folders) if sample else flips_of(folders, flips)
    trials = load_trials(folders, trust)
    out.mkdir(parents=True, exist_ok=True)
    if not samples:
        samples = list(trials[0].samples)[:1]
        print(f"no flipped answer to draw; the first question instead: {visible(samples[0])}")
    for number, one in enumerate(samples, start=1):
        with doing(f"drawing question {number} of {len(samples)}"):
            for path in draw(trials, one, out, movie):
                print(from_here(path))
