"""What the report shows of settings: their effects, pairs of them, and lines through them; as plain values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from prunesweep.analysis.ablation import Ablation, Estimate, Importance, Interaction, MainEffect
from prunesweep.analysis.outcomes import Outcomes
from prunesweep.report.figures import Coordinates
from prunesweep.report.redact import public
from prunesweep.report.verdict import LEVEL
from prunesweep.results.read import short


def ablation_data(one: Ablation, importances: Sequence[Importance]) -> dict[str, Any]:
    """Effects by importance where that can be told, by their range otherwise."""
    names = short([effect.factor for effect in one.main])
    told = next((found for found in importances if found.reducer == one.reducer), None)
    shares = told.shares if told else {}
    ordered = sorted(one.main, key=lambda effect: (-shares.get(effect.factor, -1.0), -effect.range))
    return {
        "reducer": one.reducer,
        "trials": one.trials,
        "samples": one.samples,
        "videos": one.videos,
        "importance": told.trials if told else 0,
        "main": [_main(effect, names, shares.get(effect.factor)) for effect in ordered],
        "joint": [_joint(pair, names) for pair in sorted(one.interactions, key=_by_p)],
    }


def _by_p(pair: Interaction) -> tuple[bool, float]:
    """Those that cannot be tested last."""
    return math.isnan(pair.adjusted), pair.adjusted


def _estimate(estimate: Estimate) -> dict[str, float]:
    return {"accuracy": estimate.value, "low": estimate.low, "high": estimate.high}


def _value(value: Any) -> str:
    return "off" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _main(effect: MainEffect, names: dict[str, str], share: float | None) -> dict[str, Any]:
    levels = [{"value": public(_value(level.value)), **_estimate(level.accuracy)} for level in effect.levels]
    return {
        "name": names[effect.factor],
        "levels": levels,
        "range": effect.range,
        "p": effect.adjusted,
        "share": share,
        "significant": effect.adjusted <= LEVEL,
    }


def _joint(pair: Interaction, names: dict[str, str]) -> dict[str, Any]:
    first, second = (list(dict.fromkeys(_value(cell[i]) for cell in ((c.first, c.second) for c in pair.cells))) for i in (0, 1))
    cells = [
        {"first": _value(cell.first), "second": _value(cell.second), "trials": cell.trials, **_estimate(cell.accuracy)}
        for cell in pair.cells
    ]
    return {
        "names": [names[f] for f in pair.factors],
        "first": first,
        "second": second,
        "cells": cells,
        "p": pair.adjusted,
        "significant": pair.adjusted <= LEVEL,
    }


MOST_LINES = 300
"""Of more trials, the most accurate ones are drawn."""


def parallel_data(one: Coordinates, outcomes: Outcomes) -> dict[str, Any]:
    axes = [{"name": axis.name, "ticks": [(place, public(text)) for place, text in axis.ticks]} for axis in one.axes]
    index = {name: i for i, name in enumerate(outcomes.names)}
    best = sorted(range(len(one.lines)), key=lambda i: -one.accuracy[i])[:MOST_LINES]
    return {
        "reducer": one.reducer,
        "axes": axes,
        "lines": [one.lines[i] for i in best],
        "trials": [index[one.names[i]] for i in best],
        "left": len(one.lines) - len(best),
    }
