"""ToMe: Token Merging, https://arxiv.org/abs/2210.09461 (ICLR 2023), one layer of it.  Written from a description.

In every block of a vision transformer, between attention and feed-forward network, the `fewer` pairs of tokens whose keys
are most alike merge, weighted by how many patches they stand for.  Nothing here hooks it into a tower yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from prunesweep.lazy import torch
from prunesweep.reducers.parts.bipartite import best_pairs

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


class Layer(NamedTuple):
    """Tokens behind a merge."""

    x: Float[Tensor, "t m v"]
    size: Float[Tensor, "t m"]
    """How many patches each stands for."""
    goes_to: Int[Tensor, "t n"]
    """Which of them each token before the merge went to."""


def merge_layer(
    metric: Float[Tensor, "t n d"],
    x: Float[Tensor, "t n v"],
    size: Float[Tensor, "t n"],
    fewer: int,
    class_token: bool = False,
    distillation_token: bool = False,
) -> Layer:
    """By the keys of a block, mean over heads; at most half of the tokens without class and distillation token.

    The class token, the first, does not merge, and the distillation token, the second, receives nothing.  Without a class token
    what is left of the tokens at even places is in order of similarity, as released: places are lost.
    """
    goes_to, _, count = best_pairs(metric, fewer, class_token, distillation_token)
    belongs = (goes_to[:, None] == torch.arange(count, device=x.device)[:, None]).float()
    weights = belongs * size.float()[:, None]
    total = weights.sum(2)
    return Layer(((weights @ x.float()) / total[..., None]).to(x.dtype), total.to(size.dtype), goes_to)


def schedule(fewer: int, layers: int, inflection: float = 0.0) -> list[int]:
    """How many tokens fewer in each layer, `fewer` on average: the same (0), falling to none (-1) or rising from none (1)."""
    first = int(fewer * (1 - inflection))
    last = 2 * fewer - first
    return [int(first + (last - first) * layer / max(1, layers - 1)) for layer in range(layers)]
