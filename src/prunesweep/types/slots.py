"""Where a stock forward puts a video's tokens, and what it gives its layers of them; letters in shapes as in `types`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunesweep.lazy import torch

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


@dataclass(frozen=True)
class Given:
    """What a stock forward gives its layers of s tokens besides hidden states and positions."""

    added: Float[Tensor, "l s c"] | None = None
    """To the hidden states after each of the first l layers (deep-stack)."""
    joined: Bool[Tensor, " s"] | None = None
    """Tokens that see each other whatever their order; all others see those before them only."""

    def at(self, index: Int[Tensor, " kept"]) -> Given:
        return self._each(lambda x: x.index_select(-1, index), lambda x: x.index_select(1, index))

    def put(self, at: int, count: int) -> Given:
        """With so many tokens before the one at that place, of which nothing is given."""
        return self._each(lambda x: _put(x, 0, at, count), lambda x: _put(x, 1, at, count))

    def _each(self, joined: Callable[[Tensor], Tensor], added: Callable[[Tensor], Tensor]) -> Given:
        return Given(
            None if self.added is None else added(self.added),
            None if self.joined is None else joined(self.joined),
        )


def _put(x: Tensor, axis: int, at: int, count: int) -> Tensor:
    """With zeros."""
    nothing = x.new_zeros((*x.shape[:axis], count, *x.shape[axis + 1 :]))
    return torch.cat([x.narrow(axis, 0, at), nothing, x.narrow(axis, at, x.shape[axis] - at)], dim=axis)


@dataclass(frozen=True)
class Slots:
    """Where a stock model puts a video's tokens, of which b stand from the first to the last, text and marks among them."""

    visual: Bool[Tensor, " b"]
    """The visual tokens, in the order of `Tokens.x`."""
    text: Float[Tensor, "m c"]
    """The others, embedded: never reduced."""
    position: Int[Tensor, " b *axes"]
    """Counted from the first."""
    span: int
    """Where text goes on after them."""
    added: Float[Tensor, "l b c"] | None = None
    joined: Bool[Tensor, " b"] | None = None
    """As in `Given`."""
