"""LOOK-M: Look-Once Optimization in KV Cache for Efficient Multimodal Long-Context Inference.

https://arxiv.org/abs/2406.18139 (EMNLP 2024 Findings).  After the whole prompt has been read, each head of each layer keeps the
most recent tokens of its cache and those that received most attention from all later tokens; text comes before any visual
token.  Each evicted key and value is merged into the kept one whose key is most similar.

As in the released code, text stays even where there is more of it than the budget holds (`text_overflow=keep`), and `average`
and `weighted` leave out the evicted tokens that resemble nothing: those whose best similarity, averaged over heads, is not above
the mean.  `average_all` and `weighted_all` merge every evicted token, as the paper's equations do.

The prompt itself costs what the dense model's costs (1.00x), and more for summing up attention; only the caches, and so the
decoding, get smaller.  The first generated token is the dense model's: so are all answers that are scored by the likelihood
of options of one token.  With grouped queries, which the paper does not treat, a cached head counts the attention of all
its query heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from prunesweep.checks import require_choice, require_flag, require_number
from prunesweep.lazy import F, torch
from prunesweep.reducers import Evicted
from prunesweep.shares import exact, floor_share
from prunesweep.types import KeyValue

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

Merging = Literal["pivot", "average", "weighted", "average_all", "weighted_all", "none"]
"""What a kept token becomes: the mean of itself and of, for every token evicted to it, the mean of the two (pivot), that token
(average), or that token times its similarity (weighted); or what it was."""
SELECTIVE = ("average", "weighted")
"""Only evicted tokens that are more similar than the mean are merged: at one place of the list in all heads or in none."""
TextOverflow = Literal["keep", "evict"]
"""Of text that the budget for much attended tokens does not hold: it stays nevertheless (released), or the budget is kept."""


@dataclass(frozen=True)
class Evict:
    """Keep floor(recent_ratio s) recent and floor(heavy_ratio s) much attended of s cached tokens, at least one in all."""

    recent_ratio: float = 0.1
    heavy_ratio: float = 0.1
    merging: Merging = "pivot"
    text_prior: bool = True
    """Whether text stays before any visual token does."""
    text_overflow: TextOverflow = "keep"
    """Does nothing without text prior."""

    def __post_init__(self) -> None:
        for name in ("recent_ratio", "heavy_ratio"):
            require_number(name, getattr(self, name))
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name):g}")
        if not 0 < exact(self.recent_ratio) + exact(self.heavy_ratio) <= 1:
            raise ValueError(f"recent_ratio + heavy_ratio must be in (0, 1], got {self.recent_ratio + self.heavy_ratio:g}")
        require_choice("merging", self.merging, Merging)
        require_flag("text_prior", self.text_prior)
        require_choice("text_overflow", self.text_overflow, TextOverflow)

    @property
    def knob_bounds(self) -> dict[str, tuple[float, float]]:
        """What the recent tokens leave of the cache."""
        return {"heavy_ratio": (0.0, 1.0 - self.recent_ratio)}

    def budget(self, tokens: int) -> tuple[int, int]:
        """How many recent and how many much attended tokens stay of a cache."""
        recent, heavy = floor_share(tokens, self.recent_ratio), floor_share(tokens, self.heavy_ratio)
        return (recent, heavy) if recent + heavy else (1, 0)

    def left(self, visual: int, before: int, after: int) -> int | None:
        """Visual tokens that stay between `before` and `after` tokens of text; without text prior that depends on attention."""
        if not self.text_prior:
            return None
        recent, heavy = self.budget(before + visual + after)
        recent_visual = min(visual, max(0, recent - after))
        earlier_text = min(before, before + visual + after - recent) + max(0, after - recent)
        return recent_visual + min(visual - recent_visual, max(0, heavy - earlier_text))

    def __call__(self, kv: KeyValue, received: Float[Tensor, "h s"], visual: Bool[Tensor, " s"]) -> Evicted:
        heads, tokens, width = kv.key.shape[1:]
        recent, heavy = self.budget(tokens)
        if self.text_prior and self.text_overflow == "keep":
            heavy = max(heavy, int((~visual[: tokens - recent]).sum()))
        score = received.unflatten(0, (heads, -1)).sum(1)
        kept = most_attended(score, visual if self.text_prior else torch.zeros_like(visual), recent, heavy)
        left = int(visual[kept].sum()) / heads  # without text prior the heads differ, and the mean counts
        if self.merging == "none" or kept.shape[1] == tokens:
            small = KeyValue(*(_rows(x[0], kept)[None] for x in kv))
            return Evicted(small, round(left), 0)
        evicted = complement(kept, tokens)
        small = merge_evicted(KeyValue(kv.key[0], kv.value[0]), kept, evicted, self.merging)
        flops = 2 * heads * kept.shape[1] * evicted.shape[1] * width
        return Evicted(KeyValue(small.key[None], small.value[None]), round(left), flops)


def most_attended(score: Float[Tensor, "k s"], visual: Bool[Tensor, " s"], recent: int, heavy: int) -> Int[Tensor, "k kept"]:
    """Per head, sorted indices of the last `recent` tokens and the `heavy` best others, text first; of equal ones the first."""
    tokens = score.shape[1]
    earlier = score[:, : tokens - recent]
    last = torch.arange(tokens - recent, tokens, device=score.device).expand(len(score), -1)
    by_score = earlier.sort(dim=1, descending=True, stable=True).indices
    text_first = visual[by_score].to(torch.uint8).sort(dim=1, stable=True).indices  # an offset to the scores would cost digits
    best = by_score.gather(1, text_first)[:, :heavy]
    return torch.cat([best, last], dim=1).sort(dim=1).values


def complement(kept: Int[Tensor, "k kept"], tokens: int) -> Int[Tensor, "k evicted"]:
    """Per head, sorted indices of the other tokens."""
    gone = torch.ones(len(kept), tokens, dtype=torch.uint8, device=kept.device).scatter(1, kept, 0)
    return gone.argsort(dim=1, descending=True, stable=True)[:, : tokens - kept.shape[1]]


def merge_evicted(kv: KeyValue, kept: Int[Tensor, "k kept"], evicted: Int[Tensor, "k evicted"], merging: Merging) -> KeyValue:
    """Kept keys and values of one layer, `k s d`, with the evicted ones merged into those with the most similar keys."""
    stay, go = (F.normalize(_rows(kv.key, index).float(), dim=-1) for index in (kept, evicted))
    similarity, target = (go @ stay.transpose(1, 2)).max(dim=-1)
    if merging in SELECTIVE:
        of_place = similarity.mean(0)  # the release chooses once for all heads, though each has evicted other tokens
        chosen = of_place > of_place.mean()
        similarity, target, evicted = similarity[:, chosen], target[:, chosen], evicted[:, chosen]
    return KeyValue(*(_scatter_mean(_rows(x, kept), _rows(x, evicted), target, similarity, merging) for x in kv))


def _scatter_mean(
    kept: Float[Tensor, "k kept d"],
    evicted: Float[Tensor, "k evicted d"],
    target: Int[Tensor, "k evicted"],
    similarity: Float[Tensor, "k evicted"],
    merging: Merging,
) -> Float[Tensor, "k kept d"]:
    given = evicted.float()
    if merging == "pivot":
        given = (given + _rows(kept, target).float()) / 2
    elif merging in ("weighted", "weighted_all"):
        given = given * similarity[..., None]
    belongs = (target[:, None, :] == torch.arange(kept.shape[1], device=kept.device)[:, None]).float()
    members = 1 + belongs.sum(-1, keepdim=True)
    return ((kept.float() + belongs @ given) / members).to(kept.dtype)  # a product, because scattered sums vary on a GPU


def _rows(x: Float[Tensor, "k s d"], index: Int[Tensor, "k some"]) -> Float[Tensor, "k some d"]:
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[2]))
