"""How far an evaluation is that runs, or was killed: from its note and the records in its store."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prunesweep.analysis.accuracy import Accuracy, accuracy
from prunesweep.analysis.axis import BASELINE
from prunesweep.analysis.wording import accuracy_text
from prunesweep.console.terminal import table
from prunesweep.results.infeasible import infeasible_folders
from prunesweep.results.pending import Pending, read_searching
from prunesweep.results.records import trial_folders
from prunesweep.results.store import Store

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Progress:
    """How far one trial is."""

    name: str
    records: int
    errors: int
    accuracy: Accuracy
    """Of the questions so far: those of some videos, so not yet of the benchmark."""


def progress(pending: Pending) -> list[Progress]:
    """Of each trial, from the records in the store.  Raises ValueError if the store is gone."""
    import polars as pl

    asked = pl.col("sample_key").is_in(list(pending.samples))
    names: dict[str, list[str]] = {}
    for name, key in pending.trials.items():
        names.setdefault(key, []).append(name)
    found = {
        name: _progress(name, rows.filter(asked))
        for key, rows in Store.existing(Path(pending.store)).each(names)
        for name in names[key]
    }
    return [found[name] for name in pending.trials]


def _progress(name: str, records: pl.DataFrame) -> Progress:
    return Progress(name, len(records), records["error"].count(), accuracy(records))


def lines(pending: Pending) -> list[str]:
    """What is there, as text: one line, then a table of the trials that have records.

    Raises ValueError if the store is gone.
    """
    found = progress(pending)
    whole, made = len(found) * len(pending.samples), sum(one.records for one in found)
    each = f"{len(pending.samples):,}"
    rows = [
        (one.name, f"{one.records:,} of {each}", str(one.errors), accuracy_text(*one.accuracy)) for one in found if one.records
    ]
    last = "" if pending.here else _last_written(Path(pending.store))
    said = f"{made:,} of {whole:,} records, {pending.state}{last}"
    return [said, *(table(("trial", "records", "errors", "accuracy ± SE so far"), rows).splitlines() if rows else [])]


def search_lines(folder: Path) -> list[str]:
    """How many trials a search has of those that it is to have, in a line; none of a folder without one, or of a whole one.

    Of several workers those that run count.
    """
    notes = read_searching(folder)
    notes = [note for note in notes if note.running] or notes
    had = [*trial_folders(folder), *(path for path, _ in infeasible_folders(folder))]
    own = sum(not path.name.startswith(BASELINE) for path in had)
    return list(dict.fromkeys(f"search: {own:,} of {note.trials:,} trials, {note.state}" for note in notes))


def _last_written(store: Path) -> str:
    ages = [time.time() - path.stat().st_mtime for path in Store.existing(store).folder.glob("**/*.parquet")]
    return f"; the store was last written to {min(ages):,.0f} s ago" if ages else ""
