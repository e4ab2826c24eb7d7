"""DivPrune: Diversity-based Visual Token Pruning, https://arxiv.org/abs/2503.02175 (CVPR 2025).  Written from a description.

Picks tokens that lie far apart: first the one whose nearest neighbour is farthest, then always the one farthest from all
picked ones, by 1 - cosine.  The release prunes an image; here a video at once, or each frame by itself.  It may pick a token
again where too few tokens differ; here every token is picked once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from prunesweep.checks import require_choice, require_ratio
from prunesweep.lazy import F, torch
from prunesweep.reducers import Left, Positions, keep_tokens
from prunesweep.reducers.parts.similarity import farthest, loneliest
from prunesweep.types import Merged, Tokens

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

Scope = Literal["video", "frame"]
Precision = Literal["float32", "input"]
"""Of the distances: or in the tokens' own type as released, which in half precision has a grain of about 1e-3."""


@dataclass(frozen=True)
class DivPrune:
    """Keep tokens that lie far apart."""

    keep_ratio: float = 0.098
    """R: round(R n) of n tokens stay, at least one."""
    scope: Scope = "video"
    precision: Precision = "float32"
    positions: Positions = "renumbered"

    def __post_init__(self) -> None:
        require_ratio("keep_ratio", self.keep_ratio)
        require_choice("scope", self.scope, Scope)
        require_choice("precision", self.precision, Precision)
        require_choice("positions", self.positions, Positions)

    def count(self, tokens: int) -> int:
        """Of one set; rounded as released, in double precision and half to even."""
        return max(1, round(self.keep_ratio * tokens))

    def left(self, frames: int, patches: int) -> Left:
        if self.scope == "video":
            return Left(self.count(frames * patches))
        return Left(frames * self.count(patches), (self.count(patches),) * frames)

    def __call__(self, tokens: Tokens) -> Merged:
        x = tokens.x.detach()
        sets = x if self.scope == "frame" else x.flatten(0, 1)[None]
        picked = self.picks(sets)
        first = torch.arange(len(sets), device=x.device)[:, None] * sets.shape[1]
        kept = (first + picked).flatten().sort().values
        comparisons = len(sets) * (sets.shape[1] + picked.shape[1]) * sets.shape[1]
        return replace(keep_tokens(tokens, kept, self.positions), flops=2 * comparisons * x.shape[2])

    def picks(self, sets: Float[Tensor, "b n c"]) -> Int[Tensor, "b k"]:
        """Of each set, in the order of picking."""
        vectors = F.normalize(sets.float() if self.precision == "float32" else sets, dim=-1)
        every = torch.arange(len(vectors), device=vectors.device)

        def distances_of(pick: Int[Tensor, " b"]) -> Float[Tensor, "b n"]:
            return 1 - (vectors @ vectors[every, pick][..., None])[..., 0]

        first = torch.cat([loneliest(one) for one in vectors])
        return farthest(distances_of, first, self.count(vectors.shape[1]))
