"""VTW: Boosting Multimodal Large Language Models with Visual Tokens Withdrawal for Rapid Inference.

https://arxiv.org/abs/2405.05803 (AAAI 2025).  After K layers all visual tokens go.  Layers that ran before keep them in their
caches, so generated tokens still see the video there.  The release finds K offline, as the first layer after which the
outputs hardly differ; here it is a setting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prunesweep.checks import require_choice
from prunesweep.lazy import torch
from prunesweep.reducers import EarlierCaches, Left
from prunesweep.reducers.parts.schedules import AsDeep
from prunesweep.types import Prefix

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor


@dataclass(frozen=True)
class Withdraw(AsDeep):
    """Keep no visual token after `layer` layers."""

    released = (15, 32)
    earlier_caches: EarlierCaches = "whole"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("earlier_caches", self.earlier_caches, EarlierCaches)

    def left(self, entering: Left) -> int:
        return 0

    def __call__(self, prefix: Prefix) -> Int[Tensor, " kept"]:
        return torch.zeros(0, dtype=torch.long, device=prefix.hidden.device)
