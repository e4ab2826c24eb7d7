"""One line of a sweep's table: a trial's accuracy with its error, and its costs."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from prunesweep.analysis.accuracy import Accuracy
from prunesweep.analysis.costs import LEDGER_COSTS


@dataclass(frozen=True)
class Summary:
    """One line of a sweep's table.  FLOPs and tokens are means per sample, as if the trial ran alone.

    Ratios are shares of what `relative_to` names: one dense run for all trials of a model and benchmark.
    """

    trial: str
    reducer: str
    accuracy: float
    accuracy_error: float
    samples: int
    errors: int
    """Samples without an answer."""
    entrance_ratio: float
    """Visual tokens entering the LLM, of the dense run's."""
    final_ratio: float
    """Visual tokens in the last layer, of the dense run's."""
    layer_ratio: float
    """Visual tokens averaged over the layers, of the dense run's."""
    kv_ratio: float
    """Visual tokens in the caches while decoding, of the dense run's."""
    kv_bytes: float
    """Of the caches after prefill, text tokens included, in half precision."""
    llm_flops: float
    """Prefill of the decoder layers: the field's "FLOPs"."""
    llm_flops_ratio: float
    """Of the dense run's, same convention."""
    total_flops: float
    """With vision tower, projector, merging, scoring, output head and decoding."""
    reduction_flops: float
    """Merging and scoring tokens alone."""
    total_flops_ratio: float
    fastv_flops_ratio: float
    """Prefill of the visual tokens alone as FastV counts it, of the dense run's; the next two likewise."""
    sparsevlm_flops_ratio: float
    fastvid_flops_ratio: float
    first_token_seconds: float = math.nan
    """Median of what was measured with `engine.measure=true`; NaN otherwise, as the next two."""
    tokens_per_second: float = math.nan
    peak_memory_bytes: float = math.nan
    pareto: bool = False
    videos: int = 0
    """Clusters of the standard error."""
    macro_accuracy: float = math.nan
    """Mean over the tasks of their accuracies."""
    macro_error: float = math.nan
    """Its standard error, clustered by video."""
    stopped: bool = False
    """By a race, after the samples given: never on the front."""
    accuracy_low: float | None = None
    """Of a stopped trial: 95 % interval of its accuracy on all samples, valid although the race looked several times."""
    accuracy_high: float | None = None
    relative_to: str = ""
    """What all ratios are shares of."""
    dense: bool = False
    """Nothing was left out of any sample: no patch before the vision tower, no token in any layer or cache."""
    entrance_tokens: float = math.nan
    """Visual tokens entering the LLM."""
    final_tokens: float = math.nan
    """Visual tokens in the last layer."""
    layer_tokens: float = math.nan
    """Visual tokens averaged over the layers."""
    kv_tokens: float = math.nan
    """Visual tokens in the caches while decoding."""
    fastv_flops: float = math.nan
    """Prefill of the visual tokens alone as FastV counts it, in multiply-adds; the next two likewise."""
    sparsevlm_flops: float = math.nan
    fastvid_flops: float = math.nan
    dense_tokens: float = math.nan
    """Visual tokens of the dense model on the same frames and prompts; FLOPs of the same below, counted without a run."""
    dense_llm_flops: float = math.nan
    dense_total_flops: float = math.nan
    dense_fastv_flops: float = math.nan
    dense_sparsevlm_flops: float = math.nan
    dense_fastvid_flops: float = math.nan
    effective_samples: float = math.nan
    """Independent questions that would say as much about the accuracy as these do."""
    infeasible: str | None = None
    """Why the trial could not be run."""
    unclear: float = math.nan
    """Share of the generated answers to questions with options that name none of these; NaN where there are no such answers."""
    ambiguous: float = math.nan
    """Share that name several."""
    exact_match: float = math.nan
    """Share of the generated answers that are the right one word by word, to the end; NaN where nothing was generated."""
    exact_error: float = math.nan
    """Its standard error, clustered by video; so is the next one's."""
    token_f1: float = math.nan
    """Mean F1 of the generated answers' words."""
    token_f1_error: float = math.nan
    number: str = ""
    """By which the trial is called, shown as `#`: `results.read.number` of its folder."""


def not_run(trial: str, reducer: str, reason: str, number: str = "") -> Summary:
    """The line of a trial that could not be run: nothing was measured."""
    unknown: dict[str, Any] = dict.fromkeys(("accuracy", "accuracy_error", *LEDGER_COSTS), math.nan)
    return Summary(trial, reducer, samples=0, errors=0, infeasible=reason, number=number, **unknown)


def scores_of(row: Summary) -> Accuracy:
    return Accuracy(row.accuracy, row.accuracy_error, row.samples, row.videos, row.effective_samples)


MOST_UNCLEAR = 0.5
"""Of a trial's answers that name no option or several.  Beyond it two trials may agree only in saying nothing: neither is called
like another, nor within a margin of it, whatever a test says."""


def says_enough(row: Summary) -> bool:
    """Whether at least half of a trial's answers name one option; scored options always do."""
    return not row.unclear + row.ambiguous > MOST_UNCLEAR


PER_TASK = "accuracy/"
OBJECTIVES = tuple(field.name for field in fields(Summary) if field.type in ("float", "int"))
"""What a search can optimise."""


def require_objective(where: str, name: str) -> None:
    """Raises ValueError unless `numbers` may have the name."""
    if name not in OBJECTIVES and not name.startswith(PER_TASK):
        raise ValueError(f"unknown objective {name!r} in {where}; known: {', '.join((*OBJECTIVES, f'{PER_TASK}TASK'))}")
