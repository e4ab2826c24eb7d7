"""One command that answers: what it chooses, what it says, and what the preset carries."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from transformers import LlavaOnevisionForConditionalGeneration

import prunesweep as ps
from prunesweep.analysis.comparison import Difference
from prunesweep.cli.app import main as cli
from prunesweep.cli.run import with_presets
from prunesweep.cli.tune import parted
from prunesweep.models.checkpoints import stated_sizes
from prunesweep.models.sizes import shape_of
from prunesweep.report.given import presets, statement_of
from prunesweep.results.infeasible import Infeasible, write_infeasible
from prunesweep.results.records import read_info
from prunesweep.results.timing import TIMING
from prunesweep.use.preset import KEY, is_preset, read_preset, require_sizes
from prunesweep.use.tune import Confirmed, confirm, goal_of, grids, statement
from prunesweep.use.tuning import Tuned, _none_ran, defaults, settings_of, tune
from support.records import drawn
from support.zoo import ZOO


@pytest.mark.parametrize(
    ("text", "cost", "most"),
    [
        ("0.25x", "llm_flops_ratio", 0.25),
        ("4GiB", "kv_bytes", 4 * 2**30),
        ("300 MiB", "kv_bytes", 300 * 2**20),
        ("1.2s", "first_token_seconds", 1.2),
        ("800ms", "first_token_seconds", 0.8),
        ("least", "llm_flops_ratio", None),
    ],
)
def test_budgets_are_amounts(text: str, cost: str, most: float | None) -> None:
    goal = goal_of(text, 0.01)
    assert (goal.cost, goal.most) == (cost, pytest.approx(most))


@pytest.mark.parametrize("text", ["0.25", "x", "2x", "0x", "-1GiB", "4 apples", "", "1e999x"])
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="budget must be"):
        goal_of(text, 0.01)


def offered(given: dict[str, Any]) -> list[dict[str, str]]:
    settings = settings_of(given)
    return grids(goal_of(settings["budget"], settings["margin"]), settings, 10)


def test_a_slip_says_what_was_meant() -> None:
    for given, said in (
        ({"budgt": "0.2x"}, "did you mean budget"),
        ({"methods": ["prunvid"]}, "unknown candidate in methods 'prunvid'; did you mean prunevid"),
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"margin": 2}, r"margin must be in \(0, 1\)"),
        ({"margin": "much"}, "margin must be a number, got 'much'"),
        ({"methods": []}, r"methods=\[\] names none; name some of prunevid, .* or leave it out"),
        ({"share": 1}, r"share must be in \(0, 1\), so that both parts have videos, got 1"),
        ({"share": 0.0}, r"share must be in \(0, 1\)"),
        ({"share": "half"}, "share must be a number, got 'half'"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"tolerance": "some"}, "tolerance must be a number, got 'some'"),
        ({"ladder": []}, r"ladder must be a list of shares .* got \[\]"),
        ({"ladder": [2]}, r"each share of ladder must be in \(0, 1\], got 2"),
        ({"candidates": [{"name": "fastv"}]}, r"candidates must be a list of \{reducer: NAME"),
        ({"seed": 1.5}, "seed must be a whole number, got 1.5"),
    ):
        with pytest.raises(ValueError, match=said):
            offered(given)
    with pytest.raises(ValueError, match="did you mean budget"):
        parted(["budgt=0.2x"])
    for wrong in ("accuracy>=dense", "accuracy>dense-0.01", "accuracy=0.9"):
        with pytest.raises(
            ValueError, match=f"a goal is written accuracy>=dense-0.01, for a loss of 1 point at most, got '{wrong}'"
        ):
            parted([wrong])


def test_a_goal_of_accuracy_is_the_least_cost_within_its_loss() -> None:
    given, task = parted(["accuracy>=dense-0.02", "model=tiny", "methods=[fastv,evs]", "benchmark.limit=4"])
    assert given == {"budget": "accuracy>=dense-0.02", "methods": ["fastv", "evs"]}
    assert task == ["model=tiny", "benchmark.limit=4"]
    settings = settings_of(given)
    assert (settings["budget"], settings["margin"]) == ("least", 0.02)
    with pytest.raises(ValueError, match=r"margin=0\.01 and accuracy>=dense-0\.02 are two margins"):
        settings_of({**given, "margin": 0.01})


def test_every_candidate_is_solved_for_the_budget_or_each_step_of_the_ladder() -> None:
    settings = {**defaults(), "methods": ["prunevid"]}
    one, many = (grids(goal_of(budget, 0.01), settings, 10) for budget in ("0.2x", "4GiB"))
    assert {grid["reducer"] for grid in one} == {"prunevid"}
    assert all(grid["reducer.match"].count("flops") == 1 for grid in one)
    assert all(grid["reducer.match"].count("flops") == len(settings["ladder"]) for grid in many)
    assert any(grid.get("reducer.prune.layer") == "5" for grid in one)


class Row:
    llm_flops_ratio = 0.2314


def told(mean: float, low: float, high: float, within: bool, needed: int = 0) -> str:
    difference = Difference(mean, 0.004, low, high, 0.2, 0.2, 10, 20, 2412, 300, 1.0, 299.0)
    return statement("prunevid", Row(), goal_of("0.25x", 0.01), Confirmed(difference, 0.01, within, needed))  # type: ignore[arg-type]


def test_what_is_said_has_its_error_its_questions_and_what_would_tell() -> None:
    known = "prunevid at 0.231x: -0.4 points (95 % -1.1 to +0.3, n=2,412, 300 videos)"
    assert told(-0.004, -0.011, 0.003, within=True) == f"{known}: within 1 point"
    unknown = told(-0.004, -0.011, 0.003, within=False, needed=5512)
    assert unknown == f"{known}: not shown to be within 1 point; about 3,100 more questions like these would probably tell"
    assert told(-0.03, -0.04, -0.02, within=False).endswith("loses more than 1 point")
    assert told(-1.0, math.nan, math.nan, within=False, needed=1).endswith("and only several videos would")
    alone = told(-0.004, math.nan, math.nan, within=False, needed=5120)
    assert "nan" not in alone
    assert alone.endswith("and 5,200 questions on several videos are the least that would tell")


def test_one_video_tells_of_no_error_but_how_many_questions_would() -> None:
    one, other = drawn(2)
    video = one.records["video_id"][0]
    pair = [trial._replace(records=trial.records.filter(pl.col("video_id") == video)) for trial in (one, other)]
    found = confirm(*pair, 0.01)
    assert not found.within
    assert found.needed > found.difference.samples


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ({"folder": "/proc/nothing"}, "/proc/nothing cannot be written: .*; name a place that can be"),
        ({"out": "/proc/nothing.yaml"}, "/proc cannot be written: .*; name a place that can be"),
        ({"out": "preset"}, r"out must end in \.yaml, by which commands know a preset, got 'preset'"),
        ({"out": "folder.yaml"}, "folder.yaml is a folder; out is the preset's file"),
    ],
)
def test_places_are_tried_before_anything_runs(
    places: dict[str, str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.yaml").mkdir()
    with pytest.raises(ValueError, match=said):
        tune([], {"methods": ["frames"], **places}, say=pytest.fail)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("reducer=fastv", r"methods=\[NAME"),
        ("reducer.prune.layer=2", r"methods=\[NAME"),
        ("questions.share=0.2", "share and seed"),
        ("race.rounds=2", "rounds says"),
        ("hydra.sweep.dir=x", "folder says"),
    ],
)
def test_what_tune_sets_itself_is_not_taken_and_lost(override: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tune([override], {"budget": "0.5x"})


def test_a_budget_below_all_names_the_least(tmp_path: Path) -> None:
    reason = "{} comes no closer to flops=0.0001 than {} with merge.keep_ratio=0 (it reaches {} to 1.0000); change its settings"
    for number, (name, least) in enumerate((("random", "0.0163"), ("fastv", "0.2100"))):
        found = Infeasible(name, name, "tiny", "blocks", (), reason.format(name, least, least))
        write_infeasible(tmp_path / str(number), found)
    words = _none_ran(tmp_path, goal_of("0.0001x", 0.01))
    assert words.startswith("budget=0.0001x is below what any candidate takes; the least is 0.0163x (random: ")
    assert _none_ran(tmp_path, goal_of("0.5x", 0.01)).startswith("no candidate could be run: random")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    folder = tmp_path_factory.mktemp("tuned")
    task = ["benchmark.limit=40", f"store.folder={folder / 'store'}", "trainer.progress=false"]
    given = {"budget": "0.4x", "methods": ["frames", "vidcom2"], "folder": str(folder / "tune")}
    first = tune(task, given, progress=False, say=lambda _: None)
    with pytest.MonkeyPatch.context() as patch:  # all is in the store: budgets are solved, races are run
        patch.setattr("prunesweep.sweep.groups._loaded", lambda *_: pytest.fail("the model is loaded again"))
        again = tune(task, given, progress=False, say=lambda _: None)
    assert again == first
    return first


def test_python_and_the_command_ask_the_same_question(
    checkpoint: Path, benchmark_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """One preset: what the command has evaluated, Python finds in the store."""
    monkeypatch.chdir(tmp_path)
    of_model = {"checkpoint": str(checkpoint), "frames": 8}
    of_benchmark = {"path": str(benchmark_folder)}
    written = [f"model.{key}={value}" for key, value in of_model.items()]
    written += ["benchmark=jsonl", *(f"benchmark.{key}={value}" for key, value in of_benchmark.items())]
    own = ["trainer.progress=false", "budget=0.5x", "margin=0.1", "methods=[random]"]
    monkeypatch.setattr("sys.argv", ["prunesweep", "tune", *written, *own])
    with contextlib.suppress(SystemExit):
        cli()
    said = capsys.readouterr().out
    (preset,) = tmp_path.glob("tune/*/preset.yaml")
    model, data = ps.load_model("tiny", **of_model), ps.load_benchmark("jsonl", **of_benchmark)
    asked = {"margin": 0.1, "methods": ["random"], "progress": False}
    tuned = ps.tune(model, data, "0.5x", **asked)
    assert isinstance(tuned, ps.Tuned)
    assert tuned.path.read_bytes() == preset.read_bytes()
    assert {json.loads(line)["evaluated"] for line in (tuned.search / TIMING).read_text().splitlines()} == {0}
    assert str(tuned) in said
    assert capsys.readouterr() == ("", "")
    for budget, options, error in (
        ("0.5", asked, "budget must be such as 0.25x"),
        ("0.5x", {**asked, "margn": 0.1}, "unknown setting of tune 'margn'; did you mean margin"),
        ("0.5x", {**asked, "folder": "/proc/nothing"}, "cannot be written"),
    ):
        with pytest.raises(ValueError, match=error):
            ps.tune(model, data, budget, **options)


def test_the_chosen_setting_keeps_to_the_budget_on_videos_it_never_met(tuned: Tuned) -> None:
    preset = tuned.preset
    assert preset.numbers["llm_flops_ratio"] <= 0.4 * 1.05
    choosing, confirming = (ps.read(path).trial("dense").records for path in (tuned.search, tuned.confirm))
    assert set(choosing["video_id"]).isdisjoint(confirming["video_id"])
    assert preset.numbers["samples"] == len(confirming)
    assert not any("match" in one or "knob" in one for one in preset.overrides)


def test_a_preset_is_read_by_commands_python_and_models(tuned: Tuned) -> None:
    preset = read_preset(tuned.path)
    assert preset == tuned.preset
    assert with_presets([f"reducer={tuned.path}", "benchmark.limit=3"]) == [
        *preset.overrides,
        "benchmark.limit=3",
        f"presets=[{tuned.path}]",
    ]
    assert ps.reducer(tuned.path).overrides == preset.overrides
    with pytest.raises(ValueError, match="a preset sets more than a name, so it stands alone"):
        with_presets([f"reducer=none,{tuned.path}"])
    with pytest.raises(ValueError, match=r"there is no file 'gone\.yaml'"):
        with_presets(["reducer=gone.yaml"])


def test_a_preset_of_another_model_says_what_is_other_and_the_way_out(
    tuned: Tuned, run: Callable[..., Any], checkpoint: Path
) -> None:
    settings = " ".join(tuned.preset.overrides)
    sizes = "confirmed on a model with hidden=96"
    for told, said in (
        (["model=qwen3_vl_4b"], "was confirmed on model=tiny, not on qwen3_vl_4b"),
        ([f"model.checkpoint={checkpoint}"], sizes),
    ):
        for command in ([], ["-m"]):
            code, _, _ = run(*command, f"reducer={tuned.path}", *told, defaults=False)
            assert said in str(code)
            assert "model=" in said or "but this one has hidden=48" in str(code)
            assert str(code).endswith(f"tune on this one, or give its settings yourself: {settings}")
            assert len(str(code).splitlines()) == 1
    with pytest.raises(ValueError, match=sizes):
        ps.evaluate(ps.load_model("tiny", checkpoint=str(checkpoint)), "blocks", [str(tuned.path)], progress=False)
    network = LlavaOnevisionForConditionalGeneration.from_pretrained(checkpoint)
    for setting in (tuned.path, ps.reducer(tuned.path)):
        with pytest.raises(ValueError, match=sizes), ps.prune(network, setting):
            pass


def test_a_preset_given_by_python_is_kept_as_the_commands(tuned: Tuned, tmp_path: Path) -> None:
    store = tmp_path / "store"
    data = ps.load_benchmark("blocks", limit=2)
    for number, trial in enumerate((ps.reducer(tuned.path), str(tuned.path))):
        sweep = ps.evaluate("tiny", data, ["none", trial], store=store, folder=tmp_path / str(number), progress=False)
        (kept,) = presets(sweep.folder)
        dense, own = (read_info(sweep.folder / name) for name in "01")
        assert statement_of(own, [kept]) == tuned.preset.statement
        assert statement_of(dense, [kept]) is None
        assert statement_of(replace(own, model_key="of other weights"), [kept]) is None


def test_a_run_keeps_the_preset_that_it_was_given(tuned: Tuned, run: Callable[..., Any]) -> None:
    own = ["logger=none", f"reducer={tuned.path}"]
    code, _, err = run(*own, "hydra.run.dir=own", "benchmark.limit=2", defaults=False)
    assert code == 0, err
    (kept,) = presets(Path("own"))
    info = read_info(Path("own"))
    assert statement_of(info, [kept]) == tuned.preset.statement
    code, _, err = run("-m", *own, "benchmark.limit=1,2", "hydra.sweep.dir=several", defaults=False)
    assert code == 0, err
    assert [statement_of(read_info(Path("several") / number), presets(Path("several"))) for number in "01"] == [
        tuned.preset.statement
    ] * 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({KEY: 99}, "a preset of version 99, and this prunesweep reads version 1; tune once more"),
        ({"shape": 3}, "shape must be the sizes of a model, got 3"),
        ({"overrides": ["reducer=prunevid", "model.checkpoint=/elsewhere"]}, "sets 'model.checkpoint=/elsewhere'"),
        ({"overrides": ["reducer=prunevid", "reducer.merge._target_=os.system"]}, "sets"),
        ({"overrides": ["hydra.run.dir=/"]}, "begins with reducer=NAME"),
        ({"overrides": "reducer=prunevid"}, "must be a list"),
        ({"statement": None, "more": 1}, "has 'more'"),
    ],
)
def test_a_preset_of_somebody_else_sets_a_method_only(tuned: Tuned, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    import yaml

    found = {**yaml.safe_load(tuned.path.read_text()), **change}
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(found))
    assert is_preset(path)
    with pytest.raises(ValueError, match=said):
        read_preset(path)


@pytest.mark.parametrize("name", ZOO)
def test_sizes_in_a_config_are_those_of_the_loaded_model(tuned: Tuned, name: str, tmp_path: Path) -> None:
    """Or a preset would be refused on the very model that it was made for."""
    config = ZOO[name]().config
    (tmp_path / "config.json").write_text(config.to_json_string(use_diff=False))
    stated = stated_sizes({"_target_": "prunesweep.models.adapter.load", "checkpoint": str(tmp_path)})
    preset = replace(tuned.preset, shape=asdict(shape_of(config)))
    require_sizes(preset, stated)
    if stated:
        with pytest.raises(ValueError, match=f"but this one has layers={stated['layers'] + 1}; tune on this one"):
            require_sizes(preset, {**stated, "layers": stated["layers"] + 1})
