"""A setting by its name: a reducer of `conf/`, or a trial that was evaluated, from its folder or from a store."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunesweep.analysis.naming import trial_called
from prunesweep.console.meant import unknown
from prunesweep.disk.foreign import build
from prunesweep.paths import CONF
from prunesweep.results.read import is_store, read_infos
from prunesweep.results.records import TrialInfo, read_info
from prunesweep.sweep.session import composed
from prunesweep.targets import instantiate
from prunesweep.use.preset import read_preset

if TYPE_CHECKING:
    from prunesweep.reducers import Reducer


def is_reducers_name(text: str) -> bool:
    """Whether it is one of a reducer, not of a trial."""
    return (CONF / "reducer" / f"{text}.yaml").is_file() or not ("/" in text or Path(text).exists())


def setting_called(text: str, overrides: Sequence[str] = ()) -> Reducer:
    """Of a reducer with settings, each as a command has it (`reducer.prune.keep_ratio=0.2`, `model=...`), or of a trial.

    Raises ValueError for an unknown name, and for settings of a trial, which has its own.
    """
    if text.endswith(".yaml"):
        return instantiate(composed([*read_preset(Path(text).expanduser()).overrides, *overrides])["reducer"])
    if not is_reducers_name(text):
        if own := [override for override in overrides if override.startswith("reducer.")]:
            raise ValueError(f"{text} is a trial with settings of its own; leave out {own[0]}")
        return reducer_called(text)
    known = sorted(path.stem for path in (CONF / "reducer").glob("*.yaml"))
    if text not in known:
        raise ValueError(unknown("reducer", text, known))
    section = composed([f"reducer={text}", *overrides])["reducer"]
    if section.get("match"):
        raise ValueError(f"{text}: a budget is solved on a benchmark's videos; evaluate it, and name the trial's folder")
    return instantiate(section)


def reducer_called(text: str) -> Reducer:
    """Of a trial as commands call it: `multirun/latest/7`, `latest/best@0.25x`, `store/4be1c0de`.

    Raises ValueError for what is no trial, and for one made by code that is not this package's.
    """
    folder = trial_called(text)
    return reducer_of_trial(_info(folder), folder)


def reducer_of_trial(info: TrialInfo, source: Path) -> Reducer:
    """As it was evaluated: a knob that was solved for a budget has the value found."""
    node: Any = copy.deepcopy(info.settings.get("reducer"))
    if not isinstance(node, dict):
        raise ValueError(f"{source} does not say what its reducer is; run the trial again with this version")
    if matched := info.settings.get("matched"):
        slot, _, name = str(matched["knob"]).partition(".")
        node[slot][name] = matched["value"]
    return build({**node, "match": None}, "reducer", source)


def _info(folder: Path) -> TrialInfo:
    store = folder.parents[1]
    return dict(read_infos(store))[folder] if is_store(store) else read_info(folder)
