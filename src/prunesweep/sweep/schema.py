"""Which keys a configuration may have: a key that nothing reads is a mistake, and says so before anything runs.

A key of a section is read if one of these is true:

- the command's own YAML has it (`conf/eval.yaml`), or the YAML of the section's choice, such as `conf/model/tiny.yaml`;
- it lies in a node with a `_target_`: the class or function says itself what it does not take;
- an interpolation mentions it, wherever that stands: `+lab=/data benchmark.path='${lab}/mvbench'`;
- a group of the user's own put it there.

Of Hydra's sections, `run`, `sweep` and `job` have the keys that Hydra declares, `launcher` and `sweeper` those that they take.
"""

from __future__ import annotations

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

from prunesweep.console.meant import closest, unknown
from prunesweep.paths import CONF, is_there
from prunesweep.reducers import SLOTS
from prunesweep.sweep.slips import (
    EVALUATION,
    GROUPS,
    METHOD,
    ONE_ONLY,
    PATHS,
    SPECIAL,
    as_a_folder,
    choices_of,
    choices_with,
    has,
    no_part,
    no_such_key,
    parted_at_commas,
    shipped,
    value_at,
)
from prunesweep.targets import TARGET

INTERPOLATED = re.compile(r"\$\{([^}]*)")
NAMES = re.compile(r"[.\w]+")
NOTHING = ("null", "None", "~", "false")
NO_NAME = re.compile(rf"{'|'.join(NOTHING)}|true|[-+.\d]*|/.*")
"""Values that Hydra takes for no choice of a group."""
OPTIONAL = {"logger", "sampler"}
"""Groups that a run may be without."""
WITHOUT = {"store": "without a store: store.folder=null", "race": "without a race: race.rounds=1"}


def require_known_keys(
    config: DictConfig, hydra: DictConfig | None = None, primary: str = EVALUATION, methods: Sequence[str] = ()
) -> None:
    """Raises ValueError for a key that nothing reads, one that is read and was taken away, or a group with several choices.

    `hydra` is the configuration's node of that name, where it has none; `methods` are those of the whole sweep.
    """
    raw: Any = OmegaConf.to_container(config, resolve=False)
    if hydra is not None:
        raw["hydra"] = OmegaConf.to_container(hydra, resolve=False)
    own = raw["hydra"]
    require_known_hydra_keys(own)
    require_choices(own["overrides"]["task"])
    _require_nothing_taken(own["overrides"]["task"], raw, primary)
    for key in PATHS:
        _require_text(key, raw)
    sources = tuple(str(source["path"]) for source in own["runtime"]["config_sources"] if source["schema"] == "file")
    choices = {group: choice for group, choice in own["runtime"]["choices"].items() if not group.startswith("hydra/")}
    _require_sections(raw, primary)
    _require_parts(raw, methods)
    for key in unread(raw, choices, sources, primary):
        raise ValueError(no_such_key(key, raw, methods))


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
            close = closest(key, sorted(names))
            meant = f"did you mean {at}.{close}?" if close else f"{at} has {', '.join(sorted(names - SPECIAL))}"
            raise ValueError(f"no key {f'{at}.{key}'!r}; {meant}")


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
        return set(shipped(str(path)))
    group = ConfigStore.instance().repo.get("hydra", {}).get(kind, {})
    node = getattr(group.get(f"{choice}.yaml"), "node", None)
    return set(map(str, node)) if node is not None else set()


def _require_text(key: str, raw: Mapping[str, Any]) -> None:
    section, _, name = key.partition(".")
    value = raw[section].get(name) if isinstance(raw.get(section), Mapping) else None
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} must be text, got {value!r}; quote it for Hydra and for the shell: '{key}=\"...\"'")


def _require_sections(raw: Mapping[str, Any], primary: str) -> None:
    """Raises ValueError for a value in the place of a whole section of settings."""
    declared = shipped(str(CONF / f"{primary}.yaml"))
    inner = [f"{section}.{key}" for section, node in raw.items() if isinstance(node, Mapping) for key in node if key == "load"]
    for section in [*(section for section, node in declared.items() if isinstance(node, Mapping)), *inner]:
        value = value_at(raw, section.split(".")) if has(raw, section.split(".")) else None
        if section == "hydra" or isinstance(value, Mapping) or "${" in str(value):
            continue
        keys = [f"{section}.{key}" for key in declared.get(section, ()) if key not in SPECIAL] or [f"{section}.KEY"]
        way = WITHOUT.get(section) if value is None else as_a_folder(section.partition(".")[0], value).removeprefix("; ")
        said = f"{section}={'null' if value is None else value} takes the place of all its settings"
        raise ValueError(f"{said}; {way or 'they are ' + ', '.join(keys)}")


def _require_parts(raw: Mapping[str, Any], methods: Sequence[str]) -> None:
    """Raises ValueError for settings of a part that the method does not have, or for what is no part."""
    reducer = raw.get("reducer")
    if not isinstance(reducer, Mapping) or reducer.get(TARGET) != METHOD:
        return
    for slot in SLOTS:
        part = reducer.get(slot)
        if isinstance(part, Mapping) and TARGET not in part and part:
            raise ValueError(no_part(slot, next(iter(part)), raw, methods))
        if part is not None and not isinstance(part, Mapping) and "${" not in str(part):
            raise ValueError(f"reducer.{slot}={part} is no part of a method: null leaves it out, reducer.{slot}.KEY sets it up")


def _require_nothing_taken(overrides: Sequence[str], raw: Mapping[str, Any], primary: str) -> None:
    """Raises ValueError for `~KEY` of a key that is read by its name; settings of a `_target_` have defaults."""
    declared = shipped(str(CONF / f"{primary}.yaml"))
    for override in overrides:
        key = override[1:].partition("=")[0]
        parts = key.split(".")
        if not override.startswith("~") or not (has(declared, parts) or choices_with(key)):
            continue
        node = value_at(raw, parts[:-1]) if has(raw, parts[:-1]) else None
        if isinstance(node, Mapping) and TARGET not in node:
            raise ValueError(f"~{key} takes away what is read; {key}=VALUE sets it, without it the default stands")


def require_choices(overrides: Sequence[str]) -> None:
    """Raises ValueError for an override that gives a group something else than the name of a choice, or names."""
    for override in overrides:
        if override.startswith("~") and (group := override[1:].partition("=")[0]) in set(GROUPS) - OPTIONAL:
            known = ", ".join(choices_of(group))
            raise ValueError(f"~{group} leaves no {group}, and there must be one: {group}=NAME chooses another of {known}")
        group, sign, value = override.lstrip("+").partition("=")
        if group not in GROUPS or not sign:
            continue
        if value.startswith("["):
            alone = f"-m {group}={value.strip('[]').replace(' ', '')}"
            raise ValueError(f"{override} lays several choices over one another; to run one after the other: {alone}")
        if NO_NAME.fullmatch(value):
            meant = "none" if value in NOTHING else value
            raise ValueError(f"{unknown(group, meant, choices_of(group), said=value)}{as_a_folder(group, value)}")


def require_whole_paths(overrides: Sequence[str]) -> None:
    """Raises ValueError where Hydra would part a file's or a folder's name at its commas, and run what is no trial."""
    for override in overrides:
        key, _, value = override.partition("=")
        if "," in value and not value.startswith(("'", '"', "[", "{")) and (key in ONE_ONLY or is_there(value)):
            raise ValueError(parted_at_commas(override))


def unread(raw: Mapping[str, Any], choices: Mapping[str, Any], sources: Sequence[str], primary: str = EVALUATION) -> list[str]:
    """The sections, and keys of sections, that nothing reads; `raw` is the whole configuration, not resolved."""
    own = shipped(str(CONF / f"{primary}.yaml"))
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
    content = shipped(str(files[0]))
    named = [entry for entry in content.get("defaults", ()) if isinstance(entry, str) and entry != "_self_"]
    parts = {entry.partition("@")[2] for entry in named if "@" in entry}  # of another method, by the name that it gets here
    own = (_declared(group, entry, sources) or set() for entry in named if "@" not in entry)
    return set(content).union(parts, *own)


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
