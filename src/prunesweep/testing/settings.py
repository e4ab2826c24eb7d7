"""Which settings of a method are tried: as given, each switch turned, what may be None left out, and its knob from end to end."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import Field, fields, is_dataclass, replace
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from prunesweep.reducers import Reducer, bounds_of
from prunesweep.types import Tokens

SHARES = (2.0**-12, 1.0)
PLACES = (0.0, 0.06, 0.1, 0.29, 0.35, 0.5, 0.57, 0.7, 0.93, 1.0)
"""Of a number between its bounds."""
MOST_CANDIDATES = 8
APART = ("positions", "earlier_caches")
"""Switches that have laws of their own."""


def switched(part: Any, but: Iterable[str] = APART) -> dict[str, Any]:
    """A part by what is changed in it: nothing, or one of its settings of few values; those that it refuses are left out."""
    found = {"as given": part}
    for field in fields(part) if is_dataclass(part) else ():
        if field.name in but or not field.init:
            continue
        for choice in choices_of(part, field):
            if choice != getattr(part, field.name):
                add(found, f"{field.name}={choice}", part, {field.name: choice})
    return found


def add(found: dict[str, Any], name: str, part: Any, changes: dict[str, Any]) -> None:
    """A part with changes, unless it says that these do not go together."""
    try:
        found[name] = replace(part, **changes)
    except ValueError:
        return


def choices_of(part: Any, field: Field[Any]) -> tuple[Any, ...]:
    """The values of a setting that is one of few words, or true or false; None of one that may be left out; nothing of others."""
    kind: Any = field.type
    if isinstance(kind, str):
        try:
            kind = eval(kind, vars(sys.modules[type(part).__module__]))
        except NameError:  # a name for type checkers alone
            return ()
    if kind is bool:
        return (False, True)
    if get_origin(kind) is Literal:
        return get_args(kind)
    return (None,) if NoneType in get_args(kind) else ()


def knob_of(reducer: Reducer, slot: str) -> str:
    """The name of the free setting within a part: empty where the part itself is free, or where another part's is."""
    first, _, name = (reducer.knob or "").partition(".")
    return name if first == slot else ""


def turned(reducer: Reducer, slot: str, tokens: Tokens | None = None) -> dict[Any, Any]:
    """A part by the values of its knob, from one end to the other: of a layer's number and of a knob elsewhere none."""
    part, name = getattr(reducer, slot), knob_of(reducer, slot)
    if reducer.knob == slot and tokens is not None:
        every = list(part.candidates(tokens))
        return dict(enumerate(every[:: max(1, len(every) // MOST_CANDIDATES)]))
    value = getattr(part, name, None) if name else None
    if name == "layer" or isinstance(value, bool) or not isinstance(value, (int, float)):
        return {}
    whole = isinstance(value, int) and name in bounds_of(part)
    if isinstance(value, int) and not whole:
        return {}
    low, high = bounds_of(part).get(name, SHARES)
    values = {low + (high - low) * place for place in PLACES}
    wanted = sorted({round(value) for value in values}) if whole else sorted(round(value, 12) for value in values)
    return {value: replace(part, **{name: value}) for value in wanted}
