"""lmms-eval both ways: its tasks as benchmarks of ours, and us as a model in it; one accuracy.

Its packages are not among those of the other tests.  Where they are missing, one test makes an environment of its own over this
one, installs them there, and runs this file in it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from prunesweep.benchmarks import lmms
from prunesweep.embedded.network import TinyShape, build_network, build_processor
from prunesweep.results.official import OFFICIAL, Official, read_official, write_official
from prunesweep.types import Sample
from support.lmms_tasks import LAYOUTS, write_layout, write_task
from support.places import ROOT

THERE = importlib.util.find_spec("lmms_eval") is not None
needs_lmms = pytest.mark.skipif(
    not THERE, reason="lmms-eval is not installed here; the test with an environment of its own has it"
)
FRAMES = 8
SMALL = TinyShape(layers=8, hidden=48, mlp=96, vision_hidden=32, vision_layers=1, vision_mlp=64)


# In an environment of its own


ASKED_FOR = "PRUNESWEEP_TEST_LMMS"
INSTALLED = (
    "--no-deps lmms-eval==0.7.3",
    "accelerate datasets evaluate filelock<4 loguru opencv-python-headless pytablewriter python-dotenv sacrebleu tenacity",
)


@pytest.mark.slow
@pytest.mark.skipif(THERE, reason="lmms-eval is installed: the tests below run here")
@pytest.mark.skipif(not os.environ.get(ASKED_FOR), reason=f"installs 500 MB for four minutes; {ASKED_FOR}=1 runs it")
def test_all_of_this_file_passes_where_lmms_eval_is_installed(tmp_path: Path) -> None:
    python = environment(tmp_path / "own")
    own = [str(python), "-m", "pytest", "-p", "no:cacheprovider", "-q", str(Path(__file__).absolute())]
    done = subprocess.run(own, capture_output=True, text=True, cwd=ROOT, timeout=1500)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def environment(folder: Path) -> Path:
    """A Python over this one's packages, with lmms-eval; skips where no registry answers."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    places = [path for path in sys.path if path.endswith("site-packages")]
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "under.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in places))
    begin = time.monotonic()
    for packages in INSTALLED:
        command = [str(python), "-m", "pip", "install", "--quiet", "--no-compile", *packages.split()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=1500)
        if done.returncode:
            pytest.skip(f"lmms-eval cannot be installed here: {(done.stderr.strip() or 'pip is missing').splitlines()[-1][:200]}")
    print(f"lmms-eval installed in {time.monotonic() - begin:.0f} s")
    return python


# Without it


def test_without_lmms_eval_a_task_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lmms_eval.tasks", None)
    lmms._loaded.cache_clear()
    with pytest.raises(ValueError, match=r"tasks of lmms-eval need it.*pip install 'prunesweep\[lmms\]'"):
        lmms.load("mvbench")


def test_the_command_says_so_on_one_line(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lmms_eval.tasks", None)
    lmms._loaded.cache_clear()
    code, _, _ = run("benchmark=lmms", "benchmark.task=mvbench", defaults=False)
    assert "pip install 'prunesweep[lmms]'" in str(code)
    assert len(str(code).splitlines()) == 1
    code, _, _ = run("benchmark=blocks", "protocol=lmms", defaults=False)
    assert "it goes with benchmark=lmms benchmark.task=..." in str(code)


@pytest.mark.parametrize(
    ("prompt", "target", "options", "right"),
    [
        ("What?\n(A) red\n(B) blue\nBest option: (", "blue", ("red", "blue"), 1),
        ("What?\nA. red\nB. blue\nC. green", "C", ("red", "blue", "green"), 2),
        ("What?\nA. red\nB. blue", "B. blue", ("red", "blue"), 1),
        ("What?\nCaption A: it falls\nCaption B: it flies", "Caption B: it flies", ("it falls", "it flies"), 1),
        ("A. an example\nB. another\nNow:\nA. red\nB. blue", 0, ("red", "blue"), 0),
        ("Is it?\nPlease answer yes or no:", "No", ("yes", "no"), 1),
        ("Describe the video.", "a dog", (), None),
    ],
)
def test_options_and_the_right_one_are_read_from_prompt_and_target(
    prompt: str, target: Any, options: tuple[str, ...], right: int | None
) -> None:
    assert lmms.options_in(prompt, str(target)) == options
    assert lmms.target_in(target, options) == right


def test_answers_are_cut_at_stop_strings_but_not_at_lmms_evals_blank_line() -> None:
    assert lmms.cut("A\n\nbecause", {"until": ["\n\n"]}) == "A\n\nbecause"
    assert lmms.cut("A. because", {"until": [".", "\n"]}) == "A"
    assert lmms.cut("A", {}) == "A"


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        ({"do_sample": True, "temperature": 0.7}, r"samples its answers \(temperature=0.7\), but the engine decodes greedily"),
        ({"num_beams": 5}, "searches with 5 beams, but the engine has one"),
    ],
)
def test_generation_that_is_not_greedy_is_refused(generation: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lmms.most_tokens(generation, "a task")


@pytest.mark.parametrize(
    ("visuals", "message"),
    [
        ([], "shows nothing"),
        (["a.mp4", "b.mp4"], r"shows 2 things \(str\)"),
        ([object()], r"shows frames or pictures \(object\)"),
        (["a.png"], r"shows a picture \(a.png\)"),
    ],
)
def test_what_is_no_video_file_is_refused_in_words(visuals: list[Any], message: str) -> None:
    pytest.importorskip("loguru")
    with pytest.raises(ValueError, match=message):
        lmms.shown(lambda _: visuals, {})


def test_a_harness_s_scores_are_read_as_written(tmp_path: Path) -> None:
    found = Official("lmms-eval 0.7.3", "abc", 2, 1, {"mvbench": {"mvbench_accuracy": 50.0}})
    write_official(tmp_path, found, [{"sample_id": "mvbench-0", "metric": "mvbench_accuracy", "score": 1.0, "detail": "{}"}])
    assert read_official(tmp_path) == found
    assert read_official(tmp_path / "elsewhere") is None
    (tmp_path / OFFICIAL).write_text(json.dumps({"source": "x", "aggregates": 3}))
    with pytest.raises(ValueError, match="does not hold the scores of a harness"):
        read_official(tmp_path)


# With it


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HF_HOME, before any task is loaded: their code reads it once."""
    folder = tmp_path_factory.mktemp("home")
    own = {"HF_HOME": str(folder), "LMMS_EVAL_DATASETS_CACHE": str(folder / "datasets_cache"), "HF_DATASETS_OFFLINE": "1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**own, "HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": "none"}.items():
            patch.setenv(name, value)
        yield folder


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that answers with one of four letters, which depend on video and question."""
    folder = tmp_path_factory.mktemp("letters")
    words = tuple("ABCD")
    network = build_network(SMALL, seed=0, words=words)
    with torch.no_grad():
        for layer in network.model.language_model.layers:
            for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
                projection.weight.normal_(std=0.5, generator=torch.Generator().manual_seed(layer.self_attn.layer_idx))
        a, b = 40 * network.get_input_embeddings().weight[-len(words) : -2]
        network.get_input_embeddings().weight[-len(words) :] = torch.stack([a, b, -a, -b])  # one of them is always likely
    network.save_pretrained(folder)
    build_processor(SMALL, words).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tasks(home: Path, samples: list[Sample]) -> Path:
    """A folder with a task file of each layout."""
    folder = home / "tasks"
    for name in LAYOUTS:
        write_layout(name, samples[:10], home, folder)
    group = {"group": "local_group", "task": ["local_mvbench", "local_mlvu"]}
    (folder / "group.yaml").write_text(json.dumps(group))
    return folder


def by_plugin(task: str, include: Path, **arguments: Any) -> tuple[dict[str, float], dict[str, list[Any]]]:
    """lmms-eval's own evaluation: its aggregates, and what was answered to each question."""
    from lmms_eval.evaluator import simple_evaluate

    told = ",".join(f"{key}={value}" for key, value in {"pretrained": "tiny", "frames": FRAMES, **arguments}.items())
    manager = lmms._manager(str(include), False)
    found = simple_evaluate(model="prunesweep", model_args=told, tasks=[task], task_manager=manager, bootstrap_iters=0)
    numbers = lmms._numbers(found["results"][task], None)
    return numbers, {name: [one["resps"][0] for one in rows] for name, rows in found["samples"].items()}


@pytest.fixture
def sweep(run: Callable[..., Any], tmp_path: Path, tasks: Path, letters: Path) -> Callable[..., Path]:
    """Runs the command on a task; returns the run's folder."""

    def call(task: str, reducer: str, *more: str, checkpoint: Path = letters) -> Path:
        folder = tmp_path / f"{task} {reducer}"
        own = [f"model.checkpoint={checkpoint}", f"model.frames={FRAMES}", "trainer.progress=false", "logger=none"]
        asked = ["benchmark=lmms", f"benchmark.task={task}", f"benchmark.include={tasks}", f"reducer={reducer}"]
        code, out, err = run(*asked, *own, *more, f"hydra.run.dir='{folder}'", defaults=False)
        assert code == 0, (code, err)
        call.out = out  # type: ignore[attr-defined]
        return folder

    return call


SCORED = {"longvideobench": 1.0}
"""What a layout's aggregate has for all right; 100 in the others, but for NExT-QA's mean."""


@needs_lmms
@pytest.mark.parametrize("reducer", ["none", "prunevid"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_both_ways_give_the_same_answers_and_accuracy(
    name: str, reducer: str, sweep: Callable[..., Path], tasks: Path, letters: Path
) -> None:
    task = f"local_{name}"
    folder = sweep(task, reducer)
    official, records = read_official(folder), pl.read_parquet(folder / "records.parquet")
    assert official is not None
    assert (official.problem, official.scored, official.left_out) == (None, len(records), 0)
    numbers, answers = by_plugin(task, tasks, reducer=reducer, **{"model.checkpoint": letters})
    assert [_flat(one) for one in answers[task]] == records["prediction"].to_list()
    assert official.aggregates[task] == pytest.approx(numbers)
    assert numbers


def _flat(response: Any) -> str:
    return response[0] if isinstance(response, list) else response


@needs_lmms
def test_official_and_own_accuracy_agree_where_answers_are_letters(sweep: Callable[..., Path]) -> None:
    folder = sweep("local_mvbench", "none")
    records = pl.read_parquet(folder / "records.parquet")
    official = read_official(folder)
    assert official is not None
    scores = pl.read_parquet(folder / "official.parquet")
    assert scores["score"].mean() * 100 == pytest.approx(official.aggregates["local_mvbench"]["mvbench_accuracy"])
    assert len(set(records["prediction"])) > 1  # or the model would say nothing of the videos
    assert (
        f"official    mvbench_accuracy {official.aggregates['local_mvbench']['mvbench_accuracy']:.4g} by lmms-eval" in sweep.out
    )
    assert set(records["video_id"]) == {f"mvbench_video/ssv2_video_mp4/{Path(name).name}" for name in records["video_id"]}


@needs_lmms
def test_a_group_is_one_benchmark_whose_tasks_are_told_apart(sweep: Callable[..., Path]) -> None:
    folder = sweep("local_group", "none", "benchmark.limit=6")
    records = pl.read_parquet(folder / "records.parquet")
    assert records["task"].value_counts().sort("task")["count"].to_list() == [3, 3]
    official = read_official(folder)
    assert official is not None
    assert set(official.aggregates) >= {"local_mvbench", "local_mlvu"}
    assert official.scored == 6


@needs_lmms
def test_options_are_scored_both_ways(
    sweep: Callable[..., Path], tasks: Path, home: Path, samples: list[Sample], checkpoint: Path
) -> None:
    settings = {
        **{"task": "local_options", "output_type": "multiple_choice", "test_split": "test", "doc_to_visual": "!VISUAL"},
        **{"doc_to_text": "question", "doc_to_choice": "choices", "doc_to_target": "target"},
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    items = [{"video": str(s.path), "question": s.question, "choices": list(s.choices), "target": s.target} for s in samples]
    write_task(tasks, settings, "test", items)
    file = tasks / "local_options.yaml"
    (tasks / "own.py").write_text("def visual(doc):\n    return [doc['video']]\n")
    file.write_text(file.read_text().replace("'!VISUAL'", "!function own.visual"))
    lmms._manager.cache_clear()
    folder = sweep("local_options", "prunevid", checkpoint=checkpoint)
    official, records = read_official(folder), pl.read_parquet(folder / "records.parquet")
    assert official is not None
    numbers, answers = by_plugin("local_options", tasks, reducer="prunevid", **{"model.checkpoint": checkpoint})
    assert official.aggregates["local_options"] == pytest.approx(numbers)
    assert records["correct"].mean() == pytest.approx(numbers["acc"])
    assert answers["local_options"][0][0][0] == pytest.approx(-records["choice_scores"][0][0])


@needs_lmms
def test_requests_about_one_video_share_its_encoding(tasks: Path, letters: Path) -> None:
    from prunesweep.use import lmms as plugin

    model = plugin.PruneSweep("tiny", "prunevid", FRAMES, **{"model.checkpoint": str(letters)})
    one = lmms.subtasks("local_mlvu", str(tasks))["local_mlvu"]
    model.task_dict["local_mlvu"] = one.dataset
    requests = lmms.requests_of(one)
    assert len(model.generate_until(requests)) == len(requests)
    videos = {str(lmms.shown(one.doc_to_visual, document)) for document in one.dataset["test"]}
    assert len(videos) < len(requests)
    encoded = model.clock.kinds["Encode"][0]
    assert encoded == len(videos)
    assert model.clock.run < model.clock.alone


@needs_lmms
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pretrained": "qwen2_vl_7"}, "unknown model 'qwen2_vl_7'; did you mean qwen2_vl_7b?"),
        ({"pretrained": "tiny", "reducer": "prunevit"}, "unknown reducer 'prunevit'; did you mean prunevid?"),
        ({"pretrained": "tiny", "keep": 0.2}, "--model_args has no 'keep'"),
        ({"pretrained": "tiny", "protocol.template": "x"}, "protocol.template is the task's"),
        ({"pretrained": "tiny", "reducer": "fastv", "reducer.prune.layer": 99}, "8 layers"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments: dict[str, Any], message: str) -> None:
    from prunesweep.checks import InfeasibleError
    from prunesweep.use import lmms as plugin

    with pytest.raises((ValueError, InfeasibleError)) as caught:
        plugin.PruneSweep(**arguments)
    assert message in str(caught.value)


@needs_lmms
def test_a_task_with_frames_and_an_unknown_one_are_refused_on_one_line(tasks: Path, home: Path) -> None:
    with pytest.raises(ValueError, match=r"lmms-eval has no task 'local_mvbnch'; did you mean local_mvbench\?") as caught:
        lmms.load("local_mvbnch", None, str(tasks))
    assert len(str(caught.value).splitlines()) == 1
    settings = {
        "task": "local_frames",
        "test_split": "test",
        "doc_to_visual": "!VISUAL",
        "doc_to_text": "question",
        "doc_to_target": "answer",
    }
    write_task(home / "frames", settings, "test", [{"question": "what?", "answer": "A"}])
    (home / "frames" / "own.py").write_text("import PIL.Image\n\ndef visual(doc):\n    return [PIL.Image.new('RGB', (8, 8))]\n")
    file = home / "frames" / "local_frames.yaml"
    file.write_text(file.read_text().replace("'!VISUAL'", "!function own.visual"))
    with pytest.raises(ValueError, match=r"local_frames shows frames or pictures \(Image\); benchmark=lmms takes tasks"):
        lmms.load("local_frames", None, str(home / "frames"))


@needs_lmms
def test_a_missing_video_is_a_record_with_an_error_and_left_out_of_the_score(
    sweep: Callable[..., Path], tasks: Path, home: Path
) -> None:
    from lmms_eval import tasks as _  # noqa: F401

    video = next((home / LAYOUTS["tempcompass"].videos).glob("*.mp4"))
    kept = video.read_bytes()
    video.unlink()
    lmms._loaded.cache_clear()
    try:
        folder = sweep("local_tempcompass", "none")
        records = pl.read_parquet(folder / "records.parquet")
        official = read_official(folder)
        assert official is not None
        assert official.left_out == records["error"].is_not_null().sum() > 0
        assert "does not exist" in records["error"].drop_nulls()[0]
        assert official.scored == len(records) - official.left_out
    finally:
        video.write_bytes(kept)
        lmms._loaded.cache_clear()


def test_the_extra_has_what_the_environment_of_its_own_installs() -> None:
    import tomllib

    extra = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]["lmms"]
    names = {name.partition(">")[0].partition("<")[0] for name in extra}
    assert names == {name.partition("<")[0] for name in INSTALLED[1].split()}
    assert os.environ.get("HF_HUB_OFFLINE") == "1"  # as all tests: nothing is fetched but packages
