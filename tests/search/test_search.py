"""Searches: spaces and constraints as written, every sampler, budgets, resuming, and several workers on one study.

The logic runs against a host that answers by formula; a few searches at the end are real.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
import polars as pl
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from prunesweep.analysis.table import rows_of
from prunesweep.cost import Shape, VisionShape
from prunesweep.results.keys.fingerprint import Files, digest, of_model
from prunesweep.results.records import Stopped, TrialInfo, read_trial, read_trials, schema, write_trial
from prunesweep.results.store import Store, StoredTrial, row_schema
from prunesweep.results.timing import read_timing
from prunesweep.search import study as proposals
from prunesweep.search.constraints import parse_bound, parse_constraint
from prunesweep.search.loop import Job, Plan, Search, described
from prunesweep.search.report import outcome, report
from prunesweep.search.space import grid, lies_in, parse_space, written
from prunesweep.search.study import open_storage
from prunesweep.search.warm_start import task_of
from prunesweep.search.workers import Worker
from support.places import ROOT

SHAPE = Shape(4, 8, 2, 1, 4, 16, 100, VisionShape(1, 8, 16, 4, 12))
FRAMES, PATCHES, SAMPLES = 8, 9, 40
LAYER, KEEP, ROWS = "reducer.prune.layer", "reducer.prune.keep_ratio", "reducer.prune.rows"
SPACE = {LAYER: "range(1, 4)", KEEP: "interval(0.1, 1.0)", ROWS: "choice(last, question)"}
BASELINES: dict[str, dict[str, Any]] = {"dense": {"reducer.prune": None}, "paper": {}}


def base(folder: Path) -> DictConfig:
    """The sections of a configuration that a search reads; its benchmark is one drawn video with many questions."""
    return OmegaConf.create(
        {
            "model": {"name": "m", "load": {"_target_": "nothing", "checkpoint": str(folder / "weights")}},
            "benchmark": {
                "name": "b",
                "load": {"_target_": "prunesweep.benchmarks.jsonl.load", "path": str(folder)},
            },
            "reducer": {
                "_target_": "prunesweep.reducers.Reducer",
                "name": "fastv",
                "prune": {"_target_": "prunesweep.reducers.fastv.Prune", "layer": 2, "keep_ratio": 0.5, "rows": "last"},
            },
            "video": {"frames": FRAMES},
            "protocol": {"style": "words"},
            "race": {"_target_": "prunesweep.sweep.racing.Race", "rounds": 1},
            "store": {"folder": None},
        }
    )


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return make_task(tmp_path / "task")


def make_task(folder: Path, samples: int = SAMPLES, weights: str = "1") -> Path:
    folder.mkdir()
    (folder / "weights").write_text(weights)
    (folder / "v.mp4").write_bytes(b"no video, but never looked at")
    lines = [{"video": "v.mp4", "question": f"{i}?", "choices": ["a", "b"], "answer": "a", "id": f"s{i}"} for i in range(samples)]
    (folder / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def records_of(config: DictConfig, samples: int, right: int) -> pl.DataFrame:
    """Token counts as FastV leaves them, so that costs known beforehand are the costs."""
    frames = config.video.frames
    tokens = frames * PATCHES
    prune = config.reducer.prune
    kept = tokens if prune is None else max(1, round(prune.keep_ratio * tokens))
    full = SHAPE.layers if prune is None else prune.layer
    row = {"video_id": "v", "task": "t", "text_tokens": 5, "dense_tokens": tokens, "frames": frames, "generated_tokens": 1}
    row |= {"reduction_flops": 0, "option_rows": 0, "option_pairs": 0}
    row |= {"visual_tokens": [tokens] * full + [kept] * (SHAPE.layers - full)}
    return pl.DataFrame([{**row, "sample_id": f"s{i}", "correct": i < right} for i in range(samples)], schema=schema())


def rightness(config: DictConfig) -> float:
    """Of a model that likes late layers and many tokens."""
    prune = config.reducer.prune
    return 0.95 if prune is None else 0.3 + 0.4 * prune.keep_ratio + 0.05 * prune.layer


class Formula:
    """A host whose trials answer by `rightness`; counts what it evaluates."""

    def __init__(self, task: Path, folder: Path, samples: int = SAMPLES):
        self.config, self.folder, self.samples = base(task), folder, samples
        self.evaluated: list[str] = []
        self.before_launch: Callable[[Sequence[Job]], None] = lambda jobs: None
        self.stops: Callable[[DictConfig], bool] = lambda config: False

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        config = self.config.copy()
        for override in overrides:
            key, _, value = override.partition("=")
            OmegaConf.update(config, key, None if value == "null" else OmegaConf.create(f"x: {value}").x, merge=False)
        return config

    def launch(self, jobs: Sequence[Job]) -> None:
        self.before_launch(jobs)
        for job in jobs:
            config = self.compose(job.overrides)
            self.evaluated.append(job.folder)
            with (self.folder / "evaluated.txt").open("a") as file:
                file.write(f"{job.folder}\n")
            keys = {"model_key": (task := task_of(config)).model_key, "samples_key": task.samples_key}
            stopped = Stopped("rival", 10, self.samples, -0.2, -0.4, -0.1, 0.1, 0.5, 0.95) if self.stops(config) else None
            seen = 10 if stopped else self.samples
            info = TrialInfo(job.folder, "fastv", "m", "b", (), described(config), SHAPE, "", stopped, **keys)
            write_trial(self.folder / job.folder, info, records_of(config, seen, round(rightness(config) * seen)))


def plan(trials: int = 8, space: Mapping[str, str] = SPACE, **others: Any) -> Plan:
    parsed = parse_space(space, OverridesParser.create())
    settings: dict[str, Any] = {"batch": 4, "seed": 0, "objectives": {"accuracy": "maximize", "llm_flops_ratio": "minimize"}}
    return Plan(**{"trials": trials, "space": dict(space), "distributions": parsed, **settings, **others})


def search(task: Path, folder: Path, searched: Plan, host: Formula | None = None) -> tuple[list[FrozenTrial], Formula]:
    folder.mkdir(exist_ok=True)
    host = host or Formula(task, folder)
    return Search(searched, folder, [], host).run(), host


def params(trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    return [t.params for t in trials if proposals.is_own(t)]


# What a user writes


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("interval(0, 1)", FloatDistribution(0, 1)),
        ("tag(log, interval(0.001, 1))", FloatDistribution(0.001, 1, log=True)),
        ("int(interval(2, 9))", IntDistribution(2, 9)),
        ("tag(log, int(interval(1, 64)))", IntDistribution(1, 64, log=True)),
        ("range(1, 7)", IntDistribution(1, 6)),
        ("range(1, 8, 3)", IntDistribution(1, 7, step=3)),
        ("range(0.1, 0.9, 0.2)", FloatDistribution(0.1, 0.7, step=0.2)),
        ("choice(original, renumbered)", CategoricalDistribution(["original", "renumbered"])),
        ("null,0.8,true", CategoricalDistribution([None, 0.8, True])),
    ],
)
def test_a_space_is_written_as_hydra_writes_sweeps(text: str, distribution: Any) -> None:
    assert parse_space({"a.b": text}, OverridesParser.create()) == {"a.b": distribution}


@pytest.mark.parametrize("text", ["5", "range(6, 1)", "range(0.5, 0.1, 0.1)", "interval(2, 1)", "tag(log, interval(0, 1))"])
def test_what_is_no_space_is_refused_by_its_key(text: str) -> None:
    with pytest.raises(ValueError, match=r"hydra.sweeper.space.a.b"):
        parse_space({"a.b": text}, OverridesParser.create())


def test_values_are_written_so_that_hydra_reads_the_same() -> None:
    assert [written(v) for v in (None, True, 0.1 + 0.2, 1.0, 1e-13, 3, "x")] == ["null", "true", "0.3", "1.0", "1e-13", "3", "x"]


def test_a_grid_has_all_combinations_and_evenly_spaced_values() -> None:
    space = {"a": "range(1, 3)", "b": "tag(log, interval(0.01, 1))", "c": "range(0.1, 0.4, 0.1)", "d": "choice(x, y)"}
    settings = grid(parse_space(space, OverridesParser.create()), points=3)
    assert len(settings) == 2 * 3 * 3 * 2
    assert sorted({s["b"] for s in settings}) == pytest.approx([0.01, 0.1, 1])
    assert sorted({s["c"] for s in settings}) == pytest.approx([0.1, 0.2, 0.3])


def test_an_earlier_trial_lies_in_the_space_if_nothing_else_differs() -> None:
    distributions = parse_space({"r.layer": "range(1, 7, 2)", "r.keep": "range(0.1, 1, 0.2)"}, OverridesParser.create())
    usual = {"r": {"layer": 3, "keep": 0.5, "rows": "last"}}
    inside = {"r": {"layer": 5, "keep": 0.1 + 0.2, "rows": "last"}}
    assert lies_in(inside, usual, distributions) == {"r.layer": 5, "r.keep": pytest.approx(0.3)}
    for other in ({"layer": 4}, {"keep": 0.4}, {"keep": 0.95}, {"rows": "question"}, {"layer": True}, {"more": 1}):
        assert lies_in({"r": {**inside["r"], **other}}, usual, distributions) is None


def test_bounds_are_sums_of_numbers_and_baselines() -> None:
    known = {"dense": 0.9, "paper": 0.5}
    values = {"0.25": 0.25, "dense - 0.01": 0.89, "0.97*dense": 0.873, "paper + 2 * dense": 2.3, "-1e-2 + dense": 0.89}
    for text, value in values.items():
        assert parse_bound(text, list(known)).value(known) == pytest.approx(value)
    constraint = parse_constraint("accuracy >= dense - 0.01", ["dense"])
    of = {"dense": {"accuracy": 0.9}}
    assert constraint.violation({"accuracy": 0.87}, of) == pytest.approx(0.02)
    assert constraint.violation({"accuracy": 0.9}, of) < 0
    for text in ("accuracy > 1", "accuracy", "accuracy >= dense dense", "accuracy >= 2 * 3", "accuracy >= rival", "accuracy >= "):
        with pytest.raises(ValueError, match=r"accuracy|rival|read|empty|dense"):
            parse_constraint(text, ["dense"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objectives": {"speed": "maximize"}}, "unknown objective 'speed'"),
        ({"objectives": {"accuracy": "up"}}, "must be one of maximize, minimize, got 'up'"),
        ({"objectives": {}}, "objectives is empty"),
        ({"constraints": ["speed <= 1"]}, "unknown objective 'speed'"),
        ({"constraints": ["accuracy >= sparse"]}, "unknown baseline 'sparse'"),
        ({"ceiling": "dense + x"}, "unknown baseline"),
        ({"first": [{"reducer.prune.lair": 1}]}, "which is not in hydra.sweeper.space"),
        ({"first": [{LAYER: 9}]}, "which is not in hydra.sweeper.space"),
        ({"trials": 0}, "hydra.sweeper.trials must be at least 1, got 0"),
        ({"batch": 0}, "hydra.sweeper.batch must be at least 1, got 0"),
        ({"sampler": lambda seed: None, "baselines": {"my dense": {}}}, "needs a name of letters"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_before_anything_runs(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as caught:
        plan(**settings)
    assert message in str(caught.value)


# What a search does


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
        ("baseline paper", {LAYER: 2, KEEP: 0.5, ROWS: "last"})
    ]
    assert len(params(trials)) == 5
    assert params(trials)[0][KEEP] == 0.3
    assert told[0].values[0] == pytest.approx(rightness(host.config))


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


# Earlier results


def test_a_search_starts_from_a_sweep_and_from_a_store_of_the_same_weights_and_samples(task: Path, tmp_path: Path) -> None:
    first, host = search(task, tmp_path / "first", plan(5))
    known = {t.values[0]: t.params for t in first}
    trials, _ = search(task, tmp_path / "second", plan(2, warm_start=[str(tmp_path / "first")]))
    told = [t for t in trials if not proposals.is_own(t)]
    assert {t.values[0]: t.params for t in told} == known
    assert all(t.user_attrs[proposals.TOLD_FROM].startswith("first/") for t in told)

    store = fill_store(tmp_path / "store", host, tmp_path / "first")
    trials, _ = search(task, tmp_path / "third", plan(2, warm_start=[str(store.folder)]))
    assert len([t for t in trials if not proposals.is_own(t)]) == 4  # the fifth trial's last sample is not there
    again, _ = search(task, tmp_path / "third", plan(2, warm_start=[str(store.folder)]))
    assert len(again) == len(trials)


def fill_store(folder: Path, host: Formula, sweep: Path) -> Store:
    """The sweep's five trials as records, the last one short of a sample."""
    store, keys = Store.open(folder), sorted(task_of(host.config).sample_keys)
    load: Any = OmegaConf.to_container(host.config.model.load, resolve=True)
    for number in range(5):
        trial = read_trial(sweep / str(number))
        made_of = {"model": of_model(load, Files()), "trial": number}
        about = {"reducer": "fastv", "settings": trial.info.settings, "shape": asdict(trial.info.shape)}
        store.describe(StoredTrial(digest(made_of), made_of, about))
        rows = trial.records.with_columns(key=pl.lit(digest(made_of)), sample_key=pl.Series(keys), at=pl.lit(0.0))
        store.add(rows.select(list(row_schema())).head(len(rows) - (number == 4)))
    return store


def test_a_warm_start_from_other_weights_samples_or_nothing_is_refused(task: Path, tmp_path: Path) -> None:
    search(task, tmp_path / "first", plan(2))
    (tmp_path / "empty").mkdir()
    others = {
        "used other weights": make_task(tmp_path / "weights", weights="2"),
        "answered other samples than the 30 of this search": make_task(tmp_path / "samples", samples=30),
    }
    for number, (message, other) in enumerate(others.items()):
        with pytest.raises(ValueError, match=message):
            search(other, tmp_path / f"refused{number}", plan(2, warm_start=[str(tmp_path / "first")]))
    with pytest.raises(ValueError, match=r"holds no trials"):
        search(task, tmp_path / "refused", plan(2, warm_start=[str(tmp_path / "empty")]))
    store = fill_store(tmp_path / "store", Formula(task, tmp_path), search(task, tmp_path / "five", plan(5))[1].folder)
    with pytest.raises(ValueError, match=r"no trial of this model with these weights"):
        search(others["used other weights"], tmp_path / "refused3", plan(2, warm_start=[str(store.folder)]))


# Resuming


def test_the_same_search_again_evaluates_nothing_and_more_trials_go_on(task: Path, tmp_path: Path) -> None:
    settings = {"baselines": BASELINES}
    first, _ = search(task, tmp_path / "s", plan(6, **settings))
    again, host = search(task, tmp_path / "s", plan(6, **settings))
    assert host.evaluated == []
    assert [(t.number, t.params, t.values) for t in again] == [(t.number, t.params, t.values) for t in first]
    more, host = search(task, tmp_path / "s", plan(9, **settings))
    assert len(host.evaluated) == 3
    assert params(more)[:6] == params(first)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objectives": {"accuracy": "maximize", "kv_bytes": "minimize"}}, "another objectives"),
        ({"space": {**SPACE, KEEP: "interval(0.2, 1.0)"}}, "another space"),
        ({"seed": 1}, "another seed"),
        ({"constraints": ["llm_flops_ratio <= 0.5"]}, "another constraints"),
        ({"ceiling": "0.9"}, "another ceiling"),
    ],
)
def test_a_folder_is_not_shared_by_different_searches(change: dict[str, Any], message: str, task: Path, tmp_path: Path) -> None:
    search(task, tmp_path / "s", plan(2))
    with pytest.raises(ValueError, match=message):
        search(task, tmp_path / "s", plan(2, **change))


def test_other_weights_under_the_same_name_are_another_search(task: Path, tmp_path: Path) -> None:
    search(task, tmp_path / "s", plan(2))
    (task / "weights").write_text("trained a little more")
    with pytest.raises(ValueError, match=r"begun with another model\.checkpoint \(\w+ -> \w+\); go on with that"):
        search(task, tmp_path / "s", plan(4))


def test_a_search_of_an_earlier_version_goes_on(task: Path, tmp_path: Path) -> None:
    """It kept one fingerprint of all its settings, with the weights as everything that their place holds."""
    begun, host = search(task, tmp_path / "s", plan(2))
    config = host.config
    load: Any = OmegaConf.to_container(config.model.load, resolve=True)
    weights = {key: Files()(Path(value)) if Path(str(value)).exists() else value for key, value in load.items()}
    described = {key: OmegaConf.to_container(config[key], resolve=True) for key in ("reducer", "video", "protocol", "race")}
    former = digest({"model": digest(weights), "samples": task_of(config).samples_key, **described})
    storage = proposals.open_storage(None, tmp_path / "s")
    study = optuna.load_study(study_name="prunesweep", storage=storage)
    study.set_user_attr("made_with", {**study.user_attrs["made_with"], "settings": former})
    more, _ = search(task, tmp_path / "s", plan(4))
    assert [trial.params for trial in more[: len(begun)]] == [trial.params for trial in begun]
    study.set_user_attr("made_with", {**study.user_attrs["made_with"], "settings": "0" * 32})
    with pytest.raises(ValueError, match="begun with another settings"):
        search(task, tmp_path / "s", plan(4))


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, ValueError("a reducer does not like this")])
def test_an_interrupted_search_leaves_no_trial_running_and_ends_as_if_unbroken(stop: Any, task: Path, tmp_path: Path) -> None:
    whole, _ = search(task, tmp_path / "whole", plan(10))
    host = Formula(task, tmp_path / "s")

    def interrupt(jobs: Sequence[Job]) -> None:
        if jobs[0].folder == "4":
            raise stop

    host.before_launch = interrupt
    with pytest.raises(stop if isinstance(stop, type) else type(stop)):
        search(task, tmp_path / "s", plan(10), host)
    study = optuna.load_study(study_name="prunesweep", storage=open_storage(None, tmp_path / "s"))
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 4 + [TrialState.WAITING] * 4
    resumed, host = search(task, tmp_path / "s", plan(10))
    assert host.evaluated == ["4", "5", "6", "7", "8", "9"]
    assert [(t.params, t.values) for t in resumed] == [(t.params, t.values) for t in whole]


def test_a_proposal_that_was_cut_short_is_completed(task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is stopped while the seventh trial draws its second parameter."""
    ask, asked = optuna.Study.ask, []

    def stopped(study: optuna.Study, distributions: Any) -> Any:
        asked.append(1)
        if len(asked) < 7:
            return ask(study, distributions)
        proposals.suggest(ask(study), LAYER, distributions[LAYER])
        raise KeyboardInterrupt

    monkeypatch.setattr(optuna.Study, "ask", stopped)
    with pytest.raises(KeyboardInterrupt):
        search(task, tmp_path / "s", plan(8))
    monkeypatch.setattr(optuna.Study, "ask", ask)
    study = optuna.load_study(study_name="prunesweep", storage=open_storage(None, tmp_path / "s"))
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 4 + [TrialState.WAITING] * 3
    assert study.trials[6].params.keys() == {LAYER}
    resumed, host = search(task, tmp_path / "s", plan(8))
    assert host.evaluated == ["4", "5", "6", "7"]
    assert {t.state for t in resumed} == {TrialState.COMPLETE}
    assert params(resumed)[:6] == params(study.trials)[:6]
    assert all(p.keys() == SPACE.keys() for p in params(resumed))


# Several workers


def work(task: Path, folder: Path, storage: str | None, trials: int, dies_at: int | None = None) -> None:
    """One worker, in a process of its own; it may drop dead before it evaluates a certain trial.

    The others leave it some: however late it comes, they wait for its death half-way.
    """
    host, dead = Formula(task, folder), folder / "dead"

    def before(jobs: Sequence[Job]) -> None:
        time.sleep(0.05)
        latest = max((int(job.folder) for job in jobs if job.folder.isdigit()), default=-1)
        if dies_at is not None and latest >= dies_at:
            dead.touch()
            os._exit(9)
        while latest >= trials // 2 and not dead.exists():
            time.sleep(0.01)

    host.before_launch = before
    search(task, folder, plan(trials, batch=2, storage=storage, baselines=BASELINES), host)


@pytest.mark.parametrize("storage", [None, "sqlite:///{}/study.db"])
def test_workers_of_one_study_lose_and_double_nothing_even_if_one_of_them_dies(
    storage: str | None, task: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    url = storage and storage.format(tmp_path)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["test_search"])  # imports once for all workers
    workers = [context.Process(target=work, args=(task, folder, url, 10, dies)) for dies in (None, None, 3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0, 9]
    study = optuna.load_study(study_name="prunesweep", storage=open_storage(url, folder))
    own = [t for t in study.trials if proposals.is_own(t)]
    assert [t.state for t in own] == [TrialState.COMPLETE] * 10
    evaluated = (folder / "evaluated.txt").read_text().split()
    assert sorted(evaluated) == sorted([*BASELINE_FOLDERS, *(str(t.number) for t in own)])
    assert all(t.values[0] == pytest.approx(read_trial(folder / str(t.number)).records["correct"].mean()) for t in own)
    _, host = search(task, folder, plan(10, batch=2, storage=url, baselines=BASELINES))
    assert host.evaluated == []


BASELINE_FOLDERS = [f"baseline-{name}" for name in BASELINES]


def test_a_worker_is_dead_when_its_process_is_and_not_before(tmp_path: Path) -> None:
    script = "from pathlib import Path; import sys, time; from prunesweep.search.workers import Worker\n"
    script += "with Worker(Path(sys.argv[1])) as worker: print(worker.name, flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with Worker(tmp_path) as here:
        name = process.stdout.readline().strip()
        with here.alone():
            assert here.is_alive(name)
            process.kill()
            process.wait()
            assert not here.is_alive(name)
            assert here.is_alive(here.name)
            assert not here.is_alive("")


def test_a_study_belongs_to_one_folder_and_no_password_is_written_down(task: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    search(task, tmp_path / "one", plan(2, storage=url))
    with pytest.raises(ValueError, match=r"belongs to another folder"):
        search(task, tmp_path / "two", plan(2, storage=url))
    with pytest.raises(ValueError, match=r"cannot open hydra.sweeper.storage \(postgresql\)") as caught:
        open_storage("postgresql://me:hush@127.0.0.1:1/none", tmp_path)
    assert "hush" not in str(caught.value)
    with pytest.raises(ValueError, match=r"it is no database URL"):
        open_storage("study.db", tmp_path)


def test_a_journal_with_half_a_last_line_is_read(task: Path, tmp_path: Path) -> None:
    search(task, tmp_path / "s", plan(3))
    with (tmp_path / "s" / "study.journal").open("a") as journal:
        journal.write('{"op_code": 4, "trial')
    more, _ = search(task, tmp_path / "s", plan(5))
    assert len(more) == 5


# Real searches, on a random model


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
    assert told == ["baseline paper"], "its defaults lie in the space"
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
    command = [sys.executable, "-m", "prunesweep.cli.run", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    wait_for(lambda: (tmp_path / "s/2/records.parquet").exists() or process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
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


def wait_for(there: Callable[[], bool], seconds: float = 120) -> None:
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
