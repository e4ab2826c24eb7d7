"""AIM: Adaptive Inference of Multi-Modal LLMs via Token Merging and Pruning, arXiv 2412.03248.

ICCV 2025.  Written from a description.  Before the LLM, in every frame, twice, tokens at even places go to the most similar
ones at odd places, and the best pairs become their means: of p tokens p//2 merge, then p//4, as means of means.

Inside the LLM, in layer after layer fewer visual tokens are left, by PageRank.  A token's importance is its rank in a walk
over a layer's attention with all tokens, text too; text always stays.  The released code removes nothing: dropped tokens are
masked, so no time is saved, and their rows go on voting.  Here they go, which kept the same tokens in 23 of 24 of the
release's stages that were compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from prunesweep.checks import require_at_least, require_choice, require_number, require_ratio
from prunesweep.lazy import torch
from prunesweep.reducers import Change, EarlierCaches, Left, Positions
from prunesweep.reducers.parts.assembling import summed
from prunesweep.reducers.parts.bipartite import best_pairs
from prunesweep.reducers.parts.clustering import group_mean
from prunesweep.reducers.parts.similarity import best
from prunesweep.shares import ceil_share
from prunesweep.types import Contributions, Merged, Prefix, Tokens

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


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


RELEASED_LAYERS, RELEASED_DECREMENT = 28, 0.125
"""Of Qwen2-7B; from the layer with the index 14 on, half of them."""


@dataclass(frozen=True)
class PageRank:
    """After each layer from `layer` on, keep a share of the N visual tokens that entered which falls by `decrement`."""

    layer: int | None = None
    """Layers that have run when tokens go for the first time; None: one more than half of them (15 of 28, as released)."""
    decrement: float | None = None
    """None: none is left after as large a part of the layers as released: 0.125 of 28 layers."""
    temperature: float = 0.1
    iterations: int = 5
    earlier_caches: EarlierCaches = "whole"
    knob_bounds: ClassVar = {"decrement": (2.0**-12, 1.0)}

    def __post_init__(self) -> None:
        if self.layer is not None:
            require_at_least("layer", self.layer, 1)
        for name in ("decrement", "temperature"):
            value = getattr(self, name)
            if value is None and name == "decrement":
                continue
            require_number(name, value)
            if value <= 0:
                raise ValueError(f"{name} must be above 0, got {value:g}")
        require_at_least("iterations", self.iterations, 1)
        require_choice("earlier_caches", self.earlier_caches, EarlierCaches)

    def steps(self, layers: int) -> Iterator[Stage]:
        """After the last layer nobody looks any more."""
        first = self.layer or layers // 2 + 1
        decrement = self.decrement or RELEASED_DECREMENT * RELEASED_LAYERS / layers
        for full in range(first, layers):
            share = max(0.0, 1 - (full - first + 1) * decrement)
            yield Stage(full, share, self.temperature, self.iterations, self.earlier_caches)


@dataclass(frozen=True)
class Stage:
    """One time that tokens go."""

    full_layers: int
    share: float
    """Of those that entered the LLM."""
    temperature: float
    iterations: int
    earlier_caches: EarlierCaches
    attention = "queries"

    def left(self, entering: Left) -> int:
        return min(entering.tokens, int(entering.at_first * self.share))

    def __call__(self, prefix: Prefix) -> Change:
        if prefix.query is None or prefix.entered is None:
            raise ValueError("AIM needs the queries of all tokens")
        budget = self.left(Left(len(prefix.group), None, len(prefix.entered)))
        if not budget or not len(prefix.group):
            return Change(prefix.visual.new_zeros(0, dtype=torch.long))
        key = prefix.caches[-1].key[0]
        importance = page_rank(prefix.query, key, self.temperature, self.iterations)[prefix.visual]
        heads, tokens, width = prefix.query.shape
        flops = 2 * heads * tokens**2 * (width + self.iterations)
        return Change(best(importance, budget).nonzero()[:, 0], flops=flops)


def page_rank(
    query: Float[Tensor, "h s d"], key: Float[Tensor, "k s d"], temperature: float, iterations: int
) -> Float[Tensor, " s"]:
    """Root of the mean over heads of the squared ranks, a head at a time: all maps together may not fit into memory."""
    tokens = query.shape[1]
    future = torch.ones(tokens, tokens, dtype=torch.bool, device=query.device).triu(1)
    total = torch.zeros(tokens, device=query.device)
    for head, own in enumerate(query):
        scores = (own.float() * own.shape[-1] ** -0.5) @ key[head * len(key) // len(query)].float().T
        step = (scores.masked_fill(future, float("-inf")) / temperature).softmax(-1)
        rank = torch.full((tokens,), 1 / tokens, device=query.device)
        for _ in range(iterations):
            rank = rank @ step
        total += rank.square()
    return (total / len(query)).sqrt()
