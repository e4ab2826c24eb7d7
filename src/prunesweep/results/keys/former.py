"""Fingerprints as format 1 made them, so that what it left can be recognised: records in stores, searches, trials of sweeps.

Format 1 hashed the text of every module that a method's package imports, bookkeeping among them, and every file in a
checkpoint's folder.  Whoever recognises a fingerprint of its kind knows what it was made of, and can make the one of today.
"""

from __future__ import annotations

import ast
import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import Path as ZipPath

from prunesweep.paths import DATA
from prunesweep.results.keys import fingerprint
from prunesweep.results.keys.code import Code, Reader
from prunesweep.results.keys.fingerprint import Files, classes, digest
from prunesweep.results.keys.syntax import Folder, Place

FORMAT = 1
LAST_CODE = DATA / "format1.zip"
"""The modules of this package that format 1 hashed, as they were when it was last in use."""
ANSWERING_MODULES = ("prunesweep.stages", "prunesweep.engine", "prunesweep.records", "prunesweep.video")
ANSWERING = (
    *("prunesweep.stages.plan", "prunesweep.engine.evaluate_jobs", "prunesweep.records.score", "prunesweep.records.failure"),
)
BOOKKEEPING = (
    *("prunesweep.cache", "prunesweep.checks", "prunesweep.engine.Clock", "prunesweep.fingerprint"),
    *("prunesweep.records.replace_file", "prunesweep.reducers.Match", "prunesweep.store", "prunesweep.work"),
)
"""As `prunesweep.answering` has them, by the names of then."""


class FormerCode:
    """The source of a version that wrote format 1, with the fingerprints that it gave and those that it has today."""

    def __init__(self, source: Path | ZipPath):
        """`source` is the folder that holds the folder `prunesweep`."""
        self.source = source
        self.find = Folder(source)
        self._reader = Reader(self.find, BOOKKEEPING)

    def then(self, made_of: Mapping[str, Any]) -> str:
        """What format 1 says of a trial's code."""
        names = (*classes(made_of["trial"]), made_of["model"]["_target_"])
        return code_text(sorted({*ANSWERING_MODULES, *map(self.module_of, names)}), self.find)

    def today(self, made_of: Mapping[str, Any]) -> Code:
        """What is said of the same code today."""
        return self._reader.code([*ANSWERING, *roots_of(made_of)])

    def module_of(self, name: str) -> str:
        return self._reader.split(name)[0] or name


def roots_of(made_of: Mapping[str, Any]) -> list[str]:
    """Where the code of a trial of format 1 begins."""
    return list(fingerprint.roots_of(made_of["trial"]["reducer"], made_of["trial"]["protocol"], made_of["model"]))


@cache
def last_code() -> FormerCode:
    return FormerCode(ZipPath(LAST_CODE))


def code_text(modules: Sequence[str], find: Callable[[str], Place]) -> str:
    """The text of modules and of everything of the same packages that they import."""
    own = {name.partition(".")[0] for name in modules}
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found or name.partition(".")[0] not in own:
            continue
        found[name], imported = _text(name, find)
        waiting += imported
    return digest(found)


def _text(name: str, find: Callable[[str], Place]) -> tuple[str, list[str]]:
    """Hash of a module's text, and the names it imports; what is no module has its own kinds of nothing."""
    place, parent = find(name), find(name.rpartition(".")[0])
    if place.kind == "missing" and not parent.is_package:
        return "", []
    package = name if place.is_package else name.rpartition(".")[0]
    return digest(place.text), list(_imported(ast.parse(place.text), package))


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def of_model(load: Mapping[str, Any], files: Files) -> dict[str, Any]:
    """`model.load` with every file, folder or checkpoint as its content, all that lies in it included."""
    return {key: _loaded(key, value, files) for key, value in load.items()}


def _loaded(key: str, value: Any, files: Files) -> Any:
    if not isinstance(value, str):
        return value
    path = Path(os.path.expanduser(value))
    if path.exists():
        return files(path)
    snapshots = snapshots_of(value) if key == "checkpoint" else []
    return files(snapshots[0]) if snapshots else value


def snapshots_of(name: str) -> list[Path]:
    """What the hub's local cache has of a repository, the current revision first."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        current = Path(snapshot_download(name, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError, OSError):
        return []
    return [current, *(path for path in sorted(current.parent.iterdir()) if path != current)]


def checkpoint_digests(folder: Path, files: Files) -> Iterable[str]:
    """What format 1 may have said of a folder: of all that is in it, or before something hidden came to it."""
    yield files(folder)
    found = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    yield digest({str(place): files(path) for place, path in found.items() if not any(p.startswith(".") for p in place.parts)})
