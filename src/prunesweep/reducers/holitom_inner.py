"""HoliTom's step inside the LLM (arXiv 2505.21334, NeurIPS 2025): tokens that go are folded into those that stay.

After `layer` layers the visual tokens that the prompt's last token attends to least go.  Each of them is averaged into the
kept token whose hidden state is most similar, one after the other in their order, so that later ones weigh more, as released.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from prunesweep.checks import require_choice, require_number
from prunesweep.lazy import F, torch
from prunesweep.reducers import Change, EarlierCaches, Left
from prunesweep.reducers.schedules import AsDeep
from prunesweep.types import Prefix

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

Folding = Literal["running_average", "mean", "none"]
"""What becomes of a kept token: the average of itself and each token that goes to it, in turn (released); their mean; itself."""


@dataclass(frozen=True)
class Fold(AsDeep):
    """Keep round(n (1 - drop_ratio)) of n visual tokens, at least one."""

    released = (18, 28)
    drop_ratio: float = 0.5
    fold: Folding = "running_average"
    earlier_caches: EarlierCaches = "whole"
    attention = "causal"
    knob_bounds: ClassVar = {"drop_ratio": (0.0, 1 - 2.0**-12)}

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("drop_ratio", self.drop_ratio)
        if not 0 <= self.drop_ratio < 1:
            raise ValueError(f"drop_ratio must be in [0, 1), got {self.drop_ratio:g}")
        require_choice("fold", self.fold, Folding)
        require_choice("earlier_caches", self.earlier_caches, EarlierCaches)

    def left(self, entering: Left) -> int:
        return max(1, round(entering.tokens * (1 - self.drop_ratio)))

    def __call__(self, prefix: Prefix) -> Change:
        if prefix.attention is None:
            raise ValueError("attention selection needs a prefix whose question was asked with attention")
        importance = prefix.attention[:, -1].mean(0)
        order = importance.sort(descending=True, stable=True).indices
        budget = self.left(Left(len(importance)))
        best, gone = order[:budget], order[budget:].sort().values
        kept = best.sort().values
        hidden = prefix.hidden[prefix.visual]
        if self.fold == "none" or not len(gone):
            return Change(kept)
        likeness = F.normalize(hidden[gone].float(), dim=-1) @ F.normalize(hidden[best].float(), dim=-1).T
        target = best[likeness.argmax(1)]  # of equal ones that with more attention
        rank = torch.searchsorted(kept, target)
        flops = 2 * len(gone) * budget * hidden.shape[1]
        return Change(kept, hidden=folded(hidden[kept], hidden[gone], rank, self.fold), flops=flops)


def folded(
    kept: Float[Tensor, "k c"], gone: Float[Tensor, "m c"], target: Int[Tensor, " m"], fold: Folding
) -> Float[Tensor, "k c"]:
    """Kept tokens with those that go to them.  A running average is a weighted sum: half for the last to come, a quarter for the
    one before, and so on; what was there has as much as the first.
    """
    there = target[:, None] == torch.arange(len(kept), device=kept.device)
    count = there.sum(0)
    if fold == "mean":
        return ((kept.float() + there.T.float() @ gone.float()) / (1 + count)[:, None]).to(kept.dtype)
    after = there.flip(0).cumsum(0).flip(0)  # how many come to a token from this one on
    weight = torch.where(there, 0.5 ** after.double(), 0.0)
    return (0.5 ** count.double()[:, None] * kept.double() + weight.T @ gone.double()).to(kept.dtype)
