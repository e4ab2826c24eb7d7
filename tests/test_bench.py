"""The reference sides of the benchmarks compute the same; speeds are not tested."""

import pytest
import torch

from prunesweep.bench import bench_merge, drawn_video, operations, plain_merge
from prunesweep.reducers.prunevid import Merge


@pytest.mark.parametrize("shape", [(8, 36, 16), (12, 20, 8), (5, 49, 4)])
def test_the_loop_over_frames_gives_the_tokens_of_the_batched_merge(shape: tuple[int, int, int]) -> None:
    tokens, merge = drawn_video(*shape), Merge(static_threshold=0.5)
    torch.testing.assert_close(plain_merge(tokens, merge), merge(tokens).x, atol=1e-5, rtol=1e-5)


def test_a_merge_of_32_frames_dispatches_at_most_a_fifth_of_the_loops_operations() -> None:
    tokens, merge = drawn_video(32, 196, 16), Merge(static_threshold=0.5)
    assert operations(lambda: merge(tokens)) * 5 <= operations(lambda: plain_merge(tokens, merge))


def test_the_bench_prints_both_sides() -> None:
    text = bench_merge((8, 20, 8), rounds=1)
    assert "equals the loop" in text
    assert "loop over frames" in text
