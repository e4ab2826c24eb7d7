"""Names of code in configurations and stores: what Hydra makes of a `_target_`, and where modules lay before.

A saved `config.yaml`, a store, and a YAML file or a module of somebody's own go on saying what a class was called when they were
written.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import is_dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from prunesweep.paths import PACKAGE

TARGET = "_target_"
MOVED = {
    **{f"prunesweep.{name}": f"prunesweep.types.{name}" for name in ("caches", "facts", "slots", "tower")},
    "prunesweep.answers": "prunesweep.engine.answers",
    "prunesweep.callbacks": "prunesweep.cli.callbacks",
    "prunesweep.clustering": "prunesweep.reducers.parts.clustering",
    "prunesweep.comparison": "prunesweep.analysis.comparison",
    "prunesweep.decoding": "prunesweep.video.decoder",
    "prunesweep.effects": "prunesweep.analysis.ablation",
    "prunesweep.engine": "prunesweep.engine.prefix_tree",
    "prunesweep.figures": "prunesweep.report.figures",
    "prunesweep.films": "prunesweep.video.films",
    "prunesweep.fingerprint": "prunesweep.results.keys.fingerprint",
    "prunesweep.harness": "prunesweep.video.harness",
    "prunesweep.measure": "prunesweep.engine.latency",
    "prunesweep.outcomes": "prunesweep.analysis.outcomes",
    "prunesweep.packets": "prunesweep.video.packets",
    "prunesweep.paper": "prunesweep.report.tables",
    "prunesweep.plots": "prunesweep.report.plots",
    "prunesweep.protocol": "prunesweep.engine.protocol",
    "prunesweep.racing": "prunesweep.sweep.racing",
    "prunesweep.records": "prunesweep.results.records",
    "prunesweep.sources": "prunesweep.results.read",
    "prunesweep.stages": "prunesweep.engine.stages",
    "prunesweep.statistics": "prunesweep.analysis.significance",
    "prunesweep.store": "prunesweep.results.store",
    "prunesweep.tables": "prunesweep.report.text",
    "prunesweep.timeline": "prunesweep.video.timeline",
    "prunesweep.tokenmaps": "prunesweep.report.token_maps",
    "prunesweep.validity": "prunesweep.engine.validity",
    "prunesweep.verdict": "prunesweep.report.verdict",
    "prunesweep.video": "prunesweep.video.reader",
}
"""Modules whose names are in files that were written before version 0.2, or that people's own code may import."""


class FormerModules(MetaPathFinder, Loader):
    """Imports a module by its former name, with a warning that says the name of today; to be appended to `sys.meta_path`."""

    def find_spec(self, fullname: str, *_: Any) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """The very objects of the module of today; a second copy of its classes would equal none of them."""
        new = MOVED[module.__name__]
        warnings.warn(f"{module.__name__} is {new} now; its former name goes with the next release", FutureWarning, stacklevel=2)
        own = vars(importlib.import_module(new))
        vars(module).update({name: value for name, value in own.items() if not name.startswith("__")})


def _is_module(name: str) -> bool:
    place = PACKAGE.joinpath(*name.split(".")[1:])
    return place.with_suffix(".py").is_file() or place.is_dir()


def today(name: str) -> str:
    """A module, or `module.definition`, as it is called now."""
    module, _, definition = name.rpartition(".")
    if module in MOVED and not _is_module(name):  # `prunesweep.engine` was a module, and is a package now
        return f"{MOVED[module]}.{definition}"
    return MOVED.get(name, name)


def renamed(node: Any) -> Any:
    """Plain values whose targets are called as they are now."""
    if isinstance(node, dict):
        return {key: today(value) if key == TARGET and isinstance(value, str) else renamed(value) for key, value in node.items()}
    return [renamed(item) for item in node] if isinstance(node, list) else node


def instantiate(node: Any, at: str = "") -> Any:
    """As Hydra's, of targets by their names of today or of before; lists and mappings arrive as Python's own.

    Errors about plain values name the key that these are `at` in a configuration.
    """
    from hydra import utils
    from omegaconf import OmegaConf

    if OmegaConf.is_config(node):
        plain = OmegaConf.to_container(node, resolve=False)
        if renamed(plain) == plain:
            return utils.instantiate(node, _convert_="all")  # the node itself, whose errors name the whole key
        node = OmegaConf.to_container(node, resolve=True)
    node = renamed(node)
    if isinstance(node, dict) and TARGET in node:
        with suppress(Exception):  # whatever it is, Hydra says it with the key
            return _again(node)
    found = utils.instantiate(_at(node, at) if at else node, _convert_="all")
    BUILT.update(_targets(node))
    return found


def _at(node: Any, at: str) -> Any:
    """Plain values as a configuration's that lie there."""
    from omegaconf import OmegaConf

    whole: Any = node
    for key in reversed(at.split(".")):
        whole = {key: whole}
    return OmegaConf.select(OmegaConf.create(whole, flags={"allow_objects": True}), at)


BUILT: set[str] = set()
"""Targets that Hydra has found and allowed in this process."""
HYDRAS_OWN = ("_args_", "_convert_", "_partial_", "_recursive_")


class _NotPlainError(Exception):
    """Something that only Hydra knows how to build."""


def _again(node: Any) -> Any:
    """Frozen dataclasses of plain values, as Hydra builds them in 7 ms: a sweep has thousands that differ in a number.

    Only of classes that it has built before: what may be named at all is its to say.
    """
    if isinstance(node, dict):
        given = {key: _again(value) for key, value in node.items() if key != TARGET}
        if not all(isinstance(key, str) and key not in HYDRAS_OWN for key in given):
            raise _NotPlainError
        return _frozen(node[TARGET])(**given) if TARGET in node else given
    if isinstance(node, list):
        return [_again(item) for item in node]
    if node is None or isinstance(node, (bool, int, float)) or (isinstance(node, str) and "$" not in node and node != "???"):
        return node
    raise _NotPlainError


def _frozen(target: Any) -> Any:
    from hydra.utils import get_object

    found: Any = get_object(target) if isinstance(target, str) and target in BUILT else None
    frozen = getattr(getattr(found, "__dataclass_params__", None), "frozen", False)
    if not (isinstance(found, type) and is_dataclass(found) and frozen):
        raise _NotPlainError
    return found


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, (dict, list)):
        for value in node.values() if isinstance(node, dict) else node:
            yield from _targets(value)
    if isinstance(node, dict) and isinstance(node.get(TARGET), str):
        yield node[TARGET]
