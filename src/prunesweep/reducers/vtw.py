"""VTW: Boosting Multimodal Large Language Models with Visual Tokens Withdrawal for Rapid Inference.

https://arxiv.org/abs/2405.05803 (AAAI 2025).  After K layers all visual tokens go.  Layers that ran before keep them in their
caches, so generated tokens still see the video there.  The release finds K offline, as the first layer after which the
outputs hardly differ; here it is a setting.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prunesweep.checks import require_at_least, require_choice
from prunesweep.lazy import torch
from prunesweep.reducers import EarlierCaches, Left
from prunesweep.reducers.schedules import as_deep
from prunesweep.types import Prefix

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor


RELEASED = (15, 32)
"""Layers that have run, of how many."""


@dataclass(frozen=True)
class Withdraw:
    """Keep no visual token after `layer` layers."""

    layer: int | None = None
    """K; None: as deep as released, 15 of 32 layers."""
    earlier_caches: EarlierCaches = "whole"

    def __post_init__(self) -> None:
        if self.layer is not None:
            require_at_least("layer", self.layer, 1)
        require_choice("earlier_caches", self.earlier_caches, EarlierCaches)

    @property
    def full_layers(self) -> int:
        if self.layer is None:
            raise ValueError("how deep is known with the model; ask its steps")
        return self.layer

    def steps(self, layers: int) -> tuple[Withdraw, ...]:
        return (self if self.layer is not None else replace(self, layer=as_deep(layers, *RELEASED)),)

    def left(self, entering: Left) -> int:
        return 0

    def __call__(self, prefix: Prefix) -> Int[Tensor, " kept"]:
        return torch.zeros(0, dtype=torch.long, device=prefix.hidden.device)
