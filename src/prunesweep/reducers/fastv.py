"""FastV: An Image is Worth 1/2 Tokens After Layer 2.

https://arxiv.org/abs/2403.06764 (ECCV 2024).  After K layers the visual tokens that received the least attention in the
last of them go; positions stay.  The first K layers keep the others in their caches, so generated tokens see the whole
video there, as in the released version with caches.  The paper ranks by the attention a token receives on average, the
released code by the last prompt token's row alone; rows of the question are what we have, so `question` is the nearest
reading of the paper here: tokens that come before the question are not asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from prunesweep.checks import require_at_least, require_choice, require_ratio
from prunesweep.reducers import EarlierCaches, Left
from prunesweep.shares import nearest_share
from prunesweep.types import Prefix

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

Rows = Literal["last", "question"]
"""Whose attention counts: the prompt's last token (released code), or the mean over the question's tokens."""


@dataclass(frozen=True)
class Prune:
    """Keep round(keep_ratio n) of the n visual tokens, at least one, by attention averaged over heads."""

    layer: int = 2
    """K: this many layers see all tokens."""
    keep_ratio: float = 0.5
    """One minus the paper's R."""
    rows: Rows = "last"
    earlier_caches: EarlierCaches = "whole"
    attention = "causal"

    def __post_init__(self) -> None:
        require_at_least("layer", self.layer, 1)
        require_ratio("keep_ratio", self.keep_ratio)
        require_choice("rows", self.rows, Rows)
        require_choice("earlier_caches", self.earlier_caches, EarlierCaches)

    @property
    def full_layers(self) -> int:
        return self.layer

    def left(self, entering: Left) -> int:
        return max(1, nearest_share(entering.tokens, self.keep_ratio))

    def __call__(self, prefix: Prefix) -> Int[Tensor, " kept"]:
        if prefix.attention is None:
            raise ValueError("attention selection needs a prefix whose question was asked with attention")
        rows = prefix.attention[:, -1:] if self.rows == "last" else prefix.attention
        importance = rows.mean(dim=(0, 1))
        budget = self.left(Left(len(importance)))
        return importance.sort(descending=True, stable=True).indices[:budget].sort().values
