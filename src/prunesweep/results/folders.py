"""Folders of results: each belongs to one run.

A folder that is named after the time is made by whoever comes first; another run of the same second gets one of its own.  A
folder that was named by hand may be gone on in, but not by two runs at once.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf, open_dict

from prunesweep.disk.locks import Lock, LockFile, lock_by_files
from prunesweep.results.latest import await_begin

IN_USE = ".in-use"
NAMED_BY_TIME = "${now:"


def claimed(folder: Path) -> Path:
    """The folder, made just now by this process; with -2, -3 and so on behind its name where others were first."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        own = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            own.mkdir()
        except FileExistsError:
            continue
        return own
    raise AssertionError("unreachable")


def is_named_by_time(config: DictConfig, key: str) -> bool:
    """Whether `hydra.run.dir` or `hydra.sweep.dir` is meant to be new for every run."""
    raw: Any = OmegaConf.to_container(config.hydra, resolve=False)
    return NAMED_BY_TIME in str(raw[key.split(".")[1]]["dir"])


def claim(config: DictConfig, key: str) -> bool:
    """Whether the folder is named after the time; the configuration then has one of this run's own, to which `latest` leads
    once the run has begun.

    Jobs of a multirun are composed anew, from overrides: there it is one more.
    """
    if not is_named_by_time(config, key):
        return False
    wanted = Path(OmegaConf.select(config, key))
    root, own = _root(config, key), claimed(wanted)
    if own != wanted:
        with open_dict(config):
            OmegaConf.update(config, key, str(own))
            config.hydra.overrides.hydra = [*config.hydra.overrides.hydra, f"{key}='{own}'"]
    await_begin(root, own)
    return True


def _root(config: DictConfig, key: str) -> Path:
    """The folder that holds all those named after the time: `multirun` of `multirun/DATE/TIME`."""
    raw: Any = OmegaConf.to_container(config.hydra, resolve=False)
    before = str(raw[key.split(".")[1]]["dir"]).partition(NAMED_BY_TIME)[0].rpartition("/")[0]
    node = OmegaConf.create({"root": before})
    node._set_parent(config)  # interpolations in it are the configuration's
    return Path(node.root)


def in_use(folder: Path, key: str) -> Lock:
    """A lock on a folder, held; raises ValueError if another process has it."""
    folder.mkdir(parents=True, exist_ok=True)
    held: Lock = LockFile(folder / IN_USE) if lock_by_files(folder) else FileLock(folder / IN_USE, is_singleton=True)
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"{folder} is in use by another run; wait until that has ended, or choose another {key}") from None
    return held
