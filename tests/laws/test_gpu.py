"""On a GPU: the answers of the CPU, within what its precision allows; its own seconds and memory.

These run where CUDA is there (`pytest -m gpu`) and are skipped elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from prunesweep.engine.latency import PeakMemory
from prunesweep.engine.prefix_tree import Clock, evaluate_jobs
from prunesweep.models.llava_onevision import LlavaOnevision, load
from prunesweep.types import Sample
from support.trials import CHOOSE, GENERATE, answers, jobs_of, last_stages, one_video

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]
SCORES = 1e-3
"""Log-likelihoods of options in float32 may differ by as much between devices, which sum in other orders."""
FLIPPED = 0.02
"""Of the answers, at most: near ties."""


@pytest.fixture(scope="module")
def there(checkpoint: Path) -> Iterator[LlavaOnevision]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    model = load("small", str(checkpoint), "float32")
    model.network.to("cuda")
    yield model
    torch.backends.cuda.matmul.allow_tf32 = before


def test_every_method_scores_options_as_on_the_cpu(samples: list[Sample], model: LlavaOnevision, there: LlavaOnevision) -> None:
    here = answers(evaluate_jobs(model, jobs_of(one_video(samples), model, CHOOSE), Clock()))
    found = answers(evaluate_jobs(there, jobs_of(one_video(samples), there, CHOOSE), Clock()))
    same = [key for key in here if here[key].usage == found[key].usage]
    assert len(same) >= (1 - FLIPPED) * len(here), "a choice of tokens may flip in a near tie, but seldom"
    for key in same:
        assert found[key].choice_scores == pytest.approx(here[key].choice_scores, abs=SCORES), key


@pytest.mark.parametrize("most", [1, 8, 64])
def test_every_method_writes_as_on_the_cpu(
    samples: list[Sample], model: LlavaOnevision, there: LlavaOnevision, most: int
) -> None:
    here = answers(evaluate_jobs(model, jobs_of(one_video(samples)[:1], model, GENERATE), Clock()))
    last = last_stages(there, most)
    found = answers(evaluate_jobs(there, jobs_of(one_video(samples)[:1], there, GENERATE), Clock(), last=last))
    flipped = [key for key in here if here[key].token_ids != found[key].token_ids]
    assert len(flipped) <= FLIPPED * len(here), flipped


def test_the_seconds_of_stages_sum_to_the_whole_and_memory_is_the_devices(samples: list[Sample], there: LlavaOnevision) -> None:
    jobs = jobs_of(one_video(samples)[:1], there, GENERATE)
    evaluate_jobs(there, jobs, Clock())
    clock = Clock()
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with PeakMemory(there.device) as memory:
        first.record()
        evaluate_jobs(there, jobs, clock)
        last.record()
    last.synchronize()
    assert sum(clock.seconds.values()) == pytest.approx(first.elapsed_time(last) / 1000, rel=0.1)
    assert memory.highest > sum(weight.nbytes for weight in there.network.parameters())
