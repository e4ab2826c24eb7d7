"""What one layer of the LLM remembers of the tokens that went through it; letters in shapes as in `types`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


class KeyValue(NamedTuple):
    """One layer's cache, keys as rotated."""

    key: Float[Tensor, "1 k s d"]
    value: Float[Tensor, "1 k s d"]

    @property
    def tokens(self) -> int:
        return self.key.shape[2]

    def at(self, kept: Int[Tensor, " kept"]) -> KeyValue:
        """Of some of the tokens."""
        return KeyValue(self.key.index_select(2, kept), self.value.index_select(2, kept))


class Recurrent(NamedTuple):
    """What one layer of linear attention remembers of all tokens that went through it, be they dropped later or not."""

    inputs: Float[Tensor, "1 d w"]
    """Of its convolution: the last w."""
    state: Float[Tensor, "1 h k v"]

    def at(self, kept: Int[Tensor, " kept"]) -> Recurrent:
        """Itself: what was read cannot be taken out again."""
        return self


Memory = KeyValue | Recurrent
"""Of one layer."""
