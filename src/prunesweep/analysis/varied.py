"""The settings that tell a sweep's trials apart: a column for each in its tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import yaml

from prunesweep.analysis.summary import Summary
from prunesweep.console.layout import visible
from prunesweep.results.read import number, settings

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from prunesweep.results.infeasible import Infeasible
    from prunesweep.results.records import TrialInfo

REDUCER = "reducer."
IGNORED = ("_target_", f"{REDUCER}name", f"{REDUCER}knob")
"""Ends of settings that say how a trial is built or called."""
IGNORED_SECTIONS = ("matched.",)
"""What was solved for, not set."""
OWN = {"#", *(field.name for field in fields(Summary))}
"""Columns that a table has anyway."""


def varied(trials: Sequence[tuple[Path, TrialInfo]], failed: Sequence[tuple[Path, Infeasible]] = ()) -> dict[str, dict[str, Any]]:
    """Of each trial, by its number, the settings that vary: by their keys, of a reducer's without `reducer.`.

    A setting varies if trials of one reducer, model and benchmark differ in it, or if it was given for some trials and not for
    all.  A trial that has no such setting lacks the key.  Of one that could not be run only what was given is known.
    """
    own = {number(folder): _all(info) for folder, info in trials}
    own |= {number(folder): _given(one) for folder, one in failed}
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for folder, info in trials:
        groups.setdefault((info.reducer, info.model, info.benchmark), []).append(own[number(folder)])
    keys = dict.fromkeys(key for group in groups.values() for key in _differing(group))
    keys |= dict.fromkeys(_differing(list(own.values()), ("model", "benchmark")))
    keys |= dict.fromkeys(_given_for_some([info.overrides for _, info in trials] + [one.overrides for _, one in failed]))
    known = [key for key in keys if any(one.get(key) is not None for one in own.values())]
    names = {key: _column(key, known) for key in known}
    return {name: {names[key]: one[key] for key in known if key in one} for name, one in own.items()}


def _all(info: TrialInfo) -> dict[str, Any]:
    flat = {"model": info.model, "benchmark": info.benchmark, **settings(info)}
    return {key: value for key, value in flat.items() if not key.endswith(IGNORED) and not key.startswith(IGNORED_SECTIONS)}


def _given(one: Infeasible) -> dict[str, Any]:
    pairs = (text.lstrip("+").partition("=") for text in one.overrides)
    given = {key: _plain(value) for key, _, value in pairs if "." in key}
    return {"model": one.model, "benchmark": one.benchmark, **given}


def _plain(value: str) -> Any:
    """Of an override, near enough for a table."""
    if value.startswith(("{", "[")):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value


def _differing(group: Sequence[Mapping[str, Any]], among: Sequence[str] = ()) -> list[str]:
    keys = among or list(dict.fromkeys(key for one in group for key in one))
    return [key for key in keys if len({str(one.get(key)) for one in group}) > 1]


def _given_for_some(overrides: Sequence[Sequence[str]]) -> list[str]:
    """The keys of settings in overrides that not all trials were given."""
    shared = frozenset.intersection(*map(frozenset, overrides)) if overrides else frozenset()
    keys = dict.fromkeys(one.lstrip("+").partition("=")[0] for own in overrides for one in own if one not in shared)
    return [key for key in keys if key.startswith((REDUCER, "video.", "protocol.")) and not key.endswith(IGNORED)]


def _column(key: str, others: Sequence[str]) -> str:
    """Without `reducer.`, unless another column is called so."""
    name, key = visible(key.removeprefix(REDUCER)), visible(key)
    return key if name in OWN or (name != key and name in others) else name


def series(name: str, values: Sequence[Any]) -> pl.Series:
    """A column of a setting: numbers if all are, words otherwise; None where a trial has no such setting, or switched it off."""
    import polars as pl

    known = [value for value in values if value is not None]
    if all(isinstance(value, bool) for value in known):
        return pl.Series(name, values, dtype=pl.Boolean)
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in known):
        return pl.Series(name, [None if value is None else text(value) for value in values], dtype=pl.String)
    return pl.Series(name, values, dtype=pl.Int64 if all(isinstance(value, int) for value in known) else pl.Float64, strict=False)


def text(value: Any) -> str:
    """As in an override: `true`, `null`, `0.25`, `[1, 2]`."""
    return visible(value) if isinstance(value, str) else json.dumps(value)
