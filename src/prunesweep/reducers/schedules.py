"""Settings that are lists: layers that rise, shares that fall, and layers as shares of a model's depth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from prunesweep.checks import require_at_least, require_number


def require_layers_rise(name: str, layers: Sequence[int] | None) -> None:
    """Raises ValueError unless there are whole numbers of at least 1, each above the one before; None is no setting."""
    for layer in layers or ():
        require_at_least(name, layer, 1)
    if layers is not None and (not layers or any(one >= other for one, other in pairwise(layers))):
        raise ValueError(f"{name} must rise from one to the next, got {list(layers)}")


def require_shares_fall(name: str, shares: Sequence[float] | None) -> None:
    """Raises ValueError unless there are numbers in (0, 1], none above the one before; None is no setting."""
    for share in shares or ():
        require_number(name, share)
    if shares is None:
        return
    if not shares or any(not 0 < share <= 1 for share in shares) or any(one < other for one, other in pairwise(shares)):
        raise ValueError(f"{name} must be in (0, 1] and fall from one to the next, got {list(shares)}")


def whole_numbers(depths: Iterable[float]) -> tuple[int, ...]:
    """The nearest layers, at least 1, each once."""
    return tuple(sorted({max(1, round(depth)) for depth in depths}))


def as_deep(layers: int, released: int, of: int) -> int:
    """The layer of a model of so many that is as deep as the released one in a model `of` so many; at least 1, not the last."""
    return min(max(1, round(layers * released / of)), max(1, layers - 1))
