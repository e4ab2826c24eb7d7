"""PruneVid: Visual Token Pruning for Efficient Video Large Language Models.

https://arxiv.org/abs/2412.16117 (ACL 2025 Findings).  Written from the paper and from a description of the released code.

1. Frames are clustered into segments.  A patch whose tokens stay similar through a segment is static and averaged over
   the segment's frames; then the static tokens of a segment, and the dynamic tokens of each frame, are clustered in
   space and replaced by cluster means (`Merge`).
2. After LLM layer M only the visual tokens that the question attends to are kept (`Prune`).

Where paper and release differ, or the paper is silent, the difference is a setting; `conf/reducer/prunevid.yaml` follows
the paper and `prunevid_official.yaml` the release.  A segment of one frame has no pairs to compare; all its tokens are
dynamic because we say so.  A group too small for one cluster keeps its tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from prunesweep.checks import require_at_least, require_choice, require_flag, require_number, require_ratio
from prunesweep.clustering import Noise, contiguous_segments, dpc_knn, group_mean, raster_order, run_lengths
from prunesweep.cost import clustering_flops
from prunesweep.reducers import Positions
from prunesweep.types import AttentionVariant, Merged, Prefix, Tokens

Distance = Literal["raw", "unit"]
"""Features of the spatial clustering: as they are (released code) or scaled to unit norm and root mean square one."""
Segmentation = Literal["runs", "repaired"]
"""Segments are the runs of frames with one cluster (paper: as many segments as frames with gamma = 1); or what the release
makes of them, where single frames join a neighbour (one segment with gamma = 1)."""
Order = Literal["raster", "score"]
"""Cluster means in the order of their first patches, or of their centres' scores as released."""
Precision = Literal["float32", "input"]
"""Of the cosines between frames: float32, or the tokens' own type as released."""
Selection = Literal["global", "grouped"]
"""Which tokens compete: all of them for ceil(keep_ratio n) places (paper), or each group for floor(keep_ratio size)."""


@dataclass(frozen=True)
class Merge:
    """Merge static tokens over time and similar tokens in space."""

    segment_ratio: float = 0.25
    """gamma: clusters of frames per frame."""
    segments: int | None = None
    """Clusters of frames as a number instead; at most one per frame."""
    segmentation: Segmentation = "repaired"
    static_threshold: float | None = 0.8
    """tau: mean pairwise cosine above which a patch is static in a segment; None merges nothing over time."""
    at_threshold: bool = False
    """Whether a patch exactly at the threshold is static (paper), or only one above it (release)."""
    precision: Precision = "float32"
    cluster_ratio: float = 0.5
    """beta: clusters per token of a group; 1 leaves the tokens as they are."""
    neighbours: int = 7
    """k of DPC-KNN; not in the paper, 7 in the release; all points where there are fewer."""
    min_cluster_tokens: int = 15
    """Smaller groups are not clustered; 15 in the release."""
    distance: Distance = "raw"
    order: Order = "score"
    density_noise: float = 0.0
    """Scale of the uniform noise on densities; 1e-6 in the release, which does not seed it."""
    seed: int = 0
    """Of that noise."""
    positions: Positions = "renumbered"

    def __post_init__(self) -> None:
        require_ratio("segment_ratio", self.segment_ratio)
        require_ratio("cluster_ratio", self.cluster_ratio)
        require_at_least("neighbours", self.neighbours, 1)
        require_at_least("min_cluster_tokens", self.min_cluster_tokens, 1)
        require_choice("distance", self.distance, Distance)
        require_choice("segmentation", self.segmentation, Segmentation)
        require_choice("order", self.order, Order)
        require_choice("precision", self.precision, Precision)
        require_flag("at_threshold", self.at_threshold)
        require_number("density_noise", self.density_noise)
        if self.density_noise < 0:
            raise ValueError(f"density_noise must be at least 0, got {self.density_noise:g}")
        if self.segments is not None:
            require_at_least("segments", self.segments, 1)
        require_choice("positions", self.positions, Positions)
        if self.static_threshold is not None:
            require_number("static_threshold", self.static_threshold)
            if not -1 <= self.static_threshold <= 1:
                raise ValueError(f"static_threshold must be in [-1, 1], got {self.static_threshold:g}")

    def __call__(self, tokens: Tokens) -> Merged:
        parts = []
        first_frame = 0
        channels = tokens.x.shape[2]
        flops = clustering_flops(len(tokens.x), channels)
        for frames in self.segment_lengths(tokens.x):
            merged = self._merge_segment(tokens.x[first_frame : first_frame + frames], first_frame)
            parts += merged
            if self.static_threshold is not None and frames > 1:
                flops += similarity_flops(frames, tokens.x.shape[1], channels)
            flops += sum(clustering_flops(len(p.label), channels, len(p.x)) for p in merged if len(p.x) < len(p.label))
            first_frame += frames
        return replace(_assemble(tokens, parts, self.positions), flops=flops)

    @property
    def _noise(self) -> Noise:
        return Noise(self.density_noise, self.seed)

    def segment_lengths(self, x: Float[Tensor, "t p c"]) -> list[int]:
        """Frames per segment: DPC-KNN on the frames' mean tokens; at least one cluster."""
        frames = len(x)
        wanted = int(frames * self.segment_ratio) if self.segments is None else min(self.segments, frames)
        label = dpc_knn(x.float().mean(1)[None], max(1, wanted), self.neighbours, self._noise)[0]
        return contiguous_segments(label) if self.segmentation == "repaired" else run_lengths(label)

    def _static(self, x: Float[Tensor, "t p c"]) -> Bool[Tensor, " p"]:
        if self.static_threshold is None or len(x) == 1:
            return torch.zeros(x.shape[1], dtype=torch.bool, device=x.device)
        similarity = mean_similarity(x if self.precision == "input" else x.float())
        return similarity >= self.static_threshold if self.at_threshold else similarity > self.static_threshold

    def _merge_segment(self, x: Float[Tensor, "t p c"], first_frame: int) -> list[_Part]:
        """The static pool of a segment, then the dynamic tokens of each of its frames."""
        static = self._static(x)
        pool = self._cluster(x[:, static].float().mean(0, keepdim=True).to(x.dtype))
        moving = self._cluster(x[:, ~static])
        parts = [_Part(pool.x[0], pool.label[0], static, first_frame, len(x))] if static.any() else []
        if not static.all():
            parts += [_Part(moving.x[i], moving.label[i], ~static, first_frame + i, 1) for i in range(len(x))]
        return parts

    def _cluster(self, x: Float[Tensor, "b n c"]) -> _Clusters:
        """Cluster means of each item's tokens, or the tokens themselves where there are too few to cluster."""
        batch, count, _ = x.shape
        wanted = int(count * self.cluster_ratio)
        if count < self.min_cluster_tokens or self.cluster_ratio == 1 or wanted == 0:
            return _Clusters(x, torch.arange(count, device=x.device).expand(batch, -1))
        features = F.normalize(x.float(), dim=-1) * x.shape[-1] ** 0.5 if self.distance == "unit" else x
        label = dpc_knn(features, wanted, self.neighbours, self._noise)
        if self.order == "raster":
            label = raster_order(label, wanted)
        return _Clusters(group_mean(x, label, wanted), label)


@dataclass(frozen=True)
class _Clusters:
    x: Float[Tensor, "b g c"]
    label: Int[Tensor, "b n"]


@dataclass(frozen=True)
class _Part:
    """Tokens that compete with each other: the static pool of a segment, or one frame's dynamic tokens."""

    x: Float[Tensor, "g c"]
    label: Int[Tensor, " m"]
    patches: Bool[Tensor, " p"]
    """Which patches of its frames it covers, m of them."""
    first_frame: int
    frames: int


def similarity_flops(frames: int, patches: int, channels: int) -> int:
    """Norms of all tokens, and of their sums: two multiply-adds per value."""
    return 2 * 2 * frames * patches * channels


def mean_similarity(x: Float[Tensor, "t p c"]) -> Float[Tensor, " p"]:
    """Each patch's mean cosine over all pairs of two or more frames (paper, eq. of s_i), in the type of x."""
    frames = len(x)
    unit = F.normalize(x, dim=-1)
    # The sum over ordered pairs t != t' of <u_t, u_t'> is |sum_t u_t|^2 minus the frames' own norms.
    pairs = unit.sum(0).square().sum(-1) - unit.square().sum(-1).sum(0)
    return pairs / (frames * (frames - 1))


def _assemble(tokens: Tokens, parts: list[_Part], positions: Positions) -> Merged:
    frames, patches, _ = tokens.x.shape
    device = tokens.x.device
    source = torch.empty(frames, patches, dtype=torch.long, device=device)
    group, position = [], []
    count = 0
    for index, part in enumerate(parts):
        source[part.first_frame : part.first_frame + part.frames, part.patches] = part.label + count
        group.append(torch.full((len(part.x),), index, device=device))
        position.append(part.first_frame * patches + _mean_patch(part))
        count += len(part.x)
    original = positions == "original"
    return Merged(
        tokens=tokens,
        x=torch.cat([part.x for part in parts]),
        group=torch.cat(group),
        source=source,
        position=torch.cat(position) if original else torch.arange(count, device=device),
        span=frames * patches if original else count,
    )


def _mean_patch(part: _Part) -> Int[Tensor, " g"]:
    """The patch index in the middle of each token's members."""
    patch = part.patches.nonzero()[:, 0].float()
    return group_mean(patch[None, :, None], part.label[None], len(part.x))[0, :, 0].round().long()


@dataclass(frozen=True)
class Prune:
    """Keep the visual tokens that the question attends to most."""

    layer: int
    """M: this many layers see all tokens; the attention is that of the last of them."""
    keep_ratio: float = 0.4
    """alpha: fraction of the merged tokens kept."""
    selection: Selection = "global"
    attention: AttentionVariant = "causal"
    """Of the paper's equation 1, or as released: before the rotary embedding and without mask."""
    inclusive: bool = False
    """Layers are counted from 0 and layer M is the last full one, as in the release: one full layer more."""

    def __post_init__(self) -> None:
        require_at_least("layer", self.layer, 1)
        require_ratio("keep_ratio", self.keep_ratio)
        require_choice("selection", self.selection, Selection)
        require_choice("attention", self.attention, AttentionVariant)
        require_flag("inclusive", self.inclusive)

    @property
    def full_layers(self) -> int:
        return self.layer + self.inclusive

    def __call__(self, prefix: Prefix) -> Int[Tensor, " kept"]:
        if prefix.attention is None:
            raise ValueError("attention selection needs a prefix whose question was asked with attention")
        importance = prefix.attention.amax(dim=(0, 1))  # paper: over question tokens; the head reduction is the release's
        return select(importance, prefix.group, self.keep_ratio, self.selection)


def select(
    importance: Float[Tensor, " n"], group: Int[Tensor, " n"], keep_ratio: float, selection: Selection
) -> Int[Tensor, " kept"]:
    """Sorted indices of the most important tokens; of equal ones the first.

    A global selection keeps ceil(keep_ratio n); a grouped one floor(keep_ratio size) of each group, which may be none.
    Where that leaves nothing at all, the most important token stays.
    """
    if selection == "global":
        budget = math.ceil(round(keep_ratio * len(importance), 9))  # 0.1 * 30 is a little over 3 in floating point
        return importance.sort(descending=True, stable=True).indices[:budget].sort().values
    kept = []
    for index in group.unique().tolist():
        members = (group == index).nonzero()[:, 0]
        order = importance[members].sort(descending=True, stable=True).indices
        kept.append(members[order[: int(keep_ratio * len(members))]])
    chosen = torch.cat(kept).sort().values
    return chosen if len(chosen) else importance.argmax()[None]
