"""DART: Stop Looking for Important Tokens in Multimodal Language Models: Duplication Matters More.

https://arxiv.org/abs/2502.11494 (EMNLP 2025).  After K layers a few pivots are chosen by the size of their keys, and each in
turn keeps the visual tokens that are least like it.  No attention is needed, so any kernel will do.  With `text_pivots=0` the
question is not read, and its step is shared by all questions on a video.

How many stay follows from whole numbers for each pivot: v + (v + t) int(n (1 - drop_ratio) / (v + t)) for v visual and t text
pivots.  The released order of pivots is that of a Python set of places in the prompt, which depends on the length of the text
before the video; `ascending` does not.  The release fails where a pivot is to keep more tokens than are left; here it keeps
those.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from prunesweep.checks import require_at_least, require_choice, require_number
from prunesweep.lazy import F, torch
from prunesweep.reducers import Change, EarlierCaches, Left
from prunesweep.reducers.parts.schedules import AsDeep
from prunesweep.types import Prefix

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

PivotOrder = Literal["ascending", "python_set"]


@dataclass(frozen=True)
class Prune(AsDeep):
    """Keep pivots and the visual tokens that resemble them least."""

    released = (5, 32)
    drop_ratio: float = 0.7778
    visual_pivots: int = 4
    text_pivots: int = 4
    """Of the text behind the video."""
    pivot_order: PivotOrder = "ascending"
    earlier_caches: EarlierCaches = "whole"
    reads = ("normed",)
    knob_bounds: ClassVar = {"drop_ratio": (0.0, 1 - 2.0**-12)}

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("drop_ratio", self.drop_ratio)
        if not 0 <= self.drop_ratio < 1:
            raise ValueError(f"drop_ratio must be in [0, 1), got {self.drop_ratio:g}")
        require_at_least("visual_pivots", self.visual_pivots, 1)
        require_at_least("text_pivots", self.text_pivots, 0)
        require_choice("pivot_order", self.pivot_order, PivotOrder)
        require_choice("earlier_caches", self.earlier_caches, EarlierCaches)

    @property
    def reads_question(self) -> bool:
        return self.text_pivots > 0 or self.earlier_caches == "cut"

    def per_pivot(self, tokens: int) -> int:
        return int(tokens * (1 - self.drop_ratio) / (self.visual_pivots + self.text_pivots))

    def left(self, entering: Left) -> int:
        """If there are as many tokens of text as text pivots."""
        pivots = min(self.visual_pivots, entering.tokens)
        return min(entering.tokens, pivots + self.per_pivot(entering.tokens) * (self.visual_pivots + self.text_pivots))

    def __call__(self, prefix: Prefix) -> Change:
        """Raises ValueError if the text behind the video has fewer tokens than there are text pivots."""
        normed = prefix.looks.normed
        if normed is None:
            raise ValueError("DART needs the hidden states after the final norm")
        visual = prefix.visual.nonzero()[:, 0]
        behind = torch.arange(int(visual[-1]) + 1, len(prefix.visual), device=visual.device)
        if len(behind) < self.text_pivots:
            raise ValueError(f"the text behind the video has {len(behind)} tokens, fewer than text_pivots={self.text_pivots}")
        size = prefix.caches[-1].key[0].float().abs().sum((0, 2))
        pivots = [*_largest(size, visual, self.visual_pivots), *_largest(size, behind, self.text_pivots)]
        order = sorted(pivots) if self.pivot_order == "ascending" else list(set(pivots))
        place = torch.tensor(order, device=visual.device)
        unit = F.normalize(normed.float(), dim=-1)
        likeness = unit[place] @ unit[visual].T
        there = torch.isin(visual, place)
        count = self.per_pivot(len(visual))
        for row in likeness:
            alike = row.masked_fill(there, torch.inf).sort(stable=True).indices[: min(count, int((~there).sum()))]
            there = there.index_fill(0, alike, True)
        return Change(there.nonzero()[:, 0], flops=2 * len(order) * len(visual) * normed.shape[1])


def _largest(size: Tensor, among: Int[Tensor, " m"], count: int) -> list[int]:
    """Places of the `count` largest; of equal ones the first."""
    return among[size[among].sort(descending=True, stable=True).indices[:count]].tolist()
