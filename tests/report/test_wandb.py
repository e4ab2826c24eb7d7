"""Weights & Biases: runs hold what the records say, W&B's own reader sees it, and no outage reaches a sweep."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from prunesweep.analysis.ablation import importances
from prunesweep.analysis.outcomes import read_outcomes
from prunesweep.analysis.table import summarize
from prunesweep.cli import app
from prunesweep.report import wandb, wandb_process
from prunesweep.report.given import FOLDER, KEY, keep
from prunesweep.report.wandb import Destination
from prunesweep.results.records import Trial, TrialInfo, read_trials, write_trial
from support.places import CONF
from support.records import drawn, grid_trials, made

SECRET, HOME = "sk-very-secret", "/home/me/models"
NOWHERE = "http://127.0.0.1:9"
"""The port of the discard service: connections are refused at once."""


@pytest.fixture(autouse=True)
def _own_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No account, nothing of this machine's W&B."""
    for name in ("WANDB_API_KEY", "WANDB_PROJECT", "WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_BASE_URL", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("DATA", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "wandb-home" / name))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))


def stored(sweep: Path, trials: list[Trial]) -> Path:
    for index, one in enumerate(trials):
        write_trial(sweep / str(index), one.info, one.records)
    return sweep


def command(*arguments: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["prunesweep", "wandb", *map(str, arguments)])
        app.main()


def runs(folder: Path) -> list[Path]:
    return sorted(folder.glob("wandb/offline-run-*"))


def read(run: Path) -> list[dict]:
    """The run's records as `wandb leet inspect` prints them."""
    done = subprocess.run([sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)], capture_output=True, text=True)
    if "No such command" in done.stderr:
        pytest.skip("this version of wandb has no `leet inspect`, which reads runs back")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def only(records: list[dict], kind: str) -> list[dict]:
    return [record[kind] for record in records if record["type"] == kind]


def by_name(folder: Path) -> dict[str, list[dict]]:
    found = map(read, runs(folder))
    return {only(records, "run")[0]["display_name"]: records for records in found}


def logged(records: list[dict]) -> dict:
    return {key: value for item in only(records, "history") for key, value in item["item"].items()}


def test_runs_read_back_by_wandb_hold_what_the_records_say(tmp_path: Path) -> None:
    from PIL import Image

    sweep = stored(tmp_path / "2026-01-02" / "03-04-05", drawn(3))
    (sweep / "tokens").mkdir()
    Image.new("RGB", (8, 8)).save(sweep / "tokens" / "q_stages.png")
    (sweep / "timing.jsonl").write_text('{"seconds": {"LLM": 1.5}}\n{"seconds": {"LLM": 2.0, "records": 0.5}}\n')
    command(sweep)
    found = by_name(sweep)
    trials = read_trials(sweep)
    assert sorted(found) == sorted([*(trial.info.name for trial in trials), "summary"])
    for trial in trials:
        (run,), values, summary = only(found[trial.info.name], "run"), logged(found[trial.info.name]), summarize(trial)
        assert (run["run_group"], run["project"], run.get("host", "")) == ("2026-01-02-03-04-05", "prunesweep", "")
        config = run["config"]["update"]
        assert config["reducer"] == trial.info.settings["reducer"]
        task, *_ = trial.records["task"]
        right = trial.records.filter(pl.col("task") == task)["correct"].drop_nulls()
        assert values[f"task/{task}/mean"] == pytest.approx(right.sum() / len(right))
        for name in ("accuracy", "accuracy_error", "samples", "llm_flops_ratio", "total_flops", "kv_bytes", "fastv_flops_ratio"):
            assert values[name] == pytest.approx(getattr(summary, name))
    values = logged(found["summary"])
    assert (values["seconds/LLM"], values["trials"]) == (3.5, 3)
    assert values["report._type"] == "html-file"
    assert values["trials._type"] == "table-file"
    assert values["tokens/q_stages._type"] == "image-file"
    (table,) = sweep.glob("wandb/offline-run-*/files/media/table/trials_*.table.json")
    content = json.loads(table.read_text())
    accuracy = content["columns"].index("accuracy")
    (outcomes,) = read_outcomes(sweep)
    assert sorted(row[accuracy] for row in content["data"]) == pytest.approx(sorted(r.accuracy for r in outcomes.table))
    artifacts = {
        a["name"]: a for records in found.values() for a in only(records, "artifact") if a["type"] in ("records", "results")
    }
    (results,) = (a for a in artifacts.values() if a["type"] == "results")
    lineage = json.loads(results["metadata"])["records"]
    assert lineage == {name: a["digest"] for name, a in artifacts.items() if a["type"] == "records"}
    assert len(lineage) == 3


def test_the_summary_shows_importance_and_parallel_coordinates(tmp_path: Path) -> None:
    levels = {"layer": [1, 2, 3, 4], "keep": [0.2, 0.4, 0.6]}
    sweep = stored(tmp_path / "sweep", grid_trials(levels, lambda layer, keep: 0.3 + 0.15 * layer + 0.02 * keep))
    (outcomes,) = read_outcomes(sweep)
    where = Destination("p", "offline", "g", sweep)
    wandb.publish_sweep(sweep, iter([]), [outcomes], where)
    values = logged(read(runs(sweep)[0]))
    assert values["parallel_coordinates prunevid._type"] == "image-file"
    assert values["effects prunevid._type"] == "image-file"
    (expected,) = [one for one in importances(outcomes) if one.reducer == "prunevid"]
    (table,) = sweep.glob("wandb/offline-run-*/files/media/table/importance prunevid*.json")
    assert dict(json.loads(table.read_text())["data"]) == pytest.approx(expected.shares)


def test_making_runs_again_replaces_them(tmp_path: Path) -> None:
    sweep = stored(tmp_path / "sweep", [made("none", "+-+-")])
    command(sweep)
    first = [path.name.rpartition("-")[2] for path in runs(sweep)]
    command(sweep)
    assert sorted(path.name.rpartition("-")[2] for path in runs(sweep)) == sorted(first)
    assert len(first) == 2


def test_secrets_and_folders_of_this_machine_stay_here(tmp_path: Path) -> None:
    trials = []
    for one in drawn(2):
        overrides = (f"model.checkpoint={HOME}/7b", f"judge.api_key={SECRET}")
        settings = {**one.info.settings, "judge": {"api_key": SECRET}, "path": f"{HOME}/x"}
        info = TrialInfo(
            **{**vars(one.info), "name": f"{one.info.name} path={HOME}/x", "overrides": overrides, "settings": settings}
        )
        lost = pl.format("VideoError: {}", pl.lit(f"{HOME}/clip.mp4 is gone"))
        video, name = pl.format(f"{HOME}/{{}}", pl.col("video_id")), pl.format("lost {}", pl.col("sample_id"))
        records = one.records.with_columns(error=lost, video_id=video, sample_id=name)
        trials.append(one._replace(info=info, records=pl.concat([one.records, records.with_columns(correct=None)])))
    sweep = stored(tmp_path / "sweep", trials)
    command(sweep)
    for run in runs(sweep):
        told = [record for record in read(run) if record["type"] not in ("artifact", "files")]
        assert str(tmp_path) not in json.dumps(told)
    kept = [path for path in (*sweep.rglob("wandb/**/*"), *tmp_path.rglob("wandb-home/**/*")) if path.is_file()]
    for path in kept:
        content = path.read_bytes()
        if content[:4] == b"PAR1":
            content = pl.read_parquet(path).write_ndjson().encode()
        assert SECRET.encode() not in content, path
        assert HOME.encode() not in content, path
    assert any(path.suffix == ".wandb" for path in kept)


def test_a_run_says_of_which_preset_its_setting_is(tmp_path: Path) -> None:
    """As text: the file is somebody's, and may hold a folder of theirs or what a terminal obeys."""
    one, other = drawn(2)
    own = one._replace(info=replace(one.info, overrides=("reducer=fastv", "reducer.prune.layer=2", "benchmark.limit=3")))
    sweep = stored(tmp_path / "sweep", [own, other])
    preset = {
        **{KEY: 1, "model": one.info.model, "overrides": ["reducer=fastv", "reducer.prune.layer=2"]},
        "statement": f"fastv in {HOME}/x: within <b>1 point\x1b[2J",
    }
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(preset))
    keep([str(file)], sweep)
    first, second = (wandb.trial_content(trial, summarize(trial)).config for trial in read_trials(sweep))
    (copy,) = (sweep / FOLDER).glob("mine-*.yaml")
    assert first["preset"].pop("fingerprint").startswith(copy.stem.removeprefix("mine-"))
    assert first["preset"] == {"name": "fastv prune.layer=2", "statement": "fastv in x: within <b>1 point\\x1b[2J"}
    assert "preset" not in second
    file.write_text("[")
    with pytest.raises(ValueError, match=r"mine\.yaml"):
        keep([str(file)], sweep)


def test_a_store_is_published_too(tmp_path: Path) -> None:
    from support.records import store_of

    store = store_of(tmp_path / "store", drawn(2))
    command(store.folder, "--out", tmp_path / "out")
    names = {only(read(run), "run")[0]["display_name"] for run in runs(tmp_path / "out")}
    assert len(names) == 3
    assert "summary" in names


def test_the_command_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="does not exist; name the folder of a sweep"):
        command(tmp_path / "none")
    with pytest.raises(SystemExit, match="holds no finished trial"):
        command(tmp_path)
    sweep = stored(tmp_path / "sweep", [made("none", "+-")])
    with pytest.raises(SystemExit, match="No API key configured.*--mode offline keeps"):
        command(sweep, "--mode", "online")
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(SystemExit, match="must be one of online, offline, disabled, got 'sometimes'"):
        command(sweep)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with pytest.raises(SystemExit, match="WANDB_MODE=disabled: nothing to do"):
        command(sweep)
    assert not runs(sweep)


# Beside a sweep


def beside(sweep: Path, mode: str, wait: float) -> tuple[str, float, float]:
    """What the reporter says at the end, the seconds that telling it took, and those of waiting for it."""
    reporter = wandb_process.Reporter(Destination("p", mode, "g", sweep), wait)
    begin = time.monotonic()
    for folder in sorted(sweep.glob("[0-9]*")):
        reporter.trial(folder)
    reporter.summary(sweep, "llm_flops_ratio")
    told = time.monotonic()
    said = reporter.finish()
    return said, told - begin, time.monotonic() - told


def test_without_a_key_runs_are_kept_offline(tmp_path: Path) -> None:
    sweep = stored(tmp_path / "sweep", drawn(2))
    said, telling, _ = beside(sweep, "online", 60)
    assert said.startswith(
        f"3 runs offline; wandb sync {sweep}/wandb/offline-run-* uploads them (W&B said: UsageError: No API key"
    )
    assert telling < 0.5
    assert len(runs(sweep)) == 3


def test_a_server_out_of_reach_costs_no_more_than_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", NOWHERE)
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    sweep = stored(tmp_path / "sweep", drawn(2))
    said, telling, waiting = beside(sweep, "online", 1)
    assert said == f"not all runs were made within logger.wait=1 s; prunesweep wandb {sweep} makes the runs from the records"
    assert telling < 0.5
    assert waiting < 5


def test_a_server_out_of_reach_is_given_up_for_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", NOWHERE)
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    sweep = stored(tmp_path / "sweep", drawn(3))
    said, _, waiting = beside(sweep, "online", 60)
    assert said.startswith("4 runs offline;")
    assert "connection refused" in said
    assert waiting < 40
    assert len(runs(sweep)) == 4


def test_a_broken_reporter_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "wandb.py").write_text("raise RuntimeError('no such thing')")
    sweep = stored(tmp_path / "sweep", [made("none", "+-")])
    said, *_ = beside(sweep, "offline", 60)
    again = f"prunesweep wandb {sweep} makes the runs from the records"
    assert said == f"no runs: W&B said: RuntimeError: no such thing; the records are not affected: {again}"


def test_a_sweep_without_a_finished_trial_has_no_runs_to_upload(run) -> None:
    code, out, _ = run("-m", "reducer=prunevid", "reducer.prune.layer=9", "benchmark.limit=2", wandb=True)
    assert str(code).startswith("prunesweep: no trial could be run; ")
    assert "W&B         no runs: no trial was finished\n" in out


def test_a_launcher_may_take_the_callback_along(tmp_path: Path) -> None:
    import pickle

    from prunesweep.cli.callbacks import SummaryCallback

    callback = SummaryCallback()
    callback.reporter = wandb_process.Reporter(Destination("p", "offline", "g", tmp_path), 60)
    assert pickle.loads(pickle.dumps(callback)).reporter is None
    assert callback.reporter.finish() == "no runs: no trial was finished"


def test_switched_off_nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def logger(**settings: object):
        return OmegaConf.create({"logger": {"project": "p", "mode": "offline", "group": None, "wait": 1, **settings}})

    assert wandb_process.reporter(logger(name="none"), tmp_path) is None
    assert wandb_process.reporter(logger(name="wandb", mode="disabled"), tmp_path) is None
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_process.reporter(logger(name="wandb", mode="online"), tmp_path) is None
    monkeypatch.delenv("WANDB_MODE")
    with pytest.raises(ValueError, match="got 'on'"):
        wandb_process.reporter(logger(name="wandb", mode="on"), tmp_path)


def test_an_agent_of_wandb_sweeps_names_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep123")
    monkeypatch.setenv("WANDB_RUN_ID", "proposal7")
    sweep = stored(tmp_path / "sweep", [made("none", "+-")])
    reporter = wandb_process.Reporter(Destination("p", "offline", "g", sweep), 60)
    reporter.trial(sweep / "0")
    assert reporter.finish().startswith("1 run offline")
    (header,) = only(read(*runs(sweep)), "run")
    assert (header["run_id"], header["sweep_id"]) == ("proposal7", "sweep123")


def test_the_sweep_of_wandb_drives_the_same_command() -> None:
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    config = yaml.safe_load((CONF.parent / "sweeps" / "wandb_sweep.yaml").read_text())
    proposal = {key: {"value": one.get("min", one.get("values", [None])[0])} for key, one in config["parameters"].items()}
    arguments = create_sweep_command_args({"args": proposal})["args_no_hyphens"]
    words = [
        w for word in create_sweep_command(config["command"]) for w in (arguments if word == "${args_no_hyphens}" else [word])
    ]
    assert words[:2] == ["${env}", "prunesweep"]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("eval", words[2:])
    assert composed.logger.mode == "online"
    for key, one in proposal.items():
        assert OmegaConf.select(composed, key) == one["value"]
    trial = made("none", "+-")
    assert config["metric"]["name"] in wandb.trial_content(trial, summarize(trial)).metrics
