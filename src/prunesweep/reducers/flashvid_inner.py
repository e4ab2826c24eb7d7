"""FlashVID's step inside the LLM (arXiv 2602.08024, ICLR 2026): the tokens go that the prompt's last token attends to least.

After 20 of 28 layers ceil(keep_ratio n) stay, of the product in double precision; with 0.3 and a quarter more at the entrance
than asked for, the mean over the layers is what was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunesweep.checks import require_choice, require_ratio
from prunesweep.reducers import EarlierCaches, Left
from prunesweep.reducers.schedules import AsDeep
from prunesweep.reducers.similarity import best
from prunesweep.shares import rounded_share
from prunesweep.types import Prefix

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor


@dataclass(frozen=True)
class Prune(AsDeep):
    """Keep the visual tokens that are attended to most."""

    released = (20, 28)
    keep_ratio: float = 0.3
    earlier_caches: EarlierCaches = "whole"
    attention = "causal"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_ratio("keep_ratio", self.keep_ratio)
        require_choice("earlier_caches", self.earlier_caches, EarlierCaches)

    def left(self, entering: Left) -> int:
        return min(entering.tokens, rounded_share(entering.tokens, self.keep_ratio, "binary ceil"))

    def __call__(self, prefix: Prefix) -> Int[Tensor, " kept"]:
        if prefix.attention is None:
            raise ValueError("attention selection needs a prefix whose question was asked with attention")
        importance = prefix.attention[:, -1].mean(0)
        return best(importance, self.left(Left(len(importance)))).nonzero()[:, 0]
