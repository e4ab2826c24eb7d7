"""What answers cost: means over a trial's records, and what relative costs are shares of.  No model, no GPU."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunesweep.console.meant import closest
from prunesweep.cost import CONVENTIONS, Shape, Usage, ledger, published_prefill
from prunesweep.results.records import BY_LAYER, USAGE

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from jaxtyping import Int64

FLOPS = ("llm_flops", "total_flops", *(f"{name}_flops" for name in CONVENTIONS))
TOKENS = ("entrance", "final", "layer", "kv")
"""Where visual tokens are counted; a dense model has the same number in all of these places."""
ABSOLUTE = {f"{name}_ratio": name for name in FLOPS} | {f"{name}_ratio": f"{name}_tokens" for name in TOKENS}
"""What each relative cost is a share of, by name."""
DENSE = {f"{name}_ratio": f"dense_{name}" for name in FLOPS} | {f"{name}_ratio": "dense_tokens" for name in TOKENS}
"""The same of the dense model on the trial's own frames and prompts, counted from the trial's records."""
WORD = 32
"""Bits."""
RATIOS = ("entrance_ratio", "final_ratio", "layer_ratio", "kv_ratio")
"""Of visual tokens; what papers call the retained ratio may be any of them."""
MEASURED_COSTS = ("first_token_seconds", "tokens_per_second", "peak_memory_bytes")
LEDGER_COSTS = (
    *(cost for name in FLOPS for cost in (f"{name}_ratio", name)),
    "reduction_flops",
    "kv_bytes",
    *(cost for ratio in RATIOS for cost in (ratio, ABSOLUTE[ratio])),
)
COSTS = (*LEDGER_COSTS, "first_token_seconds", "peak_memory_bytes")


def require_cost(cost: str, setting: str = "cost") -> None:
    """Raises ValueError if `cost`, the value of a setting, is not one of COSTS."""
    if cost not in COSTS:
        close = closest(cost, COSTS)
        meant = f"; did you mean {close}?" if close else ""
        raise ValueError(f"{setting} must be one of {', '.join(COSTS)}, got {cost!r}{meant}")


@dataclass(frozen=True)
class Denominator:
    """What relative costs are shares of."""

    name: str
    costs: Mapping[str, float]
    """By the name of the relative cost."""

    def ratios(self, costs: Mapping[str, float]) -> dict[str, float]:
        """All relative costs, of absolute ones by their names in Summary; NaN of what is not known, or of nothing."""
        return {ratio: costs[name] / self.costs[ratio] if self.costs[ratio] else math.nan for ratio, name in ABSOLUTE.items()}


def counted(costs: Mapping[str, float], name: str) -> Denominator:
    """The dense model on the frames and prompts of a trial that has these costs, without a run of it."""
    return Denominator(name, {ratio: costs[dense] for ratio, dense in DENSE.items()})


def measured(costs: Mapping[str, float], name: str) -> Denominator:
    """A dense run itself."""
    return Denominator(name, {ratio: costs[absolute] for ratio, absolute in ABSOLUTE.items()})


def mean_costs(answered: pl.DataFrame, shape: Shape) -> dict[str, Any]:
    """The cost fields of Summary: means over the samples; NaN without samples.

    Ratios are those of means, relative to the dense model on the same frames and prompts.
    """
    if not len(answered):
        return dict.fromkeys((*LEDGER_COSTS, *DENSE.values()), math.nan)

    usage = _usages(answered, shape)
    all_patches = _dense_patches(shape, usage.dense_tokens, usage.frames)
    without = usage.dense(all_patches)
    own: Any = ledger(shape, usage)
    dense: Any = ledger(shape, without)
    visual, cached, before = usage.visual_tokens, usage.cached_tokens, usage.dense_tokens
    means = {
        "entrance_tokens": _mean(visual[0]),
        "final_tokens": _mean(visual[-1]),
        "layer_tokens": _mean(sum(visual)) / len(visual),
        "kv_tokens": _mean(sum(cached)) / len(cached),
        "dense_tokens": _mean(before),
        "kv_bytes": _mean(own.kv_bytes),
        "reduction_flops": _mean(own.reduction),
        "llm_flops": _mean(own.prefill),
        "total_flops": _mean(own.total),
        "dense_llm_flops": _mean(dense.prefill),
        "dense_total_flops": _mean(dense.total),
    }
    for name, convention in CONVENTIONS.items():
        prefills: list[Any] = [published_prefill(convention, shape, tokens) for tokens in (visual, without.visual_tokens)]
        means[f"{name}_flops"], means[f"dense_{name}_flops"] = map(_mean, prefills)
    smaller = answered["vision_patches"].is_not_null().to_numpy() & (usage.vision_patches < all_patches)
    smaller |= answered["tower_tokens"].is_not_null().to_numpy()
    whole = all((count == before).all() for count in (*visual, *cached)) and not smaller.any()
    return {**means, **counted(means, "").ratios(means), "dense": bool(whole)}


def _usages(answered: pl.DataFrame, shape: Shape) -> Any:
    """Of all records at once: arrays where Usage says numbers."""
    import polars as pl

    visual = tokens_by_layer(answered["visual_tokens"])
    counts: dict[str, Any] = {name: answered[name].to_numpy() for name in USAGE if name not in BY_LAYER}
    counts["vision_patches"] = answered["vision_patches"].fill_null(shape.vision.patches).to_numpy()
    cached = cached_by_layer(answered, visual)
    fed = None if _nothing(answered, "fed_tokens") else _filled(answered, "fed_tokens", pl.col("visual_tokens"))
    steps = pl.max_horizontal(pl.col("generated_tokens") - 1, 0) + pl.col("option_rows")
    each_time = pl.coalesce("cached_tokens", _like_the_last()) * steps
    attended = None if _nothing(answered, "attended_tokens") else _filled(answered, "attended_tokens", each_time)
    all_patches = pl.col("vision_patches").fill_null(shape.vision.patches).repeat_by(shape.vision.layers + 1)
    tower = None if _nothing(answered, "tower_tokens") else _filled(answered, "tower_tokens", all_patches)
    lists: dict[str, Any] = {"cached_tokens": cached, "fed_tokens": fed, "attended_tokens": attended, "tower_tokens": tower}
    return Usage(visual_tokens=visual, **lists, **counts)


def _dense_patches(shape: Shape, tokens: Any, frames: Any) -> Any:
    """Per frame, where nothing was made smaller before the vision tower."""
    return tokens // frames * shape.vision.token_patches if shape.vision.token_patches else shape.vision.patches


def tokens_by_layer(counts: pl.Series) -> list[Any]:
    """One array per layer of a column of lists, each as long as the others; equal neighbours are one and the same array."""
    table = counts.explode().to_numpy().reshape(len(counts), -1).T
    layers: list[Any] = []
    for row in table:
        layers.append(layers[-1] if layers and (row == layers[-1]).all() else row.copy())
    return layers


def cached_by_layer(answered: pl.DataFrame, visual: list[Any]) -> list[Any]:
    """The same of the caches; a record that says nothing has in every layer what the last one sees."""
    if _nothing(answered, "cached_tokens"):
        return [visual[-1]] * len(visual)
    return _filled(answered, "cached_tokens", _like_the_last())


def _nothing(answered: pl.DataFrame, column: str) -> bool:
    return answered[column].null_count() == len(answered)


def _like_the_last() -> pl.Expr:
    """In every layer what the last one sees."""
    import polars as pl

    seen = pl.col("visual_tokens").list
    return seen.last().repeat_by(seen.len())


def _filled(answered: pl.DataFrame, column: str, otherwise: pl.Expr) -> list[Any]:
    """A column by layer, of records that say nothing what it is otherwise."""
    import polars as pl

    return tokens_by_layer(answered.select(pl.coalesce(column, otherwise)).to_series())


def _mean(values: Int64[np.ndarray, " samples"]) -> float:
    """The mean of whole numbers whose sum may need more than 64 bits."""
    high, low = values >> WORD, values & ((1 << WORD) - 1)
    return ((int(high.sum()) << WORD) + int(low.sum())) / len(values)
