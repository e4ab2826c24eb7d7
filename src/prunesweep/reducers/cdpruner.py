"""CDPruner: Beyond Attention or Similarity, Maximizing Conditional Diversity for Token Pruning in MLLMs.

https://arxiv.org/abs/2506.10967 (NeurIPS 2025).  Written from a description.  Of each frame the set of tokens that is most
diverse given the question: greedily the largest determinant of cosines between tokens, times how relevant both are.
Relevance is the negative cosine of patch and question in the space that the vision tower shares with its text tower, as
released.

The release prunes images; frames are taken for a batch of them, over which relevance is scaled.  Where more tokens are asked
for than their features have dimensions, its residuals are noise and it repeats itself; here each token is picked once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from prunesweep.checks import require_at_least, require_choice, require_number, require_ratio
from prunesweep.lazy import torch
from prunesweep.reducers import Left, NoCounterpartError, Positions, keep_tokens
from prunesweep.reducers.parts.similarity import unit
from prunesweep.shares import nearest_share
from prunesweep.types import Merged, Tokens

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

Normalise = Literal["batch", "frame"]
OFFSET = 1e-6
"""Of the least relevant patch; as released."""
LEAST_RESIDUAL = 1e-12
"""Of a pick; one below it says nothing of others, as nothing is left but rounding."""


@dataclass(frozen=True)
class CdPruner:
    """Keep the most diverse tokens of each frame, given the question."""

    keep_ratio: float = 0.1111
    """Of a frame's tokens: 64 of 576 in the paper."""
    tokens_per_frame: int | None = None
    """Their number instead."""
    normalise: Normalise = "batch"
    """Over what relevance is scaled to [0, 1]: all frames, as released, or each."""
    theta: float | None = None
    """Weight of relevance: r becomes exp(theta / (2 (1 - theta)) r); off in the release."""
    positions: Positions = "renumbered"
    needs = ("pooled.image.text_space", "question.text_space")

    def __post_init__(self) -> None:
        require_ratio("keep_ratio", self.keep_ratio)
        if self.tokens_per_frame is not None:
            require_at_least("tokens_per_frame", self.tokens_per_frame, 1)
        require_choice("normalise", self.normalise, Normalise)
        if self.theta is not None:
            require_number("theta", self.theta)
            if not 0 <= self.theta < 1:
                raise ValueError(f"theta must be in [0, 1), got {self.theta:g}")
        require_choice("positions", self.positions, Positions)

    def count(self, patches: int) -> int:
        """Raises NoCounterpartError where a frame has fewer."""
        count = self.tokens_per_frame or max(1, nearest_share(patches, self.keep_ratio))
        if count > patches:
            raise NoCounterpartError(f"CDPruner has no {count} tokens of frames of {patches}; set tokens_per_frame lower")
        return count

    def left(self, frames: int, patches: int) -> Left:
        return Left(frames * self.count(patches), (self.count(patches),) * frames)

    def __call__(self, tokens: Tokens) -> Merged:
        """Raises ValueError for tokens without the facts needed."""
        x = tokens.x.detach()
        frames, patches, channels = x.shape
        count = self.count(patches)
        relevance = self._relevance(*(tokens.fact(name) for name in self.needs))
        vectors = unit(x)
        kernel = relevance[:, :, None] * (vectors @ vectors.mT) * relevance[:, None]
        picked = largest_determinant(kernel, count).sort(1).values
        kept = (torch.arange(frames, device=x.device)[:, None] * patches + picked).flatten()
        flops = 2 * frames * (patches**2 * channels + count**2 * patches // 2)
        return replace(keep_tokens(tokens, kept, self.positions), flops=flops)

    def _relevance(self, image: Float[Tensor, "t p e"], text: Float[Tensor, "m e"]) -> Float[Tensor, "t p"]:
        relevance = -(unit(image) @ unit(text).T).mean(2)
        over = (0, 1) if self.normalise == "batch" else (1,)
        low, high = relevance.amin(over, keepdim=True), relevance.amax(over, keepdim=True)
        scaled = (relevance - low + OFFSET) / (high - low).clamp(min=OFFSET)  # all alike: all 1
        return scaled if self.theta is None else (self.theta / (2 * (1 - self.theta)) * scaled).exp()


def largest_determinant(kernel: Float[Tensor, "b n n"], count: int) -> Int[Tensor, "b count"]:
    """Greedily, in the order of picking; of equals the first, and each once."""
    every = torch.arange(len(kernel), device=kernel.device)
    residual = kernel.diagonal(dim1=1, dim2=2).clone()
    rows = kernel.new_zeros(len(kernel), count, kernel.shape[2])
    picks = []
    for step in range(count):
        pick = residual.argmax(1)
        picks.append(pick)
        earlier = rows[:, :step]
        own = earlier.gather(2, pick[:, None, None].expand(-1, step, 1))
        left = kernel[every, pick] - (own * earlier).sum(1)
        own_residual = residual[every, pick, None]
        rows[:, step] = left.where(own_residual > LEAST_RESIDUAL, 0) / own_residual.clamp(min=LEAST_RESIDUAL).sqrt()
        residual = (residual - rows[:, step].square()).clamp(min=0).scatter(1, torch.stack(picks, 1), -math.inf)
    return torch.stack(picks, 1)
