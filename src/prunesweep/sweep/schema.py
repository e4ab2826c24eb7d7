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

from prunesweep.checks import RANK_SETTINGS, RANKS_ARE_SPAWNED
from prunesweep.meant import CLOSE, closest, unknown
from prunesweep.paths import CONF, SWEEPS, is_there
from prunesweep.reducers import SLOTS
from prunesweep.targets import TARGET

EVALUATION = "eval"
"""The primary configuration that `prunesweep` reads; sweeps and searches begin with it."""
INTERPOLATED = re.compile(r"\$\{([^}]*)")
NAMES = re.compile(r"[.\w]+")
NOTHING = ("null", "None", "~", "false")
NO_NAME = re.compile(rf"{'|'.join(NOTHING)}|true|[-+.\d]*|/.*")
"""Values that Hydra takes for no choice of a group."""
ELSEWHERE, ALIKE = 0.82, 0.85
"""Likeness from which on a key is a slip of one in another section, and of one beside it though another has its very name."""
SEVERAL = 2
"""Keys of one name in different sections that one of them is still meant by."""
NAMED_SWEEP = "a named sweep is run with prunesweep sweep NAME"
LIKE_A_SWEEP = ("experiment", "sweep", "search", "config")
"""Keys that other Hydra projects name a sweep by."""
WITHOUT = {"store": "without a store: store.folder=null", "race": "without a race: race.rounds=1"}
PATHS = ("store.folder", "engine.cache", "benchmark.path", "model.checkpoint")
"""Folders whose names Hydra may take for numbers or lists."""
ONE_ONLY = ("store.folder", "engine.cache")
"""Folders that all trials of a sweep share."""
METHOD, DEFAULT_METHOD = "prunesweep.reducers.Reducer", "prunevid"
GROUPS = tuple(sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name not in ("hydra", "step")))


def require_known_keys(config: DictConfig, hydra: DictConfig | None = None, primary: str = EVALUATION) -> None:
    """Raises ValueError for a key that nothing reads, or a group with several choices at once.

    `hydra` is the configuration's node of that name, where it has none.
    """
    raw: Any = OmegaConf.to_container(config, resolve=False)
    if hydra is not None:
        raw["hydra"] = OmegaConf.to_container(hydra, resolve=False)
    own = raw["hydra"]
    require_known_hydra_keys(own)
    require_choices(own["overrides"]["task"])
    for key in PATHS:
        _require_text(key, raw)
    sources = tuple(str(source["path"]) for source in own["runtime"]["config_sources"] if source["schema"] == "file")
    choices = {group: choice for group, choice in own["runtime"]["choices"].items() if not group.startswith("hydra/")}
    _require_sections(raw, primary)
    _require_parts(raw)
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
            close = closest(key, sorted(names))
            meant = f"did you mean {at}.{close}?" if close else f"{at} has {', '.join(sorted(names - SPECIAL))}"
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


def _require_sections(raw: Mapping[str, Any], primary: str) -> None:
    """Raises ValueError for a value in the place of a whole section of settings."""
    declared = _file(str(CONF / f"{primary}.yaml"))
    inner = [f"{section}.{key}" for section, node in raw.items() if isinstance(node, Mapping) for key in node if key == "load"]
    for section in [*(section for section, node in declared.items() if isinstance(node, Mapping)), *inner]:
        value = _value(raw, section.split(".")) if _has(raw, section.split(".")) else None
        if section == "hydra" or isinstance(value, Mapping) or "${" in str(value):
            continue
        keys = [f"{section}.{key}" for key in declared.get(section, ()) if key not in SPECIAL] or [f"{section}.KEY"]
        way = WITHOUT.get(section) if value is None else _as_a_folder(section.partition(".")[0], value).removeprefix("; ")
        said = f"{section}={'null' if value is None else value} takes the place of all its settings"
        raise ValueError(f"{said}; {way or 'they are ' + ', '.join(keys)}")


def _require_parts(raw: Mapping[str, Any]) -> None:
    """Raises ValueError for settings of a part that the method does not have, or for what is no part."""
    reducer = raw.get("reducer")
    if not isinstance(reducer, Mapping) or reducer.get(TARGET) != METHOD:
        return
    for slot in SLOTS:
        part = reducer.get(slot)
        if isinstance(part, Mapping) and TARGET not in part and part:
            raise ValueError(_no_part(slot, next(iter(part)), raw))
        if part is not None and not isinstance(part, Mapping) and "${" not in str(part):
            raise ValueError(f"reducer.{slot}={part} is no part of a method: null leaves it out, reducer.{slot}.KEY sets it up")


def require_choices(overrides: Sequence[str]) -> None:
    """Raises ValueError for an override that gives a group something else than the name of a choice, or names."""
    for override in overrides:
        group, sign, value = override.lstrip("+").partition("=")
        if group not in GROUPS or not sign:
            continue
        if value.startswith("["):
            alone = f"-m {group}={value.strip('[]').replace(' ', '')}"
            raise ValueError(f"{override} lays several choices over one another; to run one after the other: {alone}")
        if NO_NAME.fullmatch(value):
            meant = "none" if value in NOTHING else value
            raise ValueError(f"{unknown(group, meant, _choices(group), said=value)}{_as_a_folder(group, value)}")


def require_whole_paths(overrides: Sequence[str]) -> None:
    """Raises ValueError where Hydra would part a file's or a folder's name at its commas, and run what is no trial."""
    for override in overrides:
        key, _, value = override.partition("=")
        if "," in value and not value.startswith(("'", '"', "[", "{")) and (key in ONE_ONLY or is_there(value)):
            raise ValueError(parted_at_commas(override))


def parted_at_commas(override: str) -> str:
    """What to say of an override that was taken for several values."""
    key, _, value = override.partition("=")
    if not (key in PATHS or key.startswith("hydra.") or "/" in value):
        return f"{override!r} has several values; to run one after the other: -m {override}"
    also = "" if key in ONE_ONLY or key.startswith("hydra.") else " (several: unquoted, and with -m)"
    return (
        f"{override!r} has a comma, which parts values; text is quoted twice, for Hydra and the shell: {quoted(key, value)}{also}"
    )


def quoted(key: str, value: str) -> str:
    """An override as it is typed where its value is text as it stands."""
    quote = "'" if '"' in value else '"'
    shell = '"' if quote == "'" else "'"
    return f"{shell}{key}={quote}{value.strip(quote)}{quote}{shell}"


def _as_a_folder(section: str, value: Any) -> str:
    """The setting of a section that a path was probably meant for."""
    key = next((key for key in PATHS if key.startswith(f"{section}.")), None)
    return f"; a folder is given as {key}={value}" if key and "/" in str(value) else ""


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
    parts = {entry.partition("@")[2] for entry in named if "@" in entry}  # of another method, by the name that it gets here
    own = (_declared(group, entry, sources) or set() for entry in named if "@" not in entry)
    return set(content).union(parts, *own)


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
    if key in GROUPS:
        ours = f"; a search has it: prunesweep search {key}=..." if key == "sampler" else ""
        return f"this command has no {key}{ours}"
    if meant := _closest(key, raw):
        return f"{said}; did you mean {meant}?"
    if beside := _beside(key, raw):
        return f"{said}; {beside}"
    return f"{said}; {NAMED_SWEEP if key in LIKE_A_SWEEP else 'prunesweep --cfg job shows all keys'}"


def _beside(key: str, raw: Mapping[str, Any]) -> str | None:
    """What its section has, if there is one."""
    place, _, leaf = key.rpartition(".")
    node = _value(raw, place.split(".")) if place and _has(raw, place.split(".")) else None
    known = [str(name) for name in node if name not in {*SPECIAL, leaf}] if isinstance(node, Mapping) else []
    return f"{place} has {', '.join(known)}" if known else None


def _no_part(slot: str, setting: str, raw: Mapping[str, Any]) -> str:
    """What to say of a setting of a part that the method of this trial lacks: which methods have it, by what name."""
    own, key = raw["reducer"].get("name"), f"reducer.{slot}.{setting}"
    said = f"reducer={own} has no {slot}, so that reducer.{slot}'s settings have no effect"
    parts = [_value(_file(str(CONF / "reducer" / f"{choice}.yaml")), [slot]) for choice in _choices_with(f"reducer.{slot}")]
    near = closest(setting, [name for part in parts if isinstance(part, Mapping) for name in part])
    if near is None:
        return f"{said}{_as_grids(key, own, 'METHOD')}"
    others = _choices_with(meant := f"reducer.{slot}.{near}")
    have = f"{', '.join(others)} {'has' if len(others) == 1 else 'have'} it"
    slip = "" if meant == key else f"; no method has {key}: did you mean {meant}?"
    return f"{said}{slip or ';'} {have}{_as_grids(meant, own, others[0])}"


def _as_grids(key: str, method: str | None, other: str) -> str:
    grids = f"[{{reducer: {method}}}, {{reducer: {other}, {key}: VALUE}}]"
    return f"; in a sweep of several give each its own settings: hydra/sweeper=grids 'hydra.sweeper.grids={grids}'"


def _choices(group: str) -> list[str]:
    """Those that are shipped."""
    return sorted(file.stem for file in (CONF / group).glob("*.yaml")) if group in GROUPS else []


def _choices_with(key: str) -> list[str]:
    """The shipped choices of a key's group whose YAML has it; the method that is run by default first."""
    group, *parts = key.split(".")
    have = [choice for choice in _choices(group) if parts and _has(_file(str(CONF / group / f"{choice}.yaml")), parts)]
    return sorted(have, key=lambda choice: choice != DEFAULT_METHOD)


def _has(node: Any, parts: Sequence[str]) -> bool:
    for part in parts:
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return True


def _closest(key: str, raw: Mapping[str, Any]) -> str | None:
    """By its last part: a key called the same elsewhere, or the most similar one, of those beside it rather than others."""
    leaves: dict[str, list[str]] = {}
    for name in _keys(raw):
        if name != key and not name.startswith(f"{key}."):
            leaves.setdefault(name.rpartition(".")[2], []).append(name)
    parent, _, leaf = key.rpartition(".")
    beside = [near for near, names in leaves.items() if parent and f"{parent}.{near}" in names]
    if near := closest(leaf, beside, ALIKE if leaf in leaves else CLOSE):
        return f"{parent}.{near}"
    if leaf in leaves:
        return _of_equal_names(leaves[leaf], raw)
    near = closest(leaf, leaves, ELSEWHERE)
    return _of_equal_names(leaves[near], raw) if near else None


def _of_equal_names(names: Sequence[str], raw: Mapping[str, Any]) -> str | None:
    """The shallowest, and of several the one that stands for another; None where there are many, such as `name`."""
    depth = min(name.count(".") for name in names)
    shallow = [name for name in names if name.count(".") == depth]
    standing = [name for name in shallow if "${" in str(_value(raw, name.split(".")))]
    return (standing or shallow)[0] if len(shallow) <= SEVERAL else None


def _value(node: Any, parts: Sequence[str]) -> Any:
    for part in parts:
        node = node[part]
    return node


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
    close = closest(name, known)
    meant = f"did you mean {key}.{close}?" if close else f"known: {', '.join(known)}"
    return f"{key} has no setting {name!r}; {meant}"


def no_such_configuration(name: str, searched: Sequence[Path]) -> str:
    """What to say of a `--config-name` that none of the folders has in which Hydra looked: where it is, or what it is called."""
    own = [folder for folder in searched if folder != CONF]
    wanted = name.rpartition("/")[2].removesuffix(".yaml")
    if own:
        known = sorted({file.stem for folder in own for file in folder.glob("*.yaml")})
        return f"{unknown('sweep', wanted, known)} (of {', '.join(map(str, own))})"
    shipped = sorted(file.stem for file in SWEEPS.glob("*.yaml"))
    meant = closest(wanted, shipped) or f"NAME, of {', '.join(shipped)}"
    way = f"a named sweep is run with prunesweep sweep {meant}"
    return f"no configuration {name!r} among the package's own; {way}"
