"""DyCoke: Dynamic Compression of Tokens for Fast Video Large Language Models.

https://arxiv.org/abs/2411.15024 (CVPR 2025).  Written from a description.

1. Before the LLM (`DyCoke`), in windows of four frames the first stays whole.  Of the second and the fourth those tokens
   stay that are least like the same patch of the frame before, then of the third those least like the window's first frame.
   Nothing is averaged, in spite of the name.
2. Each generated token (`Decode`) attends to the whole cache in the first layers, and in the others only to the visual tokens
   that it attended to most in the last of these.  The cache holds everything all the time, so that a token may come back.

As released the last window of four leaves its third frame whole, the last of an odd number of frames is dropped, and fewer
than five frames are an error.

The second part leaves alone what the prompt costs, the first generated token, and every answer that is scored by options of
one token.  Where a token's attention is like the one before's, the release attends to the whole cache; the paper keeps the
earlier selection.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from prunesweep.checks import require_at_least, require_choice, require_number, require_share
from prunesweep.lazy import F, torch
from prunesweep.reducers import Left, NoCounterpartError, Positions
from prunesweep.reducers.parts.assembling import kept_in_order_of
from prunesweep.reducers.parts.similarity import best, paired_cosine
from prunesweep.shares import truncated_share
from prunesweep.types import Merged, Tokens

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

WINDOW = 4
LastWindow = Literal["release", "complete"]
"""Whether the third frame of the last whole window stays whole, as released, or is pruned like the others."""
OddFrame = Literal["dropped", "kept"]
"""The last of an odd number of frames; kept, it is pruned or not by its place in its window."""
Order = Literal["similarity", "raster"]
"""Of a pruned frame's tokens: the least similar first, as released; or in order of place."""


@dataclass(frozen=True)
class DyCoke:
    """Drop what is like an earlier frame of a window of four."""

    merging_ratio: float = 0.7
    """K: int((1 - K) p) tokens stay of a pruned frame, in double precision: 2 of 25 for 0.9."""
    last_window: LastWindow = "release"
    odd_frame: OddFrame = "dropped"
    order: Order = "similarity"
    positions: Positions = "renumbered"

    def __post_init__(self) -> None:
        require_share("merging_ratio", self.merging_ratio)
        require_choice("last_window", self.last_window, LastWindow)
        require_choice("odd_frame", self.odd_frame, OddFrame)
        require_choice("order", self.order, Order)
        require_choice("positions", self.positions, Positions)

    @property
    def in_order(self) -> bool:
        return self.order == "raster"

    def require_frames(self, frames: int) -> None:
        """Raises NoCounterpartError for so few frames that the release fails."""
        if frames <= WINDOW and self.last_window == "release":
            raise NoCounterpartError(
                f"DyCoke as released has no counterpart for {frames} frames: its code needs more than {WINDOW}; "
                "use reducer.merge.last_window=complete"
            )

    def compared_with(self, frames: int) -> list[int | None]:
        """For each frame that is not dropped: the frame that it is compared with, None where it stays whole."""
        self.require_frames(frames)
        used = frames - frames % 2 if self.odd_frame == "dropped" and frames > 1 else frames
        with_frame: list[int | None] = []
        for frame in range(used):
            step = frame % WINDOW
            whole = step == 0 or (step == 2 and self.last_window == "release" and frame - 2 >= frames - WINDOW)
            with_frame.append(None if whole else frame - step if step == 2 else frame - 1)
        return with_frame

    def left(self, frames: int, patches: int) -> Left:
        kept = truncated_share(patches, 1 - self.merging_ratio)
        sizes = tuple(patches if other is None else kept for other in self.compared_with(frames))
        return Left(sum(sizes), sizes)

    def __call__(self, tokens: Tokens) -> Merged:
        """Raises NoCounterpartError for few frames, as released."""
        x = tokens.x
        frames, patches, channels = x.shape
        kept = truncated_share(patches, 1 - self.merging_ratio)
        others = self.compared_with(frames)
        pairs = [(frame, other) for frame, other in enumerate(others) if other is not None]
        chosen = self._least_similar(x, pairs, kept)
        every = torch.arange(patches, device=x.device)
        at = {frame: index for index, (frame, _) in enumerate(pairs)}
        places = [frame * patches + (chosen[at[frame]] if frame in at else every) for frame in range(len(others))]
        merged = kept_in_order_of(tokens, torch.cat(places), self.positions)
        return replace(merged, flops=2 * len(pairs) * patches * channels)

    def _least_similar(self, x: Tensor, pairs: list[tuple[int, int]], kept: int) -> Int[Tensor, "pairs kept"]:
        own, other = ([pair[side] for pair in pairs] for side in (0, 1))
        similarity = paired_cosine(x[own], x[other])
        chosen = similarity.argsort(dim=1, stable=True)[:, :kept]
        return chosen.sort(dim=1).values if self.order == "raster" else chosen


WhenAlike = Literal["whole", "previous"]


@dataclass(frozen=True)
class Decode:
    """Attend to int(n (1 - drop_ratio)) of n visual tokens from `layer` on."""

    layer: int = 3
    drop_ratio: float = 0.7
    similarity_threshold: float = 0.9
    """Cosine to the attention of the token before, from which on the two are alike."""
    when_alike: WhenAlike = "whole"
    knob_bounds: ClassVar = {"drop_ratio": (0.0, 1 - 2.0**-12)}

    def __post_init__(self) -> None:
        require_at_least("layer", self.layer, 1)
        for name in ("drop_ratio", "similarity_threshold"):
            require_number(name, getattr(self, name))
        if not 0 <= self.drop_ratio < 1:
            raise ValueError(f"drop_ratio must be in [0, 1), got {self.drop_ratio:g}")
        require_choice("when_alike", self.when_alike, WhenAlike)

    @property
    def full_layers(self) -> int:
        return self.layer

    def left(self, tokens: int) -> int:
        return int(tokens * (1 - self.drop_ratio))

    def __call__(self, attention: Float[Tensor, "h n"], earlier: Any) -> tuple[Int[Tensor, " kept"] | None, Any]:
        mean = attention.mean(0)
        before, selection = earlier if earlier is not None else (None, None)
        if before is not None and float(F.cosine_similarity(mean, before, dim=0)) >= self.similarity_threshold:
            selection = selection if self.when_alike == "previous" else None
        else:
            selection = best(mean, self.left(len(mean))).nonzero()[:, 0]
        return selection, (mean, selection)
