"""PruneSweep from Python: what the command does, without its command line."""

from __future__ import annotations

import importlib
import inspect
import logging
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import polars as pl
import pytest
from hydra import version
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from matplotlib.figure import Figure

import prunesweep as ps
from prunesweep import api
from prunesweep.checks import EvaluationError
from prunesweep.disk.foreign import read_yaml
from prunesweep.results.infeasible import Infeasible, write_infeasible
from prunesweep.results.records import RECORDS, TRIAL, read_info, read_trials, write_trial
from support.places import CONF, only_folder
from support.records import drawn, made, store_of

HEAVY = ("torch", "hydra", "polars", "lightning", "wandb", "matplotlib", "optuna", "transformers", "numpy", "scipy")


@pytest.fixture
def small(
    checkpoint: Path, benchmark_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[ps.Choice, ps.Choice]:
    """The small model and its benchmark, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return ps.load_model("tiny", checkpoint=checkpoint, frames=8), ps.load_benchmark("jsonl", path=benchmark_folder, limit=6)


TRIALS = ("none", "prunevid")


# Imports


def test_importing_imports_nothing_heavy() -> None:
    code = f"import sys, prunesweep as ps; dir(ps); print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_has_what_the_module_has_and_one_name_searches_and_is_a_package() -> None:
    for name in set(ps.__all__) - {"search"}:
        assert getattr(ps, name) is getattr(api, name)
    code = "import prunesweep.search.space as space; import prunesweep as ps; assert space and callable(ps.search); ps.search()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "TypeError: search() missing" in done.stderr
    assert [name for name in dir(ps) if not name.startswith("_")] == sorted(ps.__all__)
    assert "__version__" in dir(ps)
    assert ps.__version__ == metadata.version("prunesweep")
    with pytest.raises(AttributeError, match="no attribute 'pruned'"):
        ps.pruned  # noqa: B018


def test_every_public_function_has_types_and_says_what_it_raises() -> None:
    assert (Path(ps.__file__).parent / "py.typed").exists()
    for name in ps.__all__:
        made_public = getattr(api, name)
        assert made_public.__doc__, name
        if inspect.isfunction(made_public):
            assert "ValueError" in made_public.__doc__, name
            hints = inspect.signature(made_public)
            assert hints.return_annotation is not inspect.Signature.empty, name
            assert all(one.annotation is not inspect.Parameter.empty for one in hints.parameters.values()), name


def test_the_default_store_is_the_commands() -> None:
    assert read_yaml(CONF / "eval.yaml")["store"]["folder"] == api.STORE


# One truth


def test_an_api_run_and_the_command_have_one_key_and_the_same_records(run, small, monkeypatch, tmp_path: Path) -> None:
    grids = (
        "[{reducer:none},{reducer:prunevid,reducer.prune.keep_ratio:'0.2,0.4'},{reducer:random,reducer.merge.positions:original}]"
    )
    code, _, _ = run(
        "-m", "hydra/sweeper=grids", f"hydra.sweeper.grids={grids}", "hydra.sweep.dir=by_command", "benchmark.limit=6"
    )
    assert code == 0
    trials = [
        ps.reducer("none"),
        *ps.grid("prunevid", {"prune.keep_ratio": [0.2, 0.4]}),
        ps.reducer("random", {"merge.positions": "original"}),
    ]
    sweep = ps.evaluate(*small, trials, store="another_store", folder="by_api", progress=False)
    for number in "0123":
        one, other = (read_info(Path(folder) / number) for folder in ("by_command", "by_api"))
        assert (one.key, one.name, one.settings) == (other.key, other.name, other.settings)
        assert (Path("by_command") / number / RECORDS).read_bytes() == (Path("by_api") / number / RECORDS).read_bytes()
    summaries = [pl.read_parquet(f"{folder}/summary.parquet") for folder in ("by_command", "by_api")]
    assert summaries[0].equals(summaries[1])
    assert sweep.table.equals(summaries[1])
    known = ps.evaluate(*small, trials, store="store", progress=False)
    assert read_yaml(known.folder / ".timing.json")[0]["evaluated"] == 0 if (known.folder / ".timing.json").exists() else True
    assert known.table.drop("#").equals(sweep.table.drop("#"))


def test_a_search_is_the_sweepers_and_goes_on(run, small) -> None:
    space = {"prune.keep_ratio": (0.1, 0.8), "prune.layer": (1, 4), "merge.positions": ["renumbered", "original"]}
    code, _, _ = run(
        "-m", "hydra/sweeper=search", "hydra.sweeper.trials=4", "+hydra.sweeper.baselines={dense:{reducer:none}}",
        "+hydra.sweeper.space={reducer.prune.keep_ratio:'interval(0.1,0.8)',reducer.prune.layer:'range(1,5)',"
        "reducer.merge.positions:'choice(renumbered,original)'}", "reducer=prunevid",
        "hydra.sweep.dir=by_command", "benchmark.limit=6",
    )  # fmt: skip
    assert code == 0
    first = ps.search(*small, "prunevid", space, trials=2, batch=4, folder="by_api", progress=False)
    assert len(first.proposals) == 2
    whole = ps.search(*small, "prunevid", space, trials=4, batch=4, folder="by_api", progress=False)
    assert len(whole.proposals) == 4
    assert [t.info.name for t in read_trials(Path("by_api"))][:2] == [t.info.name for t in read_trials(Path("by_command"))][:2]
    assert whole.trial("dense").folder == whole.trial("baseline-dense").folder
    with pytest.raises(ValueError, match="baseline-dense would be compared with itself; name another trial"):
        whole.compare("dense", "baseline-dense")


def test_results_are_where_the_commands_are_and_its_tools_read_them(small) -> None:
    sweep = ps.evaluate(*small, TRIALS, progress=False)
    assert sweep.folder == only_folder("multirun/*/*")
    assert ps.read("latest").folder == ps.read("multirun/latest").folder == sweep.folder
    assert {path.name for path in sweep.folder.iterdir()} >= {"0", "1", "multirun.yaml", "summary.csv", "pareto.png"}
    page = sweep.report("report.html").read_text()
    assert "prunesweep" in page
    assert not Path("wandb").exists()
    assert ps.read(sweep.folder / "1").table["trial"].to_list() == ["prunevid"]


def test_evaluating_into_the_same_folder_goes_on_and_other_trials_are_refused(small) -> None:
    first = ps.evaluate(*small, ["none"], folder="mine", progress=False)
    again = ps.evaluate(*small, ["none"], folder="mine", progress=False)
    assert again.table.equals(first.table)
    with pytest.raises(ValueError, match="mine already holds another sweep"):
        ps.evaluate(*small, TRIALS, folder="mine", progress=False)
    assert len(ps.evaluate(*small, ["none"], folder="mine", progress=False).table) == 1, "no lock is left behind"


def test_other_settings_and_no_store(small) -> None:
    sweep = ps.evaluate(
        *small, ["none"], store=None, progress=False, settings={"analysis.cost": "kv_bytes", "protocol.prefix": "It is, i.e. "}
    )
    assert sweep.cost == "kv_bytes"
    assert sweep.trial("0").info.settings["protocol"]["prefix"] == "It is, i.e. "
    assert not Path("store").exists()


def test_the_process_is_left_as_it_was(small, capfd: pytest.CaptureFixture) -> None:
    GlobalHydra.instance().clear()
    handler = logging.StreamHandler()
    logging.getLogger().addHandler(handler)
    before = version.getbase(), HydraConfig.instance().cfg, logging.getLogger().level, list(logging.getLogger().handlers)
    capfd.readouterr()
    try:
        ps.evaluate(*small, ["none"], progress=False)
        after = version.getbase(), HydraConfig.instance().cfg, logging.getLogger().level, list(logging.getLogger().handlers)
        assert before == after
    finally:
        logging.getLogger().removeHandler(handler)
    assert not GlobalHydra.instance().is_initialized()
    assert capfd.readouterr() == ("", ""), "without progress nothing is printed"


def test_with_progress_the_plan_is_told_on_stderr(small, capfd: pytest.CaptureFixture) -> None:
    ps.evaluate(*small, ["none"])
    out, err = capfd.readouterr()
    assert out == ""
    assert "1 trial x 6 questions" in err
    assert "results go to multirun/" in err


# Bad input


KEEP = "prune.keep_ratio"


def evaluate(**settings: object) -> ps.Sweep:
    return ps.evaluate("tiny", "blocks", ["none"], settings=settings["settings"])


def search(space: object, **options: object) -> ps.Sweep:
    return ps.search("tiny", "blocks", "prunevid", space, **options)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: ps.load_model("tinny"), "unknown model 'tinny'; "),
        (lambda: ps.load_benchmark("block"), "unknown benchmark 'block'; "),
        (lambda: ps.reducer("prunvid"), "unknown reducer 'prunvid'; "),
        (lambda: ps.reducer("prunevid", {"prune.keep_ratoi": 0.4}), "; did you mean reducer.prune.keep_ratio?"),
        (lambda: ps.load_benchmark("blocks", limits=3), "did you mean benchmark.limit?"),
        (lambda: ps.load_model("tiny", checkpont="x"), "did you mean model.checkpoint?"),
        (lambda: ps.reducer("prunevid", {KEEP: 1.4}), "keep_ratio must be in (0, 1], got 1.4"),
        (lambda: ps.grid("prunevid", {KEEP: [0.4, 1.4]}), "keep_ratio must be in (0, 1], got 1.4"),
        (lambda: ps.grid("prunevid", {KEEP: 0.4}), "grid: prune.keep_ratio takes a list of values, got 0.4"),
        (lambda: ps.grid("prunevid", {KEEP: []}), "takes a list of values, got []"),
        (lambda: ps.load_benchmark("mvbench"), "benchmark.path must be given: benchmark.path=..."),
        (lambda: ps.reducer("prunevid", {"x=1,reducer.y": 1}), "no key 'x=1,reducer.y'; keys are names with dots"),
        (lambda: ps.reducer("none,random"), "a reducer is called by its name in conf/reducer/, got 'none,random'"),
        (lambda: ps.reducer("prunevid", {"seed": object()}), "reducer.seed must be a number, text, true, false, null, a list"),
        (lambda: ps.evaluate("tiny", "blocks", "none"), "trials must be a list, got 'none'"),
        (lambda: ps.evaluate("tiny", "blocks", []), "there is no trial to evaluate"),
        (lambda: ps.evaluate("tiny", "blocks", [ps.load_model("tiny")]), "made by prunesweep.reducer, got <model tiny>"),
        (lambda: ps.evaluate(ps.reducer("none"), "blocks", ["none"]), "made by prunesweep.load_model, got <reducer none>"),
        (lambda: evaluate(settings={"trainer.device": 2}), "no key 'trainer.device'"),
        (lambda: evaluate(settings={"trainer.devices": 0}), "trainer.devices must be at least 1, got 0"),
        (lambda: evaluate(settings={"analysis.cost": "joules"}), "analysis.cost must be one of"),
        (lambda: search({KEEP: (0.8, 0.1)}), "must have its lower end first"),
        (lambda: search({KEEP: 0.8}), "prune.keep_ratio takes (low, high)"),
        (lambda: search({}), "hydra.sweeper.space is empty"),
        (lambda: search({"prune.keep": (0.1, 0.8)}), "no key 'reducer.prune.keep'"),
        (lambda: search({KEEP: (0.1, 0.8)}, bacth=3), "did you mean batch?"),
        (lambda: search({KEEP: (0.1, 0.8)}, trial=3), "search has no option 'trial'; did you mean trials?"),
        (lambda: ps.reducer(3), "a reducer is called by its name in conf/reducer/, got 3"),
        (lambda: ps.load_model(None), "a model is called by its name in conf/model/, got None"),
        (lambda: evaluate(settings={"analysis.cost": "llm_flop"}), "got 'llm_flop'; did you mean llm_flops?"),
        (lambda: search({KEEP: (0.1, 0.8)}, sampler="tpee"), "unknown sampler 'tpee'"),
        (lambda: search({KEEP: (0.1, 0.8)}, objectives={"accuracy": "up"}), "must be one of maximize, minimize, got 'up'"),
        (lambda: ps.read("multirun/latest"), "there is no multirun/latest"),
        (lambda: ps.read("."), "holds no finished trial"),
    ],
)
def test_slips_are_said_at_once_on_one_line(ask, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the text is asserted below
        ask()
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not Path("store").exists()


def test_python_itself_says_what_a_misspelt_name_may_mean() -> None:
    with pytest.raises(AttributeError) as error:
        _ = ps.evalute
    assert (error.value.name, error.value.obj) == ("evalute", ps)
    assert "evaluate" in dir(ps)


def test_slips_are_worded_as_the_command_words_them(run) -> None:
    for override, ask in (
        ("reducer=prunvid", lambda: ps.reducer("prunvid")),
        ("reducer.prune.keep_ratoi=1", lambda: ps.reducer("prunevid", {"prune.keep_ratoi": 1})),
        ("reducer.prune.keep_ratio=1.4", lambda: ps.reducer("prunevid", {"prune.keep_ratio": 1.4})),
    ):
        code, _, _ = run(override, "logger=none", defaults=False)
        with pytest.raises(ValueError) as error:  # noqa: PT011  # the text is asserted below
            ask()
        assert code == f"prunesweep: {error.value}"


def test_questions_without_an_answer_are_warned_of_and_trials_without_any_end_it(small, benchmark_folder: Path) -> None:
    model, _ = small
    questions = (benchmark_folder / "questions.jsonl").read_bytes()
    Path("own").mkdir()
    for path in benchmark_folder.glob("*.mp4"):
        (Path("own") / path.name).write_bytes(path.read_bytes())
    (Path("own") / "questions.jsonl").write_bytes(questions)
    one = sorted(Path("own").glob("*.mp4"))[0]
    one.write_bytes(b"no film")
    with pytest.warns(UserWarning, match="some questions have no answer in mine: .* of 1 trial"):
        ps.evaluate(model, ps.load_benchmark("jsonl", path="own"), ["none"], folder="mine", progress=False)
    for path in Path("own").glob("*.mp4"):
        path.write_bytes(b"no film")
    with pytest.raises(EvaluationError, match="no sample could be evaluated: .* of 1 trial"):
        ps.evaluate(model, ps.load_benchmark("jsonl", path="own"), ["none"], folder="other", progress=False)


METHOD = """
from dataclasses import dataclass

from prunesweep.reducers import keep_tokens
from prunesweep.types import Merged, Tokens

STEP = 2


@dataclass(frozen=True)
class EveryOther:
    first: int = 0

    def __call__(self, tokens: Tokens) -> Merged:
        import torch

        return keep_tokens(tokens, torch.arange(self.first, tokens.x.shape[0] * tokens.x.shape[1], STEP), "original")
"""


@pytest.fixture
def own_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The YAML of a method of somebody's own, beside the code, which Python finds."""
    (tmp_path / "own" / "reducer").mkdir(parents=True)
    (tmp_path / "own" / "every_other_token.py").write_text(METHOD)
    monkeypatch.syspath_prepend(str(tmp_path / "own"))
    monkeypatch.delitem(sys.modules, "every_other_token", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # it would be taken for that of an edit in the same second
    file = tmp_path / "own" / "reducer" / "every_other.yaml"
    merge = "{_target_: every_other_token.EveryOther, first: 0}"
    file.write_text(f"_target_: prunesweep.reducers.Reducer\nname: every_other\nmerge: {merge}\nprune: null\n")
    return file


def test_a_method_of_ones_own_is_called_by_its_file(small, own_method: Path) -> None:
    trials = ["none", *ps.grid(own_method, {"merge.first": [0, 1]})]
    sweep = ps.evaluate(*small, trials, progress=False)
    assert sweep.table["trial"].to_list() == ["every_other first=0", "every_other first=1", "none"]
    assert sweep.table["entrance_ratio"].to_list() == [0.5, 0.5, 1]
    with pytest.raises(ValueError, match="did you mean reducer.merge.first"):
        ps.reducer(own_method, {"merge.frist": 1})
    with pytest.raises(ValueError, match="other.yaml must be a file in a folder called reducer"):
        ps.reducer(own_method.with_name("other.yaml"))


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        ("STEP = 2", "STEP = 3", "STEP"),
        ("first: int = 0", "first: int = 1", "EveryOther.first"),
        ('"original")', '"renumbered")', "EveryOther.__call__"),
        ("STEP = 2", "STEP = 2\n\n\ndef more(): ...", "more"),
    ],
)
def test_code_that_was_edited_since_it_was_imported_is_not_evaluated(
    small, own_method: Path, before: str, after: str, name: str
) -> None:
    """Its records would be kept as those of the code on disk."""
    trial = ps.reducer(own_method)
    code = own_method.parents[1] / "every_other_token.py"
    code.write_text(METHOD.replace(before, after))
    with pytest.raises(ValueError, match=rf"every_other_token.py was edited after it was imported \({name}\): .*reload"):
        ps.evaluate(*small, [trial], progress=False)
    assert not Path("store").exists()
    importlib.reload(sys.modules["every_other_token"])
    ps.evaluate(*small, [trial], progress=False)


def test_reloaded_code_has_records_of_its_own(small, own_method: Path) -> None:
    trial = ps.reducer(own_method)
    first = ps.evaluate(*small, [trial], progress=False)
    (own_method.parents[1] / "every_other_token.py").write_text(METHOD.replace("STEP = 2", "STEP = 3"))
    importlib.reload(sys.modules["every_other_token"])
    second = ps.evaluate(*small, [trial], progress=False)
    assert first.trial("0").info.key != second.trial("0").info.key
    assert second.table["entrance_ratio"][0] == pytest.approx(1 / 3, abs=0.01)


# What is read


def test_an_error_comes_without_the_traceback_of_hydra() -> None:
    with pytest.raises(ValueError, match="^unknown reducer") as caught:
        ps.reducer("prunvid")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.fixture
def sweep(tmp_path: Path) -> ps.Sweep:
    for number, one in enumerate(drawn()):
        write_trial(tmp_path / "sweep" / str(number), one.info, one.records)
    write_infeasible(tmp_path / "sweep" / "6", Infeasible("<b>fastv</b>", "fastv", "tiny", "blocks", (), "why"))
    return ps.read(tmp_path / "sweep")


def test_a_sweep_is_a_table_fronts_comparisons_pictures_and_words(sweep: ps.Sweep) -> None:
    assert sweep.table["#"].to_list()[-1] == "6"
    assert set(sweep.table["#"]) == set("0123456")
    assert sweep.table["prune.layer"].n_unique() == 7, "null of what could not be run, too"
    front = sweep.front("llm_flops")
    assert front.table["pareto"].all()
    assert set(front.table["#"]) < set("012345")
    assert isinstance(front.plot(), Figure)
    assert isinstance(sweep.plot(), Figure)
    compared = sweep.compare("3", "dense")
    assert (compared.trial, compared.baseline) == ("#3 prunevid layer=3 on blocks, tiny", "#0 none on blocks, tiny")
    assert compared.difference.samples > 0
    assert str(compared).count("\n") == 2
    assert repr(compared) == str(compared)
    assert f"{compared.difference.mean:+.3f} ± " in str(compared)
    assert sweep.trial("prunevid prune.layer=3").records.height == 60
    assert "6 trials of tiny on blocks" in sweep.verdict()
    assert repr(sweep) == f"Sweep({str(sweep.folder)!r}: 6 trials of tiny on blocks)"
    with pytest.raises(ValueError, match="no trial has first_token_seconds; it is measured"):
        sweep.front("first_token_seconds")
    with pytest.raises(ValueError, match="cost must be one of"):
        sweep.front("joules")
    with pytest.raises(ValueError, match="it was no search"):
        sweep.proposals  # noqa: B018


def test_what_a_notebook_shows_is_escaped(sweep: ps.Sweep, tmp_path: Path) -> None:
    one = made("<script>alert(1)</script>", "+-+-")
    for number in ("7", "8"):
        write_trial(tmp_path / "again" / number, one.info, one.records)
    again = ps.read(tmp_path / "again")
    assert "<b>" not in sweep._repr_html_()
    for shown in (again._repr_html_(), again.front()._repr_html_(), again.compare("7", "8")._repr_html_()):
        assert "<script" not in shown
        assert "&lt;script&gt;" in shown


def test_a_store_is_read_like_a_sweep(tmp_path: Path) -> None:
    store = ps.read(store_of(tmp_path / "store", drawn()).folder)
    assert len(store.table) == 6
    assert store.table["#"].str.len_chars().to_list() == [8] * 6
    assert store.trial("dense").info.reducer == "none"
    assert store.trial("dense").records.height == 60
    assert store.compare("prunevid layer=3", "none").difference.samples > 0


def test_a_sweep_is_where_it_was_when_the_working_folder_changes(sweep: ps.Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sweep.folder.parent)
    (sweep.folder.parent / "elsewhere").mkdir()
    found = [ps.read("sweep"), ps.Sweep(Path("sweep")), ps.read("sweep/0")]
    monkeypatch.chdir("elsewhere")
    assert [one.folder for one in found] == [sweep.folder, sweep.folder, sweep.folder / "0"]
    assert [len(one.table) for one in found] == [7, 7, 1]
    assert found[1].compare("3", "dense").difference.samples > 0
    assert found[1].report() == sweep.folder / "report.html"


def test_one_run_is_read_like_a_sweep(tmp_path: Path) -> None:
    one = drawn()[1]
    write_trial(tmp_path / "run", one.info, one.records)
    (tmp_path / "run" / TRIAL).read_text()
    found = ps.read(tmp_path / "run")
    assert found.table["trial"].to_list() == [one.info.name]
    assert found.trial("run").info.name == found.trial(one.info.name).info.name == one.info.name
