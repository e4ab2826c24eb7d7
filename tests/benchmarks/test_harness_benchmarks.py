"""LongVideoBench, MLVU, NExT-QA and TempCompass in the layouts in which they are downloaded, with real videos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from prunesweep.benchmarks import longvideobench, mlvu, nextqa, tempcompass
from prunesweep.engine.protocol import chosen_option, question_text
from prunesweep.sweep import data_check as data
from prunesweep.types import Sample
from support import trees
from support.places import CONF
from support.settings import benchmark, loaded, protocol

NAMES = ("longvideobench", "mlvu", "nextqa", "tempcompass", "tempcompass_yes_no")


@pytest.fixture(scope="module")
def video(samples: list[Sample]) -> Path:
    return samples[0].path


PROMPTS = {
    "longvideobench": "when a block stays, what happens?\nA. it falls\nB. it stays\nC. it jumps\n"
    "Answer with the option's letter from the given choices directly.\n",
    "mlvu": "what happens?\n(A) it falls\n(B) it stays\n(C) it jumps\nOnly give the best option.\nBest option: (",
    "nextqa": "how does it move\nA. it rolls\nB. it falls\nC. it jumps\nD. it flies\nE. it stays\n"
    "Answer with the option's letter from the given choices directly.",
    "tempcompass": "which way does it go?\nA. to the left\nB. to the right\nC. down\nPlease directly give the best option:",
    "tempcompass_yes_no": "does it go to the right?\nPlease answer yes or no:",
}
ANSWERS = {
    "longvideobench": "B. it stays",
    "mlvu": "B) it stays",
    "nextqa": "A",
    "tempcompass": "B.",
    "tempcompass_yes_no": "Yes, it does.",
}


@pytest.mark.parametrize("name", NAMES)
def test_each_asks_as_the_harness_that_its_protocol_names(name: str, tmp_path: Path, video: Path) -> None:
    first = loaded(name, getattr(trees, name)(tmp_path, video))[0]
    assert question_text(first, protocol(name)) == PROMPTS[name]
    assert chosen_option(ANSWERS[name], first, protocol(name)) == first.target
    assert first.target is not None


def test_mlvu_can_be_asked_as_its_authors_ask_it(tmp_path: Path, video: Path) -> None:
    first, asking = loaded("mlvu", trees.mlvu(tmp_path, video))[0], protocol("mlvu_authors")
    assert question_text(first, asking) == (
        "Question: what happens?\nOptions:\n(A) it falls\n(B) it stays\n(C) it jumps\nOnly give the best option."
    )
    assert (asking.prefix, chosen_option("B) it", first, asking)) == ("Best Option: (", 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_question_without_its_video_is_named_and_the_others_are_asked(name: str, tmp_path: Path, video: Path) -> None:
    asked = loaded(name, getattr(trees, name)(tmp_path, video))
    gone = asked[0].path
    gone.unlink()
    found = data.check(asked, {})
    assert found.missing == [f"{gone}: no such file"]
    assert not found.problems


def test_the_check_knows_how_many_questions_there_should_be(
    tmp_path: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = trees.longvideobench(tmp_path / "a", video)
    arguments = ("benchmark=longvideobench", f"benchmark.path={root}")
    assert data.run_check((*arguments, "benchmark.limit=2")) == 0
    assert data.run_check(arguments) == 4
    assert "8-15s has 2 questions, 189 were published" in capsys.readouterr().out
    assert data.run_check((*arguments, "benchmark.by=category")) == 17
    assert data.run_check((*arguments, "benchmark.by=category", "benchmark.tasks=[T2E]")) == 1
    assert data.run_check((*arguments, "benchmark.split=test")) == 1
    out = capsys.readouterr().out
    assert "T2E has 1 questions, 65 were published" in out
    assert "the whole has 1 questions, 5341 were published" in out
    assert "1 questions have no public answer" in out
    expected = {
        "mlvu": {"plotQA": 539, "the whole": 2174},
        "nextqa": {"the whole": 8564},
        "tempcompass": {"the whole": 1580},
        "tempcompass_yes_no": {"the whole": 2453},
    }
    for name, counts in expected.items():
        assert data.expected_counts(benchmark(name, root)) == counts


@pytest.mark.parametrize("name", NAMES)
def test_the_check_names_the_setting_that_is_missing(name: str) -> None:
    with pytest.raises(ValueError, match=r"benchmark\.path must be given: benchmark\.path=\.\.\."):
        data.run_check((f"benchmark={name}",))


@pytest.mark.parametrize("name", NAMES)
def test_a_run_goes_from_the_folder_to_an_accuracy_by_task(name: str, tmp_path: Path, video: Path, run: Callable) -> None:
    root = getattr(trees, name)(tmp_path / "data", video)
    code, out, err = run(f"benchmark={name}", f"benchmark.path={root}", "reducer=none", f"protocol={name}")
    assert code == 0, err
    assert "standard error clustered by video" in out
    assert "samples without an answer" not in out


@pytest.mark.parametrize(
    ("module", "arguments"), [(longvideobench, {}), (mlvu, {}), (nextqa, {}), (tempcompass, {"part": "yes_no"})]
)
def test_a_folder_that_is_not_there_or_holds_something_else_is_said_in_a_line(
    module: ModuleType, arguments: dict, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="benchmark folder '/nowhere' does not exist; set benchmark.path to the folder of"):
        module.load("/nowhere", **arguments)
    with pytest.raises(ValueError, match=r"does not exist; docs/benchmarks.md has the layout"):
        module.load(str(tmp_path), **arguments)


def test_a_run_on_longvideobench_with_subtitles_needs_its_protocol(tmp_path: Path, video: Path, run: Callable) -> None:
    root = trees.longvideobench(tmp_path / "data", video)
    asked = ("benchmark=longvideobench", f"benchmark.path={root}", "reducer=none", "benchmark.subtitles=frames")
    code, out, err = run(*asked, "protocol=longvideobench_subtitles")
    assert code == 0, err
    assert "(n=2)" in out
    code, _, _ = run(*asked, "protocol=longvideobench")
    assert "the protocol puts them nowhere; set protocol=longvideobench_subtitles" in str(code)


def test_the_check_reads_yaml_files_of_ones_own(tmp_path: Path, video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = trees.longvideobench(tmp_path / "a", video)
    own = tmp_path / "with a space" / "benchmark"
    own.mkdir(parents=True)
    yaml = (CONF / "benchmark" / "longvideobench.yaml").read_text(encoding="utf-8").replace("path: ???", f"path: {root}")
    (own / "mine.yaml").write_text(yaml, encoding="utf-8")
    arguments = ("benchmark=mine", "protocol=longvideobench", "benchmark.limit=2")
    assert data.run_check(arguments, config_dir=own.parent) == 0
    assert "2 questions" in capsys.readouterr().out
    with pytest.raises(ValueError, match="is no folder"):
        data.run_check(arguments, config_dir=tmp_path / "nowhere")
