"""Fingerprints: short hashes of what determines an answer, so that a stored record is used again only where it still holds.

- A file or folder is its content.  Hashing is remembered by path, size and times, so a second look costs one `stat`.
- A sample is its question and its video's content, wherever the files lie.
- A checkpoint is the content of the files that are loaded from it; what else lies in its folder is of no account.
- A trial is its reducer, frames and protocol, the model with its checkpoint, the kind of device, the versions of the
  libraries that compute, and the code that answers (`prunesweep.results.keys.code`).  Names of modules are not part of it.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import Field, fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from prunesweep.disk.files import replace_file
from prunesweep.results.keys.code import Code
from prunesweep.types import ADDED_LATER, Sample

LENGTH = 32
"""Hexadecimal digits of a fingerprint: 128 bits, so that billions of them do not collide."""
ANSWERING_LIBRARIES = ("torch", "transformers", "av")
"""Their versions are part of a trial: an image processor or a kernel that changes, changes answers.  torch ties torchvision."""
NOT_ANSWERING = (
    "huggingface_hub",
    "hydra-core",
    "jaxtyping",
    "lightning",
    "omegaconf",
    "safetensors",
    "tqdm",
    "typing_extensions",
)
"""Libraries of which another version gives the same answer.  All others that a method's own code imports count."""
RECORD_FORMAT = 2
"""Of the records and of what a fingerprint is made of.  2: cached tokens per layer; fingerprints of what answers alone."""
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
        self.checkpoints: dict[str, dict[str, str]] = {}
        """What was loaded from where: all trials of a batch see the same."""

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


FIRST_FIELDS = (
    *("id", "question", "choices", "target", "task", "video_id", "start", "end", "answer", "frame_rate", "subtitles", "problem"),
)
"""Of a sample, in the order in which they have always been hashed; a later one counts where it is not its default."""


def _question(sample: Sample) -> Iterator[Any]:
    yield from (getattr(sample, name) for name in FIRST_FIELDS)
    later = {field.name: field.default for field in fields(sample) if field.name not in (*FIRST_FIELDS, "path")}
    if given := {name: value for name, default in later.items() if (value := getattr(sample, name)) != default}:
        yield given


CONFIGURATION_FILES = ("config.json", "generation_config.json", "adapter_config.json", "*.safetensors.index.json")
PROCESSOR_FILES = (
    *("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json", "feature_extractor_config.json"),
    *("chat_template.json", "chat_template.jinja", "additional_chat_templates/*.jinja"),
)
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt"),
    *("merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
)
LOADED = (
    *("*.safetensors", *CONFIGURATION_FILES, *PROCESSOR_FILES, *TOKENIZER_FILES),
    *(f"qformer_tokenizer/{name}" for name in TOKENIZER_FILES),
)
"""What the models of this package, and transformers for them, read in a checkpoint's folder."""
OWN_MODELS = "prunesweep.models."
ALL_WEIGHTS = (f"{OWN_MODELS}pllava.", f"{OWN_MODELS}stllm.")
"""Whose loaders read all files of weights in a folder; the others leave it to transformers."""
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
NAMES_ITS_WEIGHTS = "transformers_weights"
"""Of a config.json: another file of weights."""


def of_model(load: Mapping[str, Any], files: Files) -> dict[str, Any]:
    """What `model.load` loads: its settings, with a checkpoint, and any other file or folder among them, as its content.

    A name on the hub is itself: `models.checkpoints.located` makes it a folder beforehand.
    """
    settings = {key: _loaded(key, value, load, files) for key, value in load.items()}
    return settings | {"_target_": own_target(str(load.get("_target_", "")))}


def own_target(target: str) -> str:
    """A function by its own name: where it lies may change, and its code is part of a trial by itself."""
    return target.rpartition(".")[2]


def _loaded(key: str, value: Any, load: Mapping[str, Any], files: Files) -> Any:
    if not isinstance(value, str) or (key != "checkpoint" and os.sep not in value):  # a folder may be called like a setting
        return value
    path = Path(os.path.expanduser(value))
    if key == "checkpoint" and path.is_dir():
        return digest(of_checkpoint(load, files))
    return files(path) if path.exists() else value


def of_checkpoint(load: Mapping[str, Any], files: Files) -> dict[str, str]:
    """Fingerprints of the files that are loaded, by their names; of a loader of somebody else's, of all that are not hidden."""
    if (known := files.checkpoints.get(key := json.dumps(load, sort_keys=True, default=str))) is None:
        known = files.checkpoints[key] = _of_checkpoint(load, files)
    return known


def _of_checkpoint(load: Mapping[str, Any], files: Files) -> dict[str, str]:
    folder = Path(os.path.expanduser(str(load.get("checkpoint"))))
    target = str(load.get("_target_"))
    if target.startswith(OWN_MODELS):
        found = {path for pattern in LOADED for path in folder.glob(pattern) if not path.name.startswith(".")}
        if not target.startswith(ALL_WEIGHTS):
            beside = _beside_weights(folder)
            found = {path for path in found if path.parent != folder or path.name not in beside}
            found |= {folder / name for name in _named_weights(folder)}
    else:
        found = {path for path in folder.rglob("*") if not any(part.startswith(".") for part in path.relative_to(folder).parts)}
    return {os.path.relpath(path, folder).replace(os.sep, "/"): files(path) for path in sorted(found) if path.is_file()}


def _beside_weights(folder: Path) -> set[str]:
    """Names of files of weights, of indices and of adapters that transformers leaves alone in a folder.

    It reads model.safetensors, else what the index names; an adapter where peft is installed.  Where it is told otherwise,
    or the index cannot be read, nothing is left out.
    """
    if importlib.util.find_spec("peft") is not None or _object(folder / "config.json").get(NAMES_ITS_WEIGHTS):
        return set()
    loaded = {WEIGHTS}
    if not (folder / WEIGHTS).is_file():
        named = _named_weights(folder)
        if not named:
            return set()
        loaded = {INDEX, *named}
    files = {path.name for pattern in ("*.safetensors", "*.safetensors.index.json") for path in folder.glob(pattern)}
    return {*files, "adapter_config.json"} - loaded


def _named_weights(folder: Path) -> set[str]:
    """What the index names, which may lie in folders within; empty where it is not read."""
    named = {} if (folder / WEIGHTS).is_file() else _object(folder / INDEX).get("weight_map")
    return set(map(str, named.values())) if isinstance(named, dict) else set()


def _object(path: Path) -> dict[str, Any]:
    """Empty for what is no JSON object, which is said where it is loaded."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def described(value: Any) -> Any:
    """A frozen dataclass and all it holds, as JSON; raises ValueError for what has no such description."""
    if is_dataclass(value) and not isinstance(value, type):
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        own = {field.name: getattr(value, field.name) for field in fields(value) if not is_as_before(field, value)}
        return {"class": kind, **{name: described(item) for name, item in own.items()}}
    if isinstance(value, Mapping):
        return {str(key): described(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise ValueError(f"a reducer must consist of frozen dataclasses and plain values, got a {type(value).__name__}: {value!r}")


def is_as_before(field: Field[Any], value: Any) -> bool:
    """Whether a setting that was added later is at its default: what is said of the others is what was said before."""
    return bool(field.metadata.get(ADDED_LATER)) and getattr(value, field.name) == field.default


def unplaced(description: Any) -> Any:
    """A description whose classes are called by their own names: where they lie may change."""
    if isinstance(description, Mapping):
        return {key: _own_name(value) if key == "class" else unplaced(value) for key, value in description.items()}
    return [unplaced(item) for item in description] if isinstance(description, list) else description


def _own_name(name: str) -> str:
    return name[len(_module_of(name)) + 1 :] or name


def classes(description: Any) -> Iterator[str]:
    """The dotted names of a dataclass as `described`, and of all it holds."""
    if isinstance(description, Mapping):
        if "class" in description:
            yield description["class"]
        for _, value in sorted(description.items()):
            yield from classes(value)
    elif isinstance(description, list):
        for item in description:
            yield from classes(item)


def roots_of(reducer: Mapping[str, Any], protocol: Mapping[str, Any], load: Mapping[str, Any]) -> tuple[str, ...]:
    """Where the code of a trial begins: a reducer's and a protocol's classes, as `described`, and the model's `load`."""
    return (*classes(reducer), *classes(protocol), str(load["_target_"]))


def _module_of(name: str) -> str:
    """The module of a dotted name, which may be of a class inside a class."""
    parts = name.split(".")
    return next((module for n in range(len(parts), 0, -1) if _is_module(module := ".".join(parts[:n]))), name)


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def versions(code: Code | None = None) -> dict[str, str]:
    """Of the libraries that answer, and of those that a method's own code imports."""
    own = set(code.foreign).difference(NOT_ANSWERING) if code else set()
    return {name: found for name in (*ANSWERING_LIBRARIES, *sorted(own)) if (found := _version(name))}


@functools.cache
def _version(name: str) -> str | None:
    """Of what is installed; a process has imported it, so another version would not count before the next one."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
