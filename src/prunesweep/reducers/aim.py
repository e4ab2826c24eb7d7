"""AIM, the part before the LLM: Adaptive Inference of Multi-Modal LLMs via Token Merging and Pruning, arXiv 2412.03248.

Written from a description.  In every frame, twice, tokens at even places go to the most similar ones at odd places, and the
best pairs become their means: of p tokens p//2 merge, then p//4, as means of means.  The release prunes in the LLM besides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

from prunesweep.checks import require_choice, require_ratio
from prunesweep.lazy import torch
from prunesweep.reducers import Left, Positions
from prunesweep.reducers.assembling import summed
from prunesweep.reducers.bipartite import best_pairs
from prunesweep.reducers.clustering import group_mean
from prunesweep.shares import ceil_share
from prunesweep.types import Contributions, Merged, Tokens


@dataclass(frozen=True)
class Aim:
    """Merge the most similar pairs of each frame, again and again."""

    keep_ratio: float = 0.25
    """As released with two merges; 0.5 is one.  Other shares end with a smaller merge."""
    positions: Positions = "renumbered"
    in_order = False  # by similarity

    def __post_init__(self) -> None:
        require_ratio("keep_ratio", self.keep_ratio)
        require_choice("positions", self.positions, Positions)

    def merges(self, patches: int) -> list[int]:
        """How many tokens each merge takes from a frame."""
        target, sizes = ceil_share(patches, self.keep_ratio), [patches]
        for index in range(1, math.ceil(-math.log2(self.keep_ratio)) + 1):
            sizes.append(sizes[-1] - min(patches >> index, sizes[-1] // 2, sizes[-1] - target))
        return [before - after for before, after in pairwise(sizes)]

    def left(self, frames: int, patches: int) -> Left:
        own = patches - sum(self.merges(patches))
        return Left(frames * own, (own,) * frames)

    def __call__(self, tokens: Tokens) -> Merged:
        x = tokens.x.detach()
        frames, patches, channels = x.shape
        token = torch.arange(patches, device=x.device).expand(frames, -1)
        place, share, flops = token, torch.ones(frames, patches, device=x.device), 0
        for fewer in self.merges(patches):
            flops += 2 * frames * (x.shape[1] - x.shape[1] // 2) * (x.shape[1] // 2) * channels
            goes_to, merged, count = best_pairs(x, fewer)
            x = group_mean(x, goes_to, count)
            size = torch.zeros(frames, count, device=x.device).scatter_add(1, goes_to, torch.ones_like(goes_to).float())
            place = torch.full_like(goes_to, patches)[:, :count].scatter_reduce(1, goes_to, place.where(~merged, patches), "amin")
            token = goes_to.gather(1, token)
            share = share / size.gather(1, token)
        base = torch.arange(frames, device=x.device)[:, None]
        patch = torch.arange(frames * patches, device=x.device)
        shares = Contributions((base * place.shape[1] + token).flatten(), patch, share.flatten())
        return replace(summed(tokens, (base * patches + place).flatten(), shares, self.positions), flops=flops)
