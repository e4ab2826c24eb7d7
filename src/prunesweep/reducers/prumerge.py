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
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, Literal

from prunesweep.checks import require_at_least, require_choice, require_flag, require_number
from prunesweep.lazy import F, torch
from prunesweep.reducers import Positions
from prunesweep.shares import floor_share
from prunesweep.types import FEATURES, Merged, Tokens

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
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
        order = self._kept(attention)
        kept = [index.sort().values if self.order == "raster" else index for index in order]
        merged = merge_similar(features, key, attention, self.neighbours, self.normalise)
        return self._assemble(tokens, features, merged, attention, kept)

    def _kept(self, attention: Float[Tensor, "t u"]) -> list[Int[Tensor, " kept"]]:
        """Per frame, patches by importance, then those at even steps."""
        shares = outlier_shares(attention.float(), self.outlier_factor, self.outliers)
        return [self._kept_of(frame, share) for frame, share in zip(attention, shares, strict=True)]

    def _kept_of(self, attention: Float[Tensor, " u"], share: Fraction) -> Int[Tensor, " kept"]:
        patches = len(attention)
        best = attention.sort(descending=True, stable=True).indices[: kept_count(patches, share)]
        if not self.plus:
            return best
        even = torch.arange(0, patches - 1, even_step(patches, share), device=best.device)
        return torch.cat([best, even[~torch.isin(even, best)]])

    def _assemble(
        self,
        tokens: Tokens,
        features: Float[Tensor, "t u v"],
        merged: Float[Tensor, "t u v"],
        attention: Float[Tensor, "t u"],
        kept: list[Int[Tensor, " kept"]],
    ) -> Merged:
        frames, patches, channels = features.shape
        device = features.device
        x, group, place = [], [], []
        source = torch.full((frames, patches), -1, device=device)
        count = 0
        for frame, index in enumerate(kept):
            dropped = torch.ones(patches, dtype=torch.bool, device=device).index_fill(0, index, False)
            source[frame, index] = count + torch.arange(len(index), device=device)
            x.append(merged[frame, index])
            place.append(frame * patches + index)
            if dropped.any():
                rest = summed_up(features[frame], attention[frame], dropped, self.normalise)
                source[frame, dropped] = count + len(index)
                x.append(rest[None])
                middle = dropped.nonzero()[:, 0].float().mean().round().long()
                place.append(frame * patches + middle[None])
            size = len(index) + bool(dropped.any())
            group += [frame] * size
            count += size
        weighted = sum(len(index) for index in kept) * min(self.neighbours, patches - 1) + frames * patches
        return Merged(
            tokens=tokens,
            x=torch.cat(x),
            group=torch.tensor(group, device=device),
            source=source,
            position=self._position(torch.cat(place), tokens, patches),
            span=tokens.x.shape[0] * tokens.x.shape[1] if self.positions == "original" else count,
            flops=2 * frames * patches**2 * tokens.fact("key.joined").shape[2] + 2 * weighted * channels,
        )

    def _position(self, place: Int[Tensor, " n"], tokens: Tokens, patches: int) -> Int[Tensor, " n"]:
        """Original positions are those of the visual tokens that a patch lies in."""
        if self.positions == "renumbered":
            return torch.arange(len(place), device=place.device)
        own, pooled_patches = math.isqrt(patches), tokens.x.shape[1]
        side = math.isqrt(pooled_patches)
        row, column = place % patches // own, place % own
        return place // patches * pooled_patches + row * side // own * side + column * side // own


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


def merge_similar(
    features: Float[Tensor, "t u v"],
    key: Float[Tensor, "t u k"],
    attention: Float[Tensor, "t u"],
    neighbours: int,
    normalise: bool,
) -> Float[Tensor, "t u v"]:
    """Each patch with the `neighbours` patches of its frame that have the most similar keys, weighted with their attention.

    Normalised, it is the weighted mean of them and the patch itself.
    """
    patches = features.shape[1]
    unit = F.normalize(key.float(), dim=-1)
    similarity = (unit @ unit.transpose(1, 2)).masked_fill(torch.eye(patches, dtype=torch.bool, device=key.device), -math.inf)
    near = similarity.topk(min(neighbours, patches - 1), dim=-1).indices
    weight = attention.float()[:, None, :].expand(-1, patches, -1).gather(2, near)
    weights = torch.zeros_like(similarity).scatter(2, near, weight)
    own = attention.float()[..., None] if normalise else 1.0
    total = weights @ features.float() + own * features.float()
    if normalise:
        total = total / (weight.sum(-1, keepdim=True) + own)
    return total.to(features.dtype)


def summed_up(
    features: Float[Tensor, "u v"], attention: Float[Tensor, " u"], dropped: Bool[Tensor, " u"], normalise: bool
) -> Float[Tensor, " v"]:
    """The dropped patches, weighted with their attention."""
    weight = attention.float()[dropped]
    total = weight @ features.float()[dropped]
    return (total / weight.sum() if normalise else total).to(features.dtype)


def pooled(x: Float[Tensor, "t u v"], patches: int) -> Float[Tensor, "t p v"]:
    """Averaged over equal blocks of a square grid, to a coarser one."""
    side, wanted = math.isqrt(x.shape[1]), math.isqrt(patches)
    if side**2 != x.shape[1] or wanted**2 != patches:
        raise ValueError(f"{x.shape[1]} patches cannot be pooled to {patches} visual tokens: both must be square grids")
    grid = x.float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
    return F.adaptive_avg_pool2d(grid, wanted).flatten(2).transpose(1, 2)
