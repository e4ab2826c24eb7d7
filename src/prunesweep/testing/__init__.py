"""The laws that every method is held to, for your own as well, wherever it lies:

    import pytest
    from prunesweep.testing import laws_of

    @pytest.mark.parametrize("law", laws_of(MyMethod()), ids=str)
    def test_my_method(law):
        law()

Each law tries the method with each of its switches turned and its knob from end to end, on made-up videos or in a small random
LLM, and raises AssertionError in one line.  `docs/adding.md` has the way there.
"""

from __future__ import annotations

from typing import Any

from prunesweep.reducers import Reducer
from prunesweep.testing.caches import cache_laws
from prunesweep.testing.inner import step_laws
from prunesweep.testing.law import Law
from prunesweep.testing.merging import merger_laws
from prunesweep.testing.parts import part_laws
from prunesweep.testing.tower import tower_laws
from prunesweep.types.tower import TowerMerger

__all__ = ["Law", "check", "laws_of"]


def laws_of(method: Any, knob: str | None = None) -> list[Law]:
    """The laws of all parts of a reducer; or of one part: a merger, before the LLM or in the tower, or something inside the LLM.

    `knob` names the setting of a part that says how much stays, such as `keep_ratio`.
    """
    reducer = as_reducer(method, knob)
    before = merger_laws(reducer) if reducer.merge is not None else []
    return [*part_laws(reducer), *tower_laws(reducer), *before, *step_laws(reducer), *cache_laws(reducer)]


def as_reducer(method: Any, knob: str | None = None) -> Reducer:
    """A part is told by what it has: a place in the LLM, or none."""
    if isinstance(method, Reducer):
        return method
    slot = "prune" if hasattr(method, "steps") or hasattr(method, "full_layers") else "merge"
    slot = "input" if isinstance(method, TowerMerger) else slot
    return Reducer(type(method).__name__, **{slot: method}, knob=None if knob is None else f"{slot}.{knob}")


def check(method: Any, knob: str | None = None) -> int:
    """Goes through all laws, and says how many there were.  Raises AssertionError for the first that does not hold."""
    laws = laws_of(method, knob)
    for law in laws:
        law()
    return len(laws)
