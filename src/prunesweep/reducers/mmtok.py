"""MMTok: Multimodal Coverage Maximization for Efficient Inference of VLMs, arXiv 2508.18264.  Written from a description.

Tokens are picked so that they cover both the question and the video: greedily the one that adds most to what every word of
the question, and every token of the video, has as its best cover so far.  How well a token covers is a softmax over all
tokens of cosines: with the question's words as the LLM embeds them, and between the vision tower's features.

The release holds the whole matrix; here, unless it is small, a column of it is worked out again when it may be the best, as
gains never grow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prunesweep.checks import require_at_least, require_choice, require_number, require_ratio
from prunesweep.lazy import torch
from prunesweep.reducers import Left, NoCounterpartError, Positions, keep_tokens
from prunesweep.reducers.parts.similarity import BLOCK_VALUES, unit
from prunesweep.shares import nearest_share
from prunesweep.types import Merged, Tokens

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

AT_ONCE = 32
"""Columns that are worked out again together."""
HELD_VALUES = 2**24
"""Of a matrix that is held as a whole: 64 MiB, of 4096 tokens."""
FEWEST_HELD = 16
"""Columns that are taken from it; products of fewer round otherwise, which would tell equal tokens apart."""


@dataclass(frozen=True)
class MmTok:
    """Keep the tokens that cover question and video best."""

    keep_ratio: float = 0.1111
    """Of a video's tokens."""
    tokens: int | None = None
    """Their number instead."""
    visual_weight: float = 0.5
    """alpha, of the video beside the question."""
    text_temperature: float = 0.02
    """0.01 in the release for Qwen2.5-VL."""
    visual_temperature: float = 0.2
    positions: Positions = "renumbered"
    needs = ("pooled.features", "question.embedded")

    def __post_init__(self) -> None:
        require_ratio("keep_ratio", self.keep_ratio)
        if self.tokens is not None:
            require_at_least("tokens", self.tokens, 1)
        for name in ("visual_weight", "text_temperature", "visual_temperature"):
            require_number(name, getattr(self, name))
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name):g}")
        require_choice("positions", self.positions, Positions)

    def count(self, tokens: int) -> int:
        """Raises NoCounterpartError where the video has fewer."""
        count = self.tokens or max(1, nearest_share(tokens, self.keep_ratio))
        if count > tokens:
            raise NoCounterpartError(f"MMTok has no {count} tokens of a video of {tokens}; set tokens lower")
        return count

    def left(self, frames: int, patches: int) -> Left:
        return Left(self.count(frames * patches))

    def __call__(self, tokens: Tokens) -> Merged:
        """Raises ValueError for tokens without the facts needed."""
        x = tokens.x.detach().flatten(0, 1)
        features, words = (tokens.fact(name) for name in self.needs)
        cover = _Cover(
            (unit(words) @ unit(x).T / self.text_temperature).softmax(1) / len(words),
            unit(features.flatten(0, 1)),
            self.visual_temperature,
            self.visual_weight,
        )
        kept = most_covering(cover, self.count(len(x))).sort().values
        flops = 2 * len(x) * (len(x) * features.shape[2] + len(words) * x.shape[1])
        return replace(keep_tokens(tokens, kept, self.positions), flops=flops)


class _Cover:
    """How well each of n tokens covers each word and each token; columns of the latter are worked out when asked for, or held."""

    def __init__(self, text: Float[Tensor, "m n"], vectors: Float[Tensor, "n v"], temperature: float, weight: float):
        self.text, self.vectors, self.temperature = text, vectors, temperature
        self.scale = weight / len(vectors)
        rows = vectors.split(max(1, BLOCK_VALUES // len(vectors)))
        self.total = torch.cat([(block @ vectors.T / temperature).logsumexp(1) for block in rows])
        self.held: Tensor | None = None

    def blocks(self) -> Iterator[Float[Tensor, "m+n k"]]:
        """All columns, a block at a time."""
        tokens, done = len(self.vectors), 0
        held = self.vectors.new_empty(len(self.text) + tokens, tokens) if tokens**2 <= HELD_VALUES else None
        for index in torch.arange(tokens, device=self.vectors.device).split(max(1, BLOCK_VALUES // tokens)):
            block = self.columns(index)
            if held is not None:
                held[:, done : done + len(index)] = block
                done += len(index)
            yield block
        self.held = held

    def columns(self, index: Int[Tensor, " k"]) -> Float[Tensor, "m+n k"]:
        if self.held is not None and len(index) >= FEWEST_HELD:
            return self.held.index_select(1, index)
        visual = (self.vectors @ self.vectors[index].T / self.temperature - self.total[:, None]).exp() * self.scale
        return torch.cat([self.text[:, index], visual])


def most_covering(cover: _Cover, count: int) -> Int[Tensor, " count"]:
    """In the order of picking; of equals the first.

    A token's gain never grows, so an old one is a bound: only what may still be the best is worked out again.
    """
    tokens = len(cover.vectors)
    bound = torch.cat([block.sum(0) for block in cover.blocks()])
    covered = torch.zeros(len(cover.text) + tokens, 1, device=bound.device)
    picks: list[Tensor] = []
    for _ in range(count):
        old = torch.ones(tokens, dtype=torch.bool, device=bound.device)
        while old[pick := bound.argmax()]:
            again = bound.masked_fill(~old, -math.inf).topk(min(AT_ONCE, tokens)).indices
            again = again[old[again]]
            bound[again] = (cover.columns(again) - covered).clamp(min=0).sum(0).masked_fill(bound[again] == -math.inf, -math.inf)
            old[again] = False
        picks.append(pick)
        covered = torch.maximum(covered, cover.columns(pick[None]))
        bound[pick] = -math.inf
    return torch.stack(picks)
