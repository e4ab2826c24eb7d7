"""TempCompass in the two layouts in which it is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prunesweep.benchmarks import tempcompass
from prunesweep.types import Sample
from support import trees


@pytest.fixture(scope="module")
def video(samples: list[Sample]) -> Path:
    return samples[0].path


@pytest.mark.parametrize("layout", ["json", "parquet"])
def test_tempcompass_is_read_from_its_authors_files_and_from_the_hub_s(layout: str, tmp_path: Path, video: Path) -> None:
    root = str(trees.tempcompass(tmp_path, video, layout))
    asked = tempcompass.load(root, "multi-choice")
    assert [(s.id, s.task, s.target) for s in asked] == [
        ("1034-direction-0", "direction", 1),
        ("1034-direction-1", "direction", 1),
        ("1034-speed-0", "speed", 1),
        ("1034_reverse-direction-0", "direction", 0),
        ("1034_reverse-direction-1", "direction", 0),
    ]
    assert asked[0].choices == ("to the left", "to the right", "down")
    assert [s.target for s in tempcompass.load(root, "yes_no")] == [0, 0, 0, 1, 1]
    assert len(tempcompass.load(root, "yes_no", tasks=["speed"])) == 1
    with pytest.raises(ValueError, match="unknown task 'spede' in benchmark.tasks; known: action, direction, speed"):
        tempcompass.load(root, "yes_no", tasks=["spede"])


@pytest.mark.parametrize("part", ["captioning", "caption_matching"])
def test_parts_of_tempcompass_that_need_a_judge_are_refused(part: Any, tmp_path: Path, video: Path) -> None:
    with pytest.raises(ValueError, match=f"part must be one of multi-choice, yes_no, got '{part}'"):
        tempcompass.load(str(trees.tempcompass(tmp_path, video)), part)


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ({"question": "q?\nA. a\nB. b", "answer": "C. c"}, "answer 'C. c' is not among the candidates ['a', 'b']"),
        ({"question": "q?\nA. a\nB. b", "answer": None}, "answer 'None' is not among"),
        ({"question": "q?\nA. a\nC. b", "answer": "A. a"}, "'candidates' must be at least two different texts, got []"),
        ({"question": "q? A or B", "answer": "A"}, "'candidates' must be at least two different texts"),
        ({"question": None, "answer": "A"}, "no text in 'question'"),
        ({"question": "\nA. a\nB. b", "answer": "A"}, "no text in 'question'"),
        ({"question": "q?\nA. a\nB. b", "answer": "b"}, None),
        ({"question": "q?\nA. a\n\nB. b", "answer": "B"}, None),
    ],
)
def test_a_question_of_tempcompass_needs_lettered_options_and_one_of_them(
    item: dict, problem: str | None, tmp_path: Path, video: Path
) -> None:
    root = trees.tempcompass(tmp_path, video)
    trees.write_json(root / "questions" / "multi-choice.json", {"1034": {"order": [item]}})
    (sample,) = tempcompass.load(str(root), "multi-choice")
    assert sample.problem is None if problem is None else problem in str(sample.problem)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "yes_no.json must hold an object of videos"),
        ('{"1": []}', "yes_no.json: video '1' must have an object of aspects"),
        ('{"1": {"speed": {}}}', "yes_no.json: 'speed' of video '1' must be a list of objects"),
        ('{"1": {"speed": ["x"]}}', "must be a list of objects"),
        ('{"1": {', "yes_no.json is not JSON"),
    ],
)
def test_a_damaged_file_of_tempcompass_is_named(content: str, message: str, tmp_path: Path, video: Path) -> None:
    root = trees.tempcompass(tmp_path, video)
    (root / "questions" / "yes_no.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        tempcompass.load(str(root), "yes_no")
    (root / "questions" / "yes_no.json").write_text('{"../x": {"tempo": [{"question": "q", "answer": "maybe"}]}}')
    (sample,) = tempcompass.load(str(root), "yes_no")
    assert "lies outside the benchmark's folder" in str(sample.problem)
    (root / "questions" / "yes_no.json").write_text('{"1034": {"tempo": [{"question": "q", "answer": "no"}]}}')
    assert tempcompass.load(str(root), "yes_no")[0].problem == "aspect 'tempo' is none of " + ", ".join(tempcompass.ASPECTS)
