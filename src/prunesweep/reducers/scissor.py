"""LLaVA-Scissor: Token Compression with Semantic Connected Components for Video LLMs, https://arxiv.org/abs/2506.21862.

Written from a description.  In each frame, tokens that hang together by chains of similar pairs become their mean; then
these means do so through the whole video, each counting as one whatever it stands for.  Finally every token goes to the most
similar of what is left, which becomes the mean of itself and them.  How many are left depends on the video.

Where a set is so large that the release looks at the pairs of some drawn tokens alone, `epsilon` says how many: of 3200
tokens all with 0.05.  What is drawn is ours by `seed`; the release loses tokens then, ours does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prunesweep.checks import require_choice, require_number
from prunesweep.lazy import torch
from prunesweep.reducers import Positions
from prunesweep.reducers.parts.assembling import mean_shares, summed, weighted_sums
from prunesweep.reducers.parts.similarity import best_match, unit
from prunesweep.types import Contributions, Merged, Tokens

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

BLOCK_VALUES = 2**22
"""Of similarities that are in memory at once."""


@dataclass(frozen=True)
class Scissor:
    """Merge tokens that hang together, in frames and then through the video."""

    threshold: float = 0.9
    """tau: pairs above it hang together."""
    epsilon: float = 0.05
    """ceil(ln n / epsilon^2) of n tokens are drawn, whose pairs are looked at; 0 looks at all."""
    seed: int = 0
    """Of the draw."""
    positions: Positions = "renumbered"
    in_order = False  # by components

    def __post_init__(self) -> None:
        require_number("threshold", self.threshold)
        require_number("epsilon", self.epsilon)
        if self.epsilon < 0:
            raise ValueError(f"epsilon must be at least 0, got {self.epsilon:g}")
        require_choice("positions", self.positions, Positions)

    def left(self, frames: int, patches: int) -> None:
        return None

    def fewest(self, frames: int, patches: int) -> int:
        """All tokens may be alike."""
        return 1

    def __call__(self, tokens: Tokens) -> Merged:
        x = tokens.x.detach().float()
        frames, patches, channels = x.shape
        generator = torch.Generator().manual_seed(self.seed)
        own, count, means = [], 0, []
        for frame in x:
            label = self._components(frame, generator)
            own.append(count + label)
            means.append(_means(frame, label))
            count += len(means[-1])
        in_space = torch.cat(own)
        in_frames = torch.cat(means)
        label = self._components(in_frames, generator)
        component = label[in_space]
        size = torch.bincount(in_space)[in_space] * torch.bincount(label)[component]
        whole = _means(in_frames, label)
        goes_to = best_match(unit(x.flatten(0, 1)), unit(whole)).index
        shares = _shares(component, 1 / size.float(), goes_to, len(whole))
        every = torch.arange(frames * patches, device=x.device)
        place = torch.full((len(whole),), len(every), device=x.device).scatter_reduce(0, component, every, "amin")
        merged = summed(tokens, place, shares, self.positions)
        return replace(merged, flops=2 * (frames * patches**2 + count**2 + frames * patches * len(whole)) * channels)

    def _components(self, x: Float[Tensor, "n c"], generator: torch.Generator) -> Int[Tensor, " n"]:
        """In order of their most connected members, the first of equals."""
        count = len(x)
        drawn = max(1, math.ceil(math.log(count) / self.epsilon**2)) if self.epsilon else count
        nodes = torch.arange(count) if drawn >= count else torch.randperm(count, generator=generator)[:drawn].sort().values
        label, degree = components(unit(x), self.threshold, nodes.to(x.device))
        order = degree.argsort(descending=True, stable=True)
        rank = order.argsort()
        first = torch.full_like(rank, count).scatter_reduce(0, label, rank, "amin")
        return order[first[label]].unique(return_inverse=True)[1]


def _means(x: Float[Tensor, "n c"], label: Int[Tensor, " n"]) -> Float[Tensor, "k c"]:
    return weighted_sums(x, mean_shares(label, torch.arange(len(x), device=x.device)), int(label.max()) + 1)


def _shares(component: Int[Tensor, " n"], share: Float[Tensor, " n"], goes_to: Int[Tensor, " n"], count: int) -> Contributions:
    """Of tokens that are the mean of their component's mean, in which each patch has `share`, and of what went to them."""
    parts = 1 + torch.bincount(goes_to, minlength=count).float()
    every, elsewhere = torch.arange(len(component), device=component.device), (component != goes_to).nonzero()[:, 0]
    own = share / parts[component]
    at_home = 1 / parts[goes_to] + own.where(component == goes_to, 0)
    return Contributions(
        torch.cat([goes_to, component[elsewhere]]), torch.cat([every, elsewhere]), torch.cat([at_home, own[elsewhere]])
    )


def components(
    vectors: Float[Tensor, "n c"], threshold: float, nodes: Int[Tensor, " m"]
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """The first member of what each token hangs together with, by pairs above the threshold of which one is in `nodes`.

    And how many such pairs each is in.  A block of nodes at a time: components found so far are joined by the next.
    """
    count = len(vectors)
    label, degree = torch.arange(count, device=nodes.device), torch.zeros(count, dtype=torch.long, device=nodes.device)
    is_node = torch.zeros(count, dtype=torch.bool, device=nodes.device).index_fill(0, nodes, True)
    for rows in nodes.split(max(1, BLOCK_VALUES // count)):
        pairs = vectors[rows] @ vectors.T > threshold
        pairs[torch.arange(len(rows), device=rows.device), rows] = True
        degree += (pairs & ~is_node).sum(0)
        degree[rows] += pairs.sum(1)
        while True:
            least = label.expand(pairs.shape).masked_fill(~pairs, count).amin(1)
            reached = least[:, None].expand(pairs.shape).masked_fill(~pairs, count).amin(0)
            joined = torch.full_like(label, count).scatter_reduce(0, label, torch.minimum(reached, label), "amin")[label]
            if torch.equal(joined, label):
                break
            label = joined
    return label, degree
