"""MVBench, Video-MME, EgoSchema and VideoChatGPT-Bench in their published layouts, with real videos."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from prunesweep.benchmarks import egoschema, inside, jsonl, mvbench, vcgbench, videomme
from prunesweep.cost import Shape, VisionShape
from prunesweep.results.records import TrialInfo, to_frame, write_trial
from prunesweep.sweep import data_check as data
from prunesweep.types import Record, Sample
from prunesweep.video.reader import VideoError, chosen_indices, read_clip, released_indices
from support import trees
from support.places import CONF


@pytest.fixture(scope="module")
def video(samples: list[Sample]) -> Path:
    return samples[0].path


@pytest.fixture
def mvbench_root(tmp_path: Path, video: Path) -> Path:
    return trees.mvbench(tmp_path, video)


# MVBench.


def test_mvbench_has_20_tasks_with_their_folders_and_bounds(mvbench_root: Path) -> None:
    samples = mvbench.load(str(mvbench_root))
    assert [sample.task for sample in samples] == list(mvbench.TASKS)
    assert len(samples) == 20
    assert {s.task for s in samples if s.start is not None} == {
        "action_sequence",
        "action_prediction",
        "object_interaction",
        "action_localization",
        "episodic_reasoning",
    }
    for sample in samples:
        assert sample.choices[sample.target] == "it stays"
        clip = read_clip(sample.path, sample.video_id, 4, sample.start, sample.end, "released", sample.frame_rate)
        assert len(clip.frames) == 4


def test_videos_may_be_links_and_names_may_not_climb_out(tmp_path: Path, video: Path) -> None:
    """In every loader: what a link leads to is the matter of whoever has the folder, a name is that of who made the questions."""
    disk = tmp_path / "disk"
    disk.mkdir()
    shutil.copy(video, disk / "v.mp4")
    root = trees.mvbench(tmp_path, video)
    linked = root / "video" / "clevrer" / "video_validation"
    for name in [path.name for path in linked.glob("*.mp4")]:
        (linked / name).unlink()
        (linked / name).symlink_to(disk / "v.mp4")
    asked = mvbench.load(str(root), tasks=["moving_count"])
    assert [sample.problem for sample in asked] == [None]
    assert data.check(asked, {}).faults == 0
    for name in ("../v.mp4", "a/../../v.mp4", "/etc/passwd", "a\0b", ""):
        assert inside(tmp_path, name)[1] is not None
    assert inside(tmp_path, "..v.mp4/v..mp4")[1] is None
    own = tmp_path / "own"
    own.mkdir()
    (own / "linked.mp4").symlink_to(disk / "v.mp4")
    question = {"question": "what moves ?", "choices": ["red", "blue"], "answer": "red"}
    names = ["linked.mp4", "../disk/v.mp4", str(disk / "v.mp4")]
    (own / "questions.jsonl").write_text("\n".join(json.dumps({"video": name, **question}) for name in names))
    problems = [sample.problem for sample in jsonl.load(str(own))]
    assert problems == [None, "video '../disk/v.mp4' lies outside the benchmark's folder; put it or a link to it inside", None]


def test_the_task_of_frames_may_come_as_cut_videos(tmp_path: Path, video: Path) -> None:
    root = trees.mvbench(tmp_path, video)
    items = json.loads((root / "json" / "episodic_reasoning.json").read_text())
    folder = root / "video" / "tvqa" / "video_fps3_hq_segment"
    folder.mkdir(parents=True)
    shutil.copy(video, folder / "clip_0.mp4")
    (root / "json" / "episodic_reasoning.json").write_text(json.dumps([{**items[0], "video": "clip_0.mp4"}]))
    (sample,) = mvbench.load(str(root), tasks=["episodic_reasoning"], precut=True)
    assert (sample.start, sample.end, sample.frame_rate) == (None, None, None)
    assert data.check([sample], {}).faults == 0


def test_frame_folders_are_read_at_three_frames_a_second(mvbench_root: Path) -> None:
    (sample,) = mvbench.load(str(mvbench_root), tasks=["episodic_reasoning"])
    assert (sample.frame_rate, sample.start, sample.end) == (3.0, 0.2, 0.8)
    whole = read_clip(sample.path, "v", 6, frame_rate=3.0)
    assert whole.timestamps == pytest.approx([i / 3 for i in range(6)])
    assert torch.allclose(whole.frames[:, 0, 0, 0].float(), torch.tensor([10.0, 20, 30, 40, 50, 60]), atol=3)
    (sample.path / "00003.jpg").unlink()
    with pytest.raises(VideoError, match="frame 3 of 5 is missing or damaged"):
        read_clip(sample.path, "v", 5, frame_rate=3.0)


def test_clips_that_are_already_cut_are_not_cut_again(mvbench_root: Path, video: Path) -> None:
    trees.put(video, mvbench_root / "video" / "star" / "Charades_segment" / "a.mp4")
    (sample,) = mvbench.load(str(mvbench_root), tasks=["action_sequence"], precut=True)
    assert (sample.path.parent.name, sample.start, sample.end) == ("Charades_segment", None, None)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"answer": "it flies"}, "answer 'it flies' is not among the candidates"),
        ({"candidates": "it stays"}, "'candidates' must be at least two different texts"),
        ({"candidates": ["a", "a"], "answer": "a"}, "'candidates' must be at least two different texts"),
        ({"question": ""}, "no text in 'question'"),
        ({"video": "../../../../etc/passwd"}, "lies outside the benchmark's folder"),
        ({"video": None}, "no file name in 'video'"),
        ({"start": "soon"}, "'start' must be a number of seconds, got 'soon'"),
        ({"start": None}, "no 'start' and 'end', which this task's questions need"),
    ],
)
def test_an_item_that_cannot_be_asked_is_a_problem_of_its_own(mvbench_root: Path, change: dict, problem: str) -> None:
    file = mvbench_root / "json" / "action_sequence.json"
    good = json.loads(file.read_text())[0]
    trees.write_json(file, [good, {**good, **change}])
    fine, broken = mvbench.load(str(mvbench_root), tasks=["action_sequence"])
    assert fine.problem is None
    assert problem in broken.problem


def test_a_missing_task_file_and_an_unknown_task_are_refused(mvbench_root: Path) -> None:
    (mvbench_root / "json" / "state_change.json").unlink()
    with pytest.raises(ValueError, match=r"state_change.json does not exist; docs/benchmarks.md has the layout"):
        mvbench.load(str(mvbench_root))
    with pytest.raises(ValueError, match="unknown task 'Acton' in benchmark.tasks; known: action_sequence"):
        mvbench.load(str(mvbench_root), tasks=["Acton"])
    (mvbench_root / "json" / "state_change.json").write_text("[{")
    with pytest.raises(ValueError, match="is not JSON"):
        mvbench.load(str(mvbench_root))


def test_released_frames_are_those_of_the_reference_formula() -> None:
    assert released_indices(0, 99, 4) == [12, 37, 62, 86]  # parts of 24.75: 12.375 + 0, 25, 50 (49.5, half to even), 74
    assert chosen_indices(100, 25, 4, None, None, "released") == [12, 37, 62, 86]
    assert chosen_indices(100, 25, 4, 1.0, 2.0, "released") == [28, 34, 40, 47]  # 25 to 50: 28.125 + 0, 6, 12, 19
    assert chosen_indices(3, 1, 8, None, None, "released") == [0, 0, 0, 1, 1, 1, 2, 2]
    assert chosen_indices(6, 3, 2, None, None, "released", origin=1) == [2, 4]  # 1 to 6: 2.25 + 0, 2


def test_one_frame_a_second_has_bounds() -> None:
    assert chosen_indices(300, 30, 16, None, None, "per_second") == chosen_indices(300, 30, 10, None, None)
    assert len(chosen_indices(30, 30, 16, None, None, "per_second")) == 4
    assert len(chosen_indices(3000, 30, 16, None, None, "per_second")) == 16


# Video-MME.


@pytest.mark.parametrize("layout", ["parquet", "questions", "json"])
def test_videomme_is_read_from_the_hub_s_rows_and_from_pllava_s_json(tmp_path: Path, video: Path, layout: str) -> None:
    (sample,) = videomme.load(str(trees.videomme(tmp_path, video, layout)))
    assert sample.choices[:3] == ("it falls", "it stays", "it jumps")
    assert (sample.target, sample.task, sample.video_id) == (1, "short", "yt1")
    assert sample.path.is_file()
    assert sample.subtitles == ""


def test_subtitles_are_those_spoken_at_the_sampled_frames(tmp_path: Path, video: Path) -> None:
    root = str(trees.videomme(tmp_path, video, "parquet"))
    (every,) = videomme.load(root, subtitles="all")
    assert every.subtitles == "first line\nbetween the frames\nlast line"
    (some,) = videomme.load(root, subtitles="frames", frames=12)
    assert some.subtitles == "first line\nlast line"
    (tmp_path / "subtitle" / "yt1.srt").unlink()
    (silent,) = videomme.load(root, subtitles="all")
    assert silent.subtitles == ""
    assert data.report(data.check([silent], {}, subtitled=True)).endswith("\n1 video without subtitles")
    (tmp_path / "subtitle" / "yt1.srt").write_text("no times in here")
    (odd,) = videomme.load(root, subtitles="all")
    assert odd.problem == "yt1.srt holds no subtitle"
    shutil.rmtree(tmp_path / "subtitle")
    with pytest.raises(ValueError, match="subtitle does not exist, which benchmark.subtitles=all needs"):
        videomme.load(root, subtitles="all")


def test_an_odd_duration_is_a_problem_and_no_question_less(tmp_path: Path, video: Path) -> None:
    root = trees.videomme(tmp_path, video, "questions")
    rows = [{**trees.ROW, "question_id": str(i), "duration": d} for i, d in enumerate(("short", "Short", None, "tiny"))]
    trees.write_json(root / "questions.json", rows)
    found = videomme.load(str(root))
    assert [sample.task for sample in found] == ["short", "short", "unknown duration", "unknown duration"]
    assert found[3].problem == "duration 'tiny' is none of short, medium, long"


def test_a_letter_without_an_option_is_a_problem(tmp_path: Path, video: Path) -> None:
    root = trees.videomme(tmp_path, video, "questions")
    trees.write_json(root / "questions.json", [trees.ROW, {**trees.ROW, "question_id": "001-2", "answer": "E"}])
    fine, broken = videomme.load(str(root))
    assert fine.problem is None
    assert "answer 'letter E' is not among the candidates" in broken.problem


def test_doubled_ids_and_damaged_tables_are_refused(tmp_path: Path, video: Path) -> None:
    root = trees.videomme(tmp_path, video, "questions")
    trees.write_json(root / "questions.json", [trees.ROW, trees.ROW])
    with pytest.raises(ValueError, match="1 ids occur more than once, such as '001-1'"):
        videomme.load(str(root))
    (root / "half.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"half.parquet is no readable parquet file"):
        videomme.load(str(root))


# EgoSchema.


@pytest.mark.parametrize("layout", ["parquet", "questions", "json"])
def test_the_subset_of_egoschema_has_public_answers(tmp_path: Path, video: Path, layout: str) -> None:
    (sample,) = egoschema.load(str(trees.egoschema(tmp_path, video, layout)))
    assert (sample.id, sample.target, sample.task) == ("uid-1", 3, "subset")
    assert len(sample.choices) == 5


@pytest.mark.parametrize("layout", ["questions", "json"])
def test_the_full_set_has_questions_without_an_answer(tmp_path: Path, video: Path, layout: str) -> None:
    one, other = egoschema.load(str(trees.egoschema(tmp_path, video, layout)), split="full")
    assert (one.target, other.target, other.reference, other.problem) == (3, None, "", None)


def test_letters_before_options_are_the_protocol_s_own(tmp_path: Path, video: Path) -> None:
    root = trees.egoschema(tmp_path, video, "json")
    file = root / "json" / "egoschema_fullset.json"
    lettered = [
        f"{letter}. {text}" for letter, text in zip("ABCDE", ["an apple", "bread", "cheese", "D. Duck", "E"], strict=True)
    ]
    items = json.loads(file.read_text())
    trees.write_json(file, [{**items[0], "candidates": lettered}, {**items[1], "candidates": ["A. x", "B. y", "z"]}])
    one, other = egoschema.load(str(root), split="full")
    assert one.choices == ("an apple", "bread", "cheese", "D. Duck", "E")
    assert other.choices == ("A. x", "B. y", "z"), "no letters of a list: part of the text"


def test_without_answers_there_is_no_subset(tmp_path: Path, video: Path) -> None:
    root = trees.egoschema(tmp_path, video, "questions")
    trees.write_json(root / "subset_answers.json", {"uid-1": 7})
    (sample,) = egoschema.load(str(root))
    assert sample.problem == "answer 7 is no number of one of the 5 options"
    (root / "subset_answers.json").unlink()
    with pytest.raises(ValueError, match=r"no subset_answers.json and no other answers: the subset cannot be scored"):
        egoschema.load(str(root))


# VideoChatGPT-Bench.


def test_free_questions_have_a_reference_answer(tmp_path: Path, video: Path) -> None:
    samples = vcgbench.load(str(trees.vcgbench(tmp_path, video)))
    assert [s.id for s in samples] == [
        "generic_qa-0000",
        "generic_qa-0001",
        "temporal_qa-0000",
        "consistency_qa-0000.1",
        "consistency_qa-0000.2",
    ]
    assert all(s.choices == () and s.target is None and s.path.is_file() for s in samples)
    assert samples[1].path.suffix == ".mkv"
    assert (samples[4].question, samples[4].reference) == ("which thing?", "a block")


# prunesweep data.


def test_check_counts_what_is_missing_unreadable_and_wrong(mvbench_root: Path) -> None:
    (mvbench_root / "video" / "vlnqa" / "a.mp4").unlink()
    (mvbench_root / "video" / "nturgbd" / "a.mp4").write_bytes(b"no video")
    items = json.loads((mvbench_root / "json" / "moving_count.json").read_text())
    trees.write_json(mvbench_root / "json" / "moving_count.json", [{**items[0], "answer": "?"}])
    found = data.check(mvbench.load(str(mvbench_root)), mvbench.COUNTS)
    assert (len(found.missing), len(found.unreadable), len(found.problems), len(found.miscounted)) == (1, 1, 1, 20)
    text = data.report(found)
    assert "vlnqa/a.mp4: no such file" in text
    assert "moving_count-000: answer '?' is not among the candidates" in text
    assert "action_sequence has 1 questions, 200 were published" in text


def test_the_check_fails_where_something_is_wrong_and_not_otherwise(
    tmp_path: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = trees.videomme(tmp_path, video, "parquet")
    arguments = ("benchmark=videomme", f"benchmark.path={root}")
    assert data.run_check((*arguments, "benchmark.limit=1")) == 0
    assert "1 question on 1 video" in capsys.readouterr().out
    assert data.run_check(arguments) == 3
    out = capsys.readouterr().out
    assert "short has 1 questions, 900 were published" in out
    assert "long has 0 questions, 900 were published" in out
    assert data.run_check((*arguments, "benchmark.durations=[short]")) == 1


def test_the_command_says_on_one_line_what_it_cannot_check(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "prunesweep", "data", "check", "benchmark=videomme", "benchmark.path=/nowhere"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "benchmark folder '/nowhere' does not exist; set benchmark.path" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_command_ends_with_1_and_no_more_words_where_it_found_something(tmp_path: Path) -> None:
    (tmp_path / "dots.jsonl").write_text(json.dumps({"video": "gone.mp4", "question": "q", "choices": ["a", "b"], "answer": "a"}))
    command = [sys.executable, "-m", "prunesweep", "data", "check", "benchmark=jsonl", f"benchmark.path={tmp_path}/dots.jsonl"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "gone.mp4" in done.stdout
    assert "unexpected" not in done.stderr


def trial(folder: Path, benchmark: str, chosen: list[int | None]) -> Path:
    names = [f"uid-{i}" for i in range(len(chosen))]
    rows = [Record("t", n, n, "other", ("a", "b"), "", "B", None, chosen=c) for n, c in zip(names, chosen, strict=True)]
    shape = Shape(1, 1, 1, 1, 1, 1, 1, VisionShape(1, 1, 1, 1, 1))
    write_trial(folder, TrialInfo("t", "none", "m", benchmark, (), {}, shape), to_frame(rows))
    return folder


def test_a_submission_holds_the_option_numbers_and_refuses_unclear_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "submission.json"
    data.run_submission(trial(tmp_path / "fine", "egoschema", [1, 0]), out)
    assert json.loads(out.read_text()) == {"uid-0": 1, "uid-1": 0}
    assert "2 answers written to" in (printed := capsys.readouterr().out)
    assert "the server expects 5031" in printed
    with pytest.raises(ValueError, match="1 of 2 answers name no option or several, such as that to uid-1"):
        data.run_submission(trial(tmp_path / "unclear", "egoschema", [1, None]), out)
    with pytest.raises(ValueError, match="is a trial on blocks; submissions are for egoschema"):
        data.run_submission(trial(tmp_path / "other", "blocks", [1]), out)


# From a folder to an accuracy.


def test_what_cannot_be_asked_is_counted_by_name_and_scored_nowhere(run, mvbench_root: Path) -> None:
    """A missing video and an answer that is no candidate: two of twenty questions."""
    (mvbench_root / "video" / "vlnqa" / "a.mp4").unlink()
    file = mvbench_root / "json" / "moving_count.json"
    trees.write_json(file, [{**json.loads(file.read_text())[0], "answer": "?"}])
    code, out, err = run("benchmark=mvbench", f"benchmark.path={mvbench_root}", "reducer=none", "protocol=choose")
    assert code == 0, err
    assert "(n=18), standard error clustered by video" in out
    assert "(n=18) as the mean over 18 of 20 tasks" in out
    assert "2 samples without an answer:" in out
    assert "egocentric_navigation-000: VideoError: " in out
    assert "moving_count-000: ValueError: answer '?' is not among the candidates ['it falls', 'it stays', 'it jumps']" in out


def test_doubled_questions_end_the_run_before_it_starts(run, tmp_path: Path, video: Path) -> None:
    root = trees.videomme(tmp_path, video, "questions")
    trees.write_json(root / "questions.json", [trees.ROW, trees.ROW])
    code, _, _ = run("benchmark=videomme", f"benchmark.path={root}", "reducer=none")
    assert "1 ids occur more than once, such as '001-1'; remove the doubled questions" in str(code)


@pytest.mark.parametrize("name", ["mvbench", "videomme", "egoschema", "vcgbench"])
def test_every_published_benchmark_has_its_protocol(name: str) -> None:
    assert (CONF / "benchmark" / f"{name}.yaml").is_file()
    assert (CONF / "protocol" / f"{name}.yaml").is_file()
