"""Fingerprints: short hashes of what determines an answer, so that a stored record is used again only where it still holds.

- A file or folder is its content.  Hashing is remembered by path, size and times, so a second look costs one `stat`.
- A sample is its question and its video's content, wherever the files lie.
- A trial is its reducer, frames and protocol, the model with its weights, the kind of device, the versions of the
  libraries that compute, and the source code of the stages and of the reducer.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.util
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from prunesweep.records import replace_file
from prunesweep.types import Sample

LENGTH = 32
"""Hexadecimal digits of a fingerprint: 128 bits, so that billions of them do not collide."""
ANSWERING_MODULES = ("prunesweep.stages", "prunesweep.engine", "prunesweep.records", "prunesweep.video")
ANSWERING_LIBRARIES = ("torch", "transformers", "decord", "decord2")
"""Their versions are part of a trial: an image processor or a kernel that changes, changes answers."""
RECORD_FORMAT = 2
"""Of the records and of what a fingerprint is made of.  2: cached tokens per layer; FastV leaves earlier caches whole."""
MISSING = "missing"
WHOLE_VIDEO_BYTES = 64 * 2**20
"""Longer videos are read at BLOCKS evenly spaced places: encoding a video again changes all of its bytes."""
BLOCKS, BLOCK_BYTES = 32, 2**20
SETTLED_SECONDS = 2.0
"""A file younger than this may still change within the clock's grain, so its hash is not remembered (as in git)."""
READERS = 8
"""Threads that hash files: disks and network file systems like several requests at once."""


def digest(value: Any) -> str:
    """The fingerprint of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:LENGTH]


class Files:
    """Fingerprints of files and folders, remembered in a file of their own (no paths in it, only hashes of paths)."""

    def __init__(self, memory: Path | None = None):
        self._memory = memory
        self._known: dict[str, str] = _read_memory(memory)
        self._found: dict[str, str] = {}

    def __call__(self, path: Path, whole: bool = True) -> str:
        """Of a file, or of all files below a folder by their names; MISSING if there is nothing to read."""
        try:
            if path.is_dir():
                parts = {str(file.relative_to(path)): self(file, whole) for file in sorted(path.rglob("*")) if file.is_file()}
                return digest(parts)
            return self._file(path, whole)
        except OSError:
            return MISSING

    def of_videos(self, paths: Iterable[Path]) -> dict[Path, str]:
        distinct = list(dict.fromkeys(paths))
        with ThreadPoolExecutor(READERS) as pool:
            return dict(zip(distinct, pool.map(lambda path: self(path, whole=False), distinct), strict=True))

    def _file(self, path: Path, whole: bool) -> str:
        stat = path.stat()
        identity = (str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, whole)
        key = digest(identity)
        if key not in self._known:
            found = _content(path, stat.st_size, whole)
            if time.time() - max(stat.st_mtime, stat.st_ctime) < SETTLED_SECONDS:
                return found
            self._known[key] = self._found[key] = found
        return self._known[key]

    def remember(self) -> None:
        """Writes what was found; two processes that do so at once lose at most some of it, to be hashed again."""
        if self._memory is not None and self._found:
            replace_file(self._memory, json.dumps({**_read_memory(self._memory), **self._found}).encode())
            self._found = {}


def _read_memory(path: Path | None) -> dict[str, str]:
    try:
        known = json.loads(path.read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _content(path: Path, size: int, whole: bool) -> str:
    state = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if whole or size <= WHOLE_VIDEO_BYTES:
            while block := file.read(BLOCK_BYTES):
                state.update(block)
        else:
            for i in range(BLOCKS):
                file.seek(i * (size - BLOCK_BYTES) // (BLOCKS - 1))
                state.update(file.read(BLOCK_BYTES))
    return state.hexdigest()[:LENGTH]


def of_samples(samples: Sequence[Sample], files: Files) -> dict[str, str]:
    """Fingerprint by sample id."""
    videos = files.of_videos(sample.path for sample in samples)
    return {sample.id: digest([*_question(sample), videos[sample.path]]) for sample in samples}


def _question(sample: Sample) -> Iterator[Any]:
    return (getattr(sample, field.name) for field in fields(sample) if field.name != "path")


def of_model(load: Mapping[str, Any], files: Files) -> dict[str, Any]:
    """What `model.load` loads: its settings, with every file, folder or checkpoint among them as its content.

    A name on the hub is what lies in the local cache under it, or the name alone if nothing does yet.
    """
    return {key: _loaded(key, value, files) for key, value in load.items()}


def _loaded(key: str, value: Any, files: Files) -> Any:
    if not isinstance(value, str):
        return value
    path = Path(os.path.expanduser(value))
    if path.exists():
        return files(path)
    if key == "checkpoint" and (snapshot := _snapshot(value)):
        return files(snapshot)
    return value


def _snapshot(name: str) -> Path | None:
    """Where the local cache of the hub keeps a repository."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError, OSError):
        return None


def described(value: Any) -> Any:
    """A frozen dataclass and all it holds, as JSON; raises ValueError for what has no such description."""
    if is_dataclass(value) and not isinstance(value, type):
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        return {"class": kind, **{field.name: described(getattr(value, field.name)) for field in fields(value)}}
    if isinstance(value, Mapping):
        return {str(key): described(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise ValueError(f"a reducer must consist of frozen dataclasses and plain values, got a {type(value).__name__}: {value!r}")


def restored(description: Any) -> Any:
    """What was `described`: dataclasses of the classes that it names, and tuples for lists."""
    if isinstance(description, Mapping):
        values = {key: restored(value) for key, value in description.items()}
        return _class(values.pop("class"))(**values) if "class" in values else values
    return tuple(map(restored, description)) if isinstance(description, (list, tuple)) else description


def _class(name: str) -> Any:
    """Raises ValueError unless it is a dataclass: a name reaches everything that its module imports."""
    module = _module_of(name)
    found = functools.reduce(getattr, name[len(module) + 1 :].split("."), importlib.import_module(module))
    if not (isinstance(found, type) and is_dataclass(found)):
        raise ValueError(f"{name} is no dataclass, and a method consists of nothing else")
    return found


def code_of(origin: Mapping[str, Any]) -> str:
    """The code behind a trial that is made of this: the stages', its reducer's and its model's."""
    modules = {_module_of(name) for name in (*_classes(origin["trial"]), origin["model"]["_target_"])}
    return of_code(sorted({*ANSWERING_MODULES, *modules}))


def _classes(description: Any) -> Iterator[str]:
    """Of a dataclass as `described`, and of all it holds."""
    if isinstance(description, Mapping):
        if "class" in description:
            yield description["class"]
        for value in description.values():
            yield from _classes(value)


def _module_of(name: str) -> str:
    """The module of a dotted name, which may be of a class inside a class."""
    parts = name.split(".")
    return next((module for n in range(len(parts), 0, -1) if _is_module(module := ".".join(parts[:n]))), name)


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def of_code(modules: Iterable[str]) -> str:
    """The source of modules and of everything of the same packages that they import."""
    own = {name.partition(".")[0] for name in modules}
    sources: dict[str, str] = {}
    open_ = list(modules)
    while open_:
        name = open_.pop()
        if name in sources or name.partition(".")[0] not in own:
            continue
        source, imported = _module(name)
        sources[name] = source
        open_ += imported
    return digest(sources)


@cache
def _module(name: str) -> tuple[str, tuple[str, ...]]:
    """Hash of a module's source, and the names it imports; a name that is no module has neither."""
    try:
        spec = importlib.util.find_spec(name)
        text = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
        tree, package = ast.parse(text), spec.parent if spec else None
    except (ImportError, AttributeError, ValueError, OSError, SyntaxError):
        return "", ()
    imported: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            imported += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return digest(text), tuple(imported)


def versions() -> dict[str, str]:
    return {name: found for name in ANSWERING_LIBRARIES if (found := _version(name))}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
