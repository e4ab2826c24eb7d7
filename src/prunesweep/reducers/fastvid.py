"""FastVID: Dynamic Density Pruning for Fast Video Large Language Models, https://arxiv.org/abs/2503.11187 (NeurIPS 2025).

Written from a description of the release, which has three codes; the settings are its differences:

- LLaVA-OneVision (default): `remainder=floor`, `anchor_in_mean=true`.
- LLaVA-Video: `remainder=spread`, `anchor_in_mean=false`.
- Qwen2.5-VL: as LLaVA-Video with `still_threshold=0.95`, `features=mean`, `attention=received`.

1.  The video is cut where frames are least alike, and where they are unlike.
2.  Of a frame's budget a share is salient: the tokens with most attention, unchanged.
3.  The rest of a segment's budget are anchors, peaks of density among the other tokens of every so many-th frame, counted
   from the segment's end.  All other tokens of the segment go to the most similar anchor of every anchor frame, which
   becomes the weighted mean of itself and them.  So a token may be in several.

Where the release fails, ours takes less: at most as many segments as frames, at most as many anchors as tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from prunesweep.checks import require_at_least, require_choice, require_flag, require_number, require_ratio, require_share
from prunesweep.cost import clustering_flops
from prunesweep.lazy import torch
from prunesweep.reducers import NoCounterpartError, Positions
from prunesweep.reducers.parts.assembling import Part, joined, reordered, summed, untouched
from prunesweep.reducers.parts.clustering import Noise, score_ranks
from prunesweep.reducers.parts.similarity import best, best_match, unit
from prunesweep.reducers.parts.windows import bounds, cut, frame_similarity
from prunesweep.shares import truncated_share
from prunesweep.types import Contributions, Merged, Tokens

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

Remainder = Literal["floor", "spread"]
"""Of budgets that do not divide: lost, or spread over a segment's frames."""
Features = Literal["head", "mean"]
"""By which frames are compared: the vision tower's own pooling head, or mean tokens."""
Attention = Literal["probe", "received"]
"""That makes a token salient: of the pooling head's probe, or received from all patches."""
NEIGHBOURS = 4
"""Of density; as released."""


class Plan(NamedTuple):
    """How many tokens each frame of a segment gives."""

    salient: list[int]
    anchors: list[int]


@dataclass(frozen=True)
class FastVid:
    """Keep what is attended to, and merge each segment into its densest tokens."""

    keep_ratio: float = 0.1
    segments: int = 8
    """c: at least, where there are as many frames."""
    segment_threshold: float = 0.9
    """tau: frames less alike begin another segment."""
    context_share: float = 0.4
    """d: of the budget."""
    anchor_step: int = 4
    anchor_weight: float = 0.6
    """beta: at least; 1/(n + 1) where n tokens came and that is more."""
    anchor_in_mean: bool = True
    remainder: Remainder = "floor"
    still_threshold: float | None = None
    """Of frames more alike than this only the last gives tokens."""
    features: Features = "head"
    attention: Attention = "probe"
    density_noise: float = 0.0
    """Scale of the uniform noise on densities; 1e-6 in the release, which does not seed it."""
    seed: int = 0
    positions: Positions = "original"

    def __post_init__(self) -> None:
        require_ratio("keep_ratio", self.keep_ratio)
        require_at_least("segments", self.segments, 1)
        require_number("segment_threshold", self.segment_threshold)
        require_share("context_share", self.context_share)
        require_at_least("anchor_step", self.anchor_step, 1)
        require_share("anchor_weight", self.anchor_weight)
        require_flag("anchor_in_mean", self.anchor_in_mean)
        require_choice("remainder", self.remainder, Remainder)
        if self.still_threshold is not None:
            require_number("still_threshold", self.still_threshold)
            if self.remainder != "spread":
                raise ValueError("still_threshold needs remainder=spread: frames that give nothing leave their part to others")
        require_choice("features", self.features, Features)
        require_choice("attention", self.attention, Attention)
        require_share("density_noise", self.density_noise)
        require_choice("positions", self.positions, Positions)

    @property
    def needs(self) -> tuple[str, ...]:
        attention = f"pooled.attention.{self.attention}"
        return (attention, "frame.head") if self.features == "head" else (attention,)

    @property
    def in_order(self) -> bool:
        """Below half its weight an anchor may belong more to other tokens than to its own, which no patch went to then."""
        return self.anchor_weight > 0.5

    def budget(self, patches: int) -> int:
        """Of a frame.  Raises NoCounterpartError where it is none."""
        budget = truncated_share(patches, self.keep_ratio)
        if not budget:
            raise NoCounterpartError(
                f"FastVID has no keep_ratio={self.keep_ratio:g} of {patches} tokens per frame: that is less than one of them"
            )
        return budget

    def left(self, frames: int, patches: int) -> None:
        return None

    def fewest(self, frames: int, patches: int) -> int:
        """Of any cut into segments; where still frames give nothing, of a video that stands still in each."""
        if self.still_threshold is not None:
            return max(1, min(self.segments, frames) * min(self.budget(patches), patches // 2))
        rates = [sum(map(sum, self.plan(patches, [True] * length))) / length for length in range(1, frames + 1)]
        return max(1, int(min(rates) * frames))

    def plan(self, patches: int, gives: list[bool]) -> Plan:
        """Of a segment some of whose frames give tokens, the last among them."""
        budget = self.budget(patches)
        giving = [index for index, is_giving in enumerate(gives) if is_giving]
        anchoring = giving[:: -self.anchor_step]  # from the end
        salient, anchors = [0] * len(gives), [0] * len(gives)
        if self.remainder == "floor":
            context = truncated_share(budget, self.context_share)
            per_frame = min(context * len(gives) // len(anchoring), patches - budget + context)
            return Plan([budget - context] * len(gives), [per_frame * (index in anchoring) for index in range(len(gives))])
        whole = budget * len(gives)
        context = truncated_share(whole, self.context_share)
        if self.still_threshold is not None:
            context = max(1, context)
        for index, size in zip(anchoring, spread(context, len(anchoring)), strict=True):
            anchors[index] = min(size, patches // 2 if self.still_threshold is not None else patches)
        for index, size in zip(giving, spread(max(0, whole - context), len(giving)), strict=True):
            salient[index] = min(size, patches - anchors[index])
        return Plan(salient, anchors)

    def plans(self, similarity: Float[Tensor, " t-1"], patches: int) -> Iterator[tuple[int, Plan]]:
        """Of each segment, and its first frame."""
        gives = [True] * (len(similarity) + 1)
        if self.still_threshold is not None:
            gives[:-1] = (similarity < self.still_threshold).tolist()
        for first, stop in bounds(cut(similarity, self.segment_threshold, self.segments)):
            yield first, self.plan(patches, [*gives[first : stop - 1], True])

    def __call__(self, tokens: Tokens) -> Merged:
        """Raises NoCounterpartError for a budget below a token, ValueError for tokens without the facts needed."""
        x = tokens.x.detach()
        patches, channels = x.shape[1:]
        frames = tokens.fact("frame.head") if self.features == "head" else x.float().mean(1)
        plans = list(self.plans(frame_similarity(frames), patches))
        salient_counts = torch.tensor([count for _, plan in plans for count in plan.salient], device=x.device)
        salient = best(tokens.fact(f"pooled.attention.{self.attention}").float(), salient_counts)
        parts = [untouched(salient.flatten().nonzero()[:, 0])]
        flops = sum(clustering_flops(patches - count, channels) for count in salient_counts.tolist())
        for first, plan in plans:
            others = (~salient[first : first + len(plan.anchors)]).flatten().nonzero()[:, 0] + first * patches
            vectors = unit(x.flatten(0, 1)[others]) if any(plan.anchors) else others
            for frame, count in enumerate(plan.anchors, first):
                if count:
                    anchors = self._anchors(x[frame], ~salient[frame], count) + frame * patches
                    parts.append(Part(anchors, self._shares(others, vectors, anchors)))
                    flops += 2 * len(others) * count * channels
        whole = joined(parts)
        place, shares = reordered(whole, whole.place.argsort(stable=True))
        return replace(summed(tokens, place, shares, self.positions), flops=flops)

    def _anchors(self, x: Float[Tensor, "p c"], candidate: Bool[Tensor, " p"], count: int) -> Int[Tensor, " k"]:
        """A frame's densest tokens; the densest first, or, where remainders are spread, in order of place; as released."""
        place = candidate.nonzero()[:, 0]
        rank = score_ranks(x[place][None], NEIGHBOURS, Noise(self.density_noise, self.seed))[0]
        chosen = place[rank.argsort()[:count]]
        return chosen.sort().values if self.remainder == "spread" else chosen

    def _shares(self, others: Int[Tensor, " o"], vectors: Float[Tensor, "o c"], anchor: Int[Tensor, " k"]) -> Contributions:
        """Of the anchors of one frame: what they and the tokens that went to them have of the merged ones."""
        at = torch.searchsorted(others, anchor)
        goes_to = best_match(vectors, vectors[at]).index
        comes = torch.ones_like(others, dtype=torch.bool).index_fill(0, at, self.anchor_in_mean)
        came = torch.bincount(goes_to[comes], minlength=len(anchor)).float()
        own = (1 / (came + 1)).clamp(min=self.anchor_weight).masked_fill(came == 0, 1)
        each = (1 - own) / came.clamp(min=1)
        itself = torch.arange(len(anchor), device=anchor.device)
        at_home = comes[at] & (goes_to[at] == itself)
        comes[at[at_home]] = False
        goes_to = goes_to[comes]
        share = torch.cat([own + each.where(at_home, 0), each[goes_to]])
        return Contributions(torch.cat([itself, goes_to]), torch.cat([anchor, others[comes]]), share)


def spread(count: int, parts: int) -> list[int]:
    """As evenly as can be, the first ones more."""
    return [count // parts + (index < count % parts) for index in range(parts)]
