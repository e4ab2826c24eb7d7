"""LongVideoBench in the layout in which it is downloaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from prunesweep.benchmarks import longvideobench
from prunesweep.engine.protocol import question_text
from prunesweep.types import Sample
from support import trees
from support.settings import protocol


@pytest.fixture(scope="module")
def video(samples: list[Sample]) -> Path:
    return samples[0].path


def test_longvideobench_is_grouped_by_duration_or_category(tmp_path: Path, video: Path) -> None:
    root = str(trees.longvideobench(tmp_path, video))
    assert [(s.id, s.task, s.target, s.video_id) for s in longvideobench.load(root)] == [
        ("yt1_0", "8-15s", 1, "yt1.mp4"),
        ("yt1_1", "8-15s", 2, "yt1.mp4"),
    ]
    assert [s.task for s in longvideobench.load(root, by="category")] == ["T2E", "S2A"]
    assert [s.id for s in longvideobench.load(root, by="category", tasks=["S2A"])] == ["yt1_1"]
    with pytest.raises(ValueError, match=r"unknown task 'S2A' in benchmark.tasks; known: 8-15s, 15-60s, 180-600s, 900-3600s"):
        longvideobench.load(root, tasks=["S2A"])
    (hidden,) = longvideobench.load(root, split="test")
    assert (hidden.target, hidden.problem) == (None, None)


def test_longvideobench_has_subtitles_in_the_video_s_own_time(tmp_path: Path, video: Path) -> None:
    """They are those of the film that a video was cut from: what is spoken before and after is not in it."""
    root = trees.longvideobench(tmp_path, video)
    first, _ = longvideobench.load(str(root), subtitles="all")
    assert first.subtitles == "first line"
    assert question_text(first, protocol("longvideobench_subtitles")).startswith("first line\nwhen a block stays")
    other_form = [{"timestamp": [60.9, None], "text": "to the end"}, {"timestamp": [60.1, 60.2], "text": " "}]
    trees.write_json(root / "subtitles" / "yt1_en.json", other_form)
    assert longvideobench.load(str(root), subtitles="all")[0].subtitles == "to the end"
    assert longvideobench.load(str(root), subtitles="none")[0].subtitles == ""


def test_longvideobench_shows_lines_at_the_frames(tmp_path: Path, video: Path) -> None:
    root = trees.longvideobench(tmp_path, video)
    trees.write_json(root / "lvb_val.json", [{**trees.MOMENT, "duration": 40.0}])
    spoken = [{"timestamp": [60 + second, 61 + second], "text": f"second {second}"} for second in range(40)]
    spoken.append({"timestamp": [70.4, 70.4], "text": "a short one"})  # counts as a second, from 9.9 to 10.9
    trees.write_json(root / "subtitles" / "yt1_en.json", spoken)
    (shown,) = longvideobench.load(str(root), subtitles="frames", frames=2)  # at 10 and 30
    assert shown.subtitles.split("\n") == ["second 9", "second 10", "second 29", "second 30", "a short one"]


@pytest.mark.parametrize(
    ("spoken", "problem"),
    [
        ([{"start": "soon", "end": "00:00:01", "line": "x"}], "subtitles: 'soon' is no time of a line"),
        ([{"line": "x"}], "subtitles: None is no time of a line"),
        ([{"timestamp": 3, "text": "x"}], None),
        ({"a": 1}, "yt1_en.json must hold a list of objects"),
        (None, "yt1_en.json does not exist"),
    ],
)
def test_damaged_subtitles_are_the_problem_of_their_questions(
    spoken: object, problem: str | None, tmp_path: Path, video: Path
) -> None:
    root = trees.longvideobench(tmp_path, video)
    file = root / "subtitles" / "yt1_en.json"
    file.unlink()
    if spoken is not None:
        trees.write_json(file, spoken)
    first, _ = longvideobench.load(str(root), subtitles="all")
    assert first.problem is None if problem is None else problem in str(first.problem)
    assert longvideobench.load(str(root))[0].problem is None
    shutil.rmtree(root / "subtitles")
    with pytest.raises(ValueError, match=r"subtitles does not exist, which benchmark.subtitles=all needs; unpack subtitles.tar"):
        longvideobench.load(str(root), subtitles="all")


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"correct_choice": 3}, "answer 3 is no number of one of the 3 options"),
        ({"correct_choice": "B"}, "answer 'B' is no number"),
        ({"correct_choice": None}, "no 'correct_choice'"),
        ({"candidates": ["one"]}, "'candidates' must be at least two different texts"),
        ({"question": " "}, "no text in 'question'"),
        ({"video_path": "../yt1.mp4"}, "lies outside the benchmark's folder"),
        ({"video_path": None}, "no file name in 'video'"),
        ({"duration_group": 61}, "duration '61' is none of 8-15s, 15-60s"),
        ({"duration_group": [15]}, "duration '[15]' is none of"),
    ],
)
def test_an_item_of_longvideobench_that_cannot_be_asked_is_a_problem(
    wrong: dict, problem: str, tmp_path: Path, video: Path
) -> None:
    root = trees.longvideobench(tmp_path, video)
    trees.change(root / "lvb_val.json", wrong)
    fine, broken = longvideobench.load(str(root))
    assert fine.problem is None
    assert problem in str(broken.problem)
