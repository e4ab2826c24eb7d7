"""What a search's relative costs are shares of: one dense run for the whole study, whatever frames its trials take.

It is the dearest dense baseline: evaluated before everything else and read again where a search goes on, so proposals, warm
starts, constraints and known costs agree.  Where trials differ in their reducers alone, all have the same dense model, and
none need be run for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig

from prunesweep.analysis.axis import common
from prunesweep.analysis.costs import ABSOLUTE, Denominator
from prunesweep.analysis.counterparts import SHOWN
from prunesweep.analysis.table import summarize
from prunesweep.checks import EvaluationError
from prunesweep.reducers import SLOTS
from prunesweep.results.records import Trial
from prunesweep.targets import instantiate


def mixes_prompts(space: Iterable[str]) -> list[str]:
    """The searched keys that change what the dense model costs: frames, prompts, models."""
    return [key for key in space if key.startswith(SHOWN)]


def is_dense(config: DictConfig) -> bool:
    reducer = instantiate(config.reducer)
    return all(getattr(reducer, part) is None for part in SLOTS)


def require_denominator(space: Iterable[str], metrics: Sequence[str], baselines: Iterable[DictConfig]) -> None:
    """Raises ValueError where shares would be of another dense run in each trial, and no baseline is one for all."""
    mixed, shares = mixes_prompts(space), [name for name in metrics if name in ABSOLUTE]
    if mixed and shares and not any(map(is_dense, baselines)):
        raise ValueError(
            f"the space varies {', '.join(mixed)}, so {shares[0]} needs one dense run to be a share of: add "
            f"hydra.sweeper.baselines.dense={{reducer: none}}, with {mixed[0]} as large as you like, or search for "
            f"{ABSOLUTE[shares[0]]} instead"
        )


def denominator(baselines: Sequence[Trial], space: Iterable[str], metrics: Sequence[str]) -> Denominator | None:
    """The dearest dense baseline; None where there is none and all trials have the same dense model.

    Raises EvaluationError if there must be one and none has an answer.
    """
    rows = [summarize(trial) for trial in baselines]
    runs = [i for i, row in enumerate(rows) if row.dense and not math.isnan(row.llm_flops)]
    if runs:
        return common([baselines[i].info for i in runs], [rows[i] for i in runs])
    if mixes_prompts(space) and any(name in ABSOLUTE for name in metrics):
        raise EvaluationError("no dense baseline has an answer, so relative costs are shares of nothing; see its records")
    return None


def on_axis(costs: Mapping[str, Any], axis: Denominator | None) -> dict[str, Any]:
    """Costs with their shares of the study's denominator."""
    return {**costs, **(axis.ratios(costs) if axis else {})}
