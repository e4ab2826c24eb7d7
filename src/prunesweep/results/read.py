"""Finished trials, wherever they are: the numbered folders of a sweep, or a store of records."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunesweep.console.layout import visible
from prunesweep.console.meant import closest
from prunesweep.results.infeasible import read_infeasible
from prunesweep.results.pending import unfinished
from prunesweep.results.records import LATEST, RECORDS, Trial, TrialInfo, read_info, read_shape, read_trial, trial_folders
from prunesweep.results.store import FORMAT, TRIALS, Store, StoredTrial

if TYPE_CHECKING:
    import polars as pl

IGNORED = ("_target_",)
"""Parts of a setting's name that say how it is built, not what it is."""


class UnreadableError(ValueError):
    """A trial of another version, or a damaged one."""


def is_store(source: Path) -> bool:
    return (source / FORMAT).is_file()


def require_sweep(folder: Path) -> Path:
    """The folder; raises ValueError if it is, or lies in, a store: a store keeps records alone, whichever sweep they are of."""
    if store := next((place for place in (folder, *folder.parents[:2]) if is_store(place)), None):
        raise ValueError(
            f"{store} is a store, which keeps records alone; name the folder of a sweep, such as multirun/DATE/TIME, or its trial"
        )
    return folder


def whole_of(folder: Path) -> Path:
    """The sweep or the store that a trial lies in."""
    return folder.parent.parent if is_store(folder.parent.parent) else folder.parent


def read_one(folder: Path, columns: Sequence[str]) -> Trial:
    """A trial of a sweep or a store, where `read_source` finds it, with these columns of its records.

    Raises ValueError for what is no trial, with the reason and a way out.
    """
    info = dict(read_infos(whole_of(folder))).get(folder) if is_store(whole_of(folder)) else None
    return Trial(info, reread(folder, columns), folder) if info else read_folder(folder, columns)


def read_source(source: Path, columns: Sequence[str] | None = None) -> Iterator[Trial]:
    """All trials of a sweep's folder in the order of their numbers, or of a store by name; only these columns of the records.

    Raises ValueError if `source` is no folder or a store of another format, UnreadableError for a trial that cannot be read.
    """
    if is_store(source):
        yield from _read_store(Store.existing(source), columns)
    else:
        yield from (read_folder(folder, columns) for folder in _of_sweep(source))


def _of_sweep(source: Path) -> list[Path]:
    if not source.is_dir():
        raise ValueError(no_folder(source))
    return trial_folders(source)


SWEEP_OR_STORE = "name the folder of a sweep, such as multirun/DATE/TIME, or a store"


def no_folder(path: Path) -> str:
    """What to say of a sweep or a store that is none, with what may be meant."""
    if path.name == LATEST and not path.is_symlink():
        return f"there is no {path}: nothing has been run from here with a folder named after the time; name a folder"
    if not path.exists():
        missing = next(place for place in (*reversed(path.parents), path) if not place.exists())
        beside = sorted(other.name for other in missing.parent.iterdir()) if missing.parent.is_dir() else []
        called = [LATEST] if missing == Path(path.parts[0]) else []  # from anywhere, a slip in a neighbour's name aside
        meant = closest(missing.name, [*called, *beside])
        return f"{path} does not exist; {f'did you mean {missing.parent / meant}?' if meant else SWEEP_OR_STORE}"
    return f"{path} is not a folder; {SWEEP_OR_STORE}"


def read_folder(folder: Path, columns: Sequence[str] | None = None) -> Trial:
    """A trial's folder, as `read_trial`; raises ValueError with the reason and a way out."""
    import polars as pl

    if not (folder / RECORDS).is_file():
        raise ValueError(_no_trial(folder))
    try:
        return read_trial(folder, columns)
    except (pl.exceptions.PolarsError, OSError, KeyError, TypeError, ValueError) as error:
        raise unreadable(folder, error) from error


def _no_trial(folder: Path) -> str:
    """What to say of a folder that is no finished trial's: why not, or which ones are."""
    if found := read_infeasible(folder):
        return f"{folder} is a trial that could not be run: {found.reason}"
    if why := unfinished(folder) or unfinished(folder.parent):
        return why
    if trials := trial_folders(folder):
        return f"{folder} is a sweep; name one of its trials, such as {trials[0]}"
    return f"{folder} holds no {RECORDS}; name the numbered folder of a trial, such as multirun/DATE/TIME/3"


def unreadable(folder: Path, error: Exception) -> UnreadableError:
    return UnreadableError(
        f"{folder.name} cannot be read as a trial ({' '.join(str(error).split())[:200]}); written by another version, or "
        "damaged: move it out of its folder, or run the sweep again"
    )


def read_infos(source: Path) -> list[tuple[Path, TrialInfo]]:
    """Where all trials of a sweep or a store are and what they are, in the order of `read_source`, without their records.

    Raises ValueError as `read_source`.
    """
    if is_store(source):
        infos = with_names([info for trial in Store.existing(source).trials() if (info := _info(trial))])
        return [(source / TRIALS / info.key, info) for info in infos]
    found = []
    for folder in _of_sweep(source):
        try:
            found.append((folder, read_info(folder)))
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise unreadable(folder, error) from error
    return found


def number(folder: Path) -> str:
    """What a trial of a sweep is called for short: the name of its folder; of a store, the first digits of its key."""
    return folder.name[:DIGITS] if KEY.fullmatch(folder.name) else folder.name


KEY, DIGITS = re.compile(r"[0-9a-f]{32}"), 8
"""A key of a store, and as many digits of it as tell trials apart."""


def is_key_of(text: str, folder: Path) -> bool:
    """Whether these are the first digits of a store's trial, as many as `number` has or more."""
    return len(text) >= DIGITS and bool(KEY.fullmatch(folder.name)) and folder.name.startswith(text)


def reread(folder: Path, columns: Sequence[str]) -> pl.DataFrame:
    """Columns of one trial's records once more; `folder` is where `read_source` found it."""
    if (folder / RECORDS).is_file():
        return read_folder(folder, columns).records
    return Store.existing(folder.parents[1]).records([folder.name]).select(list(columns))


def _read_store(store: Store, columns: Sequence[str] | None) -> Iterator[Trial]:
    stored = store.trials()
    infos = {trial.key: info for trial, info in zip(stored, map(_info, stored), strict=True) if info}
    named = {info.key: info for info in with_names(list(infos.values()))}
    for key, rows in store.each(list(named), columns):
        if len(rows):
            records = rows.select(list(columns)) if columns else rows.drop("key", "sample_key", "at")
            yield Trial(named[key], records, store.folder / TRIALS / key)


def _info(trial: StoredTrial) -> TrialInfo | None:
    """None for a description that lacks what numbers need."""
    about = trial.about
    try:
        reducer, model, benchmark = (visible(str(about[name])) for name in ("reducer", "model", "benchmark"))
        shape = read_shape(about["shape"])
        made_with = dict(trial.made_of.get("versions", {}))
        return TrialInfo(reducer, reducer, model, benchmark, (), dict(about["settings"]), shape, trial.key, versions=made_with)
    except (KeyError, TypeError):
        return None


def with_names(infos: Sequence[TrialInfo]) -> list[TrialInfo]:
    """A store knows no names, so a trial is called by its reducer and what varies among that reducer's trials.

    Trials of equal settings differ in what is no setting, such as the versions of libraries; their keys tell them apart.
    """
    by_method: dict[tuple[str, str, str], list[TrialInfo]] = {}
    for info in infos:
        by_method.setdefault((info.model, info.benchmark, info.reducer), []).append(info)
    named: list[TrialInfo] = []
    for own in by_method.values():
        names = _names([settings(info) for info in own])
        for info, name in zip(own, names, strict=True):
            told = f"{info.reducer} {name}".rstrip()
            named.append(replace(info, name=told if names.count(name) == 1 else f"{told} key={info.key[:DIGITS]}"))
    return sorted(named, key=lambda info: (info.model, info.benchmark, info.name))


def _names(flat: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for own in flat for key in own if not key.endswith(IGNORED))
    varying = [key for key in keys if len({str(own.get(key)) for own in flat}) > 1]
    leaves = short(varying)
    return [" ".join(f"{leaves[key]}={own[key]}" for key in varying if own.get(key) is not None) for own in flat]


def settings(info: TrialInfo) -> dict[str, Any]:
    """A trial's settings by dotted name: `reducer.prune.layer` and so on; None where a part is switched off."""
    return dict(_flat("", info.settings))


def _flat(prefix: str, node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(f"{name}.", value)
        else:
            yield name, value


def short(names: Sequence[str]) -> dict[str, str]:
    """Each dotted name cut to its last part where that is unique among them."""
    leaves = [name.rpartition(".")[2] for name in names]
    return {name: leaf if leaves.count(leaf) == 1 else name for name, leaf in zip(names, leaves, strict=True)}
