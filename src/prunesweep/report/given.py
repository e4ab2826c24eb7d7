"""Presets that trials of a sweep were made with: what `prunesweep tune` said when it chose them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from prunesweep.foreign import read_yaml
from prunesweep.results.records import PRESETS, TrialInfo

KEY = "prunesweep_preset"
"""By which a file says that it is one: see `use.preset`, whose files these are."""
BESIDE = "preset.yaml"
"""As tuning calls it, beside the two sweeps that it ran."""


class Given(NamedTuple):
    """What a preset says, and of what."""

    model: str
    overrides: frozenset[str]
    statement: str


def presets(sweep: Path) -> list[Given]:
    """Those that lie in a sweep's folder, and the one that a sweep of tuning led to; files that cannot be read are none."""
    files = [*sorted((sweep / PRESETS).glob("*.yaml")), sweep / BESIDE, sweep.resolve().parent / BESIDE]
    return list(_read(file for file in files if file.is_file()))


def _read(files: Iterator[Path]) -> Iterator[Given]:
    for file in files:
        try:
            found = read_yaml(file)
            if isinstance(found, dict) and KEY in found:
                yield Given(str(found["model"]), frozenset(map(str, found["overrides"])), str(found["statement"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue


def statement_of(info: TrialInfo, known: Sequence[Given]) -> str | None:
    """Of the preset that a trial has all settings of, and no other of its method; None where there is none."""
    own = frozenset(one for one in info.overrides if one.startswith("reducer"))
    for one in known:
        method = frozenset(override for override in one.overrides if override.startswith("reducer"))
        if one.model == info.model and method == own and one.overrides <= frozenset(info.overrides):
            return one.statement
    return None
