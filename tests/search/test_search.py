"""What a search does: every sampler, budgets, baselines, constraints and races, against a host that answers by formula."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from omegaconf import DictConfig, OmegaConf
from optuna.trial import TrialState

from prunesweep.analysis.table import rows_of
from prunesweep.results.records import read_trial, read_trials
from prunesweep.search import study as proposals
from prunesweep.search.loop import Search
from prunesweep.search.report import outcome, report
from support.places import ROOT
from support.searches import (
    BASELINES,
    KEEP,
    LAYER,
    ROWS,
    SPACE,
    Formula,
    params,
    plan,
    rightness,
    search,
)


def named_sampler(name: str, **more: Any) -> Any:
    """As Hydra makes it of conf/sampler/NAME.yaml."""
    from hydra.utils import instantiate

    return instantiate({**OmegaConf.load(ROOT / "conf" / "sampler" / f"{name}.yaml"), **more})


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "conf" / "sampler").glob("*.yaml")))
def test_every_sampler_searches_repeats_itself_and_goes_on_where_it_was(name: str, task: Path, tmp_path: Path) -> None:
    """Twelve trials in one go are the twelve of a search that was ended after eight; a grid has all its own at once."""
    small = {LAYER: "range(1, 4)", ROWS: "choice(last, question)", KEEP: "range(0.25, 0.8, 0.25)"}
    settings = {"space": small if name == "grid" else SPACE, "sampler": named_sampler(name), "constraints": ["accuracy >= 0.5"]}
    budgets = (18, 18) if name == "grid" else (8, 12)
    whole, _ = search(task, tmp_path / "whole", plan(budgets[1], **settings))
    search(task, tmp_path / "parts", plan(budgets[0], **settings))
    parts, _ = search(task, tmp_path / "parts", plan(budgets[1], **settings))
    assert params(parts) == params(whole)
    assert len(whole) == budgets[1]
    assert {t.state for t in whole} == {TrialState.COMPLETE}
    assert len({str(p) for p in params(whole)}) >= 10  # or it would not be searching


def test_another_seed_proposes_something_else_and_a_shuffled_grid_is_the_same_grid(task: Path, tmp_path: Path) -> None:
    one, other = (params(search(task, tmp_path / f"{seed}", plan(4, seed=seed))[0]) for seed in (0, 1))
    assert one != other
    settings = {"space": {LAYER: "range(1, 4)", KEEP: "range(0.25, 0.8, 0.25)"}}
    grids = [plan(9, sampler=named_sampler("grid", shuffle=shuffle), **settings).grid for shuffle in (False, True)]
    assert grids[0] != grids[1]
    assert sorted(map(str, grids[0])) == sorted(map(str, grids[1]))
    with pytest.raises(ValueError, match=r"the grid has 9 settings, more than hydra.sweeper.trials=8"):
        plan(8, sampler=named_sampler("grid"), **settings)


def test_baselines_run_first_and_count_for_the_sampler_but_not_for_the_budget(task: Path, tmp_path: Path) -> None:
    trials, host = search(task, tmp_path / "s", plan(5, baselines=BASELINES, first=[{KEEP: 0.3}]))
    assert host.evaluated[:2] == ["baseline-dense", "baseline-paper"]
    told = [t for t in trials if not proposals.is_own(t)]
    assert [(t.user_attrs[proposals.TOLD_FROM], t.params) for t in told] == [
        ("baseline-paper", {LAYER: 2, KEEP: 0.5, ROWS: "last"})
    ]
    assert len(params(trials)) == 5
    assert params(trials)[0][KEEP] == 0.3
    assert told[0].values[0] == pytest.approx(rightness(host.config))


def test_a_searchs_table_calls_trials_by_their_folders(task: Path, tmp_path: Path) -> None:
    """The paper's settings lie in the space, and are proposal 0 to Optuna: no other view has that number."""
    folder = tmp_path / "s"
    trials, host = search(task, folder, plan(5, baselines=BASELINES))
    text = report(plan(5, baselines=BASELINES), trials, folder)
    table = pl.read_parquet(folder / "search.parquet")
    assert table.columns[0] == "#"
    assert "trial" not in table.columns
    assert sorted(table["#"]) == sorted(set(host.evaluated) - {"baseline-dense"})
    shown = [line.split()[0] for line in text.splitlines() if "(n=" in line]
    assert shown
    assert all((folder / number / "records.parquet").is_file() for number in shown)


def test_a_search_of_the_first_version_goes_on_without_being_told_its_baselines_again(task: Path, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    search(task, folder, plan(2, baselines=BASELINES))
    journal = folder / proposals.JOURNAL
    former = journal.read_text().replace("baseline-paper", "baseline paper")
    assert former != journal.read_text()
    journal.write_text(former)
    trials, _ = search(task, folder, plan(4, baselines=BASELINES))
    assert [proposals.number(t) for t in trials] == ["baseline-paper", "1", "2", "3", "4"]


def test_baselines_are_evaluated_in_full_whatever_a_race_would_say(task: Path, tmp_path: Path) -> None:
    host, rounds = Formula(task, tmp_path), {}
    host.before_launch = lambda jobs: rounds.update({job.folder: host.compose(job.overrides).race.rounds for job in jobs})
    trials = Search(plan(2, baselines=BASELINES), tmp_path, ["race.rounds=10"], host).run()
    assert {rounds.pop(name) for name in ("baseline-dense", "baseline-paper")} == {1}
    assert list(rounds.values()) == [10] * len(params(trials))


def test_a_key_that_does_not_exist_is_found_before_the_baselines_run(task: Path, tmp_path: Path) -> None:
    class Strict(Formula):
        def compose(self, overrides: Sequence[str]) -> DictConfig:
            if any("layre" in override for override in overrides):
                raise ValueError("no such key")
            return super().compose(overrides)

    host = Strict(task, tmp_path)
    with pytest.raises(ValueError, match="no such key"):
        search(task, tmp_path, plan(2, space={"reducer.prune.layre": "range(1, 3)"}, baselines=BASELINES), host)
    assert host.evaluated == []


def test_a_cost_that_breaks_a_constraint_is_known_before_the_trial_runs(task: Path, tmp_path: Path) -> None:
    limits = ["llm_flops_ratio <= 0.6", "accuracy >= dense - 0.5"]
    trials, host = search(task, tmp_path / "s", plan(6, baselines=BASELINES, constraints=limits))
    unstarted = [t for t in trials if t.user_attrs.get(proposals.OUTCOME) == proposals.NOT_STARTED]
    ran = [t for t in trials if proposals.is_own(t) and t not in unstarted]
    assert len(unstarted) > 0
    assert len(ran) == 6
    assert sorted(host.evaluated[2:], key=int) == [str(t.number) for t in ran]  # the others were never evaluated
    for trial in ran:
        assert trial.values[1] <= 0.6
        assert trial.constraints["accuracy >= dense - 0.5"] == pytest.approx(0.45 - trial.values[0])
    for trial in unstarted:
        assert trial.state == TrialState.PRUNED
        assert "against llm_flops_ratio <= 0.6" in trial.user_attrs[proposals.REASON]
        assert trial.constraints["llm_flops_ratio <= 0.6"] > 0
    text = report(plan(6, baselines=BASELINES, constraints=limits), trials, tmp_path)
    assert f"{len(unstarted)} {proposals.NOT_STARTED}" in text
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    kept = sum(max(t.constraints.values()) <= 0 for t in complete)
    assert 0 < kept < len(complete) == 7  # the paper's settings are one of them
    assert f"{kept} of 7 complete trials keep {'; '.join(limits)}" in text


def test_a_trial_that_even_at_its_best_would_be_beaten_is_not_started(task: Path, tmp_path: Path) -> None:
    """Nothing is thought to be better than the baseline `good`, so whatever costs more need not run."""
    baselines = {"dense": {"reducer.prune": None}, "good": {LAYER: 1, KEEP: 0.5}}
    trials, host = search(task, tmp_path / "s", plan(6, baselines=baselines, ceiling="good"))
    unstarted = [t for t in trials if t.user_attrs.get(proposals.OUTCOME) == proposals.NOT_STARTED]
    ran = [t for t in trials if proposals.is_own(t) and t not in unstarted]
    assert unstarted
    assert len(ran) == 6
    good = next(t for t in trials if not proposals.is_own(t))
    assert all(t.values[1] <= good.values[1] for t in ran)
    assert len(host.evaluated) == 2 + len(ran)
    reasons = {t.user_attrs[proposals.REASON].rpartition(" by ")[0] for t in unstarted}
    assert reasons == {"even at its best it would be beaten"}
    assert not {t.number for t in unstarted} & {int(name) for name in host.evaluated if name.isdigit()}


OVER_FRAMES = {KEEP: "interval(0.1, 1.0)", "video.frames": "choice(4, 8, 16)"}


def test_a_search_over_frames_pays_for_every_frame(task: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One denominator for the study and the sweep's table: shares order all trials as absolute FLOPs do."""
    baselines = {"dense": {"reducer.prune": None}, "few": {"reducer.prune": None, "video.frames": 4}}
    searched = plan(12, OVER_FRAMES, baselines=baselines)
    trials, _ = search(task, tmp_path / "s", searched)
    assert "relative costs are of the dense run baseline-dense (8 frames)" in capsys.readouterr().out
    table = {row.trial: row for row in rows_of(read_trials(tmp_path / "s"))}
    complete = [t for t in trials if t.state == TrialState.COMPLETE and proposals.is_own(t)]
    assert len({t.params["video.frames"] for t in complete}) == 3
    for trial in complete:
        row = table[str(trial.number)]
        assert trial.values[1] == row.llm_flops_ratio == row.llm_flops / table["baseline-dense"].llm_flops
    bounded = plan(12, OVER_FRAMES, baselines=baselines, constraints=["llm_flops_ratio <= dense"])
    trials, _ = search(task, tmp_path / "bounded", bounded)
    unstarted = [t for t in trials if t.user_attrs.get(proposals.OUTCOME) == proposals.NOT_STARTED]
    assert {t.params["video.frames"] for t in unstarted} == {16}, "nothing on 4 or 8 frames costs more than the dense run on 8"


def test_a_search_over_frames_goes_on_and_starts_warm_with_the_same_costs(task: Path, tmp_path: Path) -> None:
    baselines = {"dense": {"reducer.prune": None}}
    first, _ = search(task, tmp_path / "a", plan(4, OVER_FRAMES, baselines=baselines))
    again, host = search(task, tmp_path / "a", plan(6, OVER_FRAMES, baselines=baselines))
    assert [t.values for t in again if t.number < len(first)] == [t.values for t in first]
    assert len(host.evaluated) == 2
    warm, _ = search(task, tmp_path / "b", plan(1, OVER_FRAMES, baselines=baselines, warm_start=[str(tmp_path / "a")]))
    told = {json.dumps(t.params): t.values for t in warm if not proposals.is_own(t)}
    assert len(told) == 6
    assert told == {json.dumps(t.params): t.values for t in again if proposals.is_own(t)}


def test_a_search_over_frames_without_a_dense_baseline_is_refused_before_anything_runs(task: Path, tmp_path: Path) -> None:
    host = Formula(task, tmp_path / "s")
    with pytest.raises(ValueError, match=r"varies video.frames, so llm_flops_ratio needs one dense run.*search for llm_flops"):
        search(task, tmp_path / "s", plan(2, OVER_FRAMES, baselines={"half": {KEEP: 0.5}}), host)
    assert host.evaluated == []
    absolute = plan(2, OVER_FRAMES, objectives={"accuracy": "maximize", "llm_flops": "minimize"})
    trials, _ = search(task, tmp_path / "t", absolute)
    rows = {row.trial: row.llm_flops for row in rows_of(read_trials(tmp_path / "t"))}
    assert {str(t.number): t.values[1] for t in trials} == rows


def test_a_search_whose_space_has_nothing_to_offer_ends(task: Path, tmp_path: Path) -> None:
    limits = ["llm_flops_ratio <= 0.01"]
    trials, host = search(task, tmp_path / "s", plan(4, baselines=BASELINES, constraints=limits))
    assert host.evaluated == ["baseline-dense", "baseline-paper"]
    assert {outcome(t) for t in trials if proposals.is_own(t)} == {proposals.NOT_STARTED}
    assert len(params(trials)) == 5 * 4


def test_raced_trials_are_never_complete_and_say_how_many_samples_they_saw(task: Path, tmp_path: Path) -> None:
    host = Formula(task, tmp_path / "s")
    host.stops = lambda config: config.reducer.prune is not None and config.reducer.prune.layer == 1
    trials, _ = search(task, tmp_path / "s", plan(8), host)
    stopped = [t for t in trials if t.params[LAYER] == 1]
    assert stopped
    for trial in stopped:
        assert (trial.state, trial.values, outcome(trial)) == (TrialState.PRUNED, None, proposals.STOPPED)
        assert "after 10 samples" in trial.user_attrs[proposals.REASON]
        assert read_trial(tmp_path / "s" / str(trial.number)).info.stopped.accuracy_high == 0.5
    text = report(plan(8), trials, tmp_path)
    table = pl.read_parquet(tmp_path / "search.parquet").filter(pl.col("outcome") == proposals.STOPPED)
    assert set(table["samples"]) == {10}
    assert table["accuracy"].is_null().all()
    shown = [line.split()[0] for line in text.splitlines() if " ± " in line and "(n=" in line]
    assert not {str(t.number) for t in stopped} & set(shown)
    assert all("(n=40)" in line for line in text.splitlines() if "(n=" in line)


def test_a_race_must_know_what_the_search_looks_for() -> None:
    from prunesweep.sweep.racing import Race

    searched = plan(objectives={"accuracy": "maximize", "kv_bytes": "minimize"})
    with pytest.raises(ValueError, match=r"would be blind to kv_bytes"):
        searched.require_race(Race(rounds=4))
    searched.require_race(Race(rounds=1))
    searched.require_race(Race(rounds=4, costs=("kv_bytes",)))
