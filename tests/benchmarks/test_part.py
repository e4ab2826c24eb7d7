"""Questions for choosing and for confirming: whole videos, the same ones each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunesweep.benchmarks import Part
from prunesweep.types import Sample


def asked(videos: int, each: int = 3) -> list[Sample]:
    return [
        Sample(f"{video}-{n}", Path("x"), "q", ("a", "b"), 0, "task", str(video)) for n in range(each) for video in range(videos)
    ]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_parts_are_whole_videos_and_all_of_them(share: float) -> None:
    samples = asked(20)
    search, confirm = (Part(part, share, seed=3)(samples) for part in ("search", "confirm"))
    assert {s.video_id for s in search} & {s.video_id for s in confirm} == set()
    assert len({s.video_id for s in search}) == round(20 * share)
    assert sorted(s.id for s in (*search, *confirm)) == sorted(s.id for s in samples)
    assert [s for s in samples if s in search] == list(search)


def test_seeds_part_otherwise_and_other_videos_change_no_order() -> None:
    samples = asked(20)
    assert Part("search", seed=0)(samples) == Part("search", seed=0)(samples)
    assert Part("search", seed=0)(samples) != Part("search", seed=1)(samples)
    few = {s.video_id for s in Part("search", 0.5)(asked(10))}
    many = {s.video_id for s in Part("search", 0.9)(samples)}
    assert len(few & many) >= 4
    assert Part()(samples) == tuple(samples)


def test_what_cannot_be_parted_says_so() -> None:
    with pytest.raises(ValueError, match="1 video cannot be parted.* both parts need one, so take more"):
        Part("search")(asked(1))
    with pytest.raises(ValueError, match="questions.part must be one of all, search, confirm, got 'half'"):
        Part("half")  # type: ignore[arg-type]
    for share in (0, 1, float("nan")):
        with pytest.raises(ValueError, match=r"questions\.share"):
            Part("search", share)
