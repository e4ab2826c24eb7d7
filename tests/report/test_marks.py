"""Trials that charts name: a method's own defaults are found by all of its settings; presets by what they set."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from prunesweep.analysis.outcomes import read_outcomes
from prunesweep.disk.foreign import read_yaml
from prunesweep.paths import CONF
from prunesweep.report.given import KEY, presets, statement_of
from prunesweep.report.marks import DEFAULT, DENSE, defaults, marked
from prunesweep.report.verdict import verdict
from prunesweep.results.records import CONFIG, write_trial
from support.records import made

LAYER = 4


def prunevid(**changes: Any) -> dict[str, Any]:
    """Its YAML with the model's layer in it, and these settings of its merging changed."""
    own = deepcopy(read_yaml(CONF / "reducer" / "prunevid.yaml"))
    own["prune"]["layer"] = LAYER
    own["merge"] |= changes
    return own


def labels(sweep: Path, *reducers: dict[str, Any], layer: int = LAYER) -> list[str | None]:
    trials = [made("none", "++++++++")]
    for i, own in enumerate(reducers):
        settings = {key: value for key, value in own.items() if key != "name"}
        trials.append(made(f"prunevid {i}", "++++++--", visual=(4, i + 1), **settings))
    for index, one in enumerate(trials):
        write_trial(sweep / str(index), one.info, one.records)
        (sweep / str(index) / CONFIG).write_text(yaml.safe_dump({"model": {"prune_layer": layer}}))
    (found,) = read_outcomes(sweep)
    own = marked(verdict(found, with_importance=False))
    return [own.get(i) for i in range(len(trials))]


def test_a_trial_at_its_methods_own_settings_is_called_so(tmp_path: Path) -> None:
    found = labels(tmp_path, prunevid(), prunevid(static_threshold=0.9), prunevid(positions="original", seed=3))
    assert found == [DENSE, DEFAULT, None, DEFAULT]


def test_a_default_of_the_models_is_the_models(tmp_path: Path) -> None:
    assert labels(tmp_path, prunevid(), layer=LAYER + 1) == [DENSE, None]


def test_baselines_have_no_paper() -> None:
    assert defaults("random") == defaults("no_such_method") == defaults("../model/tiny") == {}
    assert defaults("prunevid")["reducer.prune.keep_ratio"] == 0.4


def test_a_presets_statement_is_that_of_trials_with_all_of_its_settings(tmp_path: Path) -> None:
    own = {KEY: 1, "model": "tiny", "overrides": ["reducer=prunevid", "reducer.prune.layer=2"], "statement": "loses little"}
    (tmp_path / "confirm").mkdir()
    (tmp_path / "preset.yaml").write_text(yaml.safe_dump(own))  # as tuning leaves it, beside its sweeps
    (known,) = presets(tmp_path / "confirm")
    info = made("prunevid a", "++").info
    for overrides, said in (
        (own["overrides"], "loses little"),
        ([*own["overrides"], "benchmark.limit=3"], "loses little"),
        ([*own["overrides"], "reducer.prune.keep_ratio=0.1"], None),
        (["reducer=prunevid"], None),
    ):
        assert statement_of(replace(info, overrides=tuple(overrides)), [known]) == said
    assert statement_of(replace(info, model="other", overrides=tuple(own["overrides"])), [known]) is None


@pytest.mark.parametrize(
    "text", ["", "[1, 2]", "prunesweep_preset: 1", "a: [", "prunesweep_preset: 1\noverrides: 3\nmodel: x\nstatement: y"]
)
def test_a_file_that_is_no_preset_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "sweep" / "presets").mkdir(parents=True)
    (tmp_path / "sweep" / "presets" / "odd.yaml").write_text(text)
    assert presets(tmp_path / "sweep") == []
