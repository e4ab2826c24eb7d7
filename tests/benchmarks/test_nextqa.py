"""NExT-QA in the two layouts in which it is downloaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunesweep.benchmarks import nextqa
from prunesweep.sweep import data_check as data
from prunesweep.types import Sample
from support import trees


@pytest.fixture(scope="module")
def video(samples: list[Sample]) -> Path:
    return samples[0].path


@pytest.mark.parametrize("layout", ["csv", "parquet"])
def test_nextqa_is_read_from_its_authors_tables_and_from_the_hub_s(layout: str, tmp_path: Path, video: Path) -> None:
    root = str(trees.nextqa(tmp_path, video, layout))
    asked = nextqa.load(root)
    assert [(s.id, s.task, s.target, s.video_id) for s in asked] == [
        ("4010069381_6", "causal", 0, "4010069381"),
        ("4010069381_7", "temporal", 2, "4010069381"),
        ("2435100235_1", "descriptive", 4, "2435100235"),
    ]
    assert (asked[1].question, asked[1].choices[4]) == ("what does it do before, at the start", "it stays, still")
    assert [s.task for s in nextqa.load(root, by="type")] == ["how", "before_after", "count"]
    assert [s.id for s in nextqa.load(root, by="type", tasks=["count"])] == ["2435100235_1"]
    assert data.check(asked, {}).faults == 0
    if layout == "parquet":
        with pytest.raises(ValueError, match=r"val.csv does not exist; docs/benchmarks.md has the layout"):
            nextqa.load(root, split="val")


def test_videos_of_nextqa_are_found_in_folders_without_a_map(tmp_path: Path, video: Path) -> None:
    root = trees.nextqa(tmp_path, video)
    mapped = nextqa.load(str(root))
    (root / "map_vid_vidorID.json").unlink()
    assert nextqa.load(str(root)) == mapped
    (root / "NExTVideo").rename(root / "elsewhere")
    (root / "videos").symlink_to(root / "elsewhere")
    assert data.check(nextqa.load(str(root)), {}).faults == 0
    (root / "map_vid_vidorID.json").write_text("[]")
    with pytest.raises(ValueError, match=r"map_vid_vidorID.json must hold an object of videos and where they lie"):
        nextqa.load(str(root))
    trees.write_json(root / "map_vid_vidorID.json", {"4010069381": "../../x"})
    assert "lies outside the benchmark's folder" in str(nextqa.load(str(root))[0].problem)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("1,1,1,1,q,5,1,CW,a,b,c,d,e", "answer '5' is no number of one of the 5 options"),
        ("1,1,1,1,q,,1,CW,a,b,c,d,e", "answer '' is no number"),
        ("1,1,1,1,q,0,1,XX,a,b,c,d,e", "type 'XX' is none of CW, CH, TN"),
        ("1,1,1,1,,0,1,CW,a,b,c,d,e", "no text in 'question'"),
        ("1,1,1,1,q,0,1,CW,a,a,c,d,e", "'candidates' must be at least two different texts"),
        (",1,1,1,q,0,1,CW,a,b,c,d,e", "no file name in 'video'"),
    ],
)
def test_a_row_of_nextqa_that_cannot_be_asked_is_a_problem(row: str, problem: str, tmp_path: Path, video: Path) -> None:
    root = trees.nextqa(tmp_path, video)
    (root / "test.csv").write_text(f"{trees.NEXTQA_HEADING}\n{row}\n")
    (broken,) = nextqa.load(str(root))
    assert problem in str(broken.problem)
