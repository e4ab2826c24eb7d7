"""Facts of a vision tower as PruMerge and its like read them."""

from __future__ import annotations

import torch

from prunesweep.types import Fact

PRUMERGE = ("features", "key.joined", "attention.joined")


def tower_facts(features: torch.Tensor, key: torch.Tensor, attention: torch.Tensor) -> dict[str, Fact]:
    """Of `t u v`, `t u k` and `t u`; the attention has cost 7 FLOPs."""
    return dict(zip(PRUMERGE, (Fact(features), Fact(key), Fact(attention, 7)), strict=True))
