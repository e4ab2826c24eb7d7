"""Searches on a small random model, by the command."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import optuna
import polars as pl
import pytest
from omegaconf import OmegaConf
from optuna.trial import TrialState

from prunesweep.results.records import read_trial, read_trials
from prunesweep.results.timing import read_timing
from prunesweep.search import study as proposals
from prunesweep.search.report import outcome
from prunesweep.search.study import open_storage
from support import forks
from support.places import ROOT, only_folder
from support.searches import (
    KEEP,
    LAYER,
)


def real(*arguments: str, trials: int, folder: str = "s") -> tuple[str, ...]:
    own = (f"hydra.sweeper.trials={trials}", f"hydra.sweep.dir={folder}", *arguments)
    return ("--config-dir", str(ROOT / "sweeps"), "--config-name", "search", *own)


def test_a_real_search_has_its_numbers_from_the_records_and_evaluates_nothing_twice(run) -> None:
    code, out, _ = run(*real("benchmark.limit=4", trials=6))
    assert code == 0
    assert "search: 6 proposals: 6 complete" in out
    sweep = Path.cwd() / "s"
    study = optuna.load_study(study_name="prunesweep", storage=open_storage(None, sweep))
    assert study.directions == [optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE]
    summary = {row["trial"]: row for row in pl.read_parquet(sweep / "summary.parquet").iter_rows(named=True)}
    own = [t for t in study.trials if proposals.is_own(t)]
    told = [t.user_attrs[proposals.TOLD_FROM] for t in study.trials if not proposals.is_own(t)]
    assert told == ["baseline-paper"], "its defaults lie in the space"
    assert {p.name for p in sweep.iterdir() if p.is_dir() and p.name[0].isdigit()} == {str(t.number) for t in own}
    for proposed in own:
        trial = read_trial(sweep / str(proposed.number))
        row = summary[trial.info.name]
        assert proposed.values == [row["accuracy"], row["llm_flops_ratio"]]
        assert trial.info.settings["reducer"]["prune"]["layer"] == proposed.params[LAYER]
        assert trial.info.settings["reducer"]["merge"]["cluster_ratio"] == proposed.params["reducer.merge.cluster_ratio"]
    before = {path: path.read_bytes() for path in sweep.glob("*/records.parquet")}
    code, out, _ = run(*real("benchmark.limit=4", trials=6))
    assert (code, read_timing(sweep)) == (0, [])
    assert {path: path.read_bytes() for path in sweep.glob("*/records.parquet")} == before


def test_the_latest_search_starts_another_one_and_is_gone_on_with(run, tmp_path: Path) -> None:
    space = f"+hydra.sweeper.space={{{KEEP}: 'interval(0.1,0.9)'}}"
    named = ("-m", "hydra/sweeper=search", "+sampler=random", space, "benchmark.limit=2")
    assert "there is no multirun/latest" in str(run(*named, "hydra.sweeper.warm_start=[latest]")[0])
    assert run(*named, "hydra.sweeper.trials=2")[0] == 0
    first = only_folder("multirun/*/*")
    code, _, err = run(*named, "hydra.sweeper.trials=1", "hydra.sweeper.warm_start=[latest]", "hydra.sweeper.seed=1")
    assert code == 0, err
    second = (tmp_path / "multirun" / "latest").resolve()
    assert second != first
    assert OmegaConf.load(second / "multirun.yaml").hydra.sweeper.warm_start == [str(first.relative_to(tmp_path))]
    sources = pl.read_parquet(second / "search.parquet")["from"].drop_nulls().to_list()
    assert len(sources) == 2
    assert all(first.name in source for source in sources)
    code, out, err = run(*named, "hydra.sweeper.trials=3", "hydra.sweeper.seed=1", "hydra.sweep.dir=latest")
    assert code == 0, err
    assert "search: 3 proposals" in out
    assert len(read_trials(second)) == 3
    assert not (tmp_path / "latest").exists()


def test_a_real_race_stops_trials_that_carry_their_interval(run) -> None:
    """An alpha near 1 stops whatever is behind, so that twenty questions are enough."""
    arguments = ("sampler=random", "race.rounds=5", "race.alpha=0.95")
    code, out, _ = run(*real(*arguments, trials=4))
    assert code == 0
    study = optuna.load_study(study_name="prunesweep", storage=open_storage(None, Path("s")))
    stopped = [t for t in study.trials if outcome(t) == proposals.STOPPED]
    assert stopped
    made = [entry["evaluated"] for entry in read_timing(Path("s"))]
    assert sum(made) == sum(len(trial.records) for trial in read_trials(Path("s")))
    assert not any(entry["reused"] for entry in read_timing(Path("s")))  # what an earlier round made is not found again
    assert f"{len(stopped)} {proposals.STOPPED}" in out
    for proposed in stopped:
        trial = read_trial(Path("s") / str(proposed.number))
        assert trial.info.stopped.samples == len(trial.records) < trial.info.stopped.planned == 20
        assert trial.info.stopped.accuracy_low <= trial.records["correct"].mean() <= trial.info.stopped.accuracy_high
        assert proposed.state == TrialState.PRUNED


def test_sigterm_ends_a_search_cleanly_and_it_goes_on(run, checkpoint: Path, benchmark_folder: Path, tmp_path: Path) -> None:
    given = [f"model.checkpoint={checkpoint}", "benchmark=jsonl", f"benchmark.path={benchmark_folder}", "model.frames=8"]
    arguments = [*real("trainer.progress=false", "logger=none", "hydra.sweeper.batch=2", trials=60), *given]
    process = forks.start(arguments, tmp_path, tmp_path / "log")
    wait_for(lambda: (tmp_path / "s/2/records.parquet").exists() or process.exitcode is not None)
    process.terminate()
    process.join(forks.PATIENCE)
    err = (tmp_path / "log").read_text()
    assert process.exitcode == 1, err
    assert "prunesweep: interrupted; what was finished is in the store, and the same command goes on from there" in err
    assert "Traceback" not in err
    study = optuna.load_study(study_name="prunesweep", storage=open_storage(None, tmp_path / "s"))
    assert not study.get_trials(states=(TrialState.RUNNING,))
    begun = [t.params for t in study.trials]
    code, _, _ = run(*real("hydra.sweeper.batch=2", trials=max(len(begun), 4)))
    assert code == 0
    study = optuna.load_study(study_name="prunesweep", storage=open_storage(None, tmp_path / "s"))
    assert {t.state for t in study.trials} == {TrialState.COMPLETE}
    assert [t.params for t in study.trials][: len(begun)] == begun


def wait_for(there: Callable[[], bool], seconds: float = 900) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def test_the_stock_optuna_sweeper_works_with_our_launcher(run) -> None:
    """`pip install --no-deps hydra-optuna-sweeper`; with its dependencies it would bring an Optuna of 2021."""
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="hydra-optuna-sweeper is not installed")
    code, _, _ = run(
        "-m",
        "hydra/sweeper=optuna",
        "hydra.sweeper.direction=[maximize,minimize]",
        "hydra.sweeper.n_trials=4",
        "hydra.sweeper.n_jobs=2",
        "hydra.sweeper.sampler.seed=1",
        "hydra.sweep.dir=s",
        "reducer.prune.layer=choice(1,2,3)",
        "reducer.prune.keep_ratio=interval(0.1,0.9)",
    )
    assert code == 0
    solutions = OmegaConf.load("s/optimization_results.yaml").solutions
    trials = [read_trial(Path("s") / str(number)) for number in range(4)]
    values = {(row["accuracy"], row["llm_flops_ratio"]) for row in pl.read_parquet("s/summary.parquet").iter_rows(named=True)}
    assert len(trials) == len(values) == 4
    assert {tuple(solution["values"]) for solution in solutions} <= values
    code, _, _ = run("-m", "hydra/sweeper=optuna", "analysis.returned=[speed]", "reducer.prune.layer=choice(1,2)")
    assert "unknown objective 'speed' in analysis.returned" in str(code)
