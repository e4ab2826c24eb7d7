"""Names of code in files: every one is there, and those of files written before still mean what they meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from conftest import CONF, ROOT
from prunesweep.engine.protocol import Protocol
from prunesweep.foreign import build, targets
from prunesweep.targets import MOVED, instantiate, today

MOVED_PROTOCOL = "prunesweep.protocol.Protocol"
FILES = [*sorted(CONF.rglob("*.yaml")), *sorted((ROOT / "sweeps").glob("*.yaml"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_target_of_the_configuration_imports_and_has_its_name_of_today(path: Path) -> None:
    for name in targets(OmegaConf.to_container(OmegaConf.load(path), resolve=False)):
        assert get_object(name) is not None
        assert today(name) == name


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


def test_lists_of_a_configuration_arrive_as_lists() -> None:
    made = instantiate(OmegaConf.create({"_target_": "builtins.dict", "layers": [1, 2], "inner": {"a": [3]}}))
    assert type(made["layers"]) is list
    assert type(made["inner"]) is dict
