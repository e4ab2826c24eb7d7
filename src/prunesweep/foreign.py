"""Folders that somebody else wrote are data: what they name is looked up, never imported, and what they hold is bounded.

A saved configuration says by `_target_` which class made a trial.  Hydra resolves such a name by importing it, and names
reach through a module's own imports (`prunesweep.reducers.torch.hub.load`).  Here a name is a key of a table of the very
classes and `load` functions that the package's own YAML files name; anything else is refused.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
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


def build(node: Any, group: Group, source: Path) -> Any:
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


def _made(name: Any, values: Mapping[str, Any], group: Group, source: Path) -> Any:
    make = registered(group).get(today(name)) if isinstance(name, str) else None
    if make is None:
        raise ForeignCodeError(f"{source} asks for the {group} {name!r}, code of another package, which a folder cannot make run")
    try:
        return make(**values)
    except TypeError as error:
        raise ValueError(f"{source}: its {group} does not fit this version ({' '.join(str(error).split())})") from error
