import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from prunesweep.reducers.prunevid import Merge, Prune, segment_lengths, select, static_patches
from prunesweep.types import Tokens

DATA = Path(__file__).parent / "data"
CASES = json.loads((DATA / "prunevid_cases.json").read_text())


def tokens_of(x: torch.Tensor) -> Tokens:
    return Tokens("video", x, x[:0, 0])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_merge_and_selection_reproduce_the_official_results(case: dict) -> None:
    tensors = load_file(DATA / "prunevid_cases.safetensors")
    x, expected = (tensors[f"{case['case']}.{name}"] for name in ("features", "merged"))
    merge = Merge(case["segment_ratio"], case["static_threshold"], case["cluster_ratio"], case["knn"])
    assert segment_lengths(x, case["segment_ratio"], case["knn"]) == case["segment_lengths"]
    merged = merge(tokens_of(x))
    assert merged.x.shape == expected.shape
    torch.testing.assert_close(merged.x, expected, atol=1e-5, rtol=0)
    kept = select(tensors[f"{case['case']}.attention_max"], merged.group, case["keep_ratio"], "grouped")
    assert torch.equal(kept, tensors[f"{case['case']}.kept"])


def random_video(frames: int = 8, patches: int = 36, seed: int = 0) -> torch.Tensor:
    """A still background with noise, and a token that changes every frame."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, patches, 16, generator=generator).repeat(frames, 1, 1)
    x = x + 0.05 * torch.randn(x.shape, generator=generator)
    x[:, 0] = torch.randn(frames, 16, generator=generator)
    return x


@pytest.mark.parametrize("frames", [1, 2, 5, 8])
@pytest.mark.parametrize("cluster_ratio", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("positions", ["renumbered", "original"])
def test_a_merge_covers_every_patch_and_preserves_weighted_sums(frames: int, cluster_ratio: float, positions: str) -> None:
    x = random_video(frames)
    merged = Merge(cluster_ratio=cluster_ratio, positions=positions)(tokens_of(x))
    weight = torch.bincount(merged.source.flatten(), minlength=len(merged.x))
    assert weight.min() > 0
    assert weight.sum() == frames * 36
    torch.testing.assert_close((merged.x * weight[:, None]).sum(0), x.sum((0, 1)), rtol=1e-4, atol=1e-3)
    assert merged.position.max() < merged.span
    assert len(merged.group) == len(merged.position) == len(merged.x)


def test_cluster_ratio_one_without_static_tokens_is_the_identity() -> None:
    x = random_video()
    merged = Merge(static_threshold=1.0, cluster_ratio=1.0)(tokens_of(x))
    assert torch.equal(merged.x, x.flatten(0, 1))
    assert torch.equal(merged.position, torch.arange(8 * 36))


def test_a_frame_alone_is_all_dynamic() -> None:
    assert not static_patches(torch.ones(1, 9, 4), threshold=-1.0).any()


def test_static_means_similar_through_the_whole_segment() -> None:
    x = random_video()
    static = static_patches(x, threshold=0.8)
    assert static.tolist() == [False] + [True] * 35


def test_static_similarity_is_the_mean_over_pairs() -> None:
    # Unit vectors at 0, 60 and 90 degrees: cosines 0.5, 0 and sqrt(3)/2, mean 0.4553.
    angle = torch.tensor([0.0, math.pi / 3, math.pi / 2])
    x = torch.stack([angle.cos(), angle.sin()], dim=-1)[:, None]
    assert static_patches(x, threshold=0.455).all()
    assert not static_patches(x, threshold=0.456).any()


@pytest.mark.parametrize("distance", ["raw", "unit"])
def test_a_lone_object_on_a_plain_background_becomes_its_own_token(distance: str) -> None:
    generator = torch.Generator().manual_seed(0)
    background = torch.nn.functional.normalize(torch.randn(64, generator=generator), dim=0) * 8
    x = background + 0.05 * torch.randn(1, 36, 64, generator=generator)
    x[0, 17] = torch.nn.functional.normalize(torch.randn(64, generator=generator), dim=0) * 8
    merged = Merge(cluster_ratio=0.25, distance=distance)(tokens_of(x))
    assert (merged.source == merged.source[0, 17]).sum() == 1


def test_raw_distances_of_large_features_lose_a_lone_object_and_unit_ones_do_not() -> None:
    generator = torch.Generator().manual_seed(0)
    background = torch.nn.functional.normalize(torch.randn(64, generator=generator), dim=0) * 800
    x = background + 5 * torch.randn(1, 36, 64, generator=generator)
    x[0, 17] = torch.nn.functional.normalize(torch.randn(64, generator=generator), dim=0) * 800
    together = {
        distance: int((m.source == m.source[0, 17]).sum())
        for distance in ("raw", "unit")
        for m in [Merge(cluster_ratio=0.25, distance=distance)(tokens_of(x))]
    }
    assert together["unit"] == 1
    assert together["raw"] > 1


def test_global_selection_keeps_the_most_important_ceil() -> None:
    importance = torch.tensor([0.1, 0.9, 0.5, 0.5, 0.2])
    group = torch.tensor([0, 0, 0, 1, 1])
    assert select(importance, group, 0.5, "global").tolist() == [1, 2, 3]
    assert select(importance, group, 0.4, "global").tolist() == [1, 2]  # of equal ones the first
    assert select(importance, group, 0.01, "global").tolist() == [1]


def test_global_budget_is_not_raised_by_rounding_errors() -> None:
    assert len(select(torch.rand(30), torch.zeros(30), 0.1, "global")) == 3  # 0.1 * 30 = 3.0000000000000004


def test_grouped_selection_floors_each_group_and_may_keep_none_of_it() -> None:
    importance = torch.tensor([0.1, 0.9, 0.5, 0.6, 0.2])
    group = torch.tensor([0, 0, 0, 1, 1])
    assert select(importance, group, 0.4, "grouped").tolist() == [1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"segment_ratio": 0}, r"segment_ratio must be in \(0, 1\], got 0"),
        ({"cluster_ratio": 1.5}, r"cluster_ratio must be in \(0, 1\], got 1.5"),
        ({"static_threshold": 2}, r"static_threshold must be in \[-1, 1\], got 2"),
        ({"neighbours": 0}, "neighbours must be at least 1, got 0"),
        ({"distance": "cosine"}, "distance must be one of raw, unit, got 'cosine'"),
        ({"positions": "new"}, "positions must be one of renumbered, original, got 'new'"),
    ],
)
def test_merge_settings_out_of_range_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Merge(**settings)


@pytest.mark.parametrize("keep_ratio", [0, 1.4, -0.1, float("nan")])
def test_a_keep_ratio_out_of_range_is_refused(keep_ratio: float) -> None:
    with pytest.raises(ValueError, match=r"keep_ratio must be in \(0, 1\], got"):
        Prune(layer=2, keep_ratio=keep_ratio)
