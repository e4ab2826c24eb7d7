"""Folders that somebody else made: whatever they hold, nothing of them runs, leaves its place, or fills the memory."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from prunesweep.analysis import judge
from prunesweep.analysis.outcomes import read_outcomes
from prunesweep.cli import app
from prunesweep.cli import run as command
from prunesweep.disk import foreign
from prunesweep.disk.foreign import ForeignCodeError, build, read_json, read_yaml, registered
from prunesweep.report import grades, token_maps, token_pictures
from prunesweep.report.html import command_of
from prunesweep.results.read import UnreadableError, read_folder
from prunesweep.results.store import Store, read_description
from prunesweep.sweep import upkeep

MARKER = "code of the folder ran"
HUBCONF = f'open("marker", "w").write("{MARKER}")\ndef model():\n    return None\n'


@pytest.fixture(scope="module")
def made(checkpoint: Path, benchmark_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one trial and its store."""
    folder = tmp_path_factory.mktemp("made")
    given = [f"model.checkpoint={checkpoint}", "benchmark=jsonl", f"benchmark.path={benchmark_folder}", "model.frames=8"]
    given += ["reducer=prunevid", "benchmark.limit=2", "logger=none", "trainer.progress=false", "hydra.run.dir=out"]
    GlobalHydra.instance().clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["prunesweep", *given])
        command.main()
    return folder


@pytest.fixture
def trial(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The trial's folder in a working folder that also holds other people's code."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for place in (tmp_path / "out" / "hubconf.py", tmp_path / "evil.py"):
        place.write_text(HUBCONF)
    return tmp_path / "out"


def change(trial: Path, **groups: Any) -> None:
    config = OmegaConf.load(trial / "config.yaml")
    for group, node in groups.items():
        OmegaConf.update(config, group.replace("__", "."), node, merge=False)
    OmegaConf.save(config, trial / "config.yaml")


REDUCER = {"_target_": "prunesweep.reducers.Reducer", "name": "x"}
HOSTILE = {
    "a function that a module imports": {
        "_target_": "prunesweep.reducers.torch.hub.load",
        "_args_": ["out", "model"],
        "source": "local",
    },
    "the same without special keys": {"_target_": "prunesweep.reducers.torch.hub.load", "repo_or_dir": "out", "model": "model"},
    "a module beside the folder": {"_target_": "evil.model"},
    "a class of Python": {"_target_": "builtins.open", "file": "marker", "mode": "w"},
    "inside a good one": {**REDUCER, "merge": {"_target_": "os.system", "command": "touch marker"}},
    "inside a list of a good one": {**REDUCER, "merge": [{"_target_": "os.system", "command": "touch marker"}]},
    "arguments of a good one": {**REDUCER, "_args_": [{"_target_": "os.system", "command": "touch marker"}]},
    "a partial call": {"_target_": "prunesweep.reducers.Reducer", "_partial_": True, "name": "x"},
    "another group's function": {"_target_": "prunesweep.models.llava_onevision.load", "name": "x", "checkpoint": "out"},
    "a function of ours that no YAML names": {"_target_": "prunesweep.reducers.keep_tokens", "tokens": 1},
    "a name that is none": {"_target_": ["prunesweep.reducers.Reducer"], "name": "x"},
    "arguments that do not fit": {**REDUCER, "colour": "red"},
}


@pytest.mark.parametrize("reducer", HOSTILE.values(), ids=HOSTILE)
def test_a_saved_configuration_runs_nothing_but_registered_code(reducer: dict, trial: Path) -> None:
    change(trial, reducer=reducer)
    with pytest.raises(ValueError, match=r"config\.yaml"):
        token_maps.load_trials([trial])
    assert not list(trial.parent.rglob("marker"))


@pytest.mark.parametrize("group", ["model__load", "benchmark__load", "protocol"])
def test_every_group_of_a_saved_configuration_is_looked_up(group: str, trial: Path) -> None:
    change(trial, **{group: {"_target_": "evil.model"}})
    with pytest.raises(ValueError, match=r"evil\.model.*--trust"):
        token_maps.load_trials([trial])
    assert "evil" not in sys.modules


def test_a_nested_call_in_arguments_of_a_good_function_is_refused(trial: Path) -> None:
    change(trial, benchmark__load={"_target_": "prunesweep.benchmarks.vcgbench.load", "path": {"_target_": "evil.model"}})
    with pytest.raises(ValueError, match="evil"):
        token_maps.load_trials([trial])
    with pytest.raises(ForeignCodeError, match="evil"):
        grades.questions_of(trial)
    assert "evil" not in sys.modules


def test_interpolations_of_a_folder_read_nothing_of_this_machine(trial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "swordfish")
    text = (trial / "config.yaml").read_text()
    (trial / "config.yaml").write_text(text.replace("name: prunevid", "name: ${oc.env:A_SECRET}"))
    assert "swordfish" not in str(token_maps.load_trials([trial])[0].reducer)
    assert "swordfish" not in str(read_yaml(trial / "config.yaml"))


def test_what_a_folder_names_is_the_very_object_that_the_package_registers() -> None:
    from prunesweep.reducers import Reducer, prunevid

    assert registered("reducer")["prunesweep.reducers.Reducer"] is Reducer
    assert registered("reducer")["prunesweep.reducers.prunevid.Merge"] is prunevid.Merge
    for group in ("model", "benchmark", "reducer", "protocol"):
        assert all(name.startswith("prunesweep.") for name in registered(group))  # no YAML opens a door


def test_an_honest_folder_is_built_as_hydra_builds_it(trial: Path) -> None:
    from hydra.utils import instantiate

    config = OmegaConf.load(trial / "config.yaml")
    plain = read_yaml(trial / "config.yaml")
    for group in ("reducer", "protocol"):
        assert build(plain[group], group, trial) == instantiate(config[group])
    assert list(build(plain["benchmark"]["load"], "benchmark", trial)) == list(instantiate(config.benchmark.load))


WRONG_NUMBERS = {
    "video__frames": [10**9, "lots", 2.5, -1, 0, True, None, [4]],
    "reducer__prune__layer": [10**9, "deep", 2.5, -1, 0, None],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG_NUMBERS.items() for value in values])
def test_numbers_of_a_folder_are_bounded(key: str, value: Any, trial: Path) -> None:
    change(trial, **{key: value})
    with pytest.raises(ValueError, match=r"config\.yaml: " + key.replace("__", r"\.") + " must be ") as error:
        token_maps.load_trials([trial])
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("text", ["[]", "{", "1"])
def test_the_judge_names_a_trial_that_it_cannot_read(text: str, trial: Path) -> None:
    (trial / "trial.json").write_text(text)
    with pytest.raises(UnreadableError, match="out cannot be read as a trial"):
        grades.judge_trial(trial, judge.Judge("http://localhost:1", "x"), judge.Cache(trial / "cache"), None, "leave_out")


def bomb(levels: int = 12) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(lines)


BAD_YAML = {
    "aliases of aliases": bomb(),
    "a cycle": "a: &a\n  b: *a\n",
    "depth": "[" * 5000 + "]" * 5000,
    "depth in blocks": "\n".join("  " * i + f"k{i}:" for i in range(500)),
    "size": "a: " + "x" * (foreign.MOST_BYTES + 1),
    "Python objects": "!!python/object/apply:os.system ['touch marker']",
    "no YAML": "a: [",
    "no text": "a: \udcff",
}


@pytest.mark.parametrize("text", BAD_YAML.values(), ids=BAD_YAML)
def test_yaml_is_bounded(text: str, trial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trial)
    for name in ("config.yaml", "multirun.yaml"):
        (trial / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"config\.yaml") as error:
        token_maps.load_trials([trial])
    assert len(str(error.value)) < 600
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"config\.yaml"):
        grades.questions_of(trial)
    assert command_of(trial) is None
    assert not (trial / "marker").exists()


BAD_JSON = {
    "depth": "[" * 200_000 + "]" * 200_000,
    "size": '{"name": "' + "x" * (foreign.MOST_BYTES + 1) + '"}',
    "a list": "[]",
    "a number": "1",
    "no JSON": "{",
}


@pytest.mark.parametrize("text", BAD_JSON.values(), ids=BAD_JSON)
def test_json_is_bounded(text: str, trial: Path, tmp_path: Path) -> None:
    (trial / "trial.json").write_text(text)
    with pytest.raises(UnreadableError, match="cannot be read as a trial"):
        read_folder(trial)
    with pytest.raises(UnreadableError):
        read_outcomes(tmp_path)
    assert read_description(trial / "trial.json") is None


@pytest.mark.parametrize("name", [None, 3, ["a"], {"a": 1}])
@pytest.mark.parametrize("field", ["name", "reducer", "model", "benchmark", "settings", "shape"])
def test_a_description_with_other_things_than_text_is_unreadable(field: str, name: Any, trial: Path) -> None:
    if field == "settings" and isinstance(name, dict):
        pytest.skip("settings are a mapping")
    described = read_json(trial / "trial.json")
    (trial / "trial.json").write_text(json.dumps({**described, field: name}))
    with pytest.raises(UnreadableError):
        read_folder(trial)


def test_records_that_are_none_are_unreadable(trial: Path) -> None:
    for frame in (pl.DataFrame({"x": [1]}), pl.DataFrame({"sample_id": [1], "video_id": [[1]], "correct": ["yes"]})):
        frame.write_parquet(trial / "records.parquet")
        with pytest.raises(ValueError, match="cannot be read as a trial"):
            read_outcomes(trial.parent)


def test_a_folder_whose_name_is_a_pattern_is_one_folder(trial: Path) -> None:
    """Polars takes `[ab]` for a choice of names."""
    odd = trial.rename(trial.parent / "out [ab]*?")
    assert len(read_folder(odd).records) == 2


def test_pickles_are_not_loaded(tmp_path: Path) -> None:
    import pickle

    from prunesweep.models.checkpoints import pickled_sources

    class Evil:
        def __reduce__(self) -> tuple:
            return open, (str(tmp_path / "marker"), "w")

    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Evil()}))
    with pytest.raises(ValueError, match="never loaded|no table|cannot load"):
        list(pickled_sources([tmp_path / "pytorch_model.bin"]))
    assert not (tmp_path / "marker").exists()


def test_no_module_of_the_package_loads_a_pickle() -> None:
    """`weights_only` is the one door, and it is shut to everything but tensors."""
    calls = (
        "pickle.load",
        "joblib.load",
        "dill",
        "allow_pickle=True",
        "trust_remote_code=True",
        "weights_only=False",
        "yaml.load(",
    )
    for file in (Path(foreign.__file__).parent).rglob("*.py"):
        text = file.read_text().replace("pickle.loads(self._composed[", "copy(")  # bytes that this very object has made
        assert not [call for call in calls if call in text], file
        assert text.count("torch.load(") <= text.count("weights_only=True"), file


def test_a_checkpoint_that_links_out_of_its_folder_is_not_copied(tmp_path: Path) -> None:
    from prunesweep.models.checkpoints import Manifest
    from prunesweep.models.convert import write

    (tmp_path / "secret").write_text("swordfish")
    released = tmp_path / "released"
    released.mkdir()
    (released / "tokenizer.json").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match="link out of the checkpoint's folder"):
        write(Manifest(), {}, released, tmp_path / "out")
    assert not (tmp_path / "out" / "tokenizer.json").exists()


def test_the_hubs_own_links_are_followed(tmp_path: Path) -> None:
    from prunesweep.models.checkpoints import Manifest
    from prunesweep.models.convert import write

    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "0", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "1234").write_text("{}")
    (snapshot / "tokenizer.json").symlink_to("../../blobs/1234")
    write(Manifest(), {}, snapshot, tmp_path / "out")
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"


@pytest.fixture
def store(trial: Path) -> Store:
    return Store.existing(trial.parent / "store")


def test_merging_a_store_follows_no_links(store: Store, tmp_path: Path) -> None:
    key = store.trials()[0].key
    for path in (store.folder / "trials" / key).glob("*"):
        kept = path.rename(tmp_path / f"away-{path.name}")
        path.symlink_to(kept)
    target = Store.open(tmp_path / "mine")
    bad = upkeep.merge(target, store)
    assert {problem.reason for problem in bad} == {"a link: a store has none, and what it leads to may be anything"}
    assert target.trials() == []


@pytest.mark.parametrize("name", ["..", "../..", "x", ""])
def test_a_store_that_names_a_trial_by_another_folder_removes_nothing_there(
    name: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial's key is worked out from what it is made of, never read."""
    (folder,) = (store.folder / "trials").iterdir()
    described = read_json(folder / "trial.json")
    described["key"] = described["made_of"]["key"] = name
    (folder / "trial.json").write_text(json.dumps(described))
    assert store.trials() == []
    monkeypatch.setattr(sys, "argv", ["prunesweep", "store", "prune", "--store", str(store.folder), "--outdated", "--yes"])
    app.main()
    assert folder.exists()
    assert (tmp_path / "out").exists()


def test_a_sample_named_like_a_path_is_drawn_where_pictures_go(trial: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    (loaded,) = token_maps.load_trials([trial])
    for name in ("../../outside", "/etc/outside", "x" * 5000, "a\x00b"):
        sample = replace(next(iter(loaded.samples.values())), id=name)
        (tmp_path / "maps").mkdir(exist_ok=True)
        written = token_pictures.draw([loaded._replace(samples={name: sample})], name, tmp_path / "maps", None)
        assert [path.parent for path in written] == [tmp_path / "maps"]


TOLD = {"class": "prunesweep.reducers.Reducer", "name": "x", "merge": None}
HOSTILE_JOBS: dict[str, dict[str, Any]] = {
    "a model": {"model": {"_target_": "evil.model"}},
    "a benchmark": {"benchmark": {"_target_": "os.system", "command": "touch marker"}},
    "inside a benchmark": {"benchmark": {"_target_": "prunesweep.benchmarks.jsonl.load", "path": {"_target_": "evil.model"}}},
    "arguments of a benchmark": {"benchmark": {"_target_": "prunesweep.benchmarks.jsonl.load", "_args_": ["evil"]}},
    "a reducer": {"reducer": {"class": "evil.Reducer"}},
    "inside a reducer": {"reducer": {**TOLD, "merge": {"class": "prunesweep.reducers.torch.hub.load"}}},
    "inside a list of a reducer": {"reducer": {**TOLD, "merge": [{"class": "os.system", "command": "touch marker"}]}},
    "a function of ours that no YAML names": {"reducer": {"class": "prunesweep.reducers.keep_tokens", "tokens": 1}},
    "a class of ours that is no reducer's": {"reducer": {"class": "prunesweep.results.store.Store"}},
    "a name that is none": {"reducer": {"class": ["prunesweep.reducers.Reducer"], "name": "x"}},
    "a protocol": {"protocol": {"class": "evil.Protocol"}},
}


@pytest.mark.parametrize("hostile", HOSTILE_JOBS.values(), ids=HOSTILE_JOBS)
def test_the_text_of_a_job_elsewhere_runs_nothing_but_registered_code(
    hostile: dict[str, Any], trial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prunesweep.results.keys.fingerprint import described
    from prunesweep.sweep.remote import work_on

    monkeypatch.syspath_prepend(tmp_path)
    config = read_yaml(trial / "config.yaml")
    of_trial = {group: described(build(config[group], group, trial)) for group in ("reducer", "protocol")}
    one = {**of_trial, "name": "x", "frames": 8, "made_of": {}, **{key: hostile[key] for key in of_trial if key in hostile}}
    told = {"folder": str(tmp_path), "store": "store", "name": "x", "samples": {}, "trials": [one]}
    told |= {group: hostile.get(group, config[group]["load"]) for group in ("model", "benchmark")}
    answer = json.loads(work_on(json.dumps(told)))
    assert answer["error"].startswith("the job's text ")
    assert answer["unexpected"] is None
    assert not list(tmp_path.rglob("marker"))
    assert "evil" not in sys.modules


def test_code_that_the_command_allows_is_a_dataclass_where_a_method_is_told() -> None:
    with pytest.raises(ValueError, match=r"os\.system is no dataclass"):
        foreign.restored({"class": "os.system", "command": "touch marker"}, "reducer", "x", ["os.system"])
