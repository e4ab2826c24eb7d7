"""ToMe: Token Merging, https://arxiv.org/abs/2210.09461 (ICLR 2023).  Written from a description.

In every block of the vision tower that runs, between attention and feed-forward network, the pairs of a frame's tokens whose
keys are most alike merge, weighted by how many patches they stand for.  What is left has no grid: the projector takes it as it
is, and nothing is pooled.  Later layers, projector and LLM see fewer tokens; nothing is unmerged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from prunesweep.checks import require_at_least, require_choice, require_flag, require_number, require_ratio
from prunesweep.lazy import torch
from prunesweep.reducers import Positions
from prunesweep.reducers.parts.bipartite import best_pairs
from prunesweep.shares import ceil_share
from prunesweep.types import TowerTokens

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

Order = Literal["raster", "release"]
"""Of a frame's tokens: by their first patch; or as merging leaves them, without a class token the most similar first."""


@dataclass(frozen=True)
class ToMe:
    """Merge in every layer of the vision tower."""

    keep_ratio: float = 0.25
    """Of a frame's patches, behind the last layer: as many fewer in each, at most half of what comes to it."""
    fewer: int | None = None
    """r: tokens fewer in each layer on average, in place of keep_ratio, as released."""
    inflection: float = 0.0
    """How the layers share this: alike (0), falling to none (-1), rising from none (1)."""
    proportional: bool = True
    """Attention to a token counts as often as it stands for patches, for towers not trained with merging, as released."""
    order: Order = "raster"
    positions: Positions = "original"
    scale = 1.0
    """Frames stay as large as they are."""

    def __post_init__(self) -> None:
        require_ratio("keep_ratio", self.keep_ratio)
        if self.fewer is not None:
            require_at_least("fewer", self.fewer, 0)
        require_number("inflection", self.inflection)
        if not -1 <= self.inflection <= 1:
            raise ValueError(f"inflection must be in [-1, 1], got {self.inflection:g}")
        require_flag("proportional", self.proportional)
        require_choice("order", self.order, Order)
        require_choice("positions", self.positions, Positions)

    def schedule(self, layers: int, patches: int) -> list[int]:
        """How many tokens fewer each layer leaves."""
        if self.fewer is not None:
            return schedule(self.fewer, layers, self.inflection)
        total = patches - ceil_share(patches, self.keep_ratio)
        shares = torch.linspace(1 - self.inflection, 1 + self.inflection, layers, dtype=torch.float64).cumsum(0)
        until = (total * shares / shares[-1]).round().long().tolist()
        return [after - before for before, after in zip([0, *until], until, strict=False)]

    def __call__(self, key: Float[Tensor, "t n d"], tokens: TowerTokens, fewer: int, class_token: bool) -> TowerTokens:
        return merge_layer(key, tokens, fewer, class_token)

    def ordered(self, tokens: TowerTokens) -> TowerTokens:
        if self.order == "release":
            return tokens
        frames, patches = tokens.source.shape
        patch = torch.arange(patches, device=tokens.x.device).expand(frames, -1)
        first = torch.full(tokens.size.shape, patches, device=patch.device).scatter_reduce(1, tokens.source, patch, "amin")
        order = first.argsort(1)
        x = tokens.x.gather(1, order[..., None].expand_as(tokens.x))
        return TowerTokens(x, tokens.size.gather(1, order), order.argsort(1).gather(1, tokens.source))


def merge_layer(
    metric: Float[Tensor, "t n d"],
    tokens: TowerTokens,
    fewer: int,
    class_token: bool = False,
    distillation_token: bool = False,
) -> TowerTokens:
    """By the keys of a block, mean over heads; at most half of the tokens without class and distillation token.

    The class token, the first, does not merge, and the distillation token, the second, receives nothing.  Without a class token
    what is left of the tokens at even places is in order of similarity, as released: places are lost.
    """
    goes_to, _, count = best_pairs(metric, fewer, class_token, distillation_token)
    belongs = (goes_to[:, None] == torch.arange(count, device=metric.device)[:, None]).float()
    weights = belongs * tokens.size.float()[:, None]
    total = weights.sum(2)
    x = (weights @ tokens.x.float()) / total[..., None]
    return TowerTokens(x.to(tokens.x.dtype), total.to(tokens.size.dtype), goes_to.gather(1, tokens.source))


def schedule(fewer: int, layers: int, inflection: float = 0.0) -> list[int]:
    """How many tokens fewer in each layer, `fewer` on average: the same (0), falling to none (-1) or rising from none (1)."""
    first = int(fewer * (1 - inflection))
    last = 2 * fewer - first
    return [int(first + (last - first) * layer / max(1, layers - 1)) for layer in range(layers)]
