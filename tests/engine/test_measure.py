"""The measuring mode: what it reports and what it refuses; the numbers themselves are the machine's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from prunesweep.engine.candidate import Candidate
from prunesweep.engine.latency import (
    Measuring,
    PeakMemory,
    as_columns,
    measure,
    quartiles,
)
from prunesweep.models.llava_onevision import LlavaOnevision
from prunesweep.reducers import Reducer
from prunesweep.types import Sample
from support.trials import CHOOSE, DENSE, FRAMES, reducer_of


def test_every_candidate_is_measured_on_every_sample_and_repeat(
    samples: list[Sample], model: LlavaOnevision, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    import prunesweep.engine.latency as module

    run_once = module.run_once

    def noted(model: LlavaOnevision, sample: Sample, candidate: Candidate, *settings: float) -> object:
        order.append(candidate.reducer.name)
        return run_once(model, sample, candidate, *settings)

    monkeypatch.setattr(module, "run_once", noted)
    reducers: list[Reducer] = [DENSE, reducer_of("prunevid")]
    found = measure(
        model, samples, [Candidate("it", r, FRAMES, CHOOSE) for r in reducers], Measuring(samples=2, repeats=2, tokens=3)
    )
    assert order == [r.name for r in reducers] * 2 * 3  # in turns; one round of three warms up
    for one in found:
        assert (one.samples, one.repeats) == (2, 2)
        for value in (one.first_token_seconds, one.llm_seconds, one.tokens_per_second, one.peak_memory_bytes):
            assert 0 < value.low <= value.median <= value.high
        assert one.llm_seconds.median < one.first_token_seconds.median
        assert "cpu, 1 threads" in one.device


def test_a_sample_without_an_answer_is_no_time(samples: list[Sample], model: LlavaOnevision) -> None:
    gone = replace(samples[0], path=Path("gone.mp4"))
    with pytest.raises(ValueError, match=f"engine.measure needs samples that can be answered, {gone.id} cannot"):
        measure(model, [gone], [Candidate("it", DENSE, FRAMES, CHOOSE)], Measuring())


def test_of_repeats_the_median_and_quartiles_are_told() -> None:
    assert quartiles([5.0, 1.0, 2.0, 3.0, 4.0]) == (3.0, 2.0, 4.0)


def test_peak_memory_sees_what_was_allocated_and_freed() -> None:
    with PeakMemory(torch.device("cpu")) as memory:
        before = memory.highest
        torch.ones(64 * 2**20 // 4).sum()
        block = torch.ones(256 * 2**20 // 4)
        for _ in range(5):
            block.sum()
        del block
    assert memory.highest - before > 200 * 2**20


def test_columns_are_flat_and_named(samples: list[Sample], model: LlavaOnevision) -> None:
    (found,) = measure(model, samples, [Candidate("it", DENSE, FRAMES, CHOOSE)], Measuring(samples=1, repeats=2, tokens=2))
    columns = as_columns(found)
    assert columns["first_token_seconds"] == found.first_token_seconds.median
    assert columns["peak_memory_bytes_high"] == found.peak_memory_bytes.high
    assert columns["samples"] == 1


@pytest.mark.parametrize("settings", [{"samples": 0}, {"repeats": 1}, {"tokens": 1}])
def test_settings_out_of_range_are_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match=r"engine.measuring.\w+ must be at least"):
        Measuring(**settings)
