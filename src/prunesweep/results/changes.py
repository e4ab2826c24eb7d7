"""Why records are not used again: what differs between a trial and the stored one that is most like it.

A key says only that something differs.  The descriptions of both trials say what: settings are compared first, and among
stored trials of the same settings the one that differs in least is named, with each part from its value to the new one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from prunesweep.results.keys.fingerprint import RECORD_FORMAT, digest
from prunesweep.results.records import TRIAL
from prunesweep.results.store import TRIALS, Store, StoredTrial, read_description
from prunesweep.targets import today

SHOWN = 8
"""Digits of a fingerprint that tell one from another."""
MOST_NAMED = 3
PARTS = ("model", "device", "versions", "code")
"""Of what a trial is made of, besides its settings and the benchmark."""
MIGRATE = "prunesweep store migrate carries them over where that can be verified"


def why_not_reused(store: Store, origins: Mapping[str, Mapping[str, Any]], parts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each reason, with the number of trials; trials that the store knows, or nothing like them, have none."""
    unknown = [key for key in origins if not (store.folder / TRIALS / key / TRIAL).exists()]
    unfollowed = sorted({reason for key in origins for reason in parts[key]["unfollowed"]})
    lines = [f"records of this method never are: {'; '.join(unfollowed[:MOST_NAMED])}; make it a field of the method"] * bool(
        unfollowed
    )
    if not unknown:
        return lines
    alike: dict[str, list[StoredTrial]] = {}
    former = 0
    for stored in _described(store):
        former += stored.made_of.get("format") != RECORD_FORMAT
        alike.setdefault(_settings(stored.made_of), []).append(stored)
    reasons = Counter(
        _nearest(same, origins[key], parts[key])
        for key in unknown
        if (same := _of_same_classes(alike.get(_settings(origins[key]), ()), parts[key]["roots"]))
    )
    lines += [f"{_trials(count)} of the same settings in the store: {reason}" for reason, count in reasons.items()]
    return [*lines, f"{_trials(former)} in the store have keys of an earlier version; {MIGRATE}"] if former else lines


def _trials(count: int) -> str:
    return f"{count} trial{'' if count == 1 else 's'}"


def _described(store: Store) -> Iterator[StoredTrial]:
    for path in sorted((store.folder / TRIALS).glob(f"*/{TRIAL}")):
        if (trial := _read(path)) is not None:
            yield trial


@cache
def _read(path: Path) -> StoredTrial | None:
    """A trial's description never changes: its folder is named after it."""
    return read_description(path)


def _settings(made_of: Mapping[str, Any]) -> str:
    return digest([made_of.get("trial"), made_of.get("benchmark")])


def _of_same_classes(stored: Sequence[StoredTrial], roots: Sequence[str]) -> list[StoredTrial]:
    """Without trials of another's method whose class has the same name by chance; what has only moved is the same."""
    own = _classes(roots)
    return [trial for trial in stored if _classes(trial.about.get("parts", {}).get("roots", roots)) == own]


def _classes(roots: Sequence[str]) -> list[list[str]]:
    """Of the classes behind a trial, the model's `load` aside, the module's own name and the class: folders may be renamed."""
    return [today(root).split(".")[-2:] for root in roots[:-1]]


def _nearest(stored: Sequence[StoredTrial], origin: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    nearest = min((differences(trial, origin, parts) for trial in stored), key=len)
    return "; ".join(nearest) or "made by code that cannot be followed"


def differences(stored: StoredTrial, origin: Mapping[str, Any], parts: Mapping[str, Any]) -> list[str]:
    """What differs but the settings, each from its stored value to the new one."""
    before = stored.about.get("parts", {})
    found: list[str] = []
    for name in PARTS:
        old, new = stored.made_of.get(name), origin.get(name)
        if old == new:
            continue
        if name == "code":
            found.append(f"code: {_named({today(name): value for name, value in before.get('code', {}).items()}, parts['code'])}")
        elif name == "model":
            found += _of_model(old or {}, new or {}, before.get("checkpoint", {}), parts["checkpoint"])
        elif name == "versions":
            found += [f"{what}" for what in _changed(old or {}, new or {})]
        else:
            found.append(f"{name} {old} -> {new}")
    return found


def _of_model(old: Mapping[str, Any], new: Mapping[str, Any], files: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for what in _changed(
        {k: v for k, v in old.items() if k != "checkpoint"}, {k: v for k, v in new.items() if k != "checkpoint"}
    ):
        yield f"model.{what}"
    if old.get("checkpoint") != new.get("checkpoint"):
        yield f"checkpoint: {_named(files, now)}"


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} {old.get(name, 'none')} -> {new.get(name, 'none')}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


def _named(old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """The first parts whose fingerprints differ."""
    short = [{name: value[:SHOWN] for name, value in one.items()} for one in (old, new)]
    found = _changed(*short)
    more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return ", ".join(found[:MOST_NAMED]) + more
