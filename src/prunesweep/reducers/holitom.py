"""HoliTom: Holistic Token Merging for Fast Video Large Language Models.

https://arxiv.org/abs/2505.21334 (NeurIPS 2025).  Written from a description.

1.  A patch is static in a window of frames if its tokens resemble those of the next frame throughout.  The windows are those
   that save most tokens when static patches are averaged over time.
2.  What is left to drop is dropped evenly: of a frame's dynamic tokens those stay that get most attention, and of a window's
   averaged tokens those at peaks of their density, which take in the others.

The release's share of dynamic tokens that stay by density instead, D, ends in an error for every D above 0, so there is none
here.  Shares are rounded per frame and per window, so that a little more or less than `keep_ratio` stays.

Inside the LLM tokens that go are folded into those that stay (`Fold`).  After `layer` layers the visual tokens that the
prompt's last token attends to least go.  Each of them is averaged into the kept token whose hidden state is most similar, one
after the other in their order, so that later ones weigh more, as released.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from prunesweep.checks import require_at_least, require_choice, require_number, require_ratio, require_share
from prunesweep.cost import clustering_flops
from prunesweep.lazy import F, torch
from prunesweep.reducers import Change, EarlierCaches, Left, Positions
from prunesweep.reducers.parts.assembling import Part, joined, reordered, summed, untouched
from prunesweep.reducers.parts.clustering import Noise, dpc_peaks
from prunesweep.reducers.parts.schedules import AsDeep
from prunesweep.reducers.parts.similarity import best, paired_cosine
from prunesweep.reducers.parts.windows import best_windows, bounds, static_patches
from prunesweep.types import Contributions, Merged, Prefix, Tokens

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


@dataclass(frozen=True)
class HoliTom:
    """Merge over time what does not move, and keep what is attended to of the rest."""

    keep_ratio: float = 0.1
    """R; what averaging over time saves counts."""
    static_threshold: float = 0.8
    """tau; 0.65 in the release's scripts for R = 0.1."""
    centre_weight: float | None = 0.6
    """beta, of a centre beside the mean of what it takes in; None is the plain mean of all."""
    neighbours: int = 7
    longest_window: int = 1024
    density_noise: float = 0.0
    """Scale of the uniform noise on densities; 1e-6 in the release, which does not seed it."""
    seed: int = 0
    positions: Positions = "renumbered"
    in_order = False  # a window's static tokens come before those of its frames

    def __post_init__(self) -> None:
        require_ratio("keep_ratio", self.keep_ratio)
        require_number("static_threshold", self.static_threshold)
        if self.centre_weight is not None:
            require_share("centre_weight", self.centre_weight)
        require_at_least("neighbours", self.neighbours, 1)
        require_at_least("longest_window", self.longest_window, 1)
        require_share("density_noise", self.density_noise)
        require_choice("positions", self.positions, Positions)

    needs = ("pooled.attention.received",)

    def left(self, frames: int, patches: int) -> None:
        return None

    def fewest(self, frames: int, patches: int) -> int:
        """Rounding takes at most half a token from a window that has static ones, which is two frames long at least."""
        return max(1, min(patches, int(self.keep_ratio * frames * patches - frames / 4)))

    def __call__(self, tokens: Tokens) -> Merged:
        """Raises ValueError for tokens without the attention that they receive."""
        x = tokens.x.detach()
        alike = paired_cosine(x[1:], x[:-1]) > self.static_threshold
        windows = best_windows(alike, self.longest_window)
        static = static_patches(alike, windows.lengths)
        ratio = self.effective_ratio(static.shape[1] * len(x), windows.saved)
        kept = self._dynamic(tokens.fact("pooled.attention.received"), static, windows.lengths, ratio).flatten().nonzero()[:, 0]
        clusters = self._static(x, static, windows.lengths, ratio, none_else=not len(kept))
        merged = self._merged(tokens, clusters, kept)
        sizes = [int(still.sum()) for still in static]
        return replace(merged, flops=2 * x.numel() + sum(clustering_flops(size, x.shape[2]) for size in sizes))

    def effective_ratio(self, count: int, saved: int) -> float:
        """What stays of static and of dynamic tokens alike."""
        return min(self.keep_ratio / ((count - saved) / count), 1)

    def _dynamic(
        self, attention: Float[Tensor, "t p"], static: Bool[Tensor, "g p"], lengths: list[int], ratio: float
    ) -> Bool[Tensor, "t p"]:
        """Of each frame's dynamic tokens, those with most attention."""
        moving = ~static.repeat_interleave(torch.tensor(lengths, device=static.device), 0)
        count = torch.tensor([math.ceil(n * ratio) for n in moving.sum(1).tolist()], device=static.device)
        return best(attention.float().masked_fill(~moving, -math.inf), count)

    def _static(
        self, x: Float[Tensor, "t p c"], static: Bool[Tensor, "g p"], lengths: list[int], ratio: float, none_else: bool
    ) -> list[_Clusters]:
        """Of each window that keeps some of its static patches; of the first one where else nothing at all would stay."""
        found: list[_Clusters] = []
        for (first, stop), still in zip(bounds(lengths), static, strict=True):
            patch = still.nonzero()[:, 0]
            count = round(len(patch) * ratio) or (none_else and not found and len(patch) > 0)
            if count:
                means = x[first:stop, patch].float().mean(0)
                wanted = torch.tensor([int(count)], device=x.device)
                noise = Noise(self.density_noise, self.seed)
                centre, label = (part[0] for part in dpc_peaks(means[None], wanted, min(self.neighbours, int(count)), noise))
                share = centred_shares(label, centre, self.centre_weight) / (stop - first)
                found.append(_Clusters(range(first, stop), patch, patch[centre], label, share))
        return found

    def _merged(self, tokens: Tokens, clusters: list[_Clusters], kept: Int[Tensor, " n"]) -> Merged:
        """Window by window: what is static, then frame by frame what is not."""
        patches = tokens.x.shape[1]
        parts, group = [untouched(kept)], [2 * (kept // patches) + 1]
        for cluster in clusters:
            first = cluster.frames.start
            frame = torch.arange(first, cluster.frames.stop, device=kept.device)[:, None]
            patch = frame * patches + cluster.patch
            token, share = (part.expand(patch.shape).flatten() for part in (cluster.label, cluster.share))
            parts.append(Part(first * patches + cluster.centre, Contributions(token, patch.flatten(), share)))
            group.append(torch.full_like(cluster.centre, 2 * first))
        own = torch.cat(group)
        order = own.argsort(stable=True)
        place, shares = reordered(joined(parts), order)
        merged = summed(tokens, place, shares, self.positions)
        return replace(merged, group=own[order].unique(return_inverse=True)[1])


class _Clusters(NamedTuple):
    """Of a window's static patches."""

    frames: range
    patch: Int[Tensor, " s"]
    centre: Int[Tensor, " k"]
    label: Int[Tensor, " s"]
    share: Float[Tensor, " s"]
    """Of the patch in one frame."""


def centred_shares(label: Int[Tensor, " s"], centre: Int[Tensor, " k"], weight: float | None) -> Float[Tensor, " s"]:
    """What each point has of its cluster: a centre `weight` and the others the rest, or all of them the same."""
    size = torch.bincount(label, minlength=len(centre)).float()
    if weight is None:
        return 1 / size[label]
    share = ((1 - weight) / (size - 1).clamp(min=1))[label]
    return share.index_put((centre,), torch.where(size > 1, weight, 1.0))


Folding = Literal["running_average", "mean", "none"]
"""What becomes of a kept token: the average of itself and each token that goes to it, in turn (released); their mean; itself."""


@dataclass(frozen=True)
class Fold(AsDeep):
    """Keep round(n (1 - drop_ratio)) of n visual tokens, at least one."""

    released = (18, 28)
    drop_ratio: float = 0.5
    fold: Folding = "running_average"
    earlier_caches: EarlierCaches = "whole"
    attention = "causal"
    knob_bounds: ClassVar = {"drop_ratio": (0.0, 1 - 2.0**-12)}

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("drop_ratio", self.drop_ratio)
        if not 0 <= self.drop_ratio < 1:
            raise ValueError(f"drop_ratio must be in [0, 1), got {self.drop_ratio:g}")
        require_choice("fold", self.fold, Folding)
        require_choice("earlier_caches", self.earlier_caches, EarlierCaches)

    def left(self, entering: Left) -> int:
        return max(1, round(entering.tokens * (1 - self.drop_ratio)))

    def __call__(self, prefix: Prefix) -> Change:
        if prefix.attention is None:
            raise ValueError("attention selection needs a prefix whose question was asked with attention")
        importance = prefix.attention[:, -1].mean(0)
        order = importance.sort(descending=True, stable=True).indices
        budget = self.left(Left(len(importance)))
        best, gone = order[:budget], order[budget:].sort().values
        kept = best.sort().values
        hidden = prefix.hidden[prefix.visual]
        if self.fold == "none" or not len(gone):
            return Change(kept)
        likeness = F.normalize(hidden[gone].float(), dim=-1) @ F.normalize(hidden[best].float(), dim=-1).T
        target = best[likeness.argmax(1)]  # of equal ones that with more attention
        rank = torch.searchsorted(kept, target)
        flops = 2 * len(gone) * budget * hidden.shape[1]
        return Change(kept, hidden=folded(hidden[kept], hidden[gone], rank, self.fold), flops=flops)


def folded(
    kept: Float[Tensor, "k c"], gone: Float[Tensor, "m c"], target: Int[Tensor, " m"], fold: Folding
) -> Float[Tensor, "k c"]:
    """Kept tokens with those that go to them.  A running average is a weighted sum: half for the last to come, a quarter for the
    one before, and so on; what was there has as much as the first.
    """
    there = target[:, None] == torch.arange(len(kept), device=kept.device)
    count = there.sum(0)
    if fold == "mean":
        return ((kept.float() + there.T.float() @ gone.float()) / (1 + count)[:, None]).to(kept.dtype)
    after = there.flip(0).cumsum(0).flip(0)  # how many come to a token from this one on
    weight = torch.where(there, 0.5 ** after.double(), 0.0)
    return (0.5 ** count.double()[:, None] * kept.double() + weight.T @ gone.double()).to(kept.dtype)
