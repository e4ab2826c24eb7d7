"""From an answer to its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from prunesweep.cost import Usage
from prunesweep.engine.protocol import Protocol, chosen_of, named_options
from prunesweep.types import Answer, Record, Sample


def score(sample: Sample, trial: str, answer: Answer, protocol: Protocol) -> Record:
    """The record of an answered sample.  Scored options are compared by index, generated text by the protocol's parser."""
    named: tuple[int, ...]
    if answer.choice_scores:
        best = answer.choice_scores.index(max(answer.choice_scores))
        named, prediction = (best,), sample.choices[best]
    else:
        named, prediction = named_options(answer.text, sample, protocol), answer.text
    chosen = chosen_of(named, protocol)
    return Record(
        **_identity(sample, trial),
        prediction=prediction,
        correct=None if sample.target is None else chosen == sample.target,
        choice_scores=answer.choice_scores,
        usage=replace(answer.usage, cached_tokens=_cached(answer.usage)),
        chosen=chosen,
        named=len(named) if sample.choices else None,
    )


def _cached(usage: Usage) -> Sequence[int] | None:
    """None where every cache holds what the last layer sees: most records then have nothing there."""
    return None if set(usage.cached_tokens or ()) == {usage.visual_tokens[-1]} else usage.cached_tokens


def failure(sample: Sample, trial: str, error: Exception) -> Record:
    """The record of a sample that could not be evaluated."""
    return Record(**_identity(sample, trial), prediction=None, correct=None, error=f"{type(error).__name__}: {error}")


def _identity(sample: Sample, trial: str) -> dict[str, Any]:
    return {
        "trial": trial,
        "sample_id": sample.id,
        "video_id": sample.video_id,
        "task": sample.task,
        "choices": sample.choices,
        "target": sample.reference,
    }
