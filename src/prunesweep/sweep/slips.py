"""What to say of a key, a choice or a value that nothing takes: what was probably meant, and how it is typed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from prunesweep.checks import RANK_SETTINGS, RANKS_ARE_SPAWNED
from prunesweep.console.meant import CLOSE, closest, unknown
from prunesweep.paths import CONF, SWEEPS
from prunesweep.targets import TARGET

EVALUATION = "eval"
"""The primary configuration that `prunesweep` reads; sweeps and searches begin with it."""
VALUE = "VALUE"
"""Stands for one that is not known."""
NOT_DELETED = re.compile(r"Could not delete from config. '(\S+)' does not exist")
NOT_ADDED = re.compile(r"Could not append to config. An item is already at '(\S+)'")
NOT_OVERRIDDEN, TO_ADD = re.compile(r"Could not override '(\S*)'"), re.compile(r"use \+[^=\s]*=(.*)")
"""What Hydra says of overrides; the last shows the value."""
QUOTES = ("'", '"')
FULL_KEY = "full_key: "
KINDS = (
    (r"Value (.+) of type '\w+' could not be converted to Integer", "a whole number"),
    (r"Value (.+) of type '\w+' could not be converted to Float", "a number"),
    (r"Value (.+) is not a valid bool", "true or false"),
    (r"Cannot assign (\w+) to [Dd]ict", "a mapping, {NAME: VALUE}"),
    (r"Invalid value assigned: (\w+) is not a ListConfig", "a list, [VALUE, VALUE]"),
)
"""What OmegaConf says of values, and what they must be."""
RETAINED = "does not support deletion"
MAPPINGS = ("reducer.match",)
"""Settings that are null or a mapping of any of several names."""
ELSEWHERE, ALIKE = 0.82, 0.85
"""Likeness from which on a key is a slip of one in another section, and of one beside it though another has its very name."""
SEVERAL = 2
"""Keys of one name in different sections that one of them is still meant by."""
NAMED_SWEEP = "a named sweep is run with prunesweep sweep NAME"
LIKE_A_SWEEP = ("experiment", "sweep", "search", "config")
"""Keys that other Hydra projects name a sweep by."""
PATHS = ("store.folder", "engine.cache", "benchmark.path", "model.checkpoint")
"""Folders whose names Hydra may take for numbers or lists."""
ONE_ONLY = ("store.folder", "engine.cache")
"""Folders that all trials of a sweep share."""
METHOD, DEFAULT_METHOD = "prunesweep.reducers.Reducer", "prunevid"
GROUPS = tuple(sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name not in ("hydra", "step")))
SPECIAL = {TARGET, "_args_", "_convert_", "_partial_", "_recursive_", "defaults"}


def parted_at_commas(override: str) -> str:
    """What to say of an override that was taken for several values."""
    key, _, value = override.partition("=")
    if not (key in PATHS or key.startswith("hydra.") or "/" in value):
        return f"{override!r} has several values; to run one after the other: -m {override}"
    also = "" if key in ONE_ONLY or key.startswith("hydra.") else " (several: unquoted, and with -m)"
    return (
        f"{override!r} has a comma, which parts values; text is quoted twice, for Hydra and the shell: {quoted(key, value)}{also}"
    )


def unreadable(override: str) -> str:
    """What to say of an override that Hydra cannot read.

    Its values are a language of their own: what is to be taken as it stands is quoted for it, too.
    """
    key, sign, value = override.partition("=")
    said = f"cannot read {override!r}"
    if not sign or not key:
        return f"{said}: a setting is KEY=VALUE"
    if key != key.strip() or value != value.lstrip():
        return f"{said}: there are no blanks around a key or its =: {key.strip()}={value.strip()}"
    if key.endswith("+"):
        name = key.strip("+")
        also = f"; with -m several one after the other: {name}={value},..." if name in GROUPS else f"; +{name}={value} adds a key"
        return f"{said}: there is no +=; {name}={value} sets it{also}"
    if value.count(quote := value[:1]) % 2 and quote in QUOTES:
        return f"{said}: a quote is not closed; text is quoted twice, for Hydra and for the shell: {quoted(key, value[1:])}"
    return (
        f"{said}: text with = [ ] {{ }} ( ) , ~ or letters beyond ASCII is quoted twice, for Hydra and for the shell: "
        f"{quoted(key, value)}"
    )


def not_a_value(text: str) -> str:
    """What OmegaConf says of a value of another kind, in a user's words; its first line of anything else, and the key."""
    first, *more = (line.strip() for line in text.splitlines())
    key = next((line.removeprefix(FULL_KEY) for line in more if line.startswith(FULL_KEY)), "")
    for pattern, wanted in KINDS:
        if key and (found := re.search(pattern, first)):
            return f"{key} must be {wanted}, got {found[1]}"
    if key and (RETAINED in first):
        return f"{key} cannot be taken away; {key}=VALUE sets it"
    return f"{key}: {first}" if key and key not in first else first


def quoted(key: str, value: str) -> str:
    """An override as it is typed where its value is text as it stands."""
    quote = "'" if '"' in value else '"'
    shell = '"' if quote == "'" else "'"
    return f"{shell}{key}={quote}{value.strip(quote)}{quote}{shell}"


def as_a_folder(section: str, value: Any) -> str:
    """The setting of a section that a path was probably meant for."""
    key = next((key for key in PATHS if key.startswith(f"{section}.")), None)
    return f"; a folder is given as {key}={value}" if key and "/" in str(value) else ""


@cache
def shipped(path: str) -> dict[str, Any]:
    content: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    return content or {}


def not_overridden(error: Exception, methods: Sequence[str] = ()) -> str | None:
    """What to say where Hydra found no place for a value, or nothing to take away; None of another error.

    `methods` are those of the whole sweep.
    """
    text = str(error)
    if taken := NOT_DELETED.search(text):
        key = taken[1]
        null = f"{key} is null, there is nothing to take away; {key}=VALUE sets it"
        whole = defaults()
        known = has(whole, key.split(".")) or choices_with(key)
        return null if known else no_such_key(key, whole, methods)
    if there := NOT_ADDED.search(text):
        return f"{there[1]} is there already, a plus adds what is not; {there[1]}=VALUE sets it"
    if not (found := NOT_OVERRIDDEN.search(text)):
        return None
    key, raw = found[1], configuration_at(error)
    value = added[1] if (added := TO_ADD.search(text)) else VALUE
    if not key:
        return f"cannot read '={value}': a setting is KEY=VALUE"
    if has(raw, key.split(".")):
        return f"{key} takes keys that it does not have yet with a plus in front: +{key}=..."
    return no_such_key(key, raw, methods, value)


def configuration_at(error: Exception) -> dict[str, Any]:
    """The whole configuration, not resolved, in which OmegaConf did not find a key; empty where it does not say."""
    node = getattr(error.__cause__, "parent_node", None)
    whole: Any = OmegaConf.to_container(node._get_root(), resolve=False) if node is not None else {}
    return whole


def defaults(primary: str = EVALUATION) -> dict[str, Any]:
    """A command's own configuration as it is in its files, with the choice of each group that it begins with."""
    own = shipped(str(CONF / f"{primary}.yaml"))
    chosen = {group: choice for entry in own["defaults"] if isinstance(entry, dict) for group, choice in entry.items()}
    groups = {group: CONF / group / f"{choice}.yaml" for group, choice in chosen.items()}
    return {**own, **{group: shipped(str(path)) for group, path in groups.items() if path.is_file()}}


def methods_of(sweep: DictConfig) -> list[str]:
    """The methods that a whole sweep was asked for, on the command line or in its file, in that order."""
    hydra: Any = OmegaConf.to_container(sweep.hydra, resolve=False)
    typed = [value for one in hydra["overrides"]["task"] for key, _, value in [one.partition("=")] if key == "reducer"]
    sweeper = hydra.get("sweeper") or {}
    listed = [grid.get("reducer") for grid in (*(sweeper.get("grids") or ()), sweeper.get("params") or {})]
    return list(dict.fromkeys(name.strip() for value in (*typed, *listed) if value for name in str(value).split(",")))


def no_such_key(key: str, raw: Mapping[str, Any], methods: Sequence[str] = (), value: str = VALUE) -> str:
    """What to say of a key that nothing reads: who has it, or what was probably meant.

    `raw` is the whole configuration, `methods` are those of the whole sweep, `value` what the key was given.
    """
    if key in RANK_SETTINGS:
        return RANKS_ARE_SPAWNED
    said = f"no key {key!r} with these choices of groups"
    group, _, inner = key.partition(".")
    if inner and group in GROUPS and not _is_chosen(group, raw):
        return _of_another_command(key, raw)
    section = raw.get(group)
    own = section.get("name") if isinstance(section, Mapping) else None
    if others := [choice for choice in choices_with(key) if choice != own]:
        have = f"{', '.join(others)} {'has' if len(others) == 1 else 'have'} it"
        grids = _as_grids(key, own, others, methods) if group == "reducer" else ""
        return f"{said}: {group}={own} lacks it, {have}{grids}"
    if key in GROUPS:
        ours = f"; a search has it: prunesweep search {key}=..." if key == "sampler" else ""
        return f"this command has no {key}{ours}"
    place, _, leaf = key.rpartition(".")
    if place in MAPPINGS and has(raw, place.split(".")):
        return f"{said}; {place} is null or a mapping, given as a whole: {place}={{{leaf}:{value}}}"
    if meant := _closest(key, raw):
        return f"{said}; did you mean {meant}?"
    if beside := _beside(key, raw):
        return f"{said}; {beside}"
    return f"{said}; {NAMED_SWEEP if key in LIKE_A_SWEEP else 'prunesweep --cfg job shows all keys'}"


def _is_chosen(group: str, raw: Mapping[str, Any]) -> bool:
    """Whether the command has the group: a key with a plus makes a section of any name."""
    hydra = raw.get("hydra") or {}
    return group in ((hydra.get("runtime") or {}).get("choices") or raw)


def _of_another_command(key: str, raw: Mapping[str, Any]) -> str:
    """What to say of a key of a group that this command lacks."""
    group, _, leaf = key.partition(".")
    said = f"no key {key!r}: this command has no {group}"
    if leaf in raw:
        return f"{said}; did you mean {leaf}?"
    known = dict.fromkeys(name for choice in choices_of(group) for name in shipped(str(CONF / group / f"{choice}.yaml")))
    near = closest(leaf, [name for name in known if name not in SPECIAL])
    return f"{said}{f'; did you mean {group}.{near}, which prunesweep run has?' if near else ''}"


def _beside(key: str, raw: Mapping[str, Any]) -> str | None:
    """What its section has, if there is one."""
    place, _, leaf = key.rpartition(".")
    node = value_at(raw, place.split(".")) if place and has(raw, place.split(".")) else None
    known = [str(name) for name in node if name not in {*SPECIAL, leaf}] if isinstance(node, Mapping) else []
    return f"{place} has {', '.join(known)}" if known else None


def no_part(slot: str, setting: str, raw: Mapping[str, Any], methods: Sequence[str] = ()) -> str:
    """What to say of a setting of a part that the method of this trial lacks: which methods have it, by what name."""
    own, key = raw["reducer"].get("name"), f"reducer.{slot}.{setting}"
    said = f"reducer={own} has no {slot}, so that reducer.{slot}'s settings have no effect"
    parts = [value_at(shipped(str(CONF / "reducer" / f"{choice}.yaml")), [slot]) for choice in choices_with(f"reducer.{slot}")]
    near = closest(setting, [name for part in parts if isinstance(part, Mapping) for name in part])
    if near is None:
        return f"{said}{_as_grids(key, own, ['METHOD'], methods)}"
    others = choices_with(meant := f"reducer.{slot}.{near}")
    have = f"{', '.join(others)} {'has' if len(others) == 1 else 'have'} it"
    slip = "" if meant == key else f"; no method has {key}: did you mean {meant}?"
    return f"{said}{slip or ';'} {have}{_as_grids(meant, own, others, methods)}"


def _as_grids(key: str, method: str | None, having: Sequence[str], methods: Sequence[str]) -> str:
    """One grid for each method that was typed, else for one that has the setting; this one's first."""
    others = [name for name in methods if name != method] if {*methods} & {*having} else [having[0]]
    own = [f"{{reducer: {name}}}" for name in (method, *others) if name not in having]
    grids = ", ".join([*own, *(f"{{reducer: {name}, {key}: {VALUE}}}" for name in others if name in having)])
    return f"; in a sweep of several give each its own settings: hydra/sweeper=grids 'hydra.sweeper.grids=[{grids}]'"


def choices_of(group: str) -> list[str]:
    """Those that are shipped."""
    return sorted(file.stem for file in (CONF / group).glob("*.yaml")) if group in GROUPS else []


def choices_with(key: str) -> list[str]:
    """The shipped choices of a key's group whose YAML has it; the method that is run by default first."""
    group, *parts = key.split(".")
    have = [choice for choice in choices_of(group) if parts and has(shipped(str(CONF / group / f"{choice}.yaml")), parts)]
    return sorted(have, key=lambda choice: choice != DEFAULT_METHOD)


def has(node: Any, parts: Sequence[str]) -> bool:
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
    standing = [name for name in shallow if "${" in str(value_at(raw, name.split(".")))]
    return (standing or shallow)[0] if len(shallow) <= SEVERAL else None


def value_at(node: Any, parts: Sequence[str]) -> Any:
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
