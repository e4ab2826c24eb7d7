"""Which keys a configuration may have: a key that nothing reads is a mistake, and says so before anything runs.

A key of a section is read if one of these is true:

- the command's own YAML has it (`conf/eval.yaml`), or the YAML of the section's choice, such as `conf/model/tiny.yaml`;
- it lies in a node with a `_target_`: the class or function says itself what it does not take;
- an interpolation mentions it, wherever that stands: `+lab=/data benchmark.path='${lab}/mvbench'`;
- a group of the user's own put it there.

Of Hydra's sections, `run`, `sweep` and `job` have the keys that Hydra declares, `launcher` and `sweeper` those that they take.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from hydra.conf import HydraConf, JobConf, RunDir, SweepDir
from hydra.core.config_store import ConfigStore
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from prunesweep.checks import RANK_SETTINGS, RANKS_ARE_SPAWNED
from prunesweep.paths import CONF
from prunesweep.targets import TARGET

EVALUATION = "eval"
"""The primary configuration that `prunesweep` reads; sweeps and searches begin with it."""
INTERPOLATED = re.compile(r"\$\{([^}]*)")
NAMES = re.compile(r"[.\w]+")
CLOSE, ALIKE = 0.6, 0.85
"""Likeness from which on a key is taken for a slip of one beside it (difflib's own default), and of one elsewhere."""
NAMED_SWEEP = "a named sweep is run with --config-dir sweeps --config-name NAME"
PATHS = ("store.folder", "engine.cache", "benchmark.path", "model.checkpoint")
"""Folders whose names Hydra may take for numbers or lists."""
GROUPS = tuple(sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra"))


def require_known_keys(config: DictConfig, hydra: DictConfig | None = None, primary: str = EVALUATION) -> None:
    """Raises ValueError for a key that nothing reads, or a group with several choices at once.

    `hydra` is the configuration's node of that name, where it has none.
    """
    raw: Any = OmegaConf.to_container(config, resolve=False)
    if hydra is not None:
        raw["hydra"] = OmegaConf.to_container(hydra, resolve=False)
    own = raw["hydra"]
    require_known_hydra_keys(own)
    for override in own["overrides"]["task"]:
        _require_one_choice(override)
    for key in PATHS:
        _require_text(key, raw)
    sources = tuple(str(source["path"]) for source in own["runtime"]["config_sources"] if source["schema"] == "file")
    choices = {group: choice for group, choice in own["runtime"]["choices"].items() if not group.startswith("hydra/")}
    for key in unread(raw, choices, sources, primary):
        raise ValueError(no_such_key(key, raw))


HYDRAS = {"": HydraConf, "run": RunDir, "sweep": SweepDir, "job": JobConf}
"""Sections of `hydra` whose keys Hydra declares; what it is given with a plus it would keep and not read."""
PLUGINS = ("launcher", "sweeper")


def require_known_hydra_keys(own: Mapping[str, Any]) -> None:
    """Raises ValueError for a key of `hydra` that neither Hydra nor its launcher or sweeper reads."""
    known = {section: {field.name for field in fields(declared)} for section, declared in HYDRAS.items()}
    known[""].add("env")  # a group, empty
    known |= {kind: taken for kind in PLUGINS if (taken := _taken(kind, own)) is not None}
    for section, names in known.items():
        node = own.get(section) if section else own
        for key in sorted({*map(str, node)} - names) if isinstance(node, Mapping) else ():
            at = f"hydra.{section}".rstrip(".")
            close = difflib.get_close_matches(key, sorted(names), 1, CLOSE)
            meant = f"did you mean {at}.{close[0]}?" if close else f"{at} has {', '.join(sorted(names - SPECIAL))}"
            raise ValueError(f"no key {f'{at}.{key}'!r}; {meant}")


SPECIAL = {TARGET, "_args_", "_convert_", "_partial_", "_recursive_", "defaults"}


def _taken(kind: str, own: Mapping[str, Any]) -> set[str] | None:
    """What a launcher or sweeper takes: of its signature, and where that takes any, of its configuration; None if unknown."""
    try:
        taken = inspect.signature(get_object(str(own[kind][TARGET]))).parameters
    except (ImportError, KeyError, TypeError, ValueError):  # it is not installed, which Hydra says where it is used
        return None
    if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in taken.values()):
        return {*taken, *SPECIAL}
    choice = own["runtime"]["choices"].get(f"hydra/{kind}")
    declared = _declared_by_plugin(kind, str(choice))
    return {*taken, *declared, *SPECIAL} if declared else None


def _declared_by_plugin(kind: str, choice: str) -> set[str]:
    """Keys of a choice as its plugin or our YAML has them."""
    if (path := CONF / "hydra" / kind / f"{choice}.yaml").is_file():
        return set(_file(str(path)))
    group = ConfigStore.instance().repo.get("hydra", {}).get(kind, {})
    node = getattr(group.get(f"{choice}.yaml"), "node", None)
    return set(map(str, node)) if node is not None else set()


def _require_text(key: str, raw: Mapping[str, Any]) -> None:
    section, _, name = key.partition(".")
    value = raw[section].get(name) if isinstance(raw.get(section), Mapping) else None
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} must be text, got {value!r}; quote it for Hydra and for the shell: '{key}=\"...\"'")


def _require_one_choice(override: str) -> None:
    group, _, value = override.lstrip("+").partition("=")
    if group in GROUPS and value.startswith("["):
        several = value.strip("[]").replace(" ", "")
        raise ValueError(f"{override} lays several choices over one another; to run one after the other: -m {group}={several}")


def unread(raw: Mapping[str, Any], choices: Mapping[str, Any], sources: Sequence[str], primary: str = EVALUATION) -> list[str]:
    """The sections, and keys of sections, that nothing reads; `raw` is the whole configuration, not resolved."""
    own = _file(str(CONF / f"{primary}.yaml"))
    names = set(mentioned(raw))
    found = []
    for section, node in raw.items():
        if section == "hydra" or section in names or (section in choices and section not in GROUPS):
            continue
        if section not in own and section not in GROUPS:
            found += [] if _is_mentioned(section, names) else [section]
        elif isinstance(node, Mapping) and TARGET not in node:
            declared = _declared(section, choices.get(section), tuple(sources))
            read = None if declared is None else declared | set(own.get(section) or ())
            keys = [f"{section}.{key}" for key in node if read is not None and key not in read]
            found += [key for key in keys if not _is_mentioned(key, names) and not _is_group(key, choices)]
    return found


def _is_group(key: str, choices: Mapping[str, Any]) -> bool:
    """Whether a group of the user's own, such as `model/adapter`, is at this key."""
    return any(group.replace("/", ".").rpartition("@")[2] == key for group in choices)


@cache
def _declared(group: str, choice: Any, sources: tuple[str, ...]) -> set[str] | None:
    """Keys in the YAML of a group's choice and of those that it begins with; None if it is in no folder that can be read."""
    if not isinstance(choice, str):
        return set()
    files = [path for source in sources if (path := Path(source) / group / f"{choice}.yaml").is_file()]
    if not files:
        return None
    content = _file(str(files[0]))
    named = [entry for entry in content.get("defaults", ()) if isinstance(entry, str) and entry != "_self_"]
    return set(content).union(*(_declared(group, entry, sources) or set() for entry in named))


@cache
def _file(path: str) -> dict[str, Any]:
    content: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    return content or {}


def mentioned(node: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Dotted names in interpolations; one that is relative as a name from the top."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from mentioned(value, (*path, str(key)))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from mentioned(value, (*path, str(index)))
    elif isinstance(node, str) and "${" in node:
        for inside in INTERPOLATED.findall(node):
            for name in NAMES.findall(inside):
                up = len(name) - len(name.lstrip("."))
                yield ".".join([*path[: len(path) - up], name[up:]]) if up else name


def _is_mentioned(key: str, names: set[str]) -> bool:
    return any(name == key or name.startswith(f"{key}.") or key.startswith(f"{name}.") for name in names)


# What was meant


def not_overridden(key: str, raw: Mapping[str, Any]) -> str:
    """What to say where Hydra found no place for a value."""
    if _has(raw, key.split(".")):
        return f"{key} takes keys that it does not have yet with a plus in front: +{key}=..."
    return no_such_key(key, raw)


def no_such_key(key: str, raw: Mapping[str, Any]) -> str:
    """What to say of a key that nothing reads: who has it, or what was probably meant.  `raw` is the whole configuration."""
    if key in RANK_SETTINGS:
        return RANKS_ARE_SPAWNED
    said = f"no key {key!r} with these choices of groups"
    group = key.partition(".")[0]
    section = raw.get(group)
    own = section.get("name") if isinstance(section, Mapping) else None
    if others := [choice for choice in _choices_with(key) if choice != own]:
        have = f"{', '.join(others)} {'has' if len(others) == 1 else 'have'} it"
        return f"{said}: {group}={own} lacks it, {have}{_as_grids(key, own, others[0]) if group == 'reducer' else ''}"
    if meant := _closest(key, raw):
        return f"{said}; did you mean {meant}?"
    return f"{said}; {'prunesweep --cfg job shows all keys' if '.' in key else NAMED_SWEEP}"


def _as_grids(key: str, method: str | None, other: str) -> str:
    grids = f"[{{reducer: {method}}}, {{reducer: {other}, {key}: VALUE}}]"
    return f"; in a sweep of several give each its own settings: hydra/sweeper=grids 'hydra.sweeper.grids={grids}'"


def _choices_with(key: str) -> list[str]:
    """The shipped choices of a key's group whose YAML has it."""
    group, *parts = key.split(".")
    files = sorted((CONF / group).glob("*.yaml")) if group in GROUPS else []
    return [file.stem for file in files if parts and _has(_file(str(file)), parts)]


def _has(node: Any, parts: Sequence[str]) -> bool:
    for part in parts:
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return True


def _closest(key: str, raw: Mapping[str, Any]) -> str | None:
    """Of the keys beside it, else of all by their whole names, else by their last parts."""
    known = [name for name in _keys(raw) if name != key and not name.startswith(f"{key}.")]
    parent, _, leaf = key.rpartition(".")
    beside = [name for name in known if name.rpartition(".")[0] == parent]
    for names, likeness in ((beside, CLOSE), (known, ALIKE)):
        leaves = {name.rpartition(".")[2]: name for name in reversed(names)}
        if close := difflib.get_close_matches(leaf, leaves, 1, likeness):
            return leaves[close[0]]
    return next(iter(difflib.get_close_matches(key, known, 1, ALIKE)), None)


def _keys(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys outside Hydra's, those of sections before those within them."""
    for key in node:
        if prefix or (key != "hydra" and not str(key).startswith("_")):
            yield f"{prefix}{key}"
    for key, value in node.items():
        if isinstance(value, Mapping) and (prefix or key != "hydra"):
            yield from _keys(value, f"{prefix}{key}.")


def unknown_setting(name: str, target: str, key: str) -> str:
    """What to say of a setting that a class or function does not take."""
    known = list(inspect.signature(get_object(target)).parameters)
    close = difflib.get_close_matches(name, known, 1, CLOSE)
    meant = f"did you mean {key}.{close[0]}?" if close else f"known: {', '.join(known)}"
    return f"{key} has no setting {name!r}; {meant}"
