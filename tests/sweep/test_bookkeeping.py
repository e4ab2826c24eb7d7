"""What a sweep or a search does once per trial, and what once: counted, for seconds depend on the machine."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hydra import utils
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from prunesweep.results import store
from prunesweep.results.keys import code, fingerprint
from prunesweep.sweep import kept, resolved
from prunesweep.sweep.jobs import Composer
from prunesweep.targets import instantiate

COUNTED = {
    "composed from files": (ConfigLoaderImpl, "load_configuration"),
    "composed from parts": (Composer, "_load"),
    "resolved by OmegaConf": (resolved, "_by_omegaconf"),
    "built by Hydra": (utils, "instantiate"),
    "code looked up": (code.Reader, "code"),
    "versions looked up": (fingerprint, "version"),
    "records read": (store, "read_file"),
    "descriptions read": (store, "read_description"),
}


class Calls(Counter[str]):
    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        super().__init__()
        for name, (place, attribute) in COUNTED.items():
            monkeypatch.setattr(place, attribute, self._counting(name, getattr(place, attribute)))

    def _counting(self, name: str, function: Any) -> Any:
        def counted(*arguments: Any, **keywords: Any) -> Any:
            self[name] += 1
            return function(*arguments, **keywords)

        return counted


def ratios(first: int, number: int) -> str:
    return ",".join(f"0.{first + index}" for index in range(number))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    for cached in (resolved._kind, code.code_of, fingerprint._version):
        cached.cache_clear()
    return Calls(monkeypatch)


def test_a_trial_of_a_sweep_costs_as_little_as_it_can(run: Any, calls: Calls) -> None:
    """The difference between sweeps of 3 and of 7 trials, of which the store has none, and then all."""
    taken = {}
    for again in (False, True):
        for number in (3, 7):
            before = Counter(calls)
            sweep = f"hydra.sweep.dir=sweep-{number}-{again}"
            overrides = ["reducer=prunevid", f"reducer.prune.keep_ratio={ratios(100 * number, number)}", "store.folder=store"]
            exit_code, _, err = run("-m", *overrides, sweep)
            assert exit_code == 0, err
            taken[number, again] = Counter(calls) - before
    for again in (False, True):
        more = {name: taken[7, again][name] - taken[3, again][name] for name in COUNTED}
        assert more["composed from parts"] == 4
        for name in ("composed from files", "resolved by OmegaConf", "code looked up", "versions looked up"):
            assert more[name] <= 0, name
        assert more["built by Hydra"] <= 0
        assert more["records read"] <= (1 if not again else 3) * 4, "looked for, gathered, delivered"
        assert more["descriptions read"] <= (2 if not again else 1) * 4 + 4


def searched(run: Any, folder: Path, trials: int, sweep: str) -> Any:
    (folder / "space.yaml").write_text(
        "defaults: [eval, {sampler: random}, {override hydra/sweeper: search}, _self_]\n"
        'hydra: {mode: MULTIRUN, sweeper: {space: {reducer.prune.keep_ratio: "interval(0.1, 0.9)"}, batch: 2}}\n'
    )
    flags = ["--config-dir", str(folder), "--config-name", "space", f"hydra.sweeper.trials={trials}"]
    return run(*flags, f"hydra.sweep.dir={sweep}", f"store.folder={sweep}-store")


def test_a_search_reads_a_trial_as_often_late_as_early(run: Any, calls: Calls, tmp_path: Path) -> None:
    """Nothing per trial grows with the trials before it."""
    taken = []
    for trials in (2, 4, 8):
        before = Counter(calls)
        exit_code, _, err = searched(run, tmp_path, trials, f"s{trials}")
        assert exit_code == 0, err
        taken.append(Counter(calls) - before)
    for name in COUNTED:
        first, second = taken[1][name] - taken[0][name], taken[2][name] - taken[1][name]
        assert second <= 2 * max(first, 0), (name, json.dumps(taken))
    assert taken[2]["composed from parts"] - taken[1]["composed from parts"] == 4


def test_a_search_loads_its_model_and_its_questions_once(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    monkeypatch.setattr(kept, "instantiate", lambda node, **where: loaded.append(node["_target_"]) or instantiate(node, **where))
    assert searched(run, tmp_path, 6, "s")[0] == 0
    assert sorted(loaded) == ["prunesweep.benchmarks.jsonl.load", "prunesweep.models.llava_onevision.load"]
