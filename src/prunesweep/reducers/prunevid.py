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

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from prunesweep.checks import require_at_least, require_choice, require_flag, require_number, require_ratio
from prunesweep.cost import clustering_flops
from prunesweep.lazy import F, torch
from prunesweep.reducers import EarlierCaches, Left, NoCounterpartError, Positions
from prunesweep.reducers.parts.clustering import (
    NOT_FINITE,
    Noise,
    contiguous_segments,
    dpc_knn,
    group_mean,
    raster_order,
    run_lengths,
)
from prunesweep.shares import ceil_share, floor_share, truncated_share
from prunesweep.types import AttentionVariant, Merged, Prefix, Tokens

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

Distance = Literal["raw", "unit"]
"""Features of the spatial clustering: as they are (released code) or scaled to unit norm and root mean square one."""
Segmentation = Literal["runs", "repaired"]
"""Segments are the runs of frames with one cluster (paper: as many segments as frames with gamma = 1); or what the release
makes of them, where single frames join a neighbour (one segment with gamma = 1)."""
Order = Literal["raster", "score"]
"""Cluster means in the order of their first patches, or of their centres' scores as released."""
Precision = Literal["float32", "input"]
"""Of the cosines between frames and of all means: float32; or the tokens' own type, in which every pair's cosine, their sum and
the means are rounded as released."""
Counts = Literal["exact", "released"]
"""Shares of counts: of the decimal number, with answers for videos too small to cluster; or as released, products in double
precision, truncated (0.7 of 90 tokens are 62), and an error where the release cannot run: with fewer points than `neighbours`,
or where a share is not even one cluster."""
Selection = Literal["global", "grouped"]
"""Which tokens compete: all of them for ceil(keep_ratio n) places (paper), or each group for floor(keep_ratio size)."""


@dataclass(frozen=True)
class Merge:
    """Merge static tokens over time and similar tokens in space."""

    segment_ratio: float = 0.25
    """gamma: floor(gamma t) clusters of t frames, at least one."""
    segments: int | None = None
    """Clusters of frames as a number instead; at most one per frame."""
    segmentation: Segmentation = "runs"
    static_threshold: float | None = 0.8
    """tau: mean pairwise cosine above which a patch is static in a segment; None merges nothing over time."""
    at_threshold: bool = True
    """Whether a patch exactly at the threshold is static (paper), or only one above it (release); cosines of float32 are exact to
    about 1e-6, so at 1 rounding decides."""
    precision: Precision = "float32"
    cluster_ratio: float = 0.5
    """beta: clusters per token of a group; 1 leaves the tokens as they are, in the order of their scores if `order` says so."""
    neighbours: int = 7
    """k of DPC-KNN; not in the paper, 7 in the release; all points where there are fewer."""
    min_cluster_tokens: int = 1
    """Smaller groups are not clustered; 15 in the release."""
    distance: Distance = "raw"
    order: Order = "raster"
    density_noise: float = 0.0
    """Scale of the uniform noise on densities; 1e-6 in the release, which does not seed it."""
    seed: int = 0
    """Of that noise."""
    counts: Counts = "exact"
    positions: Positions = "renumbered"
    knob_bounds: ClassVar = {"static_threshold": (-1.0, 1.0)}
    in_order = False  # static tokens come before dynamic ones, and two clusters may have the same middle

    def __post_init__(self) -> None:
        require_ratio("segment_ratio", self.segment_ratio)
        require_ratio("cluster_ratio", self.cluster_ratio)
        require_at_least("neighbours", self.neighbours, 1)
        require_at_least("min_cluster_tokens", self.min_cluster_tokens, 1)
        require_choice("distance", self.distance, Distance)
        require_choice("segmentation", self.segmentation, Segmentation)
        require_choice("order", self.order, Order)
        require_choice("precision", self.precision, Precision)
        require_choice("counts", self.counts, Counts)
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

    def left(self, frames: int, patches: int) -> Left | None:
        """Known without merging over time.  Raises NoCounterpartError as a call does."""
        if self.static_threshold is not None:
            return None
        self.require_frames(frames)
        return Left(frames * self.clusters(patches), (self.clusters(patches),) * frames)

    def fewest(self, frames: int, patches: int) -> int:
        """Tokens left of a video in which as much is static as helps.

        Every segment leaves a static pool and the dynamic tokens of at least one frame, and there are at least as many
        segments as clusters of frames, unless these are repaired.
        """

        segments = 1 if self.segmentation == "repaired" else self.frame_clusters(frames)
        return segments * min(self.clusters(static) + self.clusters(patches - static) for static in range(patches + 1))

    def clusters(self, size: int) -> int:
        """What is left of a group of `size` tokens that compete; all of them, where it is too small to cluster.

        Raises NoCounterpartError where `counts` is as released and the release cannot run.
        """
        if size < self.min_cluster_tokens:
            return size
        return self._share(size, "cluster_ratio", "visual tokens of a group") or size

    def frame_clusters(self, frames: int) -> int:
        """Clusters of frames, at least one.  Raises NoCounterpartError as `clusters` does."""
        clusters = self._share(frames, "segment_ratio", "frames")
        return max(1, clusters) if self.segments is None else min(self.segments, frames)

    def _share(self, points: int, ratio: str, what: str) -> int:
        share = getattr(self, ratio)
        clusters = share_of(points, share, self.counts)
        if self.counts == "released" and points < self.neighbours:
            raise _no_counterpart(f"clusters at least neighbours={self.neighbours} {what}, got {points}")
        if self.counts == "released" and clusters == 0:
            raise _no_counterpart(f"makes at least one cluster, got {ratio}={share:g} of {points} {what}")
        return clusters

    def require_frames(self, frames: int) -> None:
        """Raises NoCounterpartError for a number of frames that no video can be merged with."""
        self.frame_clusters(frames)

    def __call__(self, tokens: Tokens) -> Merged:
        """The static pools of all segments and the dynamic tokens of all frames are clustered at once."""
        x = tokens.x.detach()
        lengths = self.segment_lengths(x)
        segment = torch.tensor([index for index, length in enumerate(lengths) for _ in range(length)], device=x.device)
        in_segment = (segment == torch.arange(len(lengths), device=x.device)[:, None]).float()
        static = self._static(x, in_segment, lengths)
        means = segment_means(x.to(self._type(x)), in_segment).to(x.dtype)
        groups = self._cluster((means, x), torch.cat([static, ~static[segment]]))
        merged = _assemble(tokens, groups, segment, lengths, self.positions)
        return replace(merged, flops=self._flops(tokens, lengths, groups))

    def _type(self, x: Tensor) -> torch.dtype:
        return x.dtype if self.precision == "input" else torch.float32

    @property
    def _permutes(self) -> bool:
        """With one cluster a token, the release still puts every group into the order of its scores."""
        return self.cluster_ratio == 1 and self.order == "score"

    @property
    def _noise(self) -> Noise:
        return Noise(self.density_noise, self.seed)

    def segment_lengths(self, x: Float[Tensor, "t p c"]) -> list[int]:
        """Frames per segment: DPC-KNN on the frames' mean tokens; at least one cluster."""
        frames = x.to(self._type(x)).mean(1).float()
        found = dpc_knn(frames[None], self.frame_clusters(len(x)), self.neighbours, self._noise, known_finite=True)[0]
        *label, finite = torch.cat([found, frames.isfinite().all()[None]]).tolist()  # one wait for the device
        if not finite:
            raise ValueError(NOT_FINITE)
        return contiguous_segments(label) if self.segmentation == "repaired" else run_lengths(label)

    def _static(self, x: Float[Tensor, "t p c"], in_segment: Float[Tensor, "g t"], lengths: list[int]) -> Bool[Tensor, "g p"]:
        """Which patches are static in each segment; none in a segment of one frame."""
        if self.static_threshold is None:
            return torch.zeros(len(in_segment), x.shape[1], dtype=torch.bool, device=x.device)
        similarity = pairwise_similarity(x, lengths) if self.precision == "input" else mean_similarity(x.float(), in_segment)
        static = similarity >= self.static_threshold if self.at_threshold else similarity > self.static_threshold
        return static & (in_segment.sum(1, keepdim=True) > 1)

    def _cluster(self, parts: tuple[Tensor, ...], member: Bool[Tensor, "b p"]) -> _Groups:
        """Clusters of each item's members; an item too small for one cluster, or for the setting, keeps them.

        The b items come in parts, each `i p c`: together they would be a second copy of the video.
        """
        size = member.sum(1)
        sizes = size.tolist()
        clusters = [self.clusters(n) for n in sizes]
        whole = [wanted == n for wanted, n in zip(clusters, sizes, strict=True)]  # too small, or one a token, in its place
        if self._permutes:
            whole = [n < self.min_cluster_tokens for n in sizes]
        width = max(sizes)
        patch = member.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :width]  # members first, in order
        rank = torch.arange(width, device=member.device)
        there = rank < size[:, None]
        x = _gathered(parts, patch)
        label = rank.expand(len(x), -1)
        if not all(whole):
            kept = torch.tensor(whole, device=x.device)[:, None]
            label = label.where(kept, self._labels(x, clusters, sizes, there))
        label = label.where(there, 0)
        mean = group_mean(x, label, max(clusters), there, self._type(x))
        return _Groups(mean, label, there, patch, sizes, clusters)

    def _labels(
        self, x: Float[Tensor, "b w c"], clusters: list[int], sizes: list[int], there: Bool[Tensor, "b w"]
    ) -> Int[Tensor, "b w"]:
        """Of items with members; what the others get means nothing."""
        features = F.normalize(x.float(), dim=-1) * x.shape[-1] ** 0.5 if self.distance == "unit" else x
        members = [item for item, wanted in enumerate(clusters) if wanted]
        some = torch.tensor(members, device=x.device)
        if len(members) < len(x):
            features, there = features[some], there[some]
        wanted, sizes = [clusters[item] for item in members], [sizes[item] for item in members]
        label = dpc_knn(features, wanted, self.neighbours, self._noise, sizes, known_finite=True)  # the frames were
        if self.order == "raster":
            label = raster_order(label, max(wanted), there)
        return label if len(label) == len(x) else label.new_zeros(x.shape[:2]).index_copy(0, some, label)

    def _flops(self, tokens: Tokens, lengths: list[int], groups: _Groups) -> int:
        frames, patches, channels = tokens.x.shape
        flops = clustering_flops(frames, channels)
        if self.static_threshold is not None:
            of_segment = pairwise_flops if self.precision == "input" else similarity_flops
            flops += sum(of_segment(length, patches, channels) for length in lengths if length > 1)
        sizes = zip(groups.sizes, groups.clusters, strict=True)
        clustered = [pair for pair in sizes if pair[1] < pair[0] or (self._permutes and pair[0] >= self.min_cluster_tokens)]
        return flops + sum(clustering_flops(size, channels, clusters) for size, clusters in clustered)


@dataclass(frozen=True)
class _Groups:
    """Sets of tokens that compete with each other, padded to one width: a static pool per segment, then a set per frame."""

    mean: Float[Tensor, "b g c"]
    """Of each cluster's tokens; zero for padding."""
    label: Int[Tensor, "b w"]
    """The cluster of each token; 0 for padding."""
    there: Bool[Tensor, "b w"]
    patch: Int[Tensor, "b w"]
    """Where each token stands in its frame."""
    sizes: list[int]
    """How many tokens are there."""
    clusters: list[int]


def _gathered(parts: tuple[Float[Tensor, "i p c"], ...], patch: Int[Tensor, "b w"]) -> Float[Tensor, "b w c"]:
    """The chosen patches of all items, written where they belong: `cat` would hold them twice."""
    lengths, channels = [len(part) for part in parts], parts[0].shape[2]
    x = parts[0].new_empty(*patch.shape, channels)
    for part, place, out in zip(parts, patch.split(lengths), x.split(lengths), strict=True):
        torch.gather(part, 1, place[..., None].expand(-1, -1, channels), out=out)
    return x


def _no_counterpart(bound: str) -> NoCounterpartError:
    return NoCounterpartError(f"PruneVid as released has no counterpart: its code {bound}; use reducer=prunevid or counts=exact")


def share_of(count: int, share: float, counts: Counts) -> int:
    return truncated_share(count, share) if counts == "released" else floor_share(count, share)


def segment_means(x: Float[Tensor, "t p c"], in_segment: Float[Tensor, "g t"]) -> Float[Tensor, "g p c"]:
    """Each patch's mean over a segment's frames, in the type of x."""
    membership = in_segment.to(x.dtype)
    return (membership @ x.flatten(1) / membership.sum(1, keepdim=True)).unflatten(1, x.shape[1:])


def similarity_flops(frames: int, patches: int, channels: int) -> int:
    """Norms of all tokens, and of their sums: two multiply-adds per value."""
    return 2 * 2 * frames * patches * channels


def pairwise_flops(frames: int, patches: int, channels: int) -> int:
    """Norms of all tokens, and inner products of all ordered pairs of frames."""
    return 2 * frames * patches * channels * (1 + frames)


def mean_similarity(x: Float[Tensor, "t p c"], in_segment: Float[Tensor, "g t"]) -> Float[Tensor, "g p"]:
    """Each patch's mean cosine over all pairs of a segment's frames (paper, eq. of s_i), in the type of x.

    `in_segment` is one where a frame belongs to a segment.  Of a segment of one frame the result means nothing.
    """
    unit = F.normalize(x, dim=-1)
    length = in_segment.sum(1, keepdim=True).to(x.dtype)
    # The sum over ordered pairs t != t' of <u_t, u_t'> is |sum_t u_t|^2 minus the frames' own norms.
    membership = in_segment.to(x.dtype)
    summed = (membership @ unit.flatten(1)).unflatten(1, x.shape[1:])
    pairs = summed.square().sum(-1) - membership @ torch.linalg.vector_norm(unit, dim=-1).square()
    return pairs / (length * (length - 1))


def pairwise_similarity(x: Float[Tensor, "t p c"], lengths: list[int]) -> Float[Tensor, "g p"]:
    """The same in the order of the released code, which matters in half precision: every pair's cosine, their sum without one for
    each frame itself, over the number of ordered pairs, each rounded to the type of x.
    """
    unit = F.normalize(x, dim=-1)
    means = []
    for part in unit.split(lengths):
        frames = len(part)
        cosine = part.transpose(0, 1) @ part.permute(1, 2, 0)
        means.append((cosine.sum(-1) - 1).sum(-1) / max(1, frames * (frames - 1)))
    return torch.stack(means)


def _assemble(tokens: Tokens, groups: _Groups, segment: Int[Tensor, " t"], lengths: list[int], positions: Positions) -> Merged:
    """Segment by segment: its static pool, then the dynamic tokens of its frames."""
    frames, patches, _ = tokens.x.shape
    device = tokens.x.device
    segments = len(lengths)
    first_frame = [sum(lengths[:index]) for index in range(segments)]
    order: list[int] = []
    for index, (first, length) in enumerate(zip(first_frame, lengths, strict=True)):
        order += [index, *range(segments + first, segments + first + length)]
    place, group, begin = (torch.tensor(own, device=device) for own in _counted(order, groups))
    most = groups.mean.shape[1]
    x = groups.mean.flatten(0, 1)[place]
    position, span = torch.arange(len(x), device=device), len(x)
    if positions == "original":
        middle = group_mean(groups.patch[..., None].float(), groups.label, most, groups.there)[..., 0].round().long()
        frame = torch.tensor([*first_frame, *range(frames)], device=device)
        position, span = (frame[:, None] * patches + middle).flatten()[place], frames * patches
    token = (begin[:, None] + groups.label).where(groups.there, -1)
    on_patches = torch.full((len(token), patches), -1, device=device).scatter(1, groups.patch, token)
    return Merged(
        tokens=tokens,
        x=x,
        group=group,
        source=torch.maximum(on_patches[segment], on_patches[segments:]),  # a patch is in one of the two sets
        position=position,
        span=span,
    )


def _counted(order: list[int], groups: _Groups) -> tuple[list[int], list[int], list[int]]:
    """Of each token its place among all clusters, padding left out, and its group; of each item its first token.

    On the host, which knows all counts.
    """
    most = groups.mean.shape[1]
    place: list[int] = []
    group: list[int] = []
    begin = [0] * len(order)
    for item in order:
        clusters = groups.clusters[item]
        begin[item] = len(place)
        group += [group[-1] + 1 if group else 0] * clusters
        place += range(item * most, item * most + clusters)
    return place, group, begin


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
    earlier_caches: EarlierCaches = "cut"
    """As in paper and release."""
    counts: Counts = "exact"
    """Of a grouped selection."""

    def __post_init__(self) -> None:
        require_at_least("layer", self.layer, 1)
        require_ratio("keep_ratio", self.keep_ratio)
        require_choice("selection", self.selection, Selection)
        require_choice("attention", self.attention, AttentionVariant)
        require_flag("inclusive", self.inclusive)
        require_choice("earlier_caches", self.earlier_caches, EarlierCaches)
        require_choice("counts", self.counts, Counts)

    @property
    def full_layers(self) -> int:
        return self.layer + self.inclusive

    def left(self, entering: Left) -> int | None:
        """Of a grouped selection it depends on the groups."""
        if self.selection == "global":
            return ceil_share(entering.tokens, self.keep_ratio)
        if entering.groups is None:
            return None
        return max(1, sum(share_of(size, self.keep_ratio, self.counts) for size in entering.groups))

    def most(self, tokens: int) -> int:
        """A grouped selection leaves no more than this, whatever the groups."""
        return max(1, ceil_share(tokens, self.keep_ratio))

    def __call__(self, prefix: Prefix) -> Int[Tensor, " kept"]:
        if prefix.attention is None:
            raise ValueError("attention selection needs a prefix whose question was asked with attention")
        importance = prefix.attention.amax(dim=(0, 1))  # paper: over question tokens; the head reduction is the release's
        return select(importance, prefix.group, self.keep_ratio, self.selection, self.counts)


def select(
    importance: Float[Tensor, " n"], group: Int[Tensor, " n"], keep_ratio: float, selection: Selection, counts: Counts = "exact"
) -> Int[Tensor, " kept"]:
    """Sorted indices of the most important tokens; of equal ones the first.

    A global selection keeps ceil(keep_ratio n); a grouped one floor(keep_ratio size) of each group, which may be none.
    Where that leaves nothing at all, the most important token stays.
    """
    if selection == "global":
        budget = ceil_share(len(importance), keep_ratio)
        return importance.sort(descending=True, stable=True).indices[:budget].sort().values
    kept = []
    for index in group.unique().tolist():
        members = (group == index).nonzero()[:, 0]
        order = importance[members].sort(descending=True, stable=True).indices
        kept.append(members[order[: share_of(len(members), keep_ratio, counts)]])
    chosen = torch.cat(kept).sort().values
    return chosen if len(chosen) else importance.argmax()[None]
