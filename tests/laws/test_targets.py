"""Names of code in files: every one is there, and those of files written before still mean what they meant."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from hydra.errors import InstantiationException
from hydra.utils import get_object
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue

from prunesweep.disk.foreign import build, read_json, read_yaml, targets
from prunesweep.engine.protocol import Protocol
from prunesweep.paths import PACKAGE
from prunesweep.results.keys.syntax import find_installed
from prunesweep.targets import MOVED, TARGET, instantiate, today
from prunesweep.video import read_clip, reader
from support.places import CONF, DATA, ROOT

MOVED_PROTOCOL = "prunesweep.protocol.Protocol"
SAVED = [path for kind in ("json", "yaml") for path in sorted(DATA.rglob(f"*.{kind}")) if TARGET in path.read_text("utf-8")]
"""Descriptions and configurations that earlier versions wrote."""
FILES = [*sorted(CONF.rglob("*.yaml")), *sorted((ROOT / "sweeps").glob("*.yaml"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_target_of_the_configuration_imports_and_has_its_name_of_today(path: Path) -> None:
    for name in targets(OmegaConf.to_container(OmegaConf.load(path), resolve=False)):
        assert get_object(name) is not None
        assert today(name) == name


def test_every_target_of_saved_files_is_found_whether_it_has_moved_or_not() -> None:
    named = {name for path in SAVED for name in targets(read_json(path) if path.suffix == ".json" else read_yaml(path))}
    assert {today(name) == name for name in named} == {True, False}
    for name in named:
        assert get_object(today(name)) is not None


@pytest.mark.parametrize("former", MOVED)
def test_every_moved_module_is_where_the_table_says(former: str) -> None:
    assert get_object(today(former)).__name__ == MOVED[former]
    assert today(f"{former}.Thing") == f"{MOVED[former]}.Thing"
    assert today(f"{former}er") == f"{former}er"


def test_a_configuration_that_was_saved_before_is_read_and_run_as_it_was() -> None:
    saved = {"_target_": "prunesweep.engine.protocol.Protocol", "style": "words", "answering": "choose"}
    before = OmegaConf.create({"protocol": {**saved, "_target_": MOVED_PROTOCOL, "answering": "${how}"}, "how": "choose"})
    assert isinstance(instantiate(before.protocol), Protocol)
    assert instantiate(before.protocol) == instantiate(saved)
    assert build({**saved, "_target_": MOVED_PROTOCOL}, "protocol", Path()) == instantiate(saved)


FORMER = [name for name in MOVED if not (PACKAGE / name.partition(".")[2]).is_dir()]


def test_own_code_may_import_by_former_names_for_a_while() -> None:
    for name in FORMER:
        sys.modules.pop(name, None)
        with pytest.warns(FutureWarning, match=f"{name} is {MOVED[name]} now"):
            former = importlib.import_module(name)
        now = vars(importlib.import_module(MOVED[name]))
        assert {key: value for key, value in vars(former).items() if not key.startswith("__")} == {
            key: value for key, value in now.items() if not key.startswith("__")
        }
    assert read_clip is reader.read_clip  # of a package that was a module
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("prunesweep.never")


def test_the_key_follows_former_names() -> None:
    for name in FORMER:
        assert find_installed(name) == find_installed(MOVED[name])


def test_lists_of_a_configuration_arrive_as_lists() -> None:
    made = instantiate(OmegaConf.create({"_target_": "builtins.dict", "layers": [1, 2], "inner": {"a": [3]}}))
    assert type(made["layers"]) is list
    assert type(made["inner"]) is dict


def test_a_class_that_hydra_has_built_is_built_again_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"_target_": "prunesweep.engine.protocol.Protocol", "style": "words", "answering": "choose"}
    first = instantiate(settings)
    monkeypatch.setattr("hydra.utils.instantiate", lambda *_, **__: pytest.fail("asked again"))
    assert instantiate(settings, at="protocol") == first


def test_what_is_built_again_is_refused_as_hydra_does() -> None:
    instantiate({"_target_": "prunesweep.engine.protocol.Protocol", "style": "words", "answering": "choose"})
    for wrong in ({"style": "wrods"}, {"stile": "words"}, {"style": "???"}, {"style": {"_target_": "builtins.exec"}}):
        with pytest.raises((InstantiationException, MissingMandatoryValue), match="protocol"):
            instantiate({"_target_": "prunesweep.engine.protocol.Protocol", "answering": "choose", **wrong}, at="protocol")
