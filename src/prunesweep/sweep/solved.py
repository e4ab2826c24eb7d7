"""Solutions of `reducer.match`, kept in the store: a sweep that goes on, or is run again, solves none anew.

    solved/KEY.json              what was solved, and with what result: KEY is the fingerprint of `made_of` in it

`made_of` is that of a trial's records with the method as it was before its setting was solved; and besides the code that
solves, the questions in their order, of which some videos are chosen, and how long a video may take.  What an error had a part
in is not kept: a video that cannot be read now may be there next time.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from prunesweep.checks import InfeasibleError
from prunesweep.disk.files import replace_file
from prunesweep.disk.foreign import read_json
from prunesweep.engine.budget import Calibration, Counts, Solution, solve
from prunesweep.engine.candidate import Candidate
from prunesweep.engine.devices import device_kind
from prunesweep.reducers import NoCounterpartError, Reducer
from prunesweep.results.keys.code import code_of
from prunesweep.results.keys.fingerprint import Files, described, digest, of_samples
from prunesweep.results.store import Store
from prunesweep.sweep.planned import Planned
from prunesweep.sweep.work import ONCE, made_of
from prunesweep.types import Model, Sample

SOLVING = ("prunesweep.engine.budget.solve", "prunesweep.engine.budget.Calibration")
"""Where the code that solves begins."""
OF_SETTINGS = (NoCounterpartError, InfeasibleError)
"""What counting raises again whenever it is asked."""
PLAIN = (bool, int, float, str, type(None))
Outcome = tuple[Reducer, Solution] | str
"""A method with its setting solved; or why there is none."""


class Watched(Calibration):
    """Notes whether an error had a part in what was counted."""

    failed = False

    def counts(self, *arguments: Any) -> Counts:
        try:
            return super().counts(*arguments)
        except OF_SETTINGS:
            raise
        except Exception:
            self.failed = True
            raise


@dataclass(frozen=True)
class Place:
    """What the trials of a batch share, of what decides a solution."""

    store: Store
    load: Mapping[str, Any]
    """`model.load`, with a hub checkpoint as the folder of its download."""
    files: Files
    samples: Sequence[Sample]

    def made_of(self, one: Planned) -> dict[str, Any]:
        """Everything that determines a solution; the method's name is in its words."""
        candidate = Candidate(one.name, one.reducer, one.frames, one.protocol)
        device = device_kind(one.spec.trainer["accelerator"])
        return {
            "trial": made_of(candidate, self.load, device, self.files, one.spec.benchmark["name"]),
            "name": one.reducer.name,
            "solving": code_of(SOLVING).digest,
            "questions": self._questions,
            "seconds": one.spec.video["seconds"],
        }

    @functools.cached_property
    def _questions(self) -> str:
        keys = of_samples(self.samples, self.files)
        return digest([keys[sample.id] for sample in self.samples])


def matched(group: Sequence[Planned], make_model: Callable[[], Model], place: Place) -> tuple[list[Planned], Mapping[str, str]]:
    """Reducers that are to cost a certain share, with their free setting solved for it; why others cannot, by their names."""
    seconds = group[0].spec.video["seconds"] if group else 0.0
    calibration = functools.cache(lambda: Watched(make_model(), place.samples, seconds))
    found: list[Planned] = []
    reasons: dict[str, str] = {}
    for one in group:
        if not one.reducer.match:
            found.append(one)
            continue
        made = place.made_of(one)
        outcome = kept(place.store, made, one.reducer)
        known = outcome is not None
        if outcome is None:
            outcome = _solved(one, calibration(), place.store, made)
        if isinstance(outcome, str):
            reasons[one.name] = outcome
            continue
        reducer, solution = outcome
        print(f"{one.name}: {solution}{', as was solved before' if known else ''}")
        found.append(one._replace(reducer=reducer, solution=solution))
    return found, reasons


def _solved(one: Planned, calibration: Watched, store: Store, made: Mapping[str, Any]) -> Outcome:
    calibration.failed = False
    try:
        outcome: Outcome = solve(one.reducer, calibration, one.frames, one.protocol)
    except InfeasibleError as error:
        outcome = str(error)
    if not calibration.failed and ONCE not in made["trial"]:
        keep(store, made, one.reducer, outcome)
    return outcome


def keep(store: Store, made: Mapping[str, Any], reducer: Reducer, outcome: Outcome) -> None:
    """Writes down what comes back the same, and nothing else."""
    if (said := _as_text(made, reducer, outcome)) is None or not _same(_read(json.loads(said), reducer), outcome):
        return
    path = store.solved(digest(made))
    path.parent.mkdir(exist_ok=True)
    replace_file(path, said.encode())


def _same(one: Outcome, other: Outcome) -> bool:
    """Also in the kinds of numbers, which are in a record's key."""
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return one == other and repr(described(one[0])) == repr(described(other[0]))


def kept(store: Store, made: Mapping[str, Any], reducer: Reducer) -> Outcome | None:
    """What was solved of the very same; None for nothing, and for a file that is damaged, which is then written anew."""
    try:
        said = read_json(store.solved(digest(made)))
        return _read(said, reducer) if said["made_of"] == json.loads(json.dumps(made)) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _as_text(made: Mapping[str, Any], reducer: Reducer, outcome: Outcome) -> str | None:
    """None for a solved part with settings that JSON does not hold."""
    if isinstance(outcome, str):
        return json.dumps({"made_of": made, "reason": outcome}, indent=1)
    solved, solution = outcome
    slot = _slot(solution.knob)
    settings = _differing(getattr(reducer, slot), getattr(solved, slot))
    if not all(isinstance(value, PLAIN) for value in settings.values()):
        return None
    return json.dumps({"made_of": made, "settings": settings, "solution": asdict(solution)}, indent=1)


def _read(said: Mapping[str, Any], reducer: Reducer) -> Outcome:
    if "reason" in said:
        return str(said["reason"])
    solution = Solution(**{**said["solution"], "videos": tuple(said["solution"]["videos"])})
    slot = _slot(solution.knob)
    return replace(reducer, **{slot: replace(getattr(reducer, slot), **said["settings"])}), solution


def _slot(knob: str) -> str:
    return knob.partition(".")[0]


def _differing(before: Any, after: Any) -> dict[str, Any]:
    """Settings of a part that were solved: the knob, or those of a grid."""
    if type(before) is not type(after):
        return {"": after}
    return {field.name: value for field in fields(after) if (value := getattr(after, field.name)) != getattr(before, field.name)}
