"""The command as a user types it: single run, multirun, named sweeps, search, and what it says to bad input."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import polars as pl
import pytest
from safetensors.torch import load_file, save_file

from prunesweep.analysis.outcomes import read_outcomes
from prunesweep.report.html import report_data
from prunesweep.results.records import read_trial, read_trials
from prunesweep.results.timing import read_timing
from support.places import REDUCERS, ROOT, only_folder


def unplanned(err: str) -> str:
    """What a command said on stderr besides what it is about to do."""
    return "".join(line for line in err.splitlines(True) if not line.startswith(("plan  ", "      ")))


def test_a_single_run_prints_its_numbers_and_leaves_records_configuration_and_log(run) -> None:
    code, out, _ = run("reducer=prunevid", "reducer.prune.layer=2")
    assert code == 0
    folder = only_folder("outputs/*/*")
    trial = read_trial(folder)
    assert len(trial.records) == 20
    correct = int(trial.records["correct"].sum())
    assert f"accuracy    {correct / 20:.3f} ± " in out
    assert "(n=20)" in out
    assert "LLM prefill" in out
    assert "of dense" in out
    assert "\ntime  " in out
    assert (folder / "config.yaml").read_text().count("${") == 0
    assert f"'accuracy': {correct / 20}" in (folder / "prunesweep.log").read_text()


def test_a_multirun_evaluates_all_trials_in_one_pass(run) -> None:
    code, out, err = run("-m", "reducer.prune.layer=2,4", "reducer.prune.keep_ratio=0.2,0.4,0.8")
    assert (code, unplanned(err)) == (0, "")
    sweep = only_folder("multirun/*/*")
    trials = read_trials(sweep)
    assert [t.info.name for t in trials] == [
        f"prunevid layer={layer} keep_ratio={keep}" for layer in (2, 4) for keep in (0.2, 0.4, 0.8)
    ]
    assert all(t.records["sample_id"].to_list() == trials[0].records["sample_id"].to_list() for t in trials)
    assert len([entry for entry in read_timing(sweep) if entry["run"]]) == 1
    summary = pl.read_csv(sweep / "summary.csv", schema_overrides={"#": pl.String})
    assert summary.equals(pl.read_parquet(sweep / "summary.parquet"))
    assert len(summary) == 6
    assert set(zip(summary["prune.layer"], summary["prune.keep_ratio"], strict=True)) == {
        (m, a) for m in (2, 4) for a in (0.2, 0.4, 0.8)
    }
    assert summary["pareto"].any()
    assert (sweep / "pareto.png").read_bytes().startswith(b"\x89PNG")
    assert out.count("prunevid layer=") == 6
    assert "sharing ran" in out


def test_measuring_adds_seconds_and_memory_to_the_trials_folder_and_to_the_table(run) -> None:
    quick = ["engine.measure=true", "engine.measuring.samples=1", "engine.measuring.repeats=2", "engine.measuring.tokens=2"]
    code, out, err = run("-m", *quick, "analysis.cost=first_token_seconds", "reducer=none,prunevid")
    assert (code, unplanned(err)) == (0, "")
    sweep = only_folder("multirun/*/*")
    table = pl.read_csv(sweep / "summary.csv")
    for trial in read_trials(sweep):
        row = table.row(by_predicate=pl.col("trial") == trial.info.name, named=True)
        for name in ("first_token_seconds", "tokens_per_second", "peak_memory_bytes"):
            assert trial.measured is not None
            assert row[name] == pytest.approx(trial.measured[name])
            assert row[name] > 0
    code, out, _ = run(*quick)
    assert code == 0
    assert "measured    first token after" in out


def test_an_encoder_cache_changes_no_record_and_is_used_again(run, tmp_path: Path) -> None:
    for number, cache in enumerate(("null", tmp_path / "cache", tmp_path / "cache")):
        assert run("store.folder=null", f"engine.cache={cache}", f"hydra.run.dir=out/{number}")[0] == 0
    plain, written, read = (read_trial(Path(f"out/{number}")).records for number in range(3))
    assert plain.equals(written)
    assert plain.equals(read)
    assert len(list((tmp_path / "cache").iterdir())) == plain["video_id"].n_unique()


def test_a_multirun_gives_the_records_of_single_runs(run) -> None:
    run("-m", "reducer.prune.keep_ratio=0.2,0.8")
    swept = read_trials(only_folder("multirun/*/*"))
    for keep, trial in zip(("0.2", "0.8"), swept, strict=True):
        run(f"reducer.prune.keep_ratio={keep}", "hydra.run.dir=alone", "store.folder=null")
        alone = read_trial(Path("alone"))
        assert alone.records.equals(trial.records)
        shutil.rmtree("alone")


def test_a_folder_that_holds_another_sweep_is_not_used_again(run) -> None:
    arguments = ("-m", "benchmark.limit=2", "hydra.sweep.dir=mine")
    assert run(*arguments, "reducer=none,random")[0] == 0
    refused = "prunesweep: mine already holds another sweep; choose another hydra.sweep.dir"
    assert run(*arguments, "reducer=none,fastv")[0] == refused
    assert run("-m", "benchmark.limit=3", "hydra.sweep.dir=mine", "reducer=none,random")[0] == refused


def test_a_folder_that_holds_another_run_is_not_used_again(run) -> None:
    arguments = ("benchmark.limit=2", "hydra.run.dir=mine")
    assert run(*arguments, "reducer=random")[0] == 0
    before = read_trial(Path("mine")).records
    assert run(*arguments, "reducer=fastv")[0] == "prunesweep: mine already holds another run; choose another hydra.run.dir"
    assert read_trial(Path("mine")).records.equals(before)
    assert run(*arguments, "reducer=random", "trainer.progress=false", "video.seconds=300")[0] == 0


def test_running_a_sweep_again_evaluates_nothing_and_adding_values_only_what_is_new(run) -> None:
    sweep = ("-m", "reducer=none,random", "benchmark.limit=4")
    assert "store  " not in run(*sweep, "hydra.sweep.dir=first")[1]
    _, out, _ = run(*sweep, "hydra.sweep.dir=second")
    assert "8 of 8 records were in store" in out
    _, out, _ = run("-m", "reducer=none,random,fastv", "benchmark.limit=6", "hydra.sweep.dir=more")
    assert "8 of 18 records were in store" in out
    for number in ("0", "1"):
        first, second = (Path(folder) / number / "records.parquet" for folder in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()
    assert "store  " not in run(*sweep, "hydra.sweep.dir=third", "store.folder=null")[1]


def test_a_sweep_that_is_run_again_in_its_own_folder_is_resumed(run) -> None:
    sweep = ("-m", "reducer=none,random", "benchmark.limit=2", "hydra.sweep.dir=mine")
    assert run(*sweep, wandb=True)[0] == 0
    shutil.rmtree("mine/1")  # as if it had been killed before the second was delivered
    before = Path("mine/0/records.parquet").read_bytes()
    code, out, _ = run(*sweep, "retry_errors=true", wandb=True)
    assert code == 0
    assert "4 of 4 records were in store" in out
    assert len(read_trials(Path("mine"))) == 2
    assert Path("mine/0/records.parquet").read_bytes() == before
    assert len(list(Path("mine").rglob("*.wandb"))) == 3, "a run that is made again replaces the one before"


def test_a_named_sweep_with_several_grids(run) -> None:
    code, out, _ = run("--config-dir", str(ROOT / "sweeps"), "--config-name", "demo", "benchmark.limit=4")
    assert code == 0
    trials = read_trials(only_folder("multirun/*/*"))
    assert {t.info.reducer for t in trials} == {"none", "random", "prunevid"}
    assert len(trials) == len({t.info.name for t in trials}) == 29
    dense = next(line for line in out.splitlines() if re.match(r"\d* *none ", line))
    assert "1.000x" in dense


def test_wandb_gets_one_run_per_trial_and_one_for_the_sweep(run) -> None:
    code, out, _ = run("-m", "reducer=none,random", "benchmark.limit=4", wandb=True)
    assert code == 0
    sweep = only_folder("multirun/*/*")
    assert len(list(sweep.glob("wandb/offline-run-*/*.wandb"))) == 3
    assert f"W&B         3 runs offline; wandb sync {sweep.relative_to(Path.cwd())}/wandb/offline-run-* uploads them" in out


def test_a_sweep_without_the_key_it_needs_goes_on(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    code, out, _ = run("reducer=random", "benchmark.limit=2", "hydra.run.dir=out", wandb=True)
    assert code == 0
    assert "W&B         1 run offline; wandb sync out/wandb/offline-run-* uploads them (W&B said: UsageError: No API key" in out
    assert read_trial(Path("out")).records["correct"].null_count() == 0


def test_wandb_mode_beats_the_configuration(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    code, _, _ = run("-m", "reducer=none,random", "benchmark.limit=2", "logger.mode=offline", wandb=True)
    assert code == 0
    assert not list(Path.cwd().rglob("*.wandb"))


def test_generation_instead_of_scoring(run) -> None:
    code, _, _ = run("protocol=generate", "protocol.most_tokens=3", "benchmark.limit=4", "hydra.run.dir=out")
    assert code == 0
    assert read_trial(Path("out")).records["generated_tokens"].max() <= 3
    assert read_trial(Path("out")).records["generated_tokens"].min() >= 1


def broken_benchmark(folder: Path, good: Path) -> Path:
    """Two questions on a good video, one each on a missing, a truncated and a text file."""
    folder.mkdir()
    shutil.copy(good, folder / "good.mp4")
    (folder / "cut.mp4").write_bytes(good.read_bytes()[:2000])
    (folder / "text.mp4").write_text("hello")
    videos = ("good.mp4", "good.mp4", "gone.mp4", "cut.mp4", "text.mp4")
    lines = [{"video": v, "question": "what moves ?", "choices": ["red", "blue"], "answer": "red"} for v in videos]
    (folder / "questions.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return folder


def test_unreadable_videos_become_records_and_the_sweep_goes_on(run, samples, tmp_path: Path) -> None:
    folder = broken_benchmark(tmp_path / "mine", samples[0].path)
    code, out, err = run("-m", "reducer=none,random", f"benchmark.path={folder}")
    assert (code, unplanned(err)) == (0, "")
    for trial in read_trials(only_folder("multirun/*/*")):
        assert trial.records["correct"].is_null().to_list() == [False, False, True, True, True]
        assert trial.records["error"].is_null().to_list() == [True, True, False, False, False]
    assert "(n=2)" in out
    assert "3 samples without an answer:" in out
    for name in ("gone.mp4: no such file", "cut.mp4: not a readable video", "text.mp4: not a readable video"):
        assert name in out


def test_a_trial_without_any_answer_ends_the_sweep_with_an_error_when_all_is_written(run) -> None:
    code, out, _ = run("-m", "reducer=pooling", "reducer.merge.rows=1,99")
    assert code == "prunesweep: 1 of 2 trials have no answer at all: pooling rows=99; the reasons are above"
    assert ": ValueError: frames, rows and columns must fit into " in out
    assert re.search(r"\(20 answers of 1 trial: pooling rows=99\)$", out, re.MULTILINE)
    sweep = only_folder("multirun/*/*")
    assert [set(t.records["error"].is_null()) for t in read_trials(sweep)] == [{True}, {False}]
    assert pl.read_csv(sweep / "summary.csv")["errors"].to_list() == [0, 20]
    assert (sweep / "pareto.png").exists()


def test_a_benchmark_without_any_readable_video_ends_with_an_error(run, samples, tmp_path: Path) -> None:
    folder = broken_benchmark(tmp_path / "mine", samples[0].path)
    (folder / "good.mp4").unlink()
    code, _, _ = run(f"benchmark.path={folder}")
    assert code == "prunesweep: no sample could be evaluated; the reasons are listed above"


BAD_INPUT = {
    "retry maybe": (["retry_errors=maybe"], r"retry_errors must be true or false, got 'maybe'"),
    "strategy": (["trainer.strategy=ddp"], r"trainer.strategy and trainer.num_nodes are not settings: ranks are spawned"),
    "nodes": (["+trainer.num_nodes=2"], r"trainer.strategy and trainer.num_nodes are not settings: ranks are spawned"),
    "store in a file": (["store.folder=/etc/hostname"], r"/etc/hostname is a file; set store.folder to a folder"),
    "store among other things": (["store.folder=/etc"], r"/etc holds other things than a store; set store.folder"),
    "unknown reducer": (
        ["reducer=prunvid"],
        r"unknown reducer 'prunvid'; did you mean prunevid\? known: .*fastv, .*frames, .*none, .*random_layer",
    ),
    "unknown model": (["model=tinny"], r"unknown model 'tinny'; did you mean tiny\? known: auto, .*llava_onevision_0_5b, .*tiny"),
    "unknown benchmark": (["benchmark=bloks"], r"unknown benchmark 'bloks'; did you mean blocks\? known: blocks, .*jsonl"),
    "unknown protocol's name": (["protocol=choos"], r"unknown protocol 'choos'; did you mean choose\?"),
    "unknown launcher": (["hydra/launcher=jolib"], r"unknown hydra/launcher 'jolib'; did you mean joblib\?"),
    "unknown sweeper": (["-m", "hydra/sweeper=grid"], r"unknown hydra/sweeper 'grid'; did you mean grids\?"),
    "unknown reducer in a grid": (
        ["-m", "hydra/sweeper=grids", "hydra.sweeper.grids=[{reducer: prunevidd}]"],
        r"unknown reducer 'prunevidd'; did you mean prunevid\?",
    ),
    "a folder for a benchmark": (["benchmark=/tmp/x"], r"unknown benchmark '/tmp/x'; .*given as benchmark.path=/tmp/x$"),
    "no logger": (["logger=null"], r"unknown logger 'null'; did you mean none\?"),
    "a number for a choice": (["video=16"], r"unknown video '16'; known: uniform"),
    "benchmarks as a list": (["benchmark=[blocks,jsonl]"], r"to run one after the other: -m benchmark=blocks,jsonl$"),
    "benchmarks as a list in a grid": (
        ["-m", "hydra/sweeper=grids", "hydra.sweeper.grids=[{benchmark: '[blocks,jsonl]'}]"],
        r"benchmark takes one choice at a time",
    ),
    "unknown key": (
        ["reducer.prune.keep=1"],
        r"no key 'reducer.prune.keep' with these choices of groups; did you mean reducer.prune.keep_ratio\?",
    ),
    "keep ratio 0": (["reducer.prune.keep_ratio=0"], r"reducer.prune: keep_ratio must be in \(0, 1\], got 0"),
    "keep ratio 1.4": (["reducer.prune.keep_ratio=1.4"], r"reducer.prune: keep_ratio must be in \(0, 1\], got 1.4"),
    "keep ratio of a word": (["reducer.prune.keep_ratio=much"], r"keep_ratio must be a number, got 'much'"),
    "layer of a fraction": (["reducer.prune.layer=2.5"], r"layer must be a whole number, got 2.5"),
    "layer beyond the model": (
        ["reducer.prune.layer=8"],
        r"reducer.prune.layer must be in \[1, 7\] for tiny with 8 layers, got 8",
    ),
    "layer 0": (["reducer.prune.layer=0"], r"reducer.prune: layer must be at least 1, got 0"),
    "missing checkpoint": (["model.checkpoint=/no/such"], r"checkpoint folder '/no/such' does not exist; set model.checkpoint"),
    "missing benchmark": (
        ["benchmark=jsonl", "benchmark.path=/no/such.jsonl"],
        r"benchmark file '/no/such.jsonl' does not exist",
    ),
    "benchmark without path": (["benchmark=jsonl"], r"benchmark.path must be given: benchmark.path=..."),
    "no frames": (["video.frames=0"], r"video.frames must be at least 1, got 0"),
    "no released counterpart": (
        ["reducer=prunevid_official", "video.frames=6"],
        r"as released has no counterpart: .* at least neighbours=7 frames, got 6; use reducer=prunevid",
    ),
    "unknown protocol": (["protocol.style=numbers"], r"protocol.style must be one of words, letters, got 'numbers'"),
    "limit of a word": (["benchmark.limit=abc"], r"benchmark.limit must be a whole number, got 'abc'"),
    "share maybe": (["engine.share=maybe"], r"engine.share must be true or false, got 'maybe'"),
    "key of another benchmark": (["benchmark.path=x"], r"no key 'benchmark.path' with these choices of groups"),
    "unknown accelerator": (
        ["trainer.accelerator=abacus"],
        r"trainer.accelerator must be one of auto, cpu, cuda, gpu, mps, got 'abacus'",
    ),
    "a slip of Hydra's": (["+hydra.run.dri=foo"], r"no key 'hydra.run.dri'; did you mean hydra.run.dir\?"),
    "a slip of a sweep's": (["-m", "+hydra.sweep.dri=foo"], r"no key 'hydra.sweep.dri'; did you mean hydra.sweep.dir\?"),
    "a slip of a launcher's": (
        ["-m", "hydra/launcher=joblib", "+hydra.launcher.jbos=2"],
        r"no key 'hydra.launcher.jbos'; did you mean hydra.launcher.jobs\?",
    ),
    "limit 0": (["benchmark.limit=0"], r"benchmark.limit must be at least 1, got 0"),
    "protocol with subtitles": (
        ["protocol=videomme_subtitles"],
        r"protocol reads subtitles, and benchmark.subtitles is none",
    ),
    "subtitles that go nowhere": (
        ["benchmark=videomme", "benchmark.path=x", "benchmark.subtitles=all", "protocol=choose"],
        r"benchmark.subtitles=all, but the protocol puts them nowhere",
    ),
    "a sweep as an experiment": (["+experiment=demo"], r"no key 'experiment' with .*prunesweep sweep NAME"),
    "a slip behind a plus": (["+benchmark.limt=4"], r"no key 'benchmark.limt' with .*did you mean benchmark.limit\?"),
    "a slip": (["benchmark.limt=4"], r"no key 'benchmark.limt' with .*did you mean benchmark.limit\?"),
    "choices as a list": (["reducer=[none,prunevid]"], r"to run one after the other: -m reducer=none,prunevid"),
    "a setting that a method lacks": (
        ["reducer=none", "reducer.prune.keep_ratio=0.4"],
        r"reducer=none lacks it, prunevid, fastv, .*have it; .*hydra/sweeper=grids",
    ),
    "a setting put where a method has no part": (
        ["reducer=none", "+reducer.prune.keep_ratio=0.4"],
        r"reducer=none has no prune, so that reducer.prune's settings have no effect; .*hydra/sweeper=grids",
    ),
    "a setting that a part has under a longer name": (
        ["+reducer.prune.keep=1"],
        r"reducer.prune has no setting 'keep'; did you mean reducer.prune.keep_ratio\?",
    ),
    "a setting that a part does not take": (
        ["+reducer.merge.cluster_rati=1"],
        r"reducer.merge has no setting 'cluster_rati'; did you mean reducer.merge.cluster_ratio\?",
    ),
    "a benchmark's setting that its loader does not take": (
        ["+benchmark.load.limt=1"],
        r"has no setting 'limt'; did you mean .*limit\?",
    ),
    "a sampler of no search": (
        ["+sampler=tpe"],
        r"this command has no sampler; a search has it: prunesweep search sampler=",
    ),
    "frames without their section": (["frames=0"], r"no key 'frames' .*did you mean video.frames\?"),
    "a folder for the store": (["store=/tmp/x"], r"a folder is given as store.folder=/tmp/x"),
    "a slip of a part that one of the methods lacks": (
        ["-m", "reducer=none,prunevid", "+reducer.prune.keep=0.4"],
        r"reducer=none has no prune, .*did you mean reducer.prune.keep_ratio\? prunevid, .*hydra/sweeper=grids",
    ),
    "match without a cost": (["reducer.match=0.3"], r"reducer.match must be a cost and its share, such as .*, got 0.3"),
    "no store's settings": (["store=null"], r"without a store: store.folder=null"),
    "cost that is not measured": (["-m", "analysis.cost=first_token_seconds"], r"is measured; set engine.measure=true"),
    "unknown cost": (["-m", "analysis.cost=joules", "reducer=none"], r"analysis.cost must be one of .*, got 'joules'"),
    "too many devices": (["trainer.devices=900"], r"trainer.devices must be at most \d+, the number of videos, got 900"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
@pytest.mark.parametrize("mode", [[], ["-m"]], ids=["run", "multirun"])
def test_bad_input_gets_one_line_and_a_failing_exit_code(run, name: str, mode: list[str]) -> None:
    arguments, message = BAD_INPUT[name]
    code, out, err = run(*dict.fromkeys([*mode, *arguments]), "logger=none", "trainer.progress=false", defaults=False)
    assert isinstance(code, str), f"exit code {code}, stderr {err}"
    assert code.startswith("prunesweep: ")
    assert "\n" not in code
    listed = [line for line in out.splitlines() if "the reasons are listed above" in code]
    assert any(re.search(message, line) for line in [code, *listed]), code
    assert unplanned(err) == ""


@pytest.mark.parametrize(
    ("gone", "what"),
    [("processor_config.json", "the processor"), ("tokenizer.json", "the tokenizer"), ("model.safetensors", "weights")],
)
def test_a_checkpoint_folder_that_lacks_a_part_is_refused(run, checkpoint: Path, tmp_path: Path, gone: str, what: str) -> None:
    folder = tmp_path / "incomplete"
    shutil.copytree(checkpoint, folder, ignore=lambda *_: [gone])
    code, _, _ = run(f"model.checkpoint={folder}")
    assert isinstance(code, str)
    assert what in code
    assert str(folder) in code


def test_a_checkpoint_that_lacks_weights_is_refused_instead_of_filled_up(run, checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(checkpoint, folder)
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if ".layers.3." not in name or "language_model" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    code, _, err = run(f"model.checkpoint={folder}")
    assert f"lacks {len(weights) - len(kept)} of the model's weights" in str(code)
    assert "Traceback" not in err
    (folder / "model.safetensors").write_bytes(b"garbage")
    assert "cannot load checkpoint" in str(run(f"model.checkpoint={folder}")[0])


def test_a_checkpoint_of_another_family_is_refused(run, checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "qwen2"}))
    code, _, _ = run(f"model.checkpoint={folder}")
    assert "holds a qwen2 model, expected llava_onevision" in str(code)


def test_a_search_checks_its_objectives_and_first_settings_before_it_evaluates(run) -> None:
    search = ("--config-dir", str(ROOT / "sweeps"), "--config-name", "search")
    assert "unknown objective 'speed'" in str(run(*search, "+hydra.sweeper.objectives.speed=maximize")[0])
    assert "which is not in hydra.sweeper.space" in str(run(*search, "hydra.sweeper.first=[{reducer.prune.lair: 1}]")[0])


def test_the_installed_command_prints_one_line_and_fails(tmp_path: Path) -> None:
    executable = Path(sys.executable).with_name("prunesweep")
    done = subprocess.run(
        [executable, "reducer=nothing"], cwd=tmp_path, capture_output=True, text=True, timeout=120, env=os.environ
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.strip() == f"prunesweep: unknown reducer 'nothing'; known: {', '.join(REDUCERS)}"


def test_the_shipped_model_answers_and_pruning_it_costs_accuracy_and_flops(run) -> None:
    arguments = ("-m", "reducer=none,random", "benchmark.limit=100", "logger=none", "trainer.progress=false")
    code, _, _ = run(*arguments, defaults=False)
    assert code == 0
    rows = {row["trial"]: row for row in pl.read_parquet(only_folder("multirun/*/*") / "summary.parquet").iter_rows(named=True)}
    assert rows["none"]["samples"] == 100
    assert rows["none"]["accuracy"] > 0.9
    assert rows["random"]["accuracy"] < rows["none"]["accuracy"] - 0.1
    assert rows["random"]["llm_flops_ratio"] < 0.2


def test_own_videos_are_a_benchmark_named_after_their_folder(run, benchmark_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(benchmark_folder, tmp_path / "other")
    for path in (benchmark_folder, tmp_path / "other"):
        assert run(f"benchmark.path={path}", "reducer=none", "store.folder=s")[0] == 0
    found = read_outcomes(Path("s"))
    assert sorted(one.benchmark for one in found) == sorted([benchmark_folder.name, "other"])
    assert [len(one.samples) for one in found] == [20, 20]
    assert all(info.versions["torch"] == version("torch") for one in found for info in one.infos)
    assert "records made with" in dict(report_data(found, Path("s"))["provenance"])


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    """Settings are checked, and a sweep says what it is about to do, before seconds of imports."""
    code = """
import importlib, pkgutil, sys
for package in ("prunesweep.reducers", "prunesweep.benchmarks"):
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")
from prunesweep.engine import latency, stages
from prunesweep.cli import callbacks
from prunesweep.sweep import ahead, configs, remote
print(*[name for name in ("torch", "transformers", "lightning", "wandb", "matplotlib", "optuna") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
