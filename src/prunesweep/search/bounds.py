"""Costs known before a trial runs: what it must cost at least, from its settings and a dense trial's records.

The records say how many tokens each video and question have; the reducer says how few visual tokens it can leave
(`fewest`, a method that merges and prunes may have).  What depends on the video counts as little as it possibly could, so
these are lower bounds; for reducers that keep a fixed share they are the cost, but for what choosing the tokens costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prunesweep.analysis import LEDGER_COSTS, mean_costs
from prunesweep.records import Trial

if TYPE_CHECKING:
    from prunesweep.reducers import Reducer


def fewest_tokens(reducer: Reducer, frames: int, patches: int, layers: int) -> list[int]:
    """Visual tokens in each layer of which a video of `frames` frames has at least so many."""
    if reducer.input is not None or reducer.match is not None:  # smaller frames, or a setting that is not known yet
        return [1] * layers
    merge: Any = reducer.merge
    prune: Any = reducer.prune
    entering = frames * patches if merge is None else merge.fewest(frames, patches) if hasattr(merge, "fewest") else 1
    if prune is None:
        return [entering] * layers
    kept = prune.fewest(entering) if hasattr(prune, "fewest") else 1
    return [entering] * prune.full_layers + [kept] * (layers - prune.full_layers)


def least_costs(reducer: Reducer, frames: int, dense: Trial) -> dict[str, float]:
    """What the trial costs at least, for each of LEDGER_COSTS, on the samples that the dense trial answered.

    Choosing the tokens and all generated tokens but the first are left out.
    """
    import polars as pl

    answered = dense.records.filter(pl.col("correct").is_not_null())
    shape = dense.info.shape
    rows = []
    for tokens, its_frames in answered.select("dense_tokens", "frames").iter_rows():
        patches = tokens // its_frames
        rows.append(
            {
                "visual_tokens": fewest_tokens(reducer, frames, patches, shape.layers),
                "dense_tokens": frames * patches,
                "frames": frames,
                "generated_tokens": 0,
                "reduction_flops": 0,
                "cached_tokens": 0 if reducer.evict or reducer.match else None,
                "vision_patches": 0 if reducer.input or reducer.match else None,
            }
        )
    planned = pl.DataFrame(rows, schema={name: answered.schema[name] for name in rows[0]}) if rows else answered
    costs = mean_costs(answered.with_columns(planned), shape)
    return {name: costs[name] for name in LEDGER_COSTS}
