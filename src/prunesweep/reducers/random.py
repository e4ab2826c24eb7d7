"""Random dropping: the baseline every method has to beat.

`Drop` keeps a random subset of a video's tokens at the entrance of the LLM, `Prune` after a layer.  The choice depends on
the seed and the video only, so it is the same whatever else is evaluated beside it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunesweep.checks import require_at_least, require_choice, require_ratio
from prunesweep.lazy import torch
from prunesweep.reducers import EarlierCaches, Left, Positions, keep_tokens
from prunesweep.shares import ceil_share
from prunesweep.types import Merged, Prefix, Tokens

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor


def random_subset(count: int, keep_ratio: float, seed: int, video_id: str) -> Int[Tensor, " kept"]:
    """Sorted indices of ceil(keep_ratio count) tokens drawn without replacement."""
    digest = hashlib.sha256(f"{seed}/{video_id}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
    return torch.randperm(count, generator=generator)[: ceil_share(count, keep_ratio)].sort().values


@dataclass(frozen=True)
class Drop:
    """Keep a random subset of the visual tokens of the whole video."""

    keep_ratio: float = 0.2
    seed: int = 0
    positions: Positions = "renumbered"

    def __post_init__(self) -> None:
        require_ratio("keep_ratio", self.keep_ratio)
        require_choice("positions", self.positions, Positions)

    def left(self, frames: int, patches: int) -> Left:
        return Left(ceil_share(frames * patches, self.keep_ratio))

    def __call__(self, tokens: Tokens) -> Merged:
        frames, patches, _ = tokens.x.shape
        kept = random_subset(frames * patches, self.keep_ratio, self.seed, tokens.video_id).to(tokens.x.device)
        return keep_tokens(tokens, kept, self.positions)


@dataclass(frozen=True)
class Prune:
    """Keep a random subset of the visual tokens after a layer."""

    layer: int
    keep_ratio: float = 0.4
    seed: int = 0
    earlier_caches: EarlierCaches = "cut"
    """As PruneVid's; `whole` beside a method that leaves them."""
    attention = None

    def __post_init__(self) -> None:
        require_at_least("layer", self.layer, 1)
        require_ratio("keep_ratio", self.keep_ratio)
        require_choice("earlier_caches", self.earlier_caches, EarlierCaches)

    @property
    def full_layers(self) -> int:
        return self.layer

    def left(self, entering: Left) -> int:
        return ceil_share(entering.tokens, self.keep_ratio)

    def __call__(self, prefix: Prefix) -> Int[Tensor, " kept"]:
        kept = random_subset(len(prefix.group), self.keep_ratio, self.seed, prefix.video_id)
        return kept.to(prefix.hidden.device)
