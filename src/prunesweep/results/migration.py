"""Stores of format 1 in format 2: each trial's records under the key that the code which made them has today.

A trial is carried over if its old fingerprints are those of code and of a checkpoint that are at hand; then it is known what
they stand for, and today's fingerprints of the same things are its new key.  So a record is used again only where the
installed version still answers by the same code.  Any other trial stays as it is, readable, and the reason is said.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from prunesweep.paths import DATA
from prunesweep.results.keys import former
from prunesweep.results.keys.fingerprint import RECORD_FORMAT, Files, digest, of_checkpoint, own_target, unplaced, versions
from prunesweep.results.keys.former import FormerCode
from prunesweep.results.store import TRIALS, Store, StoredTrial

EMBEDDED = str(DATA / "tiny")


class RefusedError(ValueError):
    """Why a trial cannot be carried over."""


class At(NamedTuple):
    """What is at hand to recognise old fingerprints by."""

    codes: Sequence[FormerCode]
    checkpoints: Sequence[str]
    files: Files


def migrate(store: Store, codes: Sequence[Path], checkpoints: Sequence[str]) -> Iterator[tuple[StoredTrial, StoredTrial | str]]:
    """Carries over what can be; yields every trial of the old format with what became of it, or why nothing did."""
    store.require_own_folders()
    old = [trial for trial in store.trials() if trial.made_of.get("format") == former.FORMAT]
    at = At([*map(FormerCode, codes), former.last_code()], [*checkpoints, EMBEDDED], Files(store.files))
    store.commit([trial.key for trial in old])
    for trial in old:
        try:
            new = carried(trial, at)
        except RefusedError as reason:
            yield trial, str(reason)
            continue
        _move(store, trial, new)
        yield trial, new
    at.files.remember()
    Store.open(store.folder)  # which says from now on that it is of today's format


def _move(store: Store, old: StoredTrial, new: StoredTrial) -> None:
    """The new trial is whole before the old one goes; interrupted, it is done again."""
    import polars as pl

    store.describe(new)
    rows = store.records([old.key])
    if len(rows):
        store.add(rows.with_columns(key=pl.lit(new.key), trial=pl.lit(new.key)))
        store.commit([new.key])
    shutil.rmtree(store.folder / TRIALS / old.key)


def carried(trial: StoredTrial, at: At) -> StoredTrial:
    """The trial as it is described today; raises RefusedError for what cannot be verified, and for no description of one."""
    try:
        return _carried(trial, at)
    except RefusedError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, SyntaxError, RecursionError, OSError):
        raise RefusedError("its description is not that of a trial of format 1") from None


def _carried(trial: StoredTrial, at: At) -> StoredTrial:
    made_of = trial.made_of
    try:
        model, parts = _model(made_of["model"], at)
        code = next(one for one in at.codes if one.then(made_of) == made_of["code"])
        reducer, protocol = made_of["trial"]["reducer"], made_of["trial"]["protocol"]
        frames, known = made_of["trial"]["frames"], dict(made_of["versions"])
    except StopIteration:
        raise RefusedError(
            "made by code that is not at hand; --code FOLDER names the sources (src) of the version that made it"
        ) from None
    today = code.today(made_of)
    if today.unfollowed:
        raise RefusedError(f"its code cannot be followed: {today.unfollowed[0]}")
    if unknown := sorted(versions(today).keys() - versions().keys() - known.keys()):
        raise RefusedError(f"it does not say which version of {', '.join(unknown)} made it")
    origin = {
        "format": RECORD_FORMAT,
        "trial": {"frames": frames, "reducer": unplaced(reducer), "protocol": unplaced(protocol)},
        "model": model,
        "benchmark": made_of["benchmark"],
        "device": made_of["device"],
        "versions": known,
        "code": today.digest,
    }
    behind = {"roots": former.roots_of(made_of), "code": dict(today.parts), "checkpoint": parts, "unfollowed": []}
    return StoredTrial(digest(origin), origin, {**trial.about, "parts": behind, "former_key": trial.key})


def _model(old: Mapping[str, Any], at: At) -> tuple[dict[str, Any], dict[str, str]]:
    """What is loaded, as today's fingerprint has it, and the files of the checkpoint."""
    target = str(old["_target_"])
    folder = _folder(str(old["checkpoint"]), at)
    files = of_checkpoint({"_target_": target, "checkpoint": str(folder)}, at.files)
    return {**old, "_target_": own_target(target), "checkpoint": digest(files)}, files


def _folder(fingerprint: str, at: At) -> Path:
    """The checkpoint that a fingerprint is of, or the name that stands in its place where nothing was downloaded yet."""
    if named := former.snapshots_of(fingerprint) if "/" in fingerprint else []:
        if len(named) == 1:
            return named[0]
        raise RefusedError(
            f"made with {fingerprint}, and the local cache has {len(named)} revisions of it: nobody knows with which"
        )
    for checkpoint in at.checkpoints:
        path = Path(checkpoint).expanduser()
        for folder in [path] if path.is_dir() else former.snapshots_of(checkpoint):
            if fingerprint in former.checkpoint_digests(folder, at.files):
                return folder
    raise RefusedError(
        "made with a checkpoint that is not at hand; --checkpoint FOLDER_OR_NAME names it, with the files it had then"
    )
