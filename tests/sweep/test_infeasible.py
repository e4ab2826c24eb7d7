"""Trials that cannot be run are rows with their reason; the others of their sweep run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest
from hydra.core.global_hydra import GlobalHydra

from prunesweep.analysis.outcomes import read_outcomes
from prunesweep.cli import app
from prunesweep.report.html import report_data
from prunesweep.results.infeasible import INFEASIBLE, all_infeasible
from prunesweep.results.records import read_trials
from support.places import only_folder

OUT_OF_REACH = "fastv comes no closer to flops=0.1 than 0.2"


def test_a_cost_out_of_reach_of_one_method_is_a_row_and_the_others_run(run, capfd: pytest.CaptureFixture) -> None:
    grids = "hydra.sweeper.grids=[{reducer: 'random,fastv', reducer.match: '{flops:0.1}'}, {reducer: none}]"
    arguments = ("-m", "hydra/sweeper=grids", grids, "hydra.sweep.dir=sweep", "benchmark.limit=4")
    code, out, err = run(*arguments)
    assert code == 0, err
    assert [trial.info.reducer for trial in read_trials(Path("sweep"))] == ["random", "none"]
    (line,) = [line for line in out.splitlines() if re.match(r"\d+ +fastv", line)]
    assert "infeasible" in line
    assert "not run" in line
    assert "1 of 3 trials could not be run:\n  fastv match={flops:0.1}: fastv comes no closer to flops=0.1 than" in out
    table = pl.read_parquet("sweep/summary.parquet")
    assert table.equals(pl.read_csv("sweep/summary.csv", schema_overrides={"#": pl.String}))
    reasons = dict(table.select("reducer", "infeasible").iter_rows())
    assert reasons["random"] is reasons["none"] is None
    assert reasons["fastv"].startswith(OUT_OF_REACH)
    data = report_data(read_outcomes(Path("sweep")), Path("sweep"))
    assert [(one["name"], one["reason"][: len(OUT_OF_REACH)]) for one in data["notRun"]] == [
        ("fastv match={flops:0.1}", OUT_OF_REACH)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["prunesweep", "show", "sweep"])
        app.main()
    assert "1 of 3 trials could not be run" in capfd.readouterr().out
    code, again, _ = run(*arguments)  # the same sweep goes on
    assert code == 0
    assert "8 of 8 records were in store" in again
    assert "1 of 3 trials could not be run" in again


def test_a_method_without_a_free_setting_does_not_end_a_matched_sweep(run) -> None:
    """The recipe of the README with the dense model among the methods."""
    code, out, _ = run("-m", "reducer=none,random", "reducer.match={flops: 0.23}", "benchmark.limit=2")
    assert code == 0
    assert "none match={flops:0.23}: none has no free setting to be solved for reducer.match" in out


def test_a_layer_that_the_model_lacks_is_a_row_too(run) -> None:
    code, out, err = run("-m", "reducer=fastv", "reducer.prune.layer=2,8,9", "benchmark.limit=2")
    assert code == 0, err
    folder = only_folder("multirun/*/*")
    assert len(read_trials(folder)) == 1
    assert [one.reason for one in all_infeasible(folder)] == [
        f"reducer.prune.layer must be in [1, 7] for tiny with 8 layers, got {layer}" for layer in (8, 9)
    ]
    assert "2 of 3 trials could not be run" in out
    assert "plan        1 trial x 2 questions" in err, "said of what will run"


FEW = "PruneVid as released has no counterpart: its code clusters at least neighbours=7 frames, got 6"


def test_fewer_frames_than_a_method_can_have_are_a_row_too(run) -> None:
    code, out, err = run("-m", "reducer=none,prunevid_official", "video.frames=6,7", "benchmark.limit=2")
    assert code == 0, err
    folder = only_folder("multirun/*/*")
    assert [trial.info.name for trial in read_trials(folder)] == ["none frames=6", "none frames=7", "prunevid_official frames=7"]
    (row,) = all_infeasible(folder)
    assert row.line.startswith(f"prunevid_official frames=6: {FEW}")
    assert "1 of 4 trials could not be run" in out


@pytest.mark.parametrize("layer", ["4", "9"])
def test_the_ledger_refuses_what_a_run_refuses_in_the_same_words(
    run, layer: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    frames = "12" if layer == "9" else "6"
    common = ["reducer=prunevid_official", f"reducer.prune.layer={layer}", "model=tiny"]
    refused, _, _ = run(*common, f"video.frames={frames}", "benchmark.limit=2", "logger=none", defaults=False)
    GlobalHydra.instance().clear()
    monkeypatch.setattr("sys.argv", ["prunesweep", "cost", *common, f"frames={frames}", "merged=0.4"])
    with pytest.raises(SystemExit) as stop:
        app.main()
    assert str(stop.value.code) == refused
    bound = "reducer.prune.layer must be in [1, 6] for tiny with 8 layers, got 9"
    assert str(refused).startswith(f"prunesweep: {FEW if layer == '4' else bound}")


def test_a_sweep_of_which_nothing_can_be_run_ends_with_the_reasons(run) -> None:
    code, out, err = run("-m", "reducer=fastv", "reducer.prune.layer=8,9", "benchmark.limit=2")
    assert code == "prunesweep: no trial could be run; the reasons are listed above"
    assert "2 of 2 trials could not be run:\n  fastv layer=8: reducer.prune.layer must be in [1, 7]" in out
    assert "  fastv layer=9: " in out
    assert "Traceback" not in err
    code, _, _ = run("reducer=fastv", "reducer.match={flops:0.1}", "benchmark.limit=2")
    assert str(code).startswith(f"prunesweep: {OUT_OF_REACH}")


def test_a_matched_sweep_of_which_nothing_can_be_run_has_its_rows(run, capfd: pytest.CaptureFixture) -> None:
    arguments = ("-m", "reducer=fastv,none", "reducer.match={flops: 0.1}", "benchmark.limit=2", "hydra.sweep.dir=sweep")
    code, out, _ = run(*arguments)
    assert code == "prunesweep: no trial could be run; the reasons are listed above"
    table = pl.read_csv("sweep/summary.csv")
    assert dict(table.select("reducer", "infeasible").iter_rows())["fastv"].startswith(OUT_OF_REACH)
    for option in ([], ["--all"]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["prunesweep", "show", "sweep", *option])
            app.main()
        again = capfd.readouterr().out
        for said in (out, again):
            assert len(re.findall(r"(?m)^\s*\d+ +(?:fastv|none) .*infeasible.*not run", said)) == 2, said
            assert "2 of 2 trials could not be run:" in said
            assert f"  fastv match={{flops:0.1}}: {OUT_OF_REACH}" in said


def test_a_trial_that_has_become_feasible_is_no_row_any_more(run) -> None:
    arguments = ("-m", "reducer=fastv", "reducer.prune.layer=2,3", "benchmark.limit=2", "hydra.sweep.dir=sweep")
    assert run(*arguments)[0] == 0
    stale = {"name": "fastv layer=3", "reducer": "fastv", "model": "m", "benchmark": "b", "overrides": [], "reason": "old"}
    Path("sweep/1", INFEASIBLE).write_text(json.dumps(stale))
    assert all_infeasible(Path("sweep")) == [], "records speak"
    assert run(*arguments)[0] == 0
    assert not Path("sweep/1", INFEASIBLE).exists()


def test_a_search_goes_on_past_proposals_that_cannot_be_run(run) -> None:
    search = ("-m", "hydra/sweeper=search", "+sampler=grid", "hydra.sweeper.trials=2", "benchmark.limit=2")
    code, out, err = run(*search, "+hydra.sweeper.space={reducer.prune.layer: 'choice(2,8)'}", "hydra.sweep.dir=s")
    assert code == 0, err
    assert "search: 2 proposals: 1 complete, 1 infeasible" in out
    table = pl.read_csv("s/search.csv").filter(pl.col("outcome") == "infeasible")
    assert table["reason"].to_list() == ["reducer.prune.layer must be in [1, 7] for tiny with 8 layers, got 8"]
    baseline = "+hydra.sweeper.baselines={b: {reducer.prune.layer: 8}}"
    code, _, _ = run(*search, "+hydra.sweeper.space={reducer.prune.layer: 'choice(2,3)'}", baseline, "hydra.sweep.dir=t")
    assert "hydra.sweeper.baselines.b cannot be run: reducer.prune.layer must be in [1, 7]" in str(code)
