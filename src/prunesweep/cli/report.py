"""`prunesweep report`: one self-contained page of a finished sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunesweep.checks import MARGIN
from prunesweep.cli.shared import COST, Cost, Margin, SweepFolder
from prunesweep.paths import user_path


def report(
    sweep: SweepFolder,
    out: Annotated[
        Path | None,
        typer.Option(parser=user_path, metavar="FILE", help="The page; report.html in the sweep's folder, or here for a store."),
    ] = None,
    cost: Cost = COST,
    margin: Margin = MARGIN,
) -> None:
    """Write a sweep's page: front, tables, statistics and pictures in one file that opens without a network."""
    from prunesweep.analysis.outcomes import read_outcomes
    from prunesweep.console.waiting import doing
    from prunesweep.report.html import REPORT, write_report
    from prunesweep.results.read import is_store

    path = out or (Path() if is_store(sweep) else sweep) / REPORT
    with doing("reading the records"):
        found = read_outcomes(sweep, cost, margin)
    with doing("drawing the page"):
        write_report(found, sweep, path)
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB, opens without a network)")
