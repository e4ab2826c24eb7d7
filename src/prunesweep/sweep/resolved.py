"""Settings of a configuration in plain values, every interpolation resolved, at a tenth of OmegaConf's time.

Configurations of a sweep differ in a few numbers.  Where no interpolation reads a number, the rest resolves to the same
whatever it is: it is resolved once for all of them.
"""

from __future__ import annotations

import copy
import functools
import marshal
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prunesweep.sweep.schema import mentioned

HYDRA, MISSING = "hydra", "???"
RESOLVER = re.compile(r"\$\{\s*([\w.]+)\s*:")
DYNAMIC = re.compile(r"\$\{[^}:]*\$\{")
"""A name that is put together; in a resolver's arguments, names are names."""
READ = {
    **{"folder_name": (), "package_data": (), "paper_layer": ("model.prune_layer",)},
    "lmms": ("benchmark.task", "benchmark.include"),
}
"""Our own resolvers, with what they read besides their arguments.  Others may read anything."""
MOST = 64
"""Kinds of configurations that are remembered: choices of groups, texts, and numbers that others depend on."""

Path = tuple[Any, ...]


def resolved(config: DictConfig) -> dict[str, Any]:
    """All sections but Hydra's, as OmegaConf resolves them; MISSING stands for a value that is not given."""
    raw = unresolved(config)
    reads = _read_by_others(raw)
    if reads is None:
        return _by_omegaconf(config)
    free: dict[Path, float] = {}
    try:
        kind = marshal.dumps(_without_free(raw, (), reads, free), 0)
    except ValueError:  # an enumeration, say
        return _by_omegaconf(config)
    known = _kind(kind)
    if not known:
        known.append(_by_omegaconf(config))
    plain: dict[str, Any] = copy.deepcopy(known[0])
    for path, value in free.items():
        functools.reduce(lambda node, key: node[key], path[:-1], plain)[path[-1]] = value
    return plain


def unresolved(config: DictConfig) -> dict[str, Any]:
    """All sections but Hydra's, with interpolations as they stand."""
    return {key: plain(node) for key, node in config.__dict__["_content"].items() if key != HYDRA}


def plain(node: Any) -> Any:
    """What `OmegaConf.to_container` makes of a node without resolving it, enumerations by their names."""
    value = node._value()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.name if isinstance(value, Enum) else value


def lacks(plain: Any) -> bool:
    """Whether a value in it is missing."""
    if isinstance(plain, (dict, list)):
        return any(map(lacks, plain.values() if isinstance(plain, dict) else plain))
    return isinstance(plain, str) and plain == MISSING


@functools.lru_cache(MOST)
def _kind(_: bytes) -> list[dict[str, Any]]:
    """What configurations of a kind resolve to, once it is known."""
    return []


def _by_omegaconf(config: DictConfig) -> dict[Any, Any]:
    def plain(key: Any) -> Any:
        node = MISSING if OmegaConf.is_missing(config, key) else config[key]
        return OmegaConf.to_container(node, resolve=True, enum_to_str=True) if OmegaConf.is_config(node) else node

    return {str(key): plain(key) for key in config if key != HYDRA}


def _read_by_others(raw: Mapping[str, Any]) -> frozenset[str] | None:
    """Dotted names that interpolations read; None if they cannot be told."""
    names = {name.rstrip(".") for name in mentioned(raw)}
    for text in _interpolations(raw):
        if DYNAMIC.search(text) or not READ.keys() >= {*(resolvers := RESOLVER.findall(text))}:
            return None
        names.update(*(READ[resolver] for resolver in resolvers))
    return None if any(name.partition(".")[0] == HYDRA for name in names) else frozenset(names)


def _interpolations(node: Any) -> Iterator[str]:
    if isinstance(node, (dict, list)):
        for value in node.values() if isinstance(node, dict) else node:
            yield from _interpolations(value)
    elif isinstance(node, str) and "${" in node:
        yield node


def _without_free(node: Any, path: Path, reads: frozenset[str], free: dict[Path, float]) -> Any:
    """As pairs, with a stand-in for every number that nothing reads; these are noted in `free`."""
    if isinstance(node, dict):
        return [(key, _without_free(value, (*path, key), reads, free)) for key, value in node.items()]
    if type(node) not in (int, float) or not path or _is_read(path, reads):
        return (node,)
    free[path] = node
    return ...


def _is_read(path: Path, reads: frozenset[str]) -> bool:
    """Whether a name stands for the value at a path or for something around it."""
    return any(".".join(map(str, path[:count])) in reads for count in range(1, len(path) + 1))
