"""Token reduction methods.  A method is one file here and one YAML in `conf/reducer/`.

A reducer has two slots, either may be empty: `merge` turns the visual tokens of a video into fewer before they enter the
LLM, `prune` picks the visual tokens that survive a decoder layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args, runtime_checkable

from jaxtyping import Int
from torch import Tensor

from prunesweep.types import Merged, Prefix, Tokens


@runtime_checkable
class Merger(Protocol):
    """A frozen dataclass that maps Tokens to Merged."""

    def __call__(self, tokens: Tokens) -> Merged: ...


@runtime_checkable
class Pruner(Protocol):
    """A frozen dataclass that picks visual tokens after `layer` layers have run."""

    layer: int
    keep_ratio: float
    reads_attention: bool

    def __call__(self, prefix: Prefix) -> Int[Tensor, " kept"]:
        """Indices into the visual tokens, sorted, each once."""
        ...


@dataclass(frozen=True)
class Reducer:
    """A token reduction method with its settings; both slots empty is the dense model."""

    name: str
    merge: Merger | None = None
    prune: Pruner | None = None


def require_number(name: str, value: object) -> None:
    """Raises ValueError unless value is a number; configurations hand over whatever was typed."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name} must be a number, got {value!r}")


def require_ratio(name: str, value: float) -> None:
    """Raises ValueError unless 0 < value <= 1."""
    require_number(name, value)
    if not 0 < value <= 1:
        raise ValueError(f"{name} must be in (0, 1], got {value:g}")


def require_at_least(name: str, value: int, bound: int) -> None:
    """Raises ValueError unless value is a whole number of at least the bound."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    if value < bound:
        raise ValueError(f"{name} must be at least {bound}, got {value}")


def require_choice(name: str, value: str, choices: object) -> None:
    """Raises ValueError unless value is one of a Literal's values."""
    known = get_args(choices)
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")


Positions = Literal["renumbered", "original"]
"""Positions of reduced visual tokens: counted anew without gaps, or as before the reduction."""
