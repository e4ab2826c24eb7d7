import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from prunesweep.benchmarks import (
    blocks,
    by_video,
    choice_sample,
    is_blank,
    jsonl,
    on_disk,
    read_csv,
    scenes,
    take_evenly,
    warnings,
)
from prunesweep.embedded.questions import ANSWERS, Question
from prunesweep.embedded.worlds import SCENES
from prunesweep.sweep.data_check import check, report
from prunesweep.types import Sample
from support import trees
from support.places import CONF

GOOD = {"video": "a.mp4", "question": "what?", "choices": ["x", "y"], "answer": "y"}


def tree_of(benchmark: str) -> Callable[[Path, Path], Path]:
    """The function of `support/trees.py` that makes a small copy of it, found by its name."""
    assert hasattr(trees, benchmark), f"add to tests/support/trees.py: def {benchmark}(root, video), a small tree in its layout"
    return getattr(trees, benchmark)


def write(folder: Path, *lines: object) -> str:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "questions.jsonl").write_text(text)
    return str(folder)


def test_a_line_becomes_a_sample(tmp_path: Path) -> None:
    (sample,) = jsonl.load(write(tmp_path, {**GOOD, "id": "q", "task": "t", "start": 1, "end": 2.5}))
    assert (sample.id, sample.task, sample.choices[sample.target]) == ("q", "t", "y")
    assert (sample.path, sample.start, sample.end) == (tmp_path / "a.mp4", 1, 2.5)


def test_optional_fields_have_defaults(tmp_path: Path) -> None:
    first, second = jsonl.load(write(tmp_path, GOOD, "", GOOD))
    assert (first.id, second.id, first.task, first.start) == ("1", "3", "all", None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: not JSON"),
        ("[]", "line 1: not a JSON object"),
        ({k: v for k, v in GOOD.items() if k != "answer"}, "line 1: no 'answer'; needed are video, question, choices, answer"),
        ({**GOOD, "choices": "xy"}, "'choices' must be a list"),
        ({**GOOD, "choices": ["x", "x"]}, "at least two different"),
        ({**GOOD, "answer": "z"}, r"answer 'z' is not one of the choices \['x', 'y'\]"),
        ({**GOOD, "start": "1"}, "'start' must be a number, got '1'"),
        ("", "holds no questions"),
    ],
)
def test_a_line_that_does_not_fit_is_named(tmp_path: Path, line: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        jsonl.load(write(tmp_path, line))


def test_a_missing_file_and_doubled_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist; set benchmark.path"):
        jsonl.load(str(tmp_path / "nothing.jsonl"))
    with pytest.raises(ValueError, match="id 'q' occurs twice"):
        jsonl.load(write(tmp_path, {**GOOD, "id": "q"}, {**GOOD, "id": "q"}))


def test_samples_are_taken_evenly_of_tasks_and_keeps_the_order(tmp_path: Path) -> None:
    lines = [{**GOOD, "id": f"{task}{i}", "task": task} for task, n in (("a", 5), ("b", 1), ("c", 5)) for i in range(n)]
    samples = jsonl.load(write(tmp_path, *lines))
    assert [s.id for s in take_evenly(samples, 5)] == ["a0", "a1", "b0", "c0", "c1"]
    assert take_evenly(samples, None) == samples
    with pytest.raises(ValueError, match="benchmark.limit must be at least 1, got 0"):
        take_evenly(samples, 0)


@pytest.mark.parametrize("path", sorted((CONF / "benchmark").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configured_benchmark_loads(path: Path, benchmark_folder: Path, tmp_path: Path) -> None:
    config = OmegaConf.create({"benchmark": OmegaConf.load(path), "video": {"frames": 8}})
    if OmegaConf.is_missing(config.benchmark, "task"):
        pytest.skip("its tasks are lmms-eval's own, which tests/use/test_lmms.py lays out")
    if OmegaConf.is_missing(config.benchmark, "path"):
        video = next(benchmark_folder.glob("*.mp4"))
        config.benchmark.path = str(benchmark_folder if path.stem == "jsonl" else tree_of(path.stem)(tmp_path, video))
    samples = instantiate(config.benchmark.load)
    assert all(sample.path.exists() and sample.problem is None for sample in samples)
    assert sum(len(group) for group in by_video(samples)) == len(samples)


def test_the_shipped_split_has_balanced_answers_in_every_family() -> None:
    samples = blocks.load()
    for task, pool in ANSWERS.items():
        answers = Counter(s.choices[s.target] for s in samples if s.task == task)
        assert sum(answers.values()) == 100
        assert set(answers) == set(pool)
        assert max(answers.values()) - min(answers.values()) <= 1


def test_the_shipped_scenes_have_every_kind_of_answer_equally_often() -> None:
    samples = scenes.load()
    for task, pool in SCENES.answers.items():
        kinds = Counter(SCENES.kind(Question(task, s.question, s.choices, s.reference)) for s in samples if s.task == task)
        assert kinds.total() == 100
        assert set(kinds) == set(pool)
        assert max(kinds.values()) - min(kinds.values()) <= 1


@pytest.mark.parametrize("benchmark", [blocks, scenes], ids=["blocks", "scenes"])
def test_the_right_answer_is_not_always_in_one_place(benchmark: Any) -> None:
    places = Counter(s.target for s in benchmark.load() if len(s.choices) == 4)
    assert min(places.values()) > 0.2 * sum(places.values())


def test_questions_that_cannot_be_asked_and_very_long_ones_are_named_before_anything_runs(samples: list[Sample]) -> None:
    mute = replace(samples[0], id="mute", problem="no text in 'question'")
    long = replace(samples[1], id="long", question="x" * 100_000)
    assert warnings(samples) == []
    first, second = warnings([*samples, mute, long])
    assert first == f"1 of {len(samples) + 2} questions cannot be asked, such as mute: no text in 'question'"
    assert "such as long with 100,0" in second
    assert "25,00" in second


@pytest.mark.parametrize("text", ["", "  ", "\u200b\u200b", "\ufeff", "\u00a0\u2060", "\u3164"])
def test_an_empty_question_of_ones_own_is_named_by_its_line(text: str, tmp_path: Path) -> None:
    item = {"video": "v.mp4", "question": text, "choices": ["a", "b"], "answer": "a"}
    (tmp_path / "questions.jsonl").write_text(json.dumps(item))
    with pytest.raises(ValueError, match="line 1: 'question' is empty"):
        jsonl.load(str(tmp_path))
    (tmp_path / "questions.jsonl").write_text(json.dumps({**item, "question": "Which?", "choices": ["a", f"{text} "]}))
    with pytest.raises(ValueError, match="line 1: 'choices' must be at least two different non-empty strings"):
        jsonl.load(str(tmp_path))


def test_signs_and_letters_of_any_script_are_text() -> None:
    assert not any(map(is_blank, ["a", "?", "何", "ك", "🙂", "\u200bx"]))


@pytest.mark.parametrize("text", ["\u200b \u200b", "x" * 100_000])
def test_the_check_of_a_folder_says_of_a_question_what_a_run_says(text: str, samples: list[Sample]) -> None:
    odd = replace(samples[0], id="odd", question=text)
    (said,) = warnings([*samples, odd])
    assert "such as odd" in said
    assert said in report(check([*samples, odd], {}, None)).splitlines()
    mute = choice_sample(
        {"question": "\u200b", "candidates": ["a", "b"], "answer": "a"}, id="m", path=odd.path, task="t", video_id="v"
    )
    assert mute.problem == "no text in 'question'"


def test_a_video_of_ones_own_may_be_a_link_or_a_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder, film = tmp_path / "mine", tmp_path / "film.mp4"
    folder.mkdir()
    (folder / "link.mp4").symlink_to(film)
    places = {"link.mp4": folder / "link.mp4", str(film): film, "~/film.mp4": film}
    outside = ["../film.mp4", f"{folder}/../film.mp4"]
    found = jsonl.load(write(folder, *({**GOOD, "video": name} for name in [*places, *outside])))
    assert [(sample.path, sample.problem) for sample in found[:3]] == [(place, None) for place in places.values()]
    assert all("lies outside the benchmark's folder; put it or a link to it inside" in str(one.problem) for one in found[3:])


def test_a_video_is_found_in_another_container_and_none_stands_in_for_another(tmp_path: Path) -> None:
    assert on_disk(tmp_path / "a.mp4") == tmp_path / "a.mp4"
    assert on_disk(tmp_path / "v.1") == tmp_path / "v.1.mp4"
    for name in ("a.MKV", "v.1.webm", "ab.mp4", "a.txt"):
        (tmp_path / name).touch()
    assert on_disk(tmp_path / "a.mp4") == tmp_path / "a.MKV"
    assert on_disk(tmp_path / "v.1") == tmp_path / "v.1.webm"
    (tmp_path / "a.mp4").symlink_to(tmp_path / "ab.mp4")
    assert on_disk(tmp_path / "a.mp4") == tmp_path / "a.mp4"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n\n3\n", r"t.csv, line 4: 1 values under 2 headings; download it again"),
        (b"a\n1\n", r"t.csv has no column 'b'; needed are a, b"),
        (b"", r"t.csv has no column 'a'; needed are a, b"),
        (b'a,b\n1,"2\n', r"t.csv is no table of comma-separated values: unexpected end of data; download it again"),
        (b"a,b\n\xff\xfe,2\n", r"t.csv is no table of comma-separated values: 'utf-8' codec"),
        (None, r"t.csv does not exist; docs/benchmarks.md has the layout"),
    ],
)
def test_a_damaged_table_is_named_with_its_line(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_csv(tmp_path / "t.csv", ("a", "b"))
