"""Searches that start from earlier results, and such as go on where they were."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
import polars as pl
import pytest
from omegaconf import OmegaConf
from optuna.trial import TrialState

from prunesweep.report.progress import search_lines
from prunesweep.results.keys.fingerprint import Files, digest, of_model
from prunesweep.results.pending import searching
from prunesweep.results.records import read_trial
from prunesweep.results.store import Store, StoredTrial, row_schema
from prunesweep.search import study as proposals
from prunesweep.search.loop import Job
from prunesweep.search.study import open_storage
from prunesweep.search.warm_start import task_of
from support.searches import (
    BASELINES,
    KEEP,
    LAYER,
    SPACE,
    Formula,
    make_task,
    params,
    plan,
    search,
)

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
    assert search_lines(tmp_path / "s") == ["search: 4 of 10 trials, running"]  # this process lives
    resumed, host = search(task, tmp_path / "s", plan(10))
    assert search_lines(tmp_path / "s") == []
    assert host.evaluated == ["4", "5", "6", "7", "8", "9"]
    assert [(t.params, t.values) for t in resumed] == [(t.params, t.values) for t in whole]


def test_a_search_says_between_its_batches_how_far_it_is(task: Path, tmp_path: Path) -> None:
    host, said, folder = Formula(task, tmp_path / "s"), [], tmp_path / "s"
    host.before_launch = lambda _: said.extend(search_lines(folder))
    search(task, folder, plan(8, baselines=BASELINES), host)
    assert said == [f"search: {had} of 8 trials, running" for had in (0, 0, 4)]  # its baselines are not counted
    with pytest.raises(KeyboardInterrupt), searching(folder, 12):
        raise KeyboardInterrupt
    (note,) = folder.glob("searching-*.json")
    left = {**json.loads(note.read_text()), "process": 2**22 + 5}
    note.write_text(json.dumps(left))
    (folder / "searching-x.json").write_text('{"trials": "many", "host": "h", "process": 1, "began": 0}')
    (folder / "searching-y.json").write_text("[]")
    assert search_lines(folder) == ["search: 8 of 12 trials, not running: the same command goes on from there"]
    with searching(folder, 12):
        assert search_lines(folder) == ["search: 8 of 12 trials, running"]
    assert not note.exists()


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
