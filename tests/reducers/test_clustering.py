import pytest
import torch

from prunesweep.reducers.parts.clustering import contiguous_segments, dpc_knn, group_mean


def test_two_blobs_become_two_clusters() -> None:
    blob = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.0, 0.1]])
    x = torch.cat([blob, blob + 5])[None]
    label = dpc_knn(x, clusters=2, neighbours=3)[0].tolist()
    assert len(set(label[:3])) == 1
    assert len(set(label[3:])) == 1
    assert label[0] != label[3]


def test_labels_are_ranked_by_the_centres_scores() -> None:
    # By hand, c = 1, k = 2, points 0, 1, 3, 10: densities exp(-d^2/2) of the nearest other point, d = 1, 1, 2, 7.
    # The first point has no denser one, so its separation is the largest distance, 10; point 3 scores about 0 although
    # it is far away, because its density is exp(-24.5).
    x = torch.tensor([[[0.0], [1.0], [3.0], [10.0]]])
    assert dpc_knn(x, clusters=2, neighbours=2)[0].tolist() == [0, 1, 1, 1]


def test_batched_equals_one_by_one() -> None:
    x = torch.randn(5, 20, 8, generator=torch.Generator().manual_seed(0))
    together = dpc_knn(x, clusters=6, neighbours=7)
    assert torch.equal(together, torch.cat([dpc_knn(item[None], 6, 7) for item in x]))


def test_every_cluster_is_its_own_centres_and_ties_go_to_the_first() -> None:
    label = dpc_knn(torch.zeros(1, 6, 4), clusters=3, neighbours=7)[0]
    assert set(label.tolist()) == {0, 1, 2}
    assert label[:3].tolist() == [0, 1, 2]


@pytest.mark.parametrize("clusters", [0, 5])
def test_impossible_cluster_counts_are_refused(clusters: int) -> None:
    with pytest.raises(ValueError, match=rf"clusters must be in \[1, 4\] for 4 tokens, got {clusters}"):
        dpc_knn(torch.zeros(1, 4, 2), clusters, neighbours=2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        dpc_knn(torch.tensor([[[0.0], [value], [1.0]]]), 1, 2)


def test_group_mean() -> None:
    x = torch.tensor([[[1.0], [3.0], [10.0]]])
    assert group_mean(x, torch.tensor([[0, 0, 2]]), groups=3).tolist() == [[[2.0], [0.0], [10.0]]]


@pytest.mark.parametrize(
    ("label", "segments"),
    [
        ([0, 0, 1, 1, 1], [2, 3]),
        ([0, 1, 0, 0, 1, 1], [4, 2]),  # the single 0 and 1 at the start are erased, and there is no left neighbour
        ([0, 0, 1, 2, 2, 2], [2, 4]),  # the single 1 joins its longer neighbour, the right one
        ([0, 0, 1, 2, 2], [3, 2]),  # a tie goes to the left
        ([0, 0, 1, 0, 0], [5]),  # equal longest runs of a label all survive, and meet once the 1 is gone
        ([0, 1, 2, 3], [4]),  # nothing survives: one segment, not one per frame
        ([3], [1]),
    ],
)
def test_segments_are_contiguous_runs(label: list[int], segments: list[int]) -> None:
    assert contiguous_segments(torch.tensor(label)) == segments
