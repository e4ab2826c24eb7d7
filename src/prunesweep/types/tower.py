"""Merging inside a vision tower: what a layer leaves, and who chooses it; letters in shapes as in `types`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


class TowerTokens(NamedTuple):
    """Of t frames between layers of the vision tower, with a class token or without."""

    x: Float[Tensor, "t n v"]
    size: Float[Tensor, "t n"]
    """How many patches each stands for."""
    source: Int[Tensor, "t u"]
    """Which of the n each of those before the first merge went to."""


@runtime_checkable
class TowerMerger(Protocol):
    """Leaves fewer tokens after the attention of each layer of a vision tower, as `reducers.tome` does."""

    @property
    def proportional(self) -> bool:
        """Whether attention to a token counts as often as it stands for patches."""
        ...

    def schedule(self, layers: int, patches: int) -> list[int]:
        """How many fewer each layer leaves of a frame's patches."""
        ...

    def __call__(self, key: Float[Tensor, "t n d"], tokens: TowerTokens, fewer: int, class_token: bool) -> TowerTokens:
        """By the layer's keys, mean over heads."""
        ...

    def ordered(self, tokens: TowerTokens) -> TowerTokens:
        """As they leave the tower, without class token."""
        ...
