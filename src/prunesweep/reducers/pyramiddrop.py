"""PyramidDrop: Accelerating Your Large Vision-Language Models via Pyramid Visual Redundancy Reduction.

https://arxiv.org/abs/2410.17247 (CVPR 2025).  After each of a few layers a share of the visual tokens goes: those that the
prompt's last token attends to least in the layer ahead, which has not run yet.  Positions are counted anew after every stage,
as released, and layers that ran before keep all that they saw.  The released code ranks in the layer ahead; most
re-implementations take the last layer that has run (`attention=last_layer`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from prunesweep.checks import require_choice, require_ratio
from prunesweep.reducers import Change, EarlierCaches, Left, Positions
from prunesweep.reducers.parts.schedules import require_layers_rise, require_shares_fall, whole_numbers
from prunesweep.reducers.parts.similarity import best
from prunesweep.types import Prefix

if TYPE_CHECKING:
    from torch import Tensor

Source = Literal["next_layer", "last_layer"]
"""Whose attention ranks: that of the layer ahead (released), or of the last one that has run."""
STAGES = 4
"""Of equally many layers each, as released: three times tokens go."""


@dataclass(frozen=True)
class PyramidDrop:
    """Keep int(share N) of the N visual tokens that entered, at least one, after each of `layers`."""

    keep_ratio: float = 0.5
    """lambda: of the tokens of one stage, those that the next one has."""
    keep_ratios: tuple[float, ...] | None = None
    """Of those that entered the LLM, for each stage, in place of keep_ratio's powers."""
    layers: tuple[int, ...] | None = None
    """Layers that have run before each stage; None: a quarter, half and three quarters of them, as released (8, 16, 24 of 32)."""
    attention: Source = "next_layer"
    positions: Positions = "renumbered"
    earlier_caches: EarlierCaches = "whole"

    def __post_init__(self) -> None:
        require_ratio("keep_ratio", self.keep_ratio)
        for name in ("layers", "keep_ratios"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))  # YAML has lists
        require_layers_rise("layers", self.layers)
        require_shares_fall("keep_ratios", self.keep_ratios)
        if self.layers is not None and self.keep_ratios is not None and len(self.layers) != len(self.keep_ratios):
            raise ValueError(f"layers and keep_ratios must be as many, got {len(self.layers)} and {len(self.keep_ratios)}")
        require_choice("attention", self.attention, Source)
        require_choice("positions", self.positions, Positions)
        require_choice("earlier_caches", self.earlier_caches, EarlierCaches)

    def steps(self, layers: int) -> tuple[Stage, ...]:
        after = self.layers or whole_numbers(stage * layers / STAGES for stage in range(1, STAGES))
        shares = self.keep_ratios or tuple(self.keep_ratio**stage for stage in range(1, len(after) + 1))
        rest: Any = (self.attention, self.positions, self.earlier_caches)
        return tuple(Stage(full, share, *rest) for full, share in zip(after, shares, strict=False))


@dataclass(frozen=True)
class Stage:
    """One time that tokens go."""

    full_layers: int
    share: float
    """Of the tokens that entered the LLM."""
    source: Source
    positions: Positions
    earlier_caches: EarlierCaches
    reads_question = True

    @property
    def attention(self) -> Literal["causal"] | None:
        return "causal" if self.source == "last_layer" else None

    @property
    def reads(self) -> tuple[str, ...]:
        return ("ahead",) if self.source == "next_layer" else ()

    def left(self, entering: Left) -> int:
        return min(entering.tokens, max(1, int(entering.at_first * self.share)))

    def __call__(self, prefix: Prefix) -> Change:
        rows: Tensor | None = prefix.looks.ahead if self.source == "next_layer" else prefix.attention
        if rows is None or prefix.entered is None:
            raise ValueError("a stage needs the last token's attention, and to know what entered the LLM")
        importance = rows[:, -1].mean(0)
        budget = self.left(Left(len(importance), None, len(prefix.entered)))
        return Change(best(importance, budget).nonzero()[:, 0], positions=self.positions)
