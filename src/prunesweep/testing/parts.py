"""Laws of settings, whatever a part does with them."""

from __future__ import annotations

import copy
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

from prunesweep.reducers import SLOTS, Reducer, bounds_of, called
from prunesweep.testing.law import Law, require


def part_laws(reducer: Reducer) -> list[Law]:
    parts = {slot: getattr(reducer, slot) for slot in SLOTS if getattr(reducer, slot) is not None}
    found = [Law(f"{slot}: its settings make a key", partial(makes_key, part)) for slot, part in parts.items()]
    if reducer.knob is not None:
        found.append(Law("knob: it is a setting that can be solved for", lambda: solvable(reducer)))
    return found


def makes_key(part: Any) -> None:
    """Trials share a stage where its settings are equal, so these have to be values that stay as they are."""
    frozen = is_dataclass(part) and getattr(part, "__dataclass_params__").frozen  # noqa: B009
    require(frozen, lambda: f"{called(part)} must be a frozen dataclass, whose equality says what trials share")
    for field in fields(part):
        value = getattr(part, field.name)
        require(
            type(value).__hash__ is not None,
            lambda: (
                f"{called(part)}.{field.name} is a {type(value).__name__}, which cannot be in a key; "
                "make a tuple of it in __post_init__, as YAML has lists"
            ),
        )
    other = copy.deepcopy(part)
    require(
        part == other and hash(part) == hash(other), lambda: f"{called(part)}: a copy is not equal; let the dataclass compare"
    )


def solvable(reducer: Reducer) -> None:
    """By `reducer.match`: a share, a number with bounds, a layer, or a part that has candidates."""
    slot, _, name = (reducer.knob or "").partition(".")
    part = getattr(reducer, slot, None) if slot in SLOTS else None
    require(part is not None, lambda: f"knob={reducer.knob} must begin with a part that {reducer.name} has")
    if not name:
        require(
            hasattr(part, "candidates"),
            lambda: f"knob={reducer.knob} needs {called(part)}.candidates(tokens), or a setting's name",
        )
        return
    require(hasattr(part, name), lambda: f"knob={reducer.knob}: {called(part)} has no setting {name}")
    value = getattr(part, name)
    whole = isinstance(value, int) and not isinstance(value, bool)
    require(
        not whole or name == "layer" or name in bounds_of(part),
        lambda: f"knob={reducer.knob} is a whole number; say between which it is solved for: knob_bounds = {{{name!r}: (1, 16)}}",
    )
