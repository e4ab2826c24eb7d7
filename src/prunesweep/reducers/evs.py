"""EVS: Efficient Video Sampling, https://arxiv.org/abs/2510.14624, as vLLM has it.  Written from a description.

A token's novelty is 1 - its cosine with the same patch one frame earlier; the most novel tokens of the video stay, in order of
place.  The first frame always stays whole, and never fewer tokens stay than one frame has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from prunesweep.checks import require_choice, require_share
from prunesweep.lazy import torch
from prunesweep.reducers import Left, Positions, keep_tokens
from prunesweep.reducers.parts.similarity import best, paired_cosine
from prunesweep.shares import truncated_share
from prunesweep.types import Merged, Tokens

FIRST_FRAME = 255.0
"""Its novelty, above all others; as released."""


@dataclass(frozen=True)
class Evs:
    """Drop what hardly differs from the frame before."""

    prune_ratio: float = 0.75
    """q: share to drop; the release has no default."""
    positions: Positions = "original"

    def __post_init__(self) -> None:
        require_share("prune_ratio", self.prune_ratio)
        require_choice("positions", self.positions, Positions)

    def kept(self, frames: int, patches: int) -> int:
        return max(patches, truncated_share(frames * patches, 1 - self.prune_ratio))

    def left(self, frames: int, patches: int) -> Left:
        return Left(self.kept(frames, patches))

    def __call__(self, tokens: Tokens) -> Merged:
        x = tokens.x
        frames, patches, _ = x.shape
        novelty = torch.full((frames, patches), FIRST_FRAME, device=x.device)
        novelty[1:] = 1 - paired_cosine(x[1:], x[:-1])
        kept = best(novelty.flatten(), self.kept(frames, patches)).nonzero()[:, 0]
        return replace(keep_tokens(tokens, kept, self.positions), flops=2 * x.numel())
