"""AIM's pruning inside the LLM (arXiv 2412.03248, ICCV 2025): in layer after layer fewer visual tokens, by PageRank.

A token's importance is its rank in a walk over a layer's attention with all tokens, text too; text always stays.  The
released code removes nothing: dropped tokens are masked, so no time is saved, and their rows go on voting.  Here they go,
which kept the same tokens in 23 of 24 of the release's stages that were compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from prunesweep.checks import require_at_least, require_choice, require_number
from prunesweep.lazy import torch
from prunesweep.reducers import Change, EarlierCaches, Left
from prunesweep.reducers.similarity import best
from prunesweep.types import Prefix

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

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
        key = prefix.kv[-1].key[0]
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
