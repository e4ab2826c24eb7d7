"""FlashVID's step inside the LLM (arXiv 2602.08024, ICLR 2026): the tokens go that the prompt's last token attends to least.

After 20 of 28 layers ceil(keep_ratio n) stay, of the product in double precision; with 0.3 and a quarter more at the entrance
than asked for, the mean over the layers is what was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prunesweep.checks import require_at_least, require_choice, require_ratio
from prunesweep.reducers import EarlierCaches, Left
from prunesweep.reducers.schedules import as_deep
from prunesweep.reducers.similarity import best
from prunesweep.shares import rounded_share
from prunesweep.types import Prefix

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

RELEASED = (20, 28)
"""Layers that have run, of how many."""


@dataclass(frozen=True)
class Prune:
    """Keep the visual tokens that are attended to most."""

    layer: int | None = None
    """None: as deep as released, 20 of 28 layers."""
    keep_ratio: float = 0.3
    earlier_caches: EarlierCaches = "whole"
    attention = "causal"

    def __post_init__(self) -> None:
        if self.layer is not None:
            require_at_least("layer", self.layer, 1)
        require_ratio("keep_ratio", self.keep_ratio)
        require_choice("earlier_caches", self.earlier_caches, EarlierCaches)

    @property
    def full_layers(self) -> int:
        if self.layer is None:
            raise ValueError("how deep is known with the model; ask its steps")
        return self.layer

    def steps(self, layers: int) -> tuple[Prune, ...]:
        return (self if self.layer is not None else replace(self, layer=as_deep(layers, *RELEASED)),)

    def left(self, entering: Left) -> int:
        return min(entering.tokens, rounded_share(entering.tokens, self.keep_ratio, "binary ceil"))

    def __call__(self, prefix: Prefix) -> Int[Tensor, " kept"]:
        if prefix.attention is None:
            raise ValueError("attention selection needs a prefix whose question was asked with attention")
        importance = prefix.attention[:, -1].mean(0)
        return best(importance, self.left(Left(len(importance)))).nonzero()[:, 0]
