"""Uniform frames, average pooling and FastV against what their definitions say."""

import pytest
import torch
from torch.nn import functional as F

from prunesweep.reducers.fastv import Prune
from prunesweep.reducers.frames import Stride, spaced
from prunesweep.reducers.parts.grids import blocks
from prunesweep.reducers.pooling import Pool
from prunesweep.types import Prefix, Tokens


def video(frames: int = 6, patches: int = 36) -> Tokens:
    x = torch.randn(frames, patches, 8, generator=torch.Generator().manual_seed(0))
    return Tokens("video", x, x[:0, 0])


def test_frames_are_spaced_evenly() -> None:
    assert spaced(12, 4, "ends").tolist() == [0, 4, 7, 11]
    assert spaced(12, 4, "centres").tolist() == [1, 4, 7, 10]
    assert spaced(12, 1, "ends").tolist() == spaced(12, 1, "centres").tolist() == [6]
    for spacing in ("ends", "centres"):
        for count in range(1, 13):
            assert len(set(spaced(12, count, spacing).tolist())) == count
        assert spaced(12, 12, spacing).tolist() == list(range(12))


def test_kept_frames_keep_all_their_tokens_and_no_other_does() -> None:
    tokens = video()
    merged = Stride(keep_ratio=0.5, positions="original")(tokens)
    assert torch.equal(merged.x, tokens.x[[0, 2, 5]].flatten(0, 1))
    assert torch.equal(merged.position, torch.cat([torch.arange(36) + 36 * frame for frame in (0, 2, 5)]))
    assert (merged.source >= 0).all(1).tolist() == [True, False, True, False, False, True]
    assert (merged.span, Stride(keep_ratio=0.5)(tokens).span) == (216, 108)
    assert len(Stride(keep_ratio=0.01)(tokens).x) == 36


@pytest.mark.parametrize(("frames", "rows", "columns"), [(None, 3, 3), (3, 6, 6), (2, 2, 3), (1, 1, 1)])
def test_pooling_is_torch_s_where_sizes_divide(frames: int | None, rows: int, columns: int) -> None:
    tokens = video()
    merged = Pool(rows, columns, frames)(tokens)
    grid = tokens.x.view(6, 6, 6, 8).permute(3, 0, 1, 2)
    expected = F.adaptive_avg_pool3d(grid, (frames or 6, rows, columns)).permute(1, 2, 3, 0).reshape(-1, 8)
    torch.testing.assert_close(merged.x, expected)


@pytest.mark.parametrize("positions", ["original", "renumbered"])
def test_pooling_is_a_partition_where_sizes_do_not_divide(positions: str) -> None:
    tokens = video()
    merged = Pool(4, 5, 4, positions)(tokens)
    weight = torch.bincount(merged.source.flatten())
    assert len(weight) == len(merged.x) == 80
    assert weight.min() > 0
    torch.testing.assert_close((merged.x * weight[:, None]).sum(0), tokens.x.sum((0, 1)), rtol=1e-4, atol=1e-4)
    assert merged.position.max() < merged.span
    assert (merged.position.diff() > 0).all() or positions == "original"
    assert blocks(5, 2).tolist() == [0, 0, 0, 1, 1]


def test_a_pooled_token_stands_at_its_first_frame_and_middle_patch() -> None:
    merged = Pool(rows=6, columns=6, frames=3, positions="original")(video())
    assert merged.position.view(3, 36)[:, 7].tolist() == [7, 2 * 36 + 7, 4 * 36 + 7]
    assert merged.group.view(3, 36)[:, 0].tolist() == [0, 2, 4]


def test_pooling_refuses_a_grid_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="6 grids of 6 x 6 visual tokens, got 6 x 7 x 3"):
        Pool(7, 3)(video())
    with pytest.raises(ValueError, match="35 visual tokens of a frame are no square grid"):
        Pool(3, 3)(video(patches=35))


def prefix(attention: torch.Tensor | None) -> Prefix:
    return Prefix("video", torch.zeros(4, 1), torch.arange(4), torch.ones(4, dtype=bool), torch.arange(4), 4, attention=attention)


def test_fastv_ranks_by_the_last_row_averaged_over_heads() -> None:
    heads = torch.tensor([[[9.0, 9, 0, 0], [0, 1, 0, 5]], [[9, 9, 0, 0], [4, 1, 2, 0]]])  # h q n
    assert Prune(1, 0.5)(prefix(heads)).tolist() == [0, 3]
    assert Prune(1, 0.5, "question")(prefix(heads)).tolist() == [0, 1]
    assert Prune(1, 0.01)(prefix(heads)).tolist() == [3]
    with pytest.raises(ValueError, match="needs a prefix whose question was asked with attention"):
        Prune(1)(prefix(None))


def test_settings_out_of_bounds_are_refused() -> None:
    for broken in (
        lambda: Stride(keep_ratio=0),
        lambda: Stride(spacing="left"),
        lambda: Pool(rows=0),
        lambda: Pool(frames=0),
        lambda: Prune(0),
        lambda: Prune(1, 2),
        lambda: Prune(1, rows="all"),
    ):
        with pytest.raises(ValueError, match="must be"):
            broken()
