"""The dense trial that each trial is paired with: the same frames, prompts, weights and questions, nothing left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from prunesweep.results.read import settings

if TYPE_CHECKING:
    from prunesweep.analysis.outcomes import Outcomes
    from prunesweep.results.records import TrialInfo

ASKED = ("video.", "protocol.")
"""The settings of what a model is shown and asked, which a reducer does not change."""
SHOWN = ("video", "protocol", "benchmark", "model")
"""How overrides begin that may change it."""
HOW_MANY = "benchmark.limit="
"""The one override of a benchmark that leaves its questions as they are: pairs are the questions that both answered."""
LONGEST = 40
"""Characters of a setting's value in a message."""


class Counterparts(NamedTuple):
    """The dense trial of each trial, by index; its own index of a dense one."""

    dense: tuple[int | None, ...]
    """None where the sweep has none."""
    missing: dict[str, int]
    """The overrides of each dense trial that is missing, and how many trials miss it."""


def counterparts(outcomes: Outcomes) -> Counterparts:
    """Of several dense trials of one setting one called `none` stands for all, then the first."""
    asked = [_asked(info) for info in outcomes.infos]
    dense = [i for i, row in enumerate(outcomes.table) if row.dense and row.samples]
    dense.sort(key=lambda i: (outcomes.table[i].reducer != "none", i))
    found = [
        i if row.dense and row.samples else next((d for d in dense if _alike(asked[i], asked[d])), None)
        for i, row in enumerate(outcomes.table)
    ]
    lacking = [i for i, d in enumerate(found) if d is None and outcomes.table[i].samples]
    shared = frozenset.intersection(*(frozenset(info.overrides) for info in outcomes.infos)) if outcomes.infos else frozenset()
    varying = _varying([one.settings for one in asked]) if lacking else frozenset()
    return Counterparts(tuple(found), dict(Counter(_way_out(outcomes.infos[i], asked[i], shared, varying) for i in lacking)))


def wanted(outcomes: Outcomes) -> str:
    """What to add to a sweep without any dense trial: the overrides of one for each setting of frames and prompts."""
    return " and ".join(counterparts(outcomes).missing)


def alike(one: TrialInfo, other: TrialInfo) -> bool:
    """Whether two trials are shown and asked the same by the same weights, whatever their reducers leave of it."""
    return _alike(_asked(one), _asked(other))


class _Asked(NamedTuple):
    settings: dict[str, Any]
    benchmark: frozenset[str]
    """Overrides."""
    model_key: str


def _asked(info: TrialInfo) -> _Asked:
    own = {name: value for name, value in settings(info).items() if name.startswith(ASKED)}
    given = (override.lstrip("+~") for override in info.overrides)
    benchmark = frozenset(o for o in given if o.startswith("benchmark.") and not o.startswith(HOW_MANY))
    return _Asked(own, benchmark, info.model_key)


def _alike(one: _Asked, other: _Asked) -> bool:
    """What a description lacks, written by an older version, tells nothing apart."""
    both = one.settings.keys() & other.settings.keys()
    weights = not (one.model_key and other.model_key) or one.model_key == other.model_key
    return weights and one.benchmark == other.benchmark and all(one.settings[k] == other.settings[k] for k in both)


def _way_out(info: TrialInfo, asked: _Asked, shared: frozenset[str], varying: frozenset[str]) -> str:
    """What to run: the trial's overrides that not all trials have; in a store, which keeps none, the settings that vary."""
    given = [o for o in info.overrides if o not in shared and o.lstrip("+~").startswith(SHOWN)]
    told = (f"{name}={str(value)[:LONGEST]}" for name, value in asked.settings.items() if name in varying)
    return " ".join(["reducer=none", *(given or told)])


def _varying(everyone: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Names of settings that are not the same everywhere."""
    names = {name for own in everyone for name in own}
    return frozenset(name for name in names if len({str(own.get(name)) for own in everyone}) > 1)
