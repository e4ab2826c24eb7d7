"""Encoder outputs on disk: what decoding and encoding a video gives, kept for later sweeps.

An entry is one safetensors file whose name is a hash of everything that determines its content: the video file, the
stages that ran, the weights and settings of the vision side, and the version of this format.  Files are written under a
temporary name and renamed, so that readers, other writers and a kill never see half of one.  An entry that cannot be
read is computed again and reported.  When the folder outgrows its bound, entries unused for longest go.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from prunesweep.checks import require_number
from prunesweep.disk.files import PARTIAL, replace_file
from prunesweep.lazy import torch
from prunesweep.results.keys.code import code_of
from prunesweep.results.keys.fingerprint import Files, described, digest, is_as_before
from prunesweep.types import Model, Tokens
from prunesweep.types.facts import Fact
from prunesweep.types.slots import Slots

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

FORMAT = 3
"""Raised whenever an entry's content would change for other reasons than those hashed."""
LOOK_AFTER = 0.05
"""Of the bound: a process that has written so much looks through the folder and leaves so much room."""
ABANDONED_SECONDS = 3600.0
"""Temporary files older than this belong to nobody: writing one takes seconds."""
ENTRY = ".safetensors"
OTHERS = "others"
"""Of an entry's metadata: what is no tensor, as JSON."""
CHECKSUM = "checksum"
GIB = 2**30


class EncoderCache:
    """A folder of encoder outputs, bounded in size; any number of processes may share it."""

    def __init__(self, folder: str, gib: float = 20.0):
        """`gib` bounds the folder's size in GiB.  Raises ValueError unless it is more than 0."""
        require_number("engine.cache_gib", gib)
        if gib <= 0:
            raise ValueError(f"engine.cache_gib must be more than 0, got {gib:g}; engine.cache=null turns the cache off")
        self.folder = Path(folder).expanduser()
        self.bound = int(gib * GIB)
        self._files = Files()
        self._unlooked = self.bound  # written since the folder was last looked through; so far nobody has looked

    def path_of(self, stages: tuple[Any, ...], model: Model) -> Path:
        """Where the result of the stages that turn a video file into tokens is kept.

        Of stages as values: a path stands for the file's content, not for its place, and a video's id for nothing; a method that
        merges in the tower for its settings and its code.
        """
        parts: list[Any] = [FORMAT, model.encoder_fingerprint]
        for stage in stages:
            values = {
                field.name: getattr(stage, field.name)
                for field in fields(stage)
                if field.compare and field.name != "video_id" and not is_as_before(field, stage)
            }
            if "path" in values:
                values["path"] = self._files(values["path"], whole=False)
            if merger := values.get("tower"):
                own = type(merger)
                values["tower"] = [described(merger), code_of((f"{own.__module__}.{own.__qualname__}",)).digest]
            parts += [type(stage).__name__, values]
        return self.folder / (digest(parts) + ENTRY)

    def read(self, path: Path, video_id: str, device: str) -> Tokens | None:
        """The entry, or None if there is none or it is damaged; a damaged one is reported."""
        try:
            tokens = _read(path, video_id, device)
            os.utime(path)  # used just now
        except FileNotFoundError:
            return None
        except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
            log.warning("cache file %s is damaged (%s); the video is encoded again", path, _one_line(error))
            return None
        return tokens

    def write(self, path: Path, tokens: Tokens) -> None:
        """Adds an entry; a full disk or a folder that cannot be written to is reported, and the sweep goes on."""
        content = _serialized(tokens)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            replace_file(path, content)
            self._unlooked += len(content)
            if self._unlooked > LOOK_AFTER * self.bound:
                self._evict()
                self._unlooked = 0
        except OSError as error:
            log.warning("cannot keep %s (%s); the sweep goes on without", path, _one_line(error))

    def _evict(self) -> None:
        entries = sorted(_entries(self.folder), key=lambda entry: entry.used)
        total = sum(entry.size for entry in entries)
        for entry in entries:
            if total <= self.bound * (1 - LOOK_AFTER):
                return
            entry.path.unlink(missing_ok=True)  # another process may be evicting, too
            total -= entry.size


@dataclass(frozen=True)
class _Entry:
    path: Path
    size: int
    used: float


def _entries(folder: Path) -> Iterator[_Entry]:
    """All entries; temporary files that a kill left behind are removed on the way."""
    for file in os.scandir(folder):
        try:
            stat = file.stat()
        except FileNotFoundError:  # evicted by another process
            continue
        if file.name.endswith(ENTRY):
            yield _Entry(Path(file.path), stat.st_size, stat.st_mtime)
        elif file.name.endswith(PARTIAL) and time.time() - stat.st_mtime > ABANDONED_SECONDS:
            Path(file.path).unlink(missing_ok=True)


SLOTS = "slots."
FACT = "fact."
FLOPS = "flops_of."
"""Before the names of facts."""


def _serialized(tokens: Tokens) -> bytes:
    from safetensors.torch import save

    apart = ("video_id", "facts", "slots")
    values = {field.name: getattr(tokens, field.name) for field in fields(Tokens) if field.name not in apart}
    if tokens.slots is not None:
        values |= {SLOTS + field.name: getattr(tokens.slots, field.name) for field in fields(Slots)}
    for name, fact in tokens.facts.items():
        values |= {FACT + name: fact.value, FLOPS + name: fact.flops}
    tensors = {name: value.cpu().contiguous() for name, value in values.items() if isinstance(value, torch.Tensor)}
    others = {name: value for name, value in values.items() if not isinstance(value, torch.Tensor)}
    return save(tensors, metadata={OTHERS: json.dumps({**others, CHECKSUM: _checksum(tensors)})})


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """Of names and bytes: a damaged body would otherwise be read as other features."""
    total = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        total.update(name.encode())
        total.update(tensors[name].reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()


def _read(path: Path, video_id: str, device: str) -> Tokens:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        others = json.loads(file.metadata()[OTHERS])
    if others.pop(CHECKSUM) != _checksum(tensors):
        raise ValueError("its content is not what was written")
    values = others | {name: tensor.to(device) for name, tensor in tensors.items()}
    names = [name.removeprefix(FACT) for name in values if name.startswith(FACT)]
    facts = {name: Fact(values.pop(FACT + name), values.pop(FLOPS + name)) for name in names}
    slots = {name.removeprefix(SLOTS): values.pop(name) for name in list(values) if name.startswith(SLOTS)}
    values |= {name: tuple(values[name]) for name in ("grid", "tower_tokens") if values.get(name)}
    return Tokens(video_id, **values, facts=facts, slots=Slots(**slots) if slots else None)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
