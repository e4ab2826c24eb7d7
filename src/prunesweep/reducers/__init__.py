"""Token reduction methods.  A method is one file here and one YAML in `conf/reducer/`.

A reducer has two slots, either may be empty: `merge` turns the visual tokens of a video into fewer before they enter the
LLM, `prune` picks the visual tokens that survive a decoder layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from prunesweep.types import AttentionVariant, Merged, Prefix, Tokens


@runtime_checkable
class Merger(Protocol):
    """A frozen dataclass that maps Tokens to Merged."""

    def __call__(self, tokens: Tokens) -> Merged: ...

    # optional: def fewest(self, frames: int, patches: int) -> int, how many tokens it leaves at least (a search then knows
    # costs before it runs anything, see search/bounds.py); a Pruner likewise: def fewest(self, tokens: int) -> int


@runtime_checkable
class Pruner(Protocol):
    """A frozen dataclass that picks visual tokens after `full_layers` layers have run."""

    layer: int
    keep_ratio: float
    attention: AttentionVariant | None
    """What it reads of the question's attention in the last full layer."""

    @property
    def full_layers(self) -> int:
        """How many layers run on all tokens."""
        ...

    def __call__(self, prefix: Prefix) -> Int[Tensor, " kept"]:
        """Indices into the visual tokens, sorted, each once."""
        ...


@dataclass(frozen=True)
class Reducer:
    """A token reduction method with its settings; both slots empty is the dense model."""

    name: str
    merge: Merger | None = None
    prune: Pruner | None = None


Positions = Literal["renumbered", "original"]
"""Positions of reduced visual tokens: counted anew without gaps, or as before the reduction."""


def keep_tokens(tokens: Tokens, kept: Int[Tensor, " kept"], positions: Positions) -> Merged:
    """The visual tokens at the sorted indices `kept`, counted through the video, and no others."""
    frames, patches, _ = tokens.x.shape
    renumbered = torch.arange(len(kept), device=kept.device)
    source = torch.full((frames * patches,), -1, device=kept.device)
    source[kept] = renumbered
    original = positions == "original"
    return Merged(
        tokens=tokens,
        x=tokens.x.flatten(0, 1)[kept],
        group=kept // patches,
        source=source.view(frames, patches),
        position=kept if original else renumbered,
        span=frames * patches if original else len(kept),
    )
