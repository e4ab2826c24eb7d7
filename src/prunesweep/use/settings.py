"""The reducer of a trial that was evaluated: from its folder, or from a store."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunesweep.analysis.naming import trial_called
from prunesweep.foreign import build
from prunesweep.results.read import is_store, read_infos
from prunesweep.results.records import TrialInfo, read_info

if TYPE_CHECKING:
    from prunesweep.reducers import Reducer


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
