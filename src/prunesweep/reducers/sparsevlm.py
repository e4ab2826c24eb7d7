"""SparseVLM: Visual Token Sparsification for Efficient Vision-Language Model Inference.

https://arxiv.org/abs/2410.04417 (ICML 2025).  Words of the question that the video speaks to are raters: those whose weight,
the mean over the visual tokens of a softmax over the words, is above the mean.  After each of a few layers the visual tokens
that the raters attend to least go; version 1.5 recycles some of them as means of clusters.  SparseVLM+ (2.0) recycles
nothing, keeps the positions, and corrects the attention: it is divided by what the rotary embedding alone would give, and
only the half of the heads counts that looks at the video most.

The released tables are for 576 tokens; shares of these are the settings here.  Branch `video` of the release keeps as many
tokens as the matrix of the raters' attention has ranks (`budget=rank`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from prunesweep.checks import require_at_least, require_choice, require_flag, require_number
from prunesweep.lazy import torch
from prunesweep.reducers import Change, EarlierCaches, Left, Positions
from prunesweep.reducers.parts.clustering import Noise, dpc_knn
from prunesweep.reducers.parts.schedules import require_layers_rise, require_shares_fall, whole_numbers
from prunesweep.types import Prefix

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

Budget = Literal["share", "rank"]
"""Tokens kept: a share of those that entered; or the rank of the raters' attention (release, branch video)."""
TABLE = 576
"""Tokens that the released tables are for; 192 is 300, 200 and 110 of them."""
LAYERS = (3 / 32, 7 / 32, 16 / 32)
"""Shares of the layers that have run before each stage: 3, 7 and 16 of 32, as released."""
RECYCLED = 0.3
"""Of the tokens that go, as released; of these a tenth, and one, are the clusters."""
PARTS = 10


@dataclass(frozen=True)
class SparseVLM:
    """Keep what the raters attend to, after each of `layers`."""

    scale: float = 1.0
    """Of all shares in keep_ratios; none gets above 1."""
    keep_ratios: tuple[float, ...] = (300 / TABLE, 200 / TABLE, 110 / TABLE)
    """Of those that entered the LLM, for each stage."""
    tokens: tuple[int, ...] | None = None
    """Numbers of tokens that stay, in place of keep_ratios."""
    layers: tuple[int, ...] | None = None
    """Layers that have run before each stage; None: as deep as released."""
    budget: Budget = "share"
    recycle: bool = True
    """Version 1.5; not in version 2.0."""
    corrected: bool = False
    """Version 2.0: by the rotary embedding, and by the heads that look at the video."""
    positions: Positions = "renumbered"
    density_noise: float = 0.0
    """1e-6 and unseeded in the release."""
    seed: int = 0
    earlier_caches: EarlierCaches = "whole"
    knob_bounds: ClassVar = {"scale": (2.0**-12, TABLE / 300)}  # to all tokens after the first stage

    def __post_init__(self) -> None:
        for name in ("layers", "tokens", "keep_ratios"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tuple(getattr(self, name)))  # YAML has lists
        require_number("scale", self.scale)
        if self.scale <= 0:
            raise ValueError(f"scale must be above 0, got {self.scale:g}")
        require_layers_rise("layers", self.layers)
        require_shares_fall("keep_ratios", self.keep_ratios)
        for count in self.tokens or ():
            require_at_least("tokens", count, 1)
        require_choice("budget", self.budget, Budget)
        require_flag("recycle", self.recycle)
        require_flag("corrected", self.corrected)
        require_choice("positions", self.positions, Positions)
        require_choice("earlier_caches", self.earlier_caches, EarlierCaches)
        if self.recycle and self.earlier_caches == "cut":  # the next stage would cut what these caches never held
            raise ValueError("earlier_caches must be whole with recycle=true, whose tokens are in no earlier cache, got 'cut'")

    def steps(self, layers: int) -> tuple[Stage, ...]:
        after = self.layers or whole_numbers(share * layers for share in LAYERS)
        rest: Any = (self.recycle, self.corrected, self.positions, Noise(self.density_noise, self.seed), self.earlier_caches)
        if self.budget == "rank":
            return tuple(Stage(full, None, None, *rest) for full in after)
        if self.tokens is not None:
            return tuple(Stage(full, None, count, *rest) for full, count in zip(after, self.tokens, strict=False))
        shares = (min(1.0, self.scale * share) for share in self.keep_ratios)
        return tuple(Stage(full, share, None, *rest) for full, share in zip(after, shares, strict=False))


@dataclass(frozen=True)
class Stage:
    """One time that tokens go."""

    full_layers: int
    share: float | None
    """Of the tokens that entered the LLM; None: `keep` tokens, or as many as the raters' attention has ranks."""
    keep: int | None
    recycle: bool
    corrected: bool
    positions: Positions
    noise: Noise
    earlier_caches: EarlierCaches
    attention = "causal"

    @property
    def reads(self) -> tuple[str, ...]:
        return ("rotation",) if self.corrected else ()

    def left(self, entering: Left) -> int | None:
        kept = self._budget(entering.tokens, entering.at_first)
        return None if kept is None else kept + self.clusters(entering.tokens - kept)

    def _budget(self, tokens: int, entered: int) -> int | None:
        """At least one token always goes, where there are two."""
        wanted = self.keep if self.share is None else round(self.share * entered)
        return None if wanted is None else max(1, min(wanted, tokens - 1))

    def recycled(self, gone: int) -> int:
        return min(gone, int(RECYCLED * gone) + 1) if self.recycle and gone else 0

    def clusters(self, gone: int) -> int:
        recycled = self.recycled(gone)
        return int(recycled / PARTS) + 1 if recycled else 0

    def __call__(self, prefix: Prefix) -> Change:
        """Raises ValueError without the question, and for corrections of places in time and space."""
        if prefix.attention is None or prefix.words is None or prefix.entered is None:
            raise ValueError("SparseVLM needs a prefix whose question was asked with attention")
        of_raters = self._attention(prefix)[:, raters(prefix.entered, prefix.words)]
        mean = of_raters.mean(0)
        relation = mean.mean(0)
        count = len(relation)
        budget = self._budget(count, len(prefix.entered))
        if budget is None:
            budget = int(torch.linalg.matrix_rank(mean))
            if budget >= count:
                return Change(torch.arange(count, device=relation.device))
        order = relation.sort(descending=True, stable=True).indices
        kept, gone = order[:budget].sort().values, order[budget:]
        extra, flops = self._means(prefix.hidden[prefix.visual][gone[: self.recycled(len(gone))]], self.clusters(len(gone)))
        rating = 2 * len(prefix.words) * len(prefix.entered) * prefix.words.shape[1]
        return Change(kept, extra=extra, positions=self.positions, flops=rating + flops)

    def _attention(self, prefix: Prefix) -> Float[Tensor, "h q n"]:
        """Raises ValueError for corrections of places in time and space."""
        attention = prefix.attention
        assert attention is not None
        if not self.corrected:
            return attention
        rotation = prefix.looks.rotation
        if rotation is None or prefix.position.ndim > 1:
            raise ValueError("SparseVLM's correction is of positions in one row, not in time and space; set corrected=false")
        attention = attention / rotary_bias(*rotation, attention.shape[1], prefix.visual)
        looking = attention[:, raters(prefix.entered, prefix.words)].sum((1, 2))
        best = looking.sort(descending=True, stable=True).indices[: max(1, len(looking) // 2)]
        return attention[best]

    def _means(self, x: Float[Tensor, "m c"], clusters: int) -> tuple[Float[Tensor, "g c"] | None, int]:
        if not clusters or not len(x):
            return None, 0
        label = dpc_knn(x[None], clusters, clusters, self.noise)[0]
        belongs = (label == torch.arange(clusters, device=x.device)[:, None]).float()
        mean = belongs @ x.float() / (belongs.sum(1, keepdim=True) + EPSILON)
        return mean.to(x.dtype), 2 * len(x) ** 2 * x.shape[1] + 2 * clusters * len(x) * x.shape[1]


EPSILON = 1e-6
"""Beside the count of a cluster, as released."""


def raters(entered: Float[Tensor, "n c"], words: Float[Tensor, "q c"]) -> Int[Tensor, " r"]:
    """Words that weigh more than the mean; of equal weights all."""
    weight = (entered.float() @ words.float().T).softmax(-1).mean(0)
    above = (weight > weight.mean()).nonzero()[:, 0]
    return above if len(above) else torch.arange(len(words), device=words.device)


def rotary_bias(cos: Float[Tensor, "s d"], sin: Float[Tensor, "s d"], rows: int, visual: Tensor) -> Float[Tensor, "q n"]:
    """What a query and a key of ones score after the rotary embedding."""
    half = cos.shape[-1] // 2
    sign = torch.cat([-torch.ones(half, device=cos.device), torch.ones(half, device=cos.device)])
    ones = cos.float() + sign * sin.float()
    return ones[-rows:] @ ones[visual].T / cos.shape[-1] ** 0.5
