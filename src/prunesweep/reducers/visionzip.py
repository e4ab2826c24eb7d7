"""VisionZip: Longer is Better but Not Necessary in Vision Language Models, https://arxiv.org/abs/2412.04467 (CVPR 2025).

Written from a description.  Of every frame by itself, the patches that get most attention stay (dominant); of the others,
every so many-th takes in those whose keys are most like its own (contextual).

`level=tower` is the paper's: the patches of CLIP by attention from its class token, before the projector.  There the release
keeps the class token as one of the dominant tokens; video models have none among their features, so `dominant` counts
patches alone.  `level=pooled` is the form that most published numbers on videos have (HoliTom's repository, arXiv
2505.21334): visual tokens after the projector, by the attention that they receive, attention and keys pooled as the tokens
are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from prunesweep.checks import require_at_least, require_choice, require_flag, require_ratio
from prunesweep.lazy import torch
from prunesweep.reducers import Left, NoCounterpartError, Positions
from prunesweep.reducers.parts.assembling import summed
from prunesweep.reducers.parts.similarity import best, unit
from prunesweep.shares import nearest_share
from prunesweep.types import Contributions, Merged, Tokens
from prunesweep.types.facts import FEATURES, POOLED

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

Level = Literal["pooled", "tower"]
Attention = Literal["received", "class"]
"""Received on average from all patches; or from the tower's class token."""
Order = Literal["release", "raster"]
"""Of a frame's tokens: the dominant ones first; or all in order of place."""
DOMINANT = 54 / 64
"""Of a frame's tokens; paper and release."""


@dataclass(frozen=True)
class VisionZip:
    """Keep what is attended to, merge the rest into evenly spread tokens."""

    keep_ratio: float = 0.1
    """Tokens per frame, of which int(54/64 S) are dominant."""
    dominant: int | None = None
    contextual: int | None = None
    """Per frame, both as numbers instead."""
    level: Level = "pooled"
    attention: Attention = "received"
    normalise: bool = False
    """Whether a contextual token is the mean of all in it; as released it is its own patch plus the mean of the others."""
    order: Order = "release"
    positions: Positions = "renumbered"

    def __post_init__(self) -> None:
        require_ratio("keep_ratio", self.keep_ratio)
        if (self.dominant is None) != (self.contextual is None):
            raise ValueError("dominant and contextual must be given both or not at all")
        for name, bound in (("dominant", 0), ("contextual", 1)):
            if getattr(self, name) is not None:
                require_at_least(name, getattr(self, name), bound)
        require_choice("level", self.level, Level)
        require_choice("attention", self.attention, Attention)
        require_flag("normalise", self.normalise)
        require_choice("order", self.order, Order)
        require_choice("positions", self.positions, Positions)

    @property
    def needs(self) -> tuple[str, ...]:
        read = (f"attention.{self.attention}", "key.mean")
        return (*read, FEATURES) if self.level == "tower" else tuple(POOLED + name for name in read)

    @property
    def in_order(self) -> bool:
        """Several patches of the tower may lie in one visual token."""
        return self.order == "raster" and (self.level == "pooled" or self.positions == "renumbered")

    def counts(self, patches: int) -> tuple[int, int]:
        """Dominant and contextual tokens of a frame.  Raises NoCounterpartError where they are more than its patches."""
        dominant, contextual = self.dominant, self.contextual
        if dominant is None or contextual is None:
            size = max(1, nearest_share(patches, self.keep_ratio))
            dominant = int(size * DOMINANT)
            contextual = size - dominant
        if dominant + contextual > patches:
            raise NoCounterpartError(
                f"VisionZip has no {dominant} + {contextual} tokens of frames of {patches}; set dominant and contextual lower"
            )
        return dominant, contextual

    def left(self, frames: int, patches: int) -> Left | None:
        """Unknown of the tower's patches as a share: how many these are the size of the visual tokens does not tell."""
        if self.level == "tower" and self.dominant is None:
            return None
        own = sum(self.counts(patches) if self.level == "pooled" else (self.dominant or 0, self.contextual or 0))
        return Left(frames * own, (own,) * frames)

    def fewest(self, frames: int, patches: int) -> int:
        """Towers have at least as many patches as there are visual tokens."""
        return frames * sum(self.counts(patches))

    def __call__(self, tokens: Tokens) -> Merged:
        """Raises ValueError for tokens without the facts needed."""
        tower = self.level == "tower"
        x = tokens.fact(FEATURES) if tower else tokens.x
        attention, key = (tokens.fact(name) for name in self.needs[:2])
        dominant, contextual = self.counts(x.shape[1])
        salient = best(attention.float(), dominant)
        rest = salient.to(torch.uint8).argsort(dim=1, stable=True)[:, : x.shape[1] - dominant]
        target, goes_to = _targets(unit(key), rest, contextual)
        place, token, share = self._slots(salient, rest, target, goes_to)
        base = torch.arange(len(x), device=x.device)[:, None]
        patch = base * x.shape[1] + torch.arange(x.shape[1], device=x.device)
        shares = Contributions((base * place.shape[1] + token).flatten(), patch.flatten(), share.flatten())
        merged = summed(tokens, (base * x.shape[1] + place).flatten(), shares, self.positions, x if tower else None)
        return replace(merged, flops=2 * len(x) * rest.shape[1] * contextual * key.shape[2])

    def _slots(
        self, salient: Bool[Tensor, "t u"], rest: Int[Tensor, "t r"], target: Int[Tensor, " k"], goes_to: Int[Tensor, "t r"]
    ) -> tuple[Int[Tensor, "t s"], Int[Tensor, "t u"], Float[Tensor, "t u"]]:
        """Where each of a frame's tokens stands, which one each patch is in, and with what share."""
        dominant = salient.shape[1] - rest.shape[1]
        first = (~salient).to(torch.uint8).argsort(dim=1, stable=True)[:, :dominant]
        place = torch.cat([first, rest[:, target]], 1)
        is_target = torch.zeros(rest.shape[1], dtype=torch.bool, device=rest.device).index_fill(0, target, True)
        came = torch.zeros(len(rest), len(target), device=rest.device).scatter_add(
            1, goes_to, (~is_target).float().expand(rest.shape)
        )
        size = (came + 1 if self.normalise else came).gather(1, goes_to)
        share = torch.where(is_target & (not self.normalise), 1.0, 1 / size.clamp(min=1))
        slot = torch.cumsum(salient, 1) - 1
        slot = slot.scatter(1, rest, dominant + goes_to)
        if self.order == "raster":
            order = place.argsort(1)
            place, slot = place.gather(1, order), order.argsort(1).gather(1, slot)
        return place, slot, torch.ones(salient.shape, device=rest.device).scatter(1, rest, share)


def _targets(key: Float[Tensor, "t u d"], rest: Int[Tensor, "t r"], count: int) -> tuple[Int[Tensor, " k"], Int[Tensor, "t r"]]:
    """Every so many-th of the rest, and which of these each of the rest goes to: a target to itself."""
    step = max(1, rest.shape[1] // count)
    target = torch.arange(count, device=rest.device) * step
    own = key.gather(1, rest[..., None].expand(-1, -1, key.shape[2]))
    goes_to = (own @ own[:, target].transpose(1, 2)).argmax(2)
    return target, goes_to.index_copy(1, target, torch.arange(count, device=rest.device).expand(len(rest), -1))
