"""Folders that somebody else wrote are data: what they name is looked up, never imported, and what they hold is bounded.

A saved configuration says by `_target_` which class made a trial.  Hydra resolves such a name by importing it, and names
reach through a module's own imports (`prunesweep.reducers.torch.hub.load`).  Here a name is a key of a table of the very
classes and `load` functions that the package's own YAML files name; anything else is refused.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Literal

from prunesweep.paths import CONF
from prunesweep.targets import TARGET, today

Group = Literal["model", "benchmark", "reducer", "protocol"]
"""Groups of the configuration that a reader builds anew from a saved one."""
MOST_BYTES = 4 * 2**20
"""Of a configuration or a description: ours have a few kilobytes, a model's tokens and subtitles are not among them."""
MOST_DEPTH = 40
"""Of lists and mappings in each other: ours have six."""


class ForeignCodeError(ValueError):
    """A folder names code that is not registered here."""


def read_json(path: Path, most_bytes: int = MOST_BYTES) -> Any:
    """Raises ValueError for what is no JSON, too large or nested too deeply; OSError if it cannot be read."""
    try:
        return json.loads(_text(path, most_bytes))
    except RecursionError as error:
        raise ValueError(f"{path} nests more lists and mappings than Python can hold") from error


def read_yaml(path: Path) -> Any:
    """Plain values; interpolations stay the text that they are.

    Raises ValueError, naming the file, for what is no YAML, is too large, nested too deeply, or refers to itself: an alias of
    an alias of an alias makes gigabytes of a kilobyte, and none of our files has one.
    """
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    text = _text(path, MOST_BYTES)
    try:
        _require_small(path, text)
        return OmegaConf.to_container(OmegaConf.create(text), resolve=False)  # its loader reads numbers as Hydra does
    except AssertionError as error:  # OmegaConf's word for a file that holds one plain value
        raise ValueError(f"{path} holds neither settings nor a list of them") from error
    except (yaml.YAMLError, OmegaConfBaseException, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as YAML ({' '.join(str(error).split())[:200]})") from error


def _text(path: Path, most_bytes: int) -> str:
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"{path} is larger than {most_bytes >> 20} MiB, which no file of its kind is")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error}") from error


def _require_small(path: Path, text: str) -> None:
    """Raises ValueError for aliases and for depth, before anything is built of the text."""
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"{path} has a YAML alias (*{event.anchor}); none of our files has one")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            raise ValueError(f"{path} nests more than {MOST_DEPTH} lists and mappings in each other")


@functools.cache
def registered(group: Group) -> Mapping[str, Callable[..., Any]]:
    """The classes and functions that the package's YAML files of a group name, by that name."""
    from hydra.utils import get_object
    from omegaconf import OmegaConf

    files = sorted((CONF / group).glob("*.yaml"))
    names = {name for file in files for name in targets(OmegaConf.to_container(OmegaConf.load(file), resolve=False))}
    return {name: get_object(name) for name in sorted(names)}


def targets(node: Any) -> Iterator[str]:
    """All names of code in plain values, those inside others included."""
    if isinstance(node, Mapping):
        if TARGET in node:
            yield str(node[TARGET])
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for inner in node:
            yield from targets(inner)


def unregistered(names: Iterable[str], group: Group) -> tuple[str, ...]:
    """Those that are not the package's: code of the user's own."""
    return tuple(sorted({name for name in names if today(name) not in registered(group)}))


def build(node: Any, group: Group, source: Path | str) -> Any:
    """The object that a saved configuration describes, as Hydra would make it of plain values.

    `source` is named in errors.  Raises ForeignCodeError for code that is not registered for the group; ValueError for Hydra's
    other special keys (`_args_`, `_partial_` and their like change what is called), and for arguments that do not fit.
    """
    if isinstance(node, list):
        return [build(inner, group, source) for inner in node]
    if not isinstance(node, Mapping):
        return node
    special = [key for key in node if not isinstance(key, str) or (key.startswith("_") and key != TARGET)]
    if special:
        raise ValueError(f"{source} has the key {special[0]!r} in its {group}, which none of our configurations has")
    values = {key: build(inner, group, source) for key, inner in node.items() if key != TARGET}
    return _made(node[TARGET], values, group, source) if TARGET in node else values


def restored(description: Any, group: Group, source: Path | str, allowed: Collection[str] = ()) -> Any:
    """What `results.keys.fingerprint.described`: dataclasses of the classes that it names, and tuples for lists.

    `allowed` are names of code besides the package's that may be imported.  Raises as `build`.
    """
    if isinstance(description, Mapping):
        values = {key: restored(value, group, source, allowed) for key, value in description.items()}
        return _made(values.pop("class"), values, group, source, allowed) if "class" in values else values
    return tuple(restored(item, group, source, allowed) for item in description) if isinstance(description, list) else description


def require_registered(names: Iterable[str], group: Group, source: Path | str, allowed: Collection[str] = ()) -> None:
    """Raises ForeignCodeError for the first that is neither the package's nor `allowed`, before anything looks for it."""
    if others := [name for name in unregistered(names, group) if name not in allowed]:
        raise _foreign(others[0], group, source)


def _foreign(name: Any, group: Group, source: Path | str) -> ForeignCodeError:
    return ForeignCodeError(f"{source} asks for the {group} {name!r}, code of another package, which it cannot make run")


def _own_class(name: str) -> Callable[..., Any]:
    """Raises ValueError unless it is a dataclass: a name reaches everything that its module imports."""
    from hydra.utils import get_object

    found: Any = get_object(name)
    if not (isinstance(found, type) and is_dataclass(found)):
        raise ValueError(f"{name} is no dataclass, and a method consists of nothing else")
    return found


def _made(name: Any, values: Mapping[str, Any], group: Group, source: Path | str, allowed: Collection[str] = ()) -> Any:
    make = registered(group).get(today(name)) if isinstance(name, str) else None
    if make is None and name in allowed:
        make = _own_class(name)
    if make is None:
        raise _foreign(name, group, source)
    try:
        return make(**values)
    except TypeError as error:
        raise ValueError(f"{source}: its {group} does not fit this version ({' '.join(str(error).split())})") from error
