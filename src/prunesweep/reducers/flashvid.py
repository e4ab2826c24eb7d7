"""FlashVID: Efficient Video Large Language Models via Training-free Tree-based Token Merging.

https://arxiv.org/abs/2602.08024 (ICLR 2026).  Written from a description.

1.  The video is cut into segments where a frame's mean token is unlike the next one's.
2.  Of every frame those tokens are selected that lie far apart, are attended to and resemble the segment.
3.  Each of the others is linked to the most similar one of the frame before, if it is similar enough; trees of links become
   their means, at the place of their first token.  No more links are made than the budget allows.
4.  What is left of a frame is clustered down to the budget; a cluster becomes the mean of its trees, at its centre's place.

Where the release picks a selected token again, counts a tree's tokens wrongly, or merges a single frame's selected patches
once more, ours does not unless a setting says so; a cut is made once, and no more tokens are asked for than a frame has.

Inside the LLM the tokens go that the prompt's last token attends to least (`Prune`).  After 20 of 28 layers ceil(keep_ratio
n) stay, of the product in double precision; with 0.3 and a quarter more at the entrance than asked for, the mean over the
layers is what was asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from prunesweep.checks import require_at_least, require_choice, require_number, require_ratio, require_share
from prunesweep.cost import clustering_flops
from prunesweep.lazy import torch
from prunesweep.reducers import EarlierCaches, Left, Positions
from prunesweep.reducers.parts.assembling import Part, joined, reordered, summed, untouched, weighted_sums
from prunesweep.reducers.parts.clustering import Noise, dpc_peaks
from prunesweep.reducers.parts.schedules import AsDeep
from prunesweep.reducers.parts.similarity import Match, best, farthest, unit
from prunesweep.reducers.parts.windows import bounds, cut, frame_similarity
from prunesweep.shares import rounded_share
from prunesweep.types import Contributions, Merged, Prefix, Tokens

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

Selection = Literal["attn_div_v2", "attn_div", "div", "attn"]
"""Distances times attention and likeness to the segment; times attention; distances alone; attention alone."""
TreeMean = Literal["true", "release"]
"""Sums of trees divided by their tokens; or, as released, by one more than the tokens linked to their first directly."""
Single = Literal["unselected", "release"]
"""Of a segment of one frame: clusters of what was not selected; or of all, so that a selected patch counts twice."""
NEIGHBOURS = 7
"""Of density, as released; at most as many as there are clusters."""
LEAST_LINKED = -1 + 1e-6
"""Tokens without a candidate have a similarity of -1."""


@dataclass(frozen=True)
class FlashVid:
    """Select what is attended to and differs, merge the rest in trees over time and clusters in space."""

    keep_ratio: float = 0.25
    """R; times `expansion` of a frame's tokens enter the LLM, where the method goes on to prune."""
    expansion: float = 1.25
    selected_share: float = 0.7
    """alpha, of the budget."""
    link_threshold: float = 0.8
    segments: int = 8
    """At least, where there are as many frames."""
    segment_threshold: float = 0.9
    selection: Selection = "attn_div_v2"
    tree_mean: TreeMean = "true"
    single: Single = "unselected"
    density_noise: float = 0.0
    """Scale of the uniform noise on densities; 1e-6 in the release, which does not seed it."""
    seed: int = 0
    positions: Positions = "renumbered"

    def __post_init__(self) -> None:
        require_ratio("keep_ratio", self.keep_ratio)
        require_share("selected_share", self.selected_share)
        for name in ("expansion", "link_threshold", "segment_threshold"):
            require_number(name, getattr(self, name))
        if self.expansion <= 0:
            raise ValueError(f"expansion must be above 0, got {self.expansion:g}")
        require_at_least("segments", self.segments, 1)
        require_choice("selection", self.selection, Selection)
        require_choice("tree_mean", self.tree_mean, TreeMean)
        require_choice("single", self.single, Single)
        require_share("density_noise", self.density_noise)
        require_choice("positions", self.positions, Positions)

    @property
    def needs(self) -> tuple[str, ...]:
        return () if self.selection == "div" else ("pooled.attention.received",)

    @property
    def in_order(self) -> bool:
        """A patch that counts twice may be a place of two tokens."""
        return self.single == "unselected"

    def budget(self, patches: int) -> tuple[int, int]:
        """Selected and merged tokens of a frame, in double precision as released."""
        whole = min(patches, math.ceil(patches * self.keep_ratio * self.expansion))
        selected = min(whole, math.ceil(whole * self.selected_share))
        return selected, whole - selected

    def left(self, frames: int, patches: int) -> None:
        return None

    def fewest(self, frames: int, patches: int) -> int:
        """Clusters are rounded up."""
        return frames * sum(self.budget(patches))

    def __call__(self, tokens: Tokens) -> Merged:
        """Raises ValueError for tokens without the attention that they receive."""
        x = tokens.x.detach()
        frames, patches, channels = x.shape
        lengths = cut(frame_similarity(x.float().mean(1)), self.segment_threshold, self.segments)
        vectors = unit(x)
        selected = self._selected(tokens, vectors, lengths)
        trees = self._trees(vectors, selected, lengths)
        clusters, sizes = self._clusters(x, trees, selected, lengths)
        merged = self._merged(tokens, selected, trees, clusters)
        compared = (0 if self.selection == "attn" else frames) + sum(length - 1 for length in lengths)
        relevance = sum(length**2 for length in lengths) if self.selection == "attn_div_v2" else 0
        flops = 2 * (compared * patches**2 + relevance * patches) * channels
        return replace(merged, flops=flops + sum(clustering_flops(size, channels) for size in sizes))

    def _selected(self, tokens: Tokens, vectors: Float[Tensor, "t p c"], lengths: list[int]) -> Bool[Tensor, "t p"]:
        count, _ = self.budget(vectors.shape[1])
        if self.selection == "attn" or not count:
            return best(tokens.fact("pooled.attention.received").float(), count)
        distance = 1 - vectors @ vectors.mT
        if self.selection != "div":
            distance = distance * tokens.fact("pooled.attention.received").float()[:, None]
        if self.selection == "attn_div_v2":
            distance = distance * segment_relevance(tokens.x, lengths)[:, None]
        every = torch.arange(len(distance), device=distance.device)
        first = distance.kthvalue(min(2, distance.shape[1]), dim=1).values.argmax(1)
        picks = farthest(lambda pick: distance[every, pick], first, count)
        return torch.zeros(distance.shape[:2], dtype=torch.bool, device=distance.device).scatter(1, picks, True)

    def _trees(self, vectors: Float[Tensor, "t p c"], selected: Bool[Tensor, "t p"], lengths: list[int]) -> _Trees:
        """Of the tokens that are not selected; the others are trees of their own."""
        root = torch.arange(selected.numel(), device=selected.device).view(selected.shape)
        parent = root.clone()
        for first, stop in bounds(lengths):
            if stop - first == 1:
                continue
            similarity, match = links(vectors[first:stop], selected[first:stop])
            linked = similarity > self._threshold(similarity, stop - first)
            place = match + root[first : stop - 1, :1]
            parent[first + 1 : stop] = parent[first + 1 : stop].where(~linked, place)
            for frame, here, at in zip(range(first + 1, stop), linked, match, strict=True):
                root[frame] = root[frame].where(~here, root[frame - 1][at])
        size = torch.bincount((root if self.tree_mean == "true" else parent).flatten(), minlength=root.numel())
        return _Trees(root.flatten(), 1 / size[root.flatten()].float())

    def _threshold(self, similarity: Float[Tensor, "w-1 p"], frames: int) -> float:
        """So high that no more tokens are linked than the budget allows."""
        allowed = frames * (similarity.shape[1] - sum(self.budget(similarity.shape[1])))
        if int((similarity > self.link_threshold).sum()) <= allowed:
            return self.link_threshold
        return max(float(similarity.flatten().sort(descending=True).values[max(0, allowed - 1)]), LEAST_LINKED)

    def _clusters(
        self, x: Float[Tensor, "t p c"], trees: _Trees, selected: Bool[Tensor, "t p"], lengths: list[int]
    ) -> tuple[_Clusters, list[int]]:
        """What is merged of every frame, and how many trees were clustered in each that had more than its budget."""
        patches, (_, merged) = x.shape[1], self.budget(x.shape[1])
        every = torch.arange(selected.numel(), device=x.device)
        left = ((trees.root == every) & ~selected.flatten()).view(selected.shape)
        if self.single == "release":
            alone = [first for first, stop in bounds(lengths) if stop - first == 1]
            left[alone] = True
        means = weighted_sums(x.flatten(0, 1), Contributions(trees.root, every, trees.share), len(every)).view(x.shape)
        label, places, sizes, count = torch.full_like(every, -1), [], [], 0
        for first, stop in bounds(lengths):
            ratio = min(1.0, merged * (stop - first) / max(1, int(left[first:stop].sum())))
            for frame in range(first, stop):
                own = left[frame].nonzero()[:, 0]
                clusters = math.ceil(len(own) * ratio)
                if not clusters:
                    continue
                centre, goes_to = self._clustered(means[frame, own], clusters)
                label[frame * patches + own] = count + goes_to
                places.append(frame * patches + own[centre])
                sizes += [len(own)] if ratio < 1 else []
                count += clusters
        return _Clusters(label, torch.cat([every[:0], *places])), sizes

    def _clustered(self, means: Float[Tensor, "n c"], clusters: int) -> tuple[Int[Tensor, " k"], Int[Tensor, " n"]]:
        """Centres, and to which of them each mean goes."""
        if clusters == len(means):
            return (torch.arange(clusters, device=means.device),) * 2
        wanted = torch.tensor([clusters], device=means.device)
        peaks = dpc_peaks(means[None], wanted, min(clusters, NEIGHBOURS), Noise(self.density_noise, self.seed))
        return peaks.centre[0], peaks.label[0]

    def _merged(self, tokens: Tokens, selected: Bool[Tensor, "t p"], trees: _Trees, clusters: _Clusters) -> Merged:
        """All tokens in order of place."""
        token = clusters.label[trees.root]
        patch = (token >= 0).nonzero()[:, 0]
        size = torch.bincount(clusters.label[clusters.label >= 0], minlength=len(clusters.place))
        share = trees.share[patch] / size[token[patch]]
        merged = Part(clusters.place, Contributions(token[patch], patch, share))
        whole = joined([untouched(selected.flatten().nonzero()[:, 0]), merged])
        place, shares = reordered(whole, whole.place.argsort(stable=True))
        return summed(tokens, place, shares, self.positions)


class _Trees(NamedTuple):
    root: Int[Tensor, " n"]
    """The first token of each token's tree, counted through the video."""
    share: Float[Tensor, " n"]
    """What each token has of its tree."""


class _Clusters(NamedTuple):
    label: Int[Tensor, " n"]
    """Of every tree, at its first token; -1 for what is in none."""
    place: Int[Tensor, " k"]
    """Of the clusters' centres."""


def segment_relevance(x: Float[Tensor, "t p c"], lengths: list[int]) -> Float[Tensor, "t p"]:
    """Each token's inner product with the mean tokens of its segment's frames, on average."""
    means = x.float().mean(1).split(lengths)
    return torch.cat([part.float() @ mean.mean(0) for part, mean in zip(x.split(lengths), means, strict=True)])


def links(vectors: Float[Tensor, "w p c"], selected: Bool[Tensor, "w p"]) -> Match:
    """Of each token but the first frame's, the most similar one of the frame before, at `w-1 p`; -1 where one is selected."""
    similarity = vectors[1:] @ vectors[:-1].mT
    similarity = similarity.masked_fill(selected[1:, :, None] | selected[:-1, None], -1)
    return Match(*similarity.max(2))


@dataclass(frozen=True)
class Prune(AsDeep):
    """Keep the visual tokens that are attended to most."""

    released = (20, 28)
    keep_ratio: float = 0.3
    earlier_caches: EarlierCaches = "whole"
    attention = "causal"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_ratio("keep_ratio", self.keep_ratio)
        require_choice("earlier_caches", self.earlier_caches, EarlierCaches)

    def left(self, entering: Left) -> int:
        return min(entering.tokens, rounded_share(entering.tokens, self.keep_ratio, "binary ceil"))

    def __call__(self, prefix: Prefix) -> Int[Tensor, " kept"]:
        if prefix.attention is None:
            raise ValueError("attention selection needs a prefix whose question was asked with attention")
        importance = prefix.attention[:, -1].mean(0)
        return best(importance, self.left(Left(len(importance)))).nonzero()[:, 0]
