"""DyCoke's dynamic pruning while decoding (arXiv 2411.15024, CVPR 2025).

The prompt itself costs what it costs without; so does the first generated token, and every answer that is scored by options
of one token.  Each generated token attends to the whole cache in the first layers, and in the others only to the visual
tokens that it attended to most in the last of these.  The cache holds everything all the time, so that a token may come back.
Where a token's attention is like the one before's, the release attends to the whole cache; the paper keeps the earlier
selection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from prunesweep.checks import require_at_least, require_choice, require_number
from prunesweep.lazy import F
from prunesweep.reducers.similarity import best

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

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
