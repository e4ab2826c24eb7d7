"""Bounds of settings: each check raises ValueError with the setting, the bound and the value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

RANK_SETTINGS = ("trainer.strategy", "trainer.num_nodes")
"""Lightning's, which are none of ours."""
RANKS_ARE_SPAWNED = f"{' and '.join(RANK_SETTINGS)} are not settings: ranks are spawned; see docs/scaling.md"

MARGIN = 0.01
"""A loss of accuracy that is accepted unless told otherwise: a point, what methods are published to win or lose by."""


class EvaluationError(Exception):
    """An evaluation cannot go on for a reason outside its settings; the message says which, and what is kept."""


class InfeasibleError(ValueError):
    """A trial that this model or benchmark does not allow; others of its sweep may run."""


class UnfitError(Exception):
    """Some trials of a batch cannot be run on its model: the reason of each, by its name."""

    def __init__(self, reasons: Mapping[str, str]):
        super().__init__("; ".join(f"{name}: {reason}" for name, reason in reasons.items()))
        self.reasons = dict(reasons)


def require_number(name: str, value: object) -> None:
    """Raises ValueError unless value is a number; configurations hand over whatever was typed."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} must be a number, got {value!r}")


def require_ratio(name: str, value: float) -> None:
    """Raises ValueError unless 0 < value <= 1."""
    require_number(name, value)
    if not 0 < value <= 1:
        raise ValueError(f"{name} must be in (0, 1], got {value:g}")


def require_share(name: str, value: float) -> None:
    """Raises ValueError unless 0 <= value <= 1."""
    require_number(name, value)
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value:g}")


def require_at_least(name: str, value: int, bound: int) -> None:
    """Raises ValueError unless value is a whole number of at least the bound."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if value < bound:
        raise ValueError(f"{name} must be at least {bound}, got {value}")


def require_seconds(name: str, value: float) -> None:
    """Raises ValueError unless value is a length of time above 0."""
    require_number(name, value)
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} must be above 0 and not infinite, got {value:g}")


def require_choice(name: str, value: str, choices: object) -> None:
    """Raises ValueError unless value is one of a Literal's values."""
    known = get_args(choices)
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def require_flag(name: str, value: object) -> None:
    """Raises ValueError unless value is true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")
