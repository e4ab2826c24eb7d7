"""What is to be evaluated: one setting of one method, built, by its name."""

from __future__ import annotations

from dataclasses import dataclass

from prunesweep.engine.protocol import Protocol
from prunesweep.reducers import Reducer


@dataclass(frozen=True)
class Candidate:
    """One configuration on its way to evaluation; what becomes of it is a trial (`results.records.Trial`)."""

    name: str
    """Unique within what is evaluated together."""
    reducer: Reducer
    frames: int
    protocol: Protocol
