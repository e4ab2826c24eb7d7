"""Trials that could not be run while others of their sweep were: what they were, and why.

A folder of such a trial has `infeasible.json` instead of records, so that whatever reads records does not meet it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from prunesweep.console.layout import visible
from prunesweep.disk.files import replace_file
from prunesweep.disk.foreign import read_json
from prunesweep.results.records import RECORDS, TRIAL, folders_with

INFEASIBLE = "infeasible.json"


@dataclass(frozen=True)
class Infeasible:
    """A trial that cannot be run on this model and benchmark."""

    name: str
    reducer: str
    model: str
    benchmark: str
    overrides: tuple[str, ...]
    reason: str

    @property
    def line(self) -> str:
        return f"{self.name}: {self.reason}"


def write_infeasible(folder: Path, found: Infeasible) -> None:
    """In place of the records of an earlier run, if the folder has some."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (RECORDS, TRIAL):
        (folder / name).unlink(missing_ok=True)
    replace_file(folder / INFEASIBLE, json.dumps(asdict(found), indent=1).encode())


def read_infeasible(folder: Path) -> Infeasible | None:
    """Of one trial's folder; None if it is not infeasible.  Raises ValueError for a damaged file."""
    path = folder / INFEASIBLE
    if not path.is_file() or (folder / RECORDS).exists():
        return None
    raw = read_json(path)
    try:
        texts = {name: visible(str(raw[name])) for name in ("name", "reducer", "model", "benchmark", "reason")}
        return Infeasible(**{**raw, **texts, "overrides": tuple(visible(str(one)) for one in raw["overrides"])})
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it and run the sweep again") from error


def all_infeasible(sweep: Path) -> list[Infeasible]:
    """Below a sweep's folder, in the order of their folders' numbers."""
    return [one for _, one in infeasible_folders(sweep)]


def infeasible_folders(sweep: Path) -> list[tuple[Path, Infeasible]]:
    """The same, with the folder of each."""
    return [(folder, one) for folder in folders_with(sweep, INFEASIBLE) if (one := read_infeasible(folder))]


def lines(found: Sequence[Infeasible], run: int) -> list[str]:
    """What the terminal and the report say; none where every trial was run."""
    if not found:
        return []
    return [f"{len(found)} of {len(found) + run} trials could not be run:", *(f"  {one.line}" for one in found)]
