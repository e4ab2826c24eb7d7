"""Settings in plain values are OmegaConf's own, and resolved once for what differs in numbers that nothing reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from prunesweep.cli import run  # noqa: F401  # registers the resolvers
from prunesweep.sweep import resolved as module
from prunesweep.sweep.resolved import resolved
from support.places import CONF

OWN = {
    "a number that is read": [{"a": {"b": n, "c": "${.b}"}, "d": "${a.b}"} for n in (1, 2)],
    "from another level": [{"a": {"b": {"c": "${..n}"}, "n": n}} for n in (1, 2)],
    "a section that is read": [{"a": {"b": n}, "c": "${a}", "d": {"e": "${a}", "f": [1, "${a.b}"]}} for n in (1, 2.5)],
    "read by a name in brackets": [{"a": {"b": n}, "c": "${a[b]}"} for n in (1, 2)],
    "read by a name that is read": [{"a": {"b": 1, "x": n}, "k": "x", "c": "${a.${k}}"} for n in (1, 2)],
    "read by a resolver": [{"model": {"prune_layer": n}, "l": "${paper_layer:5}"} for n in (10, 20)],
    "read by a resolver's argument": [{"a": {"path": f"/x/{n}", "n": n, "name": "${folder_name:${.path}}"}} for n in (1, 2)],
    "a number as an argument": [{"a": n, "b": "${folder_name:${a}.x}"} for n in (1, 2)],
    "kinds of values": [{"a": v, "b": [v, {"c": v}], "c": {"d": v}} for v in (1, 1.0, True, "1", None, float("inf"), "???", -1)],
    "keys": [{"a": {1: n, "1": 0}, "b": {True: n}, "c": {"x.y": n}} for n in (1, 2)],
    "escaped": [{"a": {"n": n}, "b": r"\${a.n}"} for n in (1, 2)],
}


@pytest.mark.parametrize("kind", OWN)
def test_settings_are_resolved_as_omegaconf_does(kind: str) -> None:
    for raw in OWN[kind] * 2:
        config = OmegaConf.create(raw)
        assert repr(resolved(config)) == repr(OmegaConf.to_container(config, resolve=True)), raw


def test_a_resolver_that_may_read_anything_is_asked_each_time() -> None:
    values = iter(range(9))
    OmegaConf.register_new_resolver("counted", lambda: next(values), replace=True)
    config = OmegaConf.create({"a": 1, "b": "${counted:}"})
    assert [resolved(config)["b"] for _ in range(3)] == [0, 1, 2]
    OmegaConf.clear_resolver("counted")


@pytest.fixture
def loader() -> Iterator[Any]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()
    GlobalHydra.instance().clear()


def composed(loader: Any, *overrides: str) -> DictConfig:
    return loader.load_configuration("eval", list(overrides), RunMode.RUN)


CHANGES = ("video.frames=7", "benchmark.limit=3", "model.prune_layer=3", "retry_errors=true", "+more=${video.frames}")


@pytest.mark.parametrize("reducer", sorted(path.stem for path in (CONF / "reducer").glob("*.yaml")))
def test_every_method_is_resolved_as_omegaconf_does(loader: Any, reducer: str) -> None:
    for change in ((), *((one,) for one in CHANGES)):
        config = composed(loader, f"reducer={reducer}", *change)
        expected = OmegaConf.to_container(OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]), resolve=True)
        assert resolved(config) == expected


def test_settings_that_differ_in_a_free_number_are_resolved_once(loader: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [composed(loader, "reducer=prunevid", f"reducer.prune.keep_ratio=0.{n}") for n in range(1, 8)]
    asked: list[DictConfig] = []
    original = module._by_omegaconf
    monkeypatch.setattr(module, "_by_omegaconf", lambda config: (asked.append(config), original(config))[1])
    module._kind.cache_clear()
    assert [resolved(config)["reducer"]["prune"]["keep_ratio"] for config in configs] == [n / 10 for n in range(1, 8)]
    assert len(asked) == 1
    first, second = resolved(configs[0]), resolved(configs[0])
    first["reducer"]["prune"]["layer"] = "changed"
    assert second["reducer"]["prune"]["layer"] != "changed"
