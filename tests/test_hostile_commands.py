"""What migrates, warms up, judges, replays and converts, on folders that somebody else made: one line, nothing elsewhere."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunesweep.analysis.judge import Cache
from prunesweep.cli import app
from prunesweep.models.convert import examine
from prunesweep.results.keys.fingerprint import Files, digest, of_model
from prunesweep.results.read import read_folder
from prunesweep.results.store import Store
from prunesweep.search.warm_start import Task, earlier
from prunesweep.sweep import upkeep
from support.places import ROOT

Change = Callable[[dict[str, Any]], Any]


def setting(value: Any, *keys: str) -> Change:
    def change(told: dict[str, Any]) -> None:
        for key in keys[:-1]:
            told = told[key]
        told[keys[-1]] = value

    return change


def without(*keys: str) -> Change:
    def change(told: dict[str, Any]) -> None:
        for key in keys[:-1]:
            told = told[key]
        del told[keys[-1]]

    return change


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"a": value}
    return value


FORMER = {
    "a target that is no Python": setting("lib2to3.tests.data.py2_test_grammar.x", "model", "_target_"),
    "a target through an import": setting("prunesweep.reducers.torch.hub.load", "model", "_target_"),
    "a target with a null byte": setting("evil\0.x", "model", "_target_"),
    "a target out of the package": setting("prunesweep/../../../evil.x", "model", "_target_"),
    "a relative target": setting("..evil", "model", "_target_"),
    "no target": setting("", "model", "_target_"),
    "a target that is a list": setting(["evil"], "model", "_target_"),
    "a class that is a number": setting(3, "trial", "reducer", "class"),
    "arguments": setting([{"class": "evil.Reducer"}], "trial", "reducer", "_args_"),
    "depth": setting(nested(600), "trial", "reducer"),
    "a checkpoint above": setting("../../evil", "model", "checkpoint"),
    "no checkpoint": setting(None, "model", "checkpoint"),
    "versions that are a list": setting([1], "versions"),
    "versions that are text": setting("abc", "versions"),
    "no benchmark": without("benchmark"),
    "no model": without("model"),
    "a model that is text": setting("evil", "model"),
    "no trial": without("trial"),
}


def former_store(folder: Path, change: Change) -> Store:
    """A trial of format 1, changed and described again under the key of what it says, beside one as it was."""
    shutil.copytree(ROOT / "tests" / "data" / "format1" / "store", folder)
    store = Store.existing(folder)
    first, *others = store.trials()
    for other in others[1:]:
        shutil.rmtree(folder / "trials" / other.key)
    made_of = json.loads(json.dumps(first.made_of))
    change(made_of)
    shutil.rmtree(folder / "trials" / first.key)
    place = folder / "trials" / digest(made_of)
    place.mkdir()
    (place / "trial.json").write_text(json.dumps({"made_of": made_of, "about": dict(first.about)}))
    return store


@pytest.mark.parametrize("what", FORMER)
def test_a_trial_that_is_none_is_left_and_the_others_are_carried_over(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.py").write_text('open("marker", "w")')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    store = former_store(tmp_path / "store", FORMER[what])
    said = list(upkeep.migrated(store, [], []))
    assert said[-1].startswith("1 of 2 trials of the earlier format carried over")
    assert "evil" not in sys.modules
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("linked", ["trials", "shards", "trials/x"])
@pytest.mark.parametrize("command", ["migrate", "prune --outdated --yes"])
def test_a_store_with_a_folder_that_is_a_link_is_not_changed(
    linked: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = former_store(tmp_path / "store", lambda _: None)
    place, away = store.folder / linked, tmp_path / "away"
    if place.exists():
        place.rename(away)
    away.mkdir(exist_ok=True)
    (away / "precious.parquet").write_text("x")
    place.symlink_to(away)
    before = sorted(path.relative_to(away) for path in away.rglob("*"))
    monkeypatch.setattr(sys, "argv", ["prunesweep", "store", *command.split(" "), "--store", str(store.folder)])
    with pytest.raises(SystemExit, match="is a link, and a store has none"):
        app.main()
    assert sorted(path.relative_to(away) for path in away.rglob("*")) == before


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def swept(run, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a sweep of two trials, with their store."""
    if not (kept / "sweep").exists():
        assert run("-m", "reducer=none,random", "benchmark.limit=2", "hydra.sweep.dir=sweep")[0] == 0
        shutil.copytree(tmp_path, kept, dirs_exist_ok=True)
    else:
        shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def task(folder: Path) -> Task:
    """Of a search that asks the sweep's questions of its model."""
    (trial, *_), info = Store.existing(folder / "store").trials(), json.loads((folder / "sweep" / "0" / "trial.json").read_text())
    made = Task(info["model"], info["benchmark"], {}, trial.made_of["model"], info["samples_key"], frozenset())
    vars(made)["former_model_key"] = ""
    return made


BAD_TRIALS: dict[str, Change] = {
    **{f"no {key}": without(key) for key in ("name", "overrides", "shape", "settings")},
    **{f"{key} that is a number": setting(3, key) for key in ("name", "overrides", "shape", "settings", "stopped")},
    "a shape of something else": setting({"a": 1}, "shape"),
    "another key": setting(1, "evil"),
}


@pytest.mark.parametrize("what", BAD_TRIALS)
def test_a_sweep_with_a_trial_that_is_none_ends_readers_in_one_line(
    what: str, swept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = task(swept)
    path = swept / "sweep" / "1" / "trial.json"
    told = json.loads(path.read_text())
    BAD_TRIALS[what](told)
    path.write_text(json.dumps(told))
    with pytest.raises(ValueError, match=r"\A1 cannot be read as a trial"):
        earlier(swept / "sweep", asked, dict)
    for command in ("replay race sweep", "replay savings sweep sweep", "judge sweep/1 --url http://localhost:1 --model x"):
        monkeypatch.setattr(sys, "argv", ["prunesweep", *command.split(" ")])
        with pytest.raises(SystemExit, match=r"\Aprunesweep[^\n]*\b1 cannot be read as a trial[^\n]*\Z") as stop:
            app.main()
        assert "unexpected" not in str(stop.value)


BAD_STORES: dict[str, Change] = {
    "no settings": without("about", "settings"),
    "settings that are a number": setting(3, "about", "settings"),
    "settings that are a list": setting([1], "about", "settings"),
    "a reducer that is a number": setting(3, "about", "settings", "reducer"),
    "no shape": without("about", "shape"),
    "a shape that is a number": setting(3, "about", "shape"),
    "a shape of something else": setting({"a": 1}, "about", "shape"),
    "no reducer": without("about", "reducer"),
    "no model": without("made_of", "model"),
}


@pytest.mark.parametrize("what", BAD_STORES)
def test_a_store_with_a_trial_that_is_none_warms_up_with_the_others(what: str, swept: Path) -> None:
    asked = task(swept)
    store = Store.existing(swept / "store")
    store.commit([trial.key for trial in store.trials()])
    path = store.folder / "trials" / store.trials()[0].key / "trial.json"
    told = json.loads(path.read_text())
    BAD_STORES[what](told)
    path.write_text(json.dumps(told))
    path.parent.rename(path.parent.with_name(digest(told["made_of"])))
    looked: list[Any] = []
    list(earlier(store.folder, asked, lambda settings: looked.append(settings["reducer"]["name"])))
    assert len(looked) == 1


def test_verdicts_are_not_added_to_what_a_link_leads_to(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (swept / "profile").write_text("mine")
    (swept / "sweep" / "judge_cache.jsonl").symlink_to(swept / "profile")
    monkeypatch.setattr(sys, "argv", ["prunesweep", "judge", "sweep/0", "--url", "http://localhost:1", "--model", "x"])
    with pytest.raises(SystemExit, match="is a link, and verdicts would be added to what it leads to; --cache FILE"):
        app.main()
    assert (swept / "profile").read_text() == "mine"


def test_cached_verdicts_that_are_none_are_asked_for_again(tmp_path: Path) -> None:
    good = {"name": "good", "score": 4.5, "prompt_tokens": 1, "answer_tokens": 1}
    scores = [1e9, -1, float("nan"), "5", None, [5], {"a": 1}]
    lines = [json.dumps({**good, "name": f"bad {i}", "score": score}) for i, score in enumerate(scores)]
    lines += [json.dumps({**good, "name": ["a"]}), "[" * 100_000, "[]", "3", json.dumps(good)]
    (tmp_path / "cache").write_text("\n".join(lines))
    assert list(Cache(tmp_path / "cache").known) == ["good"]


PLLAVA: dict[str, Any] = {"model_type": "llava", "pooling_shape": [1, 2, 2], "vision_config": {}, "text_config": {}}
STLLM: dict[str, Any] = {"model_type": "st_llm_hf", "vocab_size": 8, "hidden_size": 64, "num_hidden_layers": 1}
BAD_CHECKPOINTS: dict[str, tuple[str, dict[str, Any]]] = {
    "a billion layers": ("pllava", {**PLLAVA, "text_config": {"num_hidden_layers": 10**9}}),
    "a billion layers of the tower": ("pllava", {**PLLAVA, "vision_config": {"num_hidden_layers": 10**9}}),
    "another's billion layers": ("stllm", {**STLLM, "num_hidden_layers": 10**9}),
    "a huge width": ("stllm", {**STLLM, "hidden_size": 10**12}),
    "sections that are lists": ("pllava", {**PLLAVA, "vision_config": [1], "text_config": [2]}),
    "sections that are text": ("stllm", {**STLLM, "vision_config": "x", "qformer_config": "y"}),
    "sizes that are text": ("stllm", {**STLLM, "hidden_size": "many"}),
    "no heads": ("stllm", {**STLLM, "num_attention_heads": 0}),
}


@pytest.mark.parametrize("what", BAD_CHECKPOINTS)
def test_a_configuration_that_is_none_is_refused_before_it_is_built(what: str, tmp_path: Path) -> None:
    family, config = BAD_CHECKPOINTS[what]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"must be at most|cannot be read as a checkpoint of"):
        examine(family, tmp_path)


HEADERS = {
    "no offsets": {"x": {}},
    "offsets that are text": {"x": {"data_offsets": ["a", "b"]}},
    "a list": [1],
    "an entry that is text": {"x": "y"},
}


@pytest.mark.parametrize("what", HEADERS)
def test_weights_whose_header_is_none_are_refused(what: str, tmp_path: Path) -> None:
    header = json.dumps(HEADERS[what]).encode()
    (tmp_path / "config.json").write_text(json.dumps(STLLM))
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"0000")
    with pytest.raises(ValueError, match=r"cannot (be read as|load) "):
        examine("stllm", tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 50_000, "x" * (5 * 2**20)], ids=["lists", "mappings", "size"])
def test_a_configuration_that_is_bottomless_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json"):
        examine("stllm", tmp_path)


@pytest.mark.parametrize("name", ["part/model.safetensors", "../outside.safetensors"])
def test_weights_that_an_index_names_elsewhere_are_part_of_the_key(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    (folder / "part").mkdir(parents=True)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
    load = {"_target_": "prunesweep.models.llava_onevision.load", "checkpoint": str(folder)}
    keys = []
    for content in ("one", "two"):
        (folder / name).write_text(content)
        keys.append(of_model(load, Files()))
    assert keys[0] != keys[1]


def test_an_honest_trial_is_still_read(swept: Path) -> None:
    assert len(read_folder(swept / "sweep" / "0").records) == 2
