"""`prunesweep methods`: methods at equal cost, each against a reference."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from prunesweep.cli.shared import SweepFolder
from prunesweep.paths import user_path


def methods(
    sweep: SweepFolder,
    reference: Annotated[
        str, typer.Option(metavar="'[REDUCER] KEY=VALUE ...'", help="Trials to compare with, of PruneVid unless named.")
    ] = "",
    out: Annotated[Path, typer.Option(parser=user_path, metavar="FOLDER", help="For table, list and picture.")] = Path("."),
) -> None:
    """Compare methods that were matched to equal costs (reducer.match), each with a reference at its own cost."""
    from prunesweep.analysis.equal_cost import compared, entries, references
    from prunesweep.analysis.outcomes import read_outcomes
    from prunesweep.report.equal_cost import ALL, PICTURE, TABLE, figure, shown, table, write_csv
    from prunesweep.report.style import FORMATS, save

    found = read_outcomes(sweep)
    if len(found) > 1:
        raise ValueError(f"{sweep} has {len(found)} pairs of model and benchmark; prunesweep methods takes one")
    (outcomes,) = found
    every = entries(outcomes)
    chosen = references(every, reference.split())
    rows = compared(every, chosen, outcomes.video)
    out.mkdir(parents=True, exist_ok=True)
    text = table(outcomes, rows, chosen)
    (out / TABLE).write_text(text, encoding="utf-8")
    write_csv(rows, out / ALL)
    save(figure(outcomes, shown(rows), chosen), out / PICTURE, FORMATS)
    sys.stdout.write(text)
