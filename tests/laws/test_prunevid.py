import json
import math
import re

import pytest
import torch
from safetensors.torch import load_file

from prunesweep.reducers.prunevid import Merge, Prune, mean_similarity, pairwise_similarity, select
from prunesweep.types import Tokens
from support.places import DATA

CASES = json.loads((DATA / "prunevid_cases.json").read_text())


RELEASED = {
    "segmentation": "repaired",
    "at_threshold": False,
    "precision": "input",
    "min_cluster_tokens": 15,
    "order": "score",
    "counts": "released",
}
"""conf/reducer/prunevid_official.yaml, but for its noise."""


def tokens_of(x: torch.Tensor) -> Tokens:
    return Tokens("video", x, x[:0, 0])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_merge_and_selection_reproduce_the_official_results(case: dict) -> None:
    tensors = load_file(DATA / "prunevid_cases.safetensors")
    x, expected = (tensors[f"{case['case']}.{name}"] for name in ("features", "merged"))
    names = {"segment_ratio": "segment_ratio", "static_threshold": "static_threshold", "cluster_ratio": "cluster_ratio"}
    merge = Merge(**RELEASED, **{name: case[key] for name, key in {**names, "neighbours": "knn"}.items()})
    assert merge.segment_lengths(x) == case["segment_lengths"]
    merged = merge(tokens_of(x))
    assert merged.x.shape == expected.shape
    torch.testing.assert_close(merged.x, expected, atol=1e-5, rtol=0)
    kept = select(tensors[f"{case['case']}.attention_max"], merged.group, case["keep_ratio"], "grouped", "released")
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
    merged = Merge(static_threshold=1.0, cluster_ratio=1.0, order="raster")(tokens_of(x))
    assert torch.equal(merged.x, x.flatten(0, 1))
    assert torch.equal(merged.position, torch.arange(8 * 36))


def test_cluster_ratio_one_puts_groups_into_the_order_of_their_scores_as_released() -> None:
    x = random_video()
    merged = Merge(static_threshold=1.0, cluster_ratio=1.0, order="score")(tokens_of(x))
    assert not torch.equal(merged.x, x.flatten(0, 1))
    for frame in range(8):
        assert torch.equal(merged.x[merged.source[frame]], x[frame])  # every token is still there, once, in its frame
        assert sorted(merged.source[frame].tolist()) == list(range(36 * frame, 36 * (frame + 1)))
    few = Merge(static_threshold=1.0, cluster_ratio=1.0, order="score", min_cluster_tokens=37)(tokens_of(x))
    assert torch.equal(few.x, x.flatten(0, 1))


def test_static_means_similar_through_the_whole_segment() -> None:
    assert (mean_similarity(random_video(), torch.ones(1, 8))[0] > 0.8).tolist() == [False] + [True] * 35


def test_static_similarity_is_the_mean_over_pairs() -> None:
    # Unit vectors at 0, 60 and 90 degrees: cosines 0.5, 0 and sqrt(3)/2, mean 0.4553.
    angle = torch.tensor([0.0, math.pi / 3, math.pi / 2])
    x = torch.stack([angle.cos(), angle.sin()], dim=-1)[:, None]
    assert mean_similarity(x, torch.ones(1, 3))[0].tolist() == pytest.approx([(0.5 + 0 + math.sqrt(3) / 2) / 3])


def test_a_patch_exactly_at_the_threshold_is_static_if_the_setting_says_so() -> None:
    x = torch.ones(2, 4, 1)
    x[1, 1:] = -1  # cosines exactly 1 and -1
    for at_threshold, tokens in ((True, 1 + 2 * 3), (False, 8)):
        merge = Merge(0.5, static_threshold=1.0, cluster_ratio=1, at_threshold=at_threshold)
        assert len(merge(tokens_of(x)).x) == tokens


@pytest.mark.parametrize(
    ("frames", "patches", "settings", "tokens"),
    [
        (1, 20, {}, 10),  # one frame: all dynamic, clustered
        (3, 20, {"cluster_ratio": 1, "neighbours": 7}, 60),  # fewer frames than neighbours: all of them count
        (4, 1, {}, 4),  # one patch a frame is too few to cluster
        (4, 5, {"cluster_ratio": 0.01}, 20),  # not even one cluster: the tokens stay
        (4, 20, {"static_threshold": None, "cluster_ratio": 1}, 80),  # nothing over time
    ],
)
def test_degenerate_videos_have_named_answers(frames: int, patches: int, settings: dict, tokens: int) -> None:
    x = torch.randn(frames, patches, 8, generator=torch.Generator().manual_seed(0))
    for official in (False, True):
        changes = {"min_cluster_tokens": 15, "order": "score"} if official else {"min_cluster_tokens": 1, "order": "raster"}
        merged = Merge(**{**changes, **settings})(tokens_of(x))
        assert len(merged.x) == tokens
        assert merged.source.min() >= 0


def test_a_video_that_never_changes_is_one_pool() -> None:
    x = torch.randn(1, 20, 8, generator=torch.Generator().manual_seed(0)).repeat(6, 1, 1)
    merged = Merge(cluster_ratio=0.5)(tokens_of(x))
    assert len(merged.x) == 10
    assert set(merged.group.tolist()) == {0}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(value: float) -> None:
    x = random_video()
    x[2, 3, 4] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        Merge(cluster_ratio=1)(tokens_of(x))


def changing_video(frames: int) -> torch.Tensor:
    return torch.randn(frames, 20, 8, generator=torch.Generator().manual_seed(1))


def test_as_many_segments_as_frames_or_one() -> None:
    x = changing_video(6)
    assert Merge(segment_ratio=1, segmentation="runs").segment_lengths(x) == [1] * 6
    assert Merge(segment_ratio=1, segmentation="repaired").segment_lengths(x) == [6]
    assert Merge(segments=1, segmentation="runs").segment_lengths(x) == [6]
    assert Merge(segments=100, segmentation="runs").segment_lengths(x) == [1] * 6


def test_raster_and_score_order_hold_the_same_tokens() -> None:
    x = changing_video(3)
    score, raster = (Merge(static_threshold=None, order=order)(tokens_of(x)) for order in ("score", "raster"))
    assert not torch.equal(score.x, raster.x)
    for frame in range(3):
        rows = [merged.x[merged.group == frame] for merged in (score, raster)]
        assert sorted(map(tuple, rows[0].tolist())) == sorted(map(tuple, rows[1].tolist()))
        first = [raster.source[frame].tolist().index(token) for token in (raster.group == frame).nonzero()[:, 0].tolist()]
        assert first == sorted(first)


def test_density_noise_is_seeded() -> None:
    x = torch.eye(20)[None]  # all points are as far from each other: nothing but noise decides
    one, same, other = (Merge(density_noise=1e-6, seed=seed)(tokens_of(x)).source for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def released_similarity(x: torch.Tensor) -> torch.Tensor:
    """Of one segment `t p c`, a patch at a time as the sheet has it: every operation rounds to the type of x."""
    frames, found = len(x), []
    for patch in x.unbind(1):
        unit = patch / patch.norm(dim=-1, keepdim=True)
        cosine = unit @ unit.T
        found.append((cosine.sum(1) - 1).sum() / (frames * (frames - 1)))
    return torch.stack(found)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32])
def test_similarity_in_the_tokens_own_type_is_summed_pair_by_pair_as_released(kind: torch.dtype) -> None:
    for seed in range(5):
        x = random_video(seed=seed, frames=7).to(kind)
        found = pairwise_similarity(x, [4, 3])
        assert found.dtype == kind
        expected = torch.stack([released_similarity(x[:4]), released_similarity(x[4:])])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 if kind == torch.float32 else 0)


def test_patches_near_the_threshold_are_static_by_the_released_rounding() -> None:
    """The shortcut by the norm of a sum rounds otherwise: in bfloat16 it decides some patches differently."""
    x = torch.randn(1, 1444, 32, generator=torch.Generator().manual_seed(0)).repeat(8, 1, 1)
    x = (x + 0.48 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).bfloat16()
    static = released_similarity(x) > 0.8
    assert 0 < static.sum() < 1444
    assert not torch.equal(mean_similarity(x, torch.ones(1, 8))[0] > 0.8, static)
    merge = Merge(segments=1, cluster_ratio=1, at_threshold=False, precision="input")
    assert len(merge(tokens_of(x)).x) == int(static.sum()) + 8 * int((~static).sum())


def test_frames_are_described_in_the_tokens_own_type() -> None:
    x = changing_video(16).bfloat16()
    merge = Merge(precision="input")
    rounded = merge.segment_lengths(x.mean(1, keepdim=True).float())
    assert merge.segment_lengths(x) == rounded


@pytest.mark.parametrize(
    ("settings", "frames", "patches", "message"),
    [
        ({}, 6, 20, "clusters at least neighbours=7 frames, got 6; use reducer=prunevid"),
        ({"neighbours": 9}, 8, 20, "clusters at least neighbours=9 frames, got 8"),
        ({"segment_ratio": 0.1}, 9, 20, "makes at least one cluster, got segment_ratio=0.1 of 9 frames"),
        ({"neighbours": 17, "static_threshold": None}, 17, 16, "neighbours=17 visual tokens of a group, got 16"),
        ({"cluster_ratio": 0.05, "static_threshold": None}, 8, 16, "got cluster_ratio=0.05 of 16 visual tokens of a group"),
    ],
)
def test_what_the_release_cannot_run_has_no_counterpart(settings: dict, frames: int, patches: int, message: str) -> None:
    x = torch.randn(frames, patches, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=f"as released has no counterpart: its code .*{re.escape(message)}"):
        Merge(**{**RELEASED, **settings})(tokens_of(x))
    assert len(Merge(**{**RELEASED, **settings, "counts": "exact"})(tokens_of(x)).x) > 0, "the way out"


def test_means_are_taken_in_the_tokens_own_type_if_the_setting_says_so() -> None:
    x = changing_video(3).bfloat16()
    own, full = (Merge(static_threshold=None, cluster_ratio=0.2, precision=p)(tokens_of(x)) for p in ("input", "float32"))
    assert torch.equal(own.source, full.source)
    assert own.x.dtype == full.x.dtype == torch.bfloat16
    assert not torch.equal(own.x, full.x)
    torch.testing.assert_close(own.x, full.x, rtol=0.02, atol=0.02)


def test_a_grouped_selection_that_would_leave_nothing_leaves_the_most_important_token() -> None:
    assert select(torch.tensor([0.1, 0.3, 0.2]), torch.tensor([0, 1, 2]), 0.4, "grouped").tolist() == [1]


def test_an_inclusive_layer_is_one_full_layer_more() -> None:
    assert (Prune(10).full_layers, Prune(10, inclusive=True).full_layers) == (10, 11)


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
        ({"segments": 0}, "segments must be at least 1, got 0"),
        ({"segmentation": "cut"}, "segmentation must be one of runs, repaired, got 'cut'"),
        ({"order": "random"}, "order must be one of raster, score, got 'random'"),
        ({"density_noise": -1}, "density_noise must be at least 0, got -1"),
        ({"at_threshold": "yes"}, "at_threshold must be true or false, got 'yes'"),
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
