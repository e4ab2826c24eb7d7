"""LLaVA-PruMerge and PruMerge+: Adaptive Token Reduction for Efficient Large Multimodal Models.

https://arxiv.org/abs/2403.15388 (ICCV 2025).  Each frame is an image of its own.

1. A patch's importance is the attention that it receives in the vision tower's last layer, heads side by side as one: from
   the class token, or, where the tower has none (SigLIP; the paper does not say), from all patches on average.
2. The share of outliers, above the third quartile plus 1.5 times the interquartile range, says how many patches stay.
   PruMerge+ adds patches at even steps, of a third of one over that share.
3. Each kept patch takes in the 32 other patches of its frame with the most similar keys, weighted with their importance; one
   more token sums up all that were dropped.

The release adds the weighted sum to the kept patch without dividing by the weights (`normalise=false`), and takes one share
for a whole batch of images (`outliers=video`).  It works before the projector, on all patches of the tower (`level=tower`);
`level=pooled` does the same to the visual tokens, with attention and keys pooled to their grid, as VisionZip is used on
pooled video tokens by FastVID (arXiv 2503.11187).  A frame keeps at least one patch; if none is dropped there is no sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, Literal

from prunesweep.checks import require_at_least, require_choice, require_flag, require_number
from prunesweep.lazy import F, torch
from prunesweep.reducers import Positions
from prunesweep.reducers.parts.assembling import Part, joined, summed
from prunesweep.shares import floor_share
from prunesweep.types import Contributions, Merged, Tokens
from prunesweep.types.facts import FEATURES

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

Outliers = Literal["frame", "video"]
"""Whether the share of outliers is each frame's own (paper: each image's), or one for all frames (release: for a batch)."""
Order = Literal["score", "raster"]
"""Of a frame's tokens: by importance, then the even steps, as released; or as in the frame."""
TowerLevel = Literal["tower", "pooled"]
STEP_PARTS = 3
"""PruMerge+ steps by a third of one over the share of outliers, as released."""


@dataclass(frozen=True)
class PruMerge:
    """Keep each frame's outliers in attention, merge what resembles them, sum up the rest."""

    plus: bool = False
    outlier_factor: float = 1.5
    """Interquartile ranges above the third quartile."""
    outliers: Outliers = "frame"
    neighbours: int = 32
    """Patches merged into a kept one."""
    normalise: bool = False
    order: Order = "score"
    level: TowerLevel = "tower"
    positions: Positions = "renumbered"
    knob_bounds: ClassVar = {"outlier_factor": (-16.0, 64.0)}  # everything an outlier, to nothing
    in_order = False  # by score, and several patches of the tower may lie in one visual token

    def __post_init__(self) -> None:
        require_flag("plus", self.plus)
        require_number("outlier_factor", self.outlier_factor)
        require_choice("outliers", self.outliers, Outliers)
        require_at_least("neighbours", self.neighbours, 1)
        require_flag("normalise", self.normalise)
        require_choice("order", self.order, Order)
        require_choice("level", self.level, TowerLevel)
        require_choice("positions", self.positions, Positions)

    @property
    def needs(self) -> tuple[str, ...]:
        read = ("attention.joined", "key.joined")
        return (*read, FEATURES) if self.level == "tower" else read

    def __call__(self, tokens: Tokens) -> Merged:
        """Raises ValueError for tokens without the tower's attention."""
        features, key, attention = tokens.x, tokens.fact("key.joined"), tokens.fact("attention.joined")
        if self.level == "tower":
            features = tokens.fact(FEATURES)
        else:
            patches = features.shape[1]
            key, attention = pooled(key, patches), pooled(attention[..., None], patches)[..., 0]
        kept = self._kept(attention)
        frames, patches, channels = features.shape
        part = joined([self._part(frame, attention, key, index) for frame, index in enumerate(kept)])
        merged = summed(tokens, part.place, part.shares, self.positions, features)
        weighted = sum(len(index) for index in kept) * min(self.neighbours, patches - 1) + frames * patches
        return replace(merged, flops=2 * frames * patches**2 * key.shape[2] + 2 * weighted * channels)

    def _kept(self, attention: Float[Tensor, "t u"]) -> list[Int[Tensor, " kept"]]:
        """Per frame, patches in the order of the tokens: by importance, then those at even steps; or as in the frame."""
        shares = outlier_shares(attention.float(), self.outlier_factor, self.outliers)
        kept = [self._kept_of(frame, share) for frame, share in zip(attention, shares, strict=True)]
        return [index.sort().values if self.order == "raster" else index for index in kept]

    def _kept_of(self, attention: Float[Tensor, " u"], share: Fraction) -> Int[Tensor, " kept"]:
        patches = len(attention)
        best = attention.sort(descending=True, stable=True).indices[: kept_count(patches, share)]
        if not self.plus:
            return best
        even = torch.arange(0, patches - 1, even_step(patches, share), device=best.device)
        return torch.cat([best, even[~torch.isin(even, best)]])

    def _part(
        self, frame: int, attention: Float[Tensor, "t u"], key: Float[Tensor, "t u k"], index: Int[Tensor, " kept"]
    ) -> Part:
        """A frame's tokens: what is kept with its neighbours, then the sum of the rest at the middle of its places."""
        weight, first = attention[frame].float(), frame * attention.shape[1]
        near = neighbours_of(key[frame], index, self.neighbours)
        own = weight[index] if self.normalise else torch.ones_like(weight[index])
        share = torch.cat([own[:, None], weight[near]], 1)
        dropped = torch.ones_like(weight, dtype=torch.bool).index_fill(0, index, False).nonzero()[:, 0]
        rest = weight[dropped]
        if self.normalise:
            share, rest = share / share.sum(1, keepdim=True), rest / rest.sum()
        token = torch.arange(len(index), device=near.device)[:, None].expand_as(share)
        patch = first + torch.cat([index[:, None], near], 1)
        tokens = Part(first + index, Contributions(token.flatten(), patch.flatten(), share.flatten()))
        if not len(dropped):
            return tokens
        middle = dropped.float().mean().round().long()
        return joined([tokens, Part(first + middle[None], Contributions(torch.zeros_like(dropped), first + dropped, rest))])


def outlier_shares(attention: Float[Tensor, "t u"], factor: float, outliers: Outliers) -> list[Fraction]:
    """Per frame, the exact share of patches above the third quartile plus `factor` interquartile ranges."""
    sets = attention.flatten()[None] if outliers == "video" else attention
    quartiles = torch.quantile(sets, torch.tensor([0.25, 0.75], device=attention.device), dim=1)
    bound = quartiles[1] + factor * (quartiles[1] - quartiles[0])
    counts = (sets > bound[:, None]).sum(1).expand(len(attention))
    return [Fraction(count, sets.shape[1]) for count in counts.tolist()]


def kept_count(patches: int, share: Fraction) -> int:
    """How many of a frame's patches stay for their importance: as many as there are outliers, but one at least."""
    return max(1, floor_share(patches, share))


def even_step(patches: int, share: Fraction) -> int:
    """From one of the patches that PruMerge+ adds to the next; with no outlier that of a single one."""
    return max(1, math.floor(1 / max(share, Fraction(1, patches))) // STEP_PARTS)


def neighbours_of(key: Float[Tensor, "u k"], index: Int[Tensor, " kept"], neighbours: int) -> Int[Tensor, "kept near"]:
    """The patches with the most similar keys, as many as there are at most."""
    unit = F.normalize(key.float(), dim=-1)
    similarity = (unit[index] @ unit.T).scatter(1, index[:, None], -math.inf)
    return similarity.topk(min(neighbours, len(key) - 1), dim=-1).indices


def pooled(x: Float[Tensor, "t u v"], patches: int) -> Float[Tensor, "t p v"]:
    """Averaged over equal blocks of a square grid, to a coarser one."""
    side, wanted = math.isqrt(x.shape[1]), math.isqrt(patches)
    if side**2 != x.shape[1] or wanted**2 != patches:
        raise ValueError(f"{x.shape[1]} patches cannot be pooled to {patches} visual tokens: both must be square grids")
    grid = x.float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
    return F.adaptive_avg_pool2d(grid, wanted).flatten(2).transpose(1, 2)
