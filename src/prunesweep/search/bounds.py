"""Costs known before a trial runs: what it must cost at least, from its settings and a dense trial's records.

The records say how many tokens each video and question have; the reducer says how few visual tokens it can leave
(`left`, or `fewest` where that depends on the video).  What depends on the video counts as little as it possibly could, so
these are lower bounds; for reducers that keep a fixed share they are the cost, but for what choosing the tokens costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prunesweep.analysis.axis import frames_of
from prunesweep.analysis.costs import LEDGER_COSTS, mean_costs
from prunesweep.results.records import Trial

if TYPE_CHECKING:
    from prunesweep.reducers import LayerTokens, Reducer


def fewest_tokens(reducer: Reducer, frames: int, patches: int, layers: int) -> LayerTokens:
    """Visual tokens in each layer and its cache of which a video of `frames` frames has at least so many."""
    from prunesweep.reducers import LayerTokens, Left, fewest_by_step, layer_tokens, left_by_merge

    none = (0,) * layers
    if reducer.input is not None or reducer.match is not None:  # smaller frames, or a setting that is not known yet
        return LayerTokens((1,) * layers, none, (1,) * layers)
    merge: Any = reducer.merge
    known = left_by_merge(merge, frames, patches)
    entering = known or Left(merge.fewest(frames, patches) if hasattr(merge, "fewest") else 1)
    least = layer_tokens(reducer.steps(layers), layers, entering, fewest_by_step)
    return least._replace(cached=none) if reducer.evict else least


def least_costs(reducer: Reducer, frames: int, dense: Trial) -> dict[str, float]:
    """What the trial costs at least, for each of LEDGER_COSTS, on the samples that the dense trial answered.

    Choosing the tokens and all generated tokens but the first are left out.  Shares are of the dense model on as many frames.
    """
    import polars as pl

    answered = dense.records.filter(pl.col("correct").is_not_null())
    shape = dense.info.shape
    per_second = dense.info.settings.get("protocol", {}).get("sampling") == "per_second"
    asked = frames_of(dense.info) or frames
    rows = []
    for tokens, its_frames in answered.select("dense_tokens", "frames").iter_rows():
        patches = tokens // its_frames
        own = max(1, its_frames * frames // asked)  # a model may take several frames for one
        planned_frames = min(own, its_frames) if per_second else own  # of a short video there may be no more to take
        visual, cached, fed = fewest_tokens(reducer, planned_frames, patches, shape.layers)
        rows.append(
            {
                "visual_tokens": list(visual),
                "dense_tokens": planned_frames * patches,
                "frames": planned_frames,
                "generated_tokens": 0,
                "reduction_flops": 0,
                "cached_tokens": list(cached),
                "fed_tokens": None if fed == visual else list(fed),
                "vision_patches": 0 if reducer.input or reducer.match else None,
            }
        )
    planned = pl.DataFrame(rows, schema={name: answered.schema[name] for name in rows[0]}) if rows else answered
    costs = mean_costs(answered.with_columns(planned), shape)
    return {name: costs[name] for name in LEDGER_COSTS}
