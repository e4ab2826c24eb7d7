"""What a benchmark's own harness says of trials, in words and cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prunesweep.console.layout import count, grid, visible
from prunesweep.report.formats import Cell
from prunesweep.results.official import Official, read_official
from prunesweep.results.records import Trial


def metrics_of(found: Official) -> dict[str, float]:
    """By metric, with the task's name before it where there are several."""
    several = len(found.aggregates) > 1
    return {f"{task} {m}" if several else m: v for task, own in found.aggregates.items() for m, v in own.items()}


def line(folder: Path) -> str | None:
    """Of one trial, for its summary; None where no harness was asked."""
    found = read_official(folder)
    if found is None:
        return None
    if found.problem is not None:
        return f"official    none: {visible(found.problem)}"
    said = ", ".join(f"{visible(name)} {value:.4g}" for name, value in metrics_of(found).items())
    left_out = f", {found.left_out:,} without an answer left out" if found.left_out else ""
    return f"official    {said} by {visible(found.source)} (n={found.scored:,}{left_out})"


def table(trials: Sequence[Trial]) -> str:
    """Of a sweep's trials, a row for each that a harness scored; empty if it scored none."""
    there = [(trial, found) for trial in trials if (found := read_official(trial.folder)) is not None]
    scored = [(trial, metrics_of(found), found) for trial, found in there if found.problem is None]
    lines = [f"official: none ({visible(reason)})" for reason in dict.fromkeys(f.problem for _, f in there if f.problem)]
    if scored:
        names = list(dict.fromkeys(name for _, own, _ in scored for name in own))
        rows = [
            (trial.info.name, *(f"{own[name]:.4g}" if name in own else "" for name in names), f"{found.scored:,}")
            for trial, own, found in scored
        ]
        source = ", ".join(dict.fromkeys(found.source for *_, found in scored))
        lines = [f"official, by {visible(source)}:", grid(("trial", *names, "n"), rows), *lines]
        if left_out := sum(found.left_out for *_, found in scored):
            lines.append(f"{count(left_out, 'sample')} without an answer left out")
    return "\n".join(lines)


def cells(folder: Path | None, benchmark: str) -> dict[str, Cell]:
    """Of one trial, for the table of methods, by column."""
    found = read_official(folder) if folder else None
    if found is None:
        return {}
    return {f"{benchmark} {name}": Cell(f"{value:.4g}", {"": value}) for name, value in metrics_of(found).items()}
