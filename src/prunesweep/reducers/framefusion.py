"""FrameFusion: Combining Similarity and Importance for Video Token Reduction on Large Vision Language Models.

https://arxiv.org/abs/2501.01986 (ICCV 2025).  Before the first layer, and then in every layer between attention and
feed-forward network: a token that resembles the one before it at the same place of a frame is averaged into it, until few are
alike; then, once, the tokens go that the prompt's last token attends to least.  How many is what the budget leaves: `cost` is
the mean share of visual tokens over the layers.  Where as much is alike as the budget asks for, the most similar are merged
and nothing is pruned.

The release counts 28 layers for its budget whatever the model has (`budget_layers=28`); here it is the model's own number
unless given.  `place=after_layer` puts the steps behind the feed-forward network, for models whose layers do not come apart:
not the released method by one feed-forward network a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

from prunesweep.checks import require_at_least, require_choice, require_number, require_ratio
from prunesweep.lazy import F, torch
from prunesweep.reducers import Change, EarlierCaches, NoCounterpartError
from prunesweep.reducers.parts.similarity import best
from prunesweep.types import Prefix

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

Place = Literal["after_attention", "after_layer"]
STATE = "framefusion"
"""What calls leave for later ones: the shares merged so far and what comes next."""
Next = Literal["merge", "prune", "nothing"]


@dataclass(frozen=True)
class FrameFusion:
    """Merge what is alike from frame to frame, then prune once, to a mean of `cost` visual tokens over the layers."""

    cost: float = 0.3
    similarity_threshold: float = 0.6
    """Cosine from which on a token is merged."""
    ratio_threshold: float = 0.1
    """Share of tokens merged in a call below which merging ends."""
    budget_layers: int | None = None
    place: Place = "after_attention"
    earlier_caches: EarlierCaches = "whole"

    def __post_init__(self) -> None:
        require_ratio("cost", self.cost)
        for name in ("similarity_threshold", "ratio_threshold"):
            require_number(name, getattr(self, name))
        if self.budget_layers is not None:
            require_at_least("budget_layers", self.budget_layers, 1)
        require_choice("place", self.place, Place)
        require_choice("earlier_caches", self.earlier_caches, EarlierCaches)

    def steps(self, layers: int) -> Iterator[Call]:
        inside = self.place == "after_attention"
        rest = (self.cost, self.similarity_threshold, self.ratio_threshold, self.budget_layers or layers, self.earlier_caches)
        yield Call(0, False, *rest)
        for layer in range(layers) if inside else range(1, layers):
            yield Call(layer, inside, *rest)


@dataclass(frozen=True)
class Call:
    """One time that tokens may be merged or pruned."""

    full_layers: int
    inside_layer: bool
    cost: float
    similarity_threshold: float
    ratio_threshold: float
    budget_layers: int
    earlier_caches: EarlierCaches

    @property
    def attention(self) -> Literal["queries"] | None:
        """Of the layer that it stands in; before the first one there is none."""
        return "queries" if self.inside_layer or self.full_layers else None

    @property
    def reads_question(self) -> bool:
        """The last token is one of the question's."""
        return self.attention is not None or self.earlier_caches == "cut"

    def __call__(self, prefix: Prefix) -> Change:
        """Raises NoCounterpartError where merging has already cost more than the budget."""
        shares, what = prefix.carried.get(STATE, ((), "merge"))
        count = len(prefix.group)
        everything = torch.arange(count, device=prefix.hidden.device)
        if what == "nothing" or not count:
            return Change(everything)
        upper = self.budget(shares)
        if what == "prune":
            return self._prune(prefix, upper, shares)
        return self._merge(prefix, upper, shares)

    def budget(self, shares: Sequence[float]) -> float:
        """Of the tokens that are there, the largest share that may go now, if it were the last time."""
        left = list(accumulate((1 - share for share in shares), lambda one, other: one * other))
        last = left[-1] if left else 1.0
        wanted = self.budget_layers * self.cost - sum(left)
        if wanted < 0:
            raise NoCounterpartError(
                f"FrameFusion has no counterpart: cost={self.cost:g} is spent after {len(left)} layers of merging"
            )
        stays = wanted / ((self.budget_layers - len(left)) * last)
        return 0.0 if stays > 1 else 1 - stays

    def _merge(self, prefix: Prefix, upper: float, shares: tuple[float, ...]) -> Change:
        if prefix.place is None:
            raise ValueError("FrameFusion needs to know where its tokens stand")
        order = by_cell(prefix.place, prefix.patches)
        hidden = prefix.hidden[prefix.visual.nonzero()[:, 0][order]]
        likeness = like_the_one_before(hidden, prefix.place[order] % prefix.patches)
        go = likeness >= self.similarity_threshold
        share, count = int(go.sum()) / len(go), len(go)
        what: Next = "merge"
        if share < upper:
            shares = (*shares, share)
            what = "prune" if share < self.ratio_threshold else "merge"
        else:
            go = best(likeness, int(upper * count))
            what = "nothing"
        kept, means = runs_as_means(hidden, go)
        kept_places = order[kept]
        back = kept_places.argsort()
        flops = 2 * count * hidden.shape[1]
        return Change(kept_places[back], hidden=means[back], carried={STATE: (shares, what)}, flops=flops)

    def _prune(self, prefix: Prefix, upper: float, shares: tuple[float, ...]) -> Change:
        if prefix.query is None:
            raise ValueError("FrameFusion needs the queries of the layer that it prunes in")
        importance = last_row(prefix)[:, prefix.visual].mean(0)
        budget = max(1, round(len(importance) * (1 - upper)))
        kept = best(importance, budget).nonzero()[:, 0]
        heads, tokens, width = prefix.query.shape
        return Change(kept, carried={STATE: (shares, "nothing")}, flops=2 * heads * tokens * width)


def by_cell(place: Int[Tensor, " n"], patches: int) -> Int[Tensor, " n"]:
    """The order of tokens by their place in a frame, then by frame."""
    return (place % patches * (int(place.max()) + 1) + place).argsort(stable=True)


def like_the_one_before(x: Float[Tensor, "n c"], cell: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Cosine to the token before, if it has the same cell; below any threshold for the first of a cell."""
    cosine = F.cosine_similarity(x[1:].float(), x[:-1].float(), dim=-1)
    none = cosine.new_full((1,), -2.0)
    return torch.cat([none, cosine.where(cell[1:] == cell[:-1], none)])


def runs_as_means(x: Float[Tensor, "n c"], go: Tensor) -> tuple[Int[Tensor, " kept"], Float[Tensor, "kept c"]]:
    """Tokens that stay, as means of themselves and of the run of tokens behind them that go."""
    stays = ~go
    target = stays.cumsum(0) - 1
    count = int(stays.sum())
    total = torch.zeros(count, x.shape[1], dtype=torch.float32, device=x.device).index_add(0, target, x.float())
    size = torch.bincount(target, minlength=count)
    return stays.nonzero()[:, 0], (total / size[:, None]).to(x.dtype)


def last_row(prefix: Prefix) -> Float[Tensor, "h s"]:
    """The last token's attention in the last layer run, in float32."""
    assert prefix.query is not None
    key = prefix.caches[-1].key[0]
    key = key.repeat_interleave(prefix.query.shape[0] // key.shape[0], dim=0).float()
    scores = (prefix.query[:, -1:].float() * key.shape[-1] ** -0.5) @ key.transpose(1, 2)
    return scores[:, 0].softmax(-1)
