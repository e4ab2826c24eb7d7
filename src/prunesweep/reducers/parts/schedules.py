"""Settings that are lists: layers that rise, shares that fall, and layers as shares of a model's depth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Self

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


@dataclass(frozen=True)
class AsDeep:
    """A step that stands as deep in any model as in the one that it was released for, unless told where."""

    layer: int | None = None
    """Layers that have run; None: as deep as released."""
    released: ClassVar[tuple[int, int]]
    """Layers that have run there, of how many."""

    def __post_init__(self) -> None:
        if self.layer is not None:
            require_at_least("layer", self.layer, 1)

    @property
    def full_layers(self) -> int:
        """Raises ValueError before the model is known."""
        if self.layer is None:
            raise ValueError("how deep it stands is known with the model; ask its steps")
        return self.layer

    def steps(self, layers: int) -> tuple[Self, ...]:
        if self.layer is not None:
            return (self,)
        there, of = self.released
        return (replace(self, layer=min(max(1, round(layers * there / of)), max(1, layers - 1))),)
