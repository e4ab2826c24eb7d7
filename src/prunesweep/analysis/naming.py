"""What people call a sweep and a trial of it, and the folders that are meant.

A sweep is called by its path, or `latest`: the one that `multirun/latest` leads to.  A trial of a sweep is called

    7, #7                         by its number, the name of its folder, which every view shows in the column `#`
    dense                         the dearest trial without reduction
    best                          the most accurate trial, of equals the cheaper one; a race's stopped trials are none
    best@0.25x                    the same among trials that cost at most that share of the dense cost
    knee                          the trial where the front turns (`front.knee_point`: Kneedle, Satopää et al., 2011)
    prunevid keep_ratio=0.4       by its name, or by words that are true of no other trial: settings, and parts of its name
    multirun/DATE/TIME/7          by its folder, or, as `latest/7` and `latest/knee`, by a sweep and any of the above

Costs are those of the sweep's axis.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prunesweep.analysis.costs import ABSOLUTE
from prunesweep.analysis.counterparts import wanted
from prunesweep.analysis.front import knee_point
from prunesweep.analysis.outcomes import Outcomes, read_outcomes
from prunesweep.analysis.significance import dense_trial
from prunesweep.analysis.wording import numbered
from prunesweep.console.layout import short_numbers
from prunesweep.results.infeasible import read_infeasible
from prunesweep.results.read import is_key_of, is_store, no_folder, number, read_infos, settings
from prunesweep.results.records import LATEST, RECORDS, TrialInfo

if TYPE_CHECKING:
    from jaxtyping import Float

SWEEPS = Path("multirun")
"""Where sweeps lie unless told otherwise, below the working folder."""
ROLES = ("dense", "best", "knee", "best@SHARE")
SHARE = re.compile(r"best@(.+?)x?")
MOST_LISTED = 4
"""Trials in a message."""
NOTHING = ("null", "none", "off")
"""How a setting is called that is switched off."""
COST = "llm_flops_ratio"


# Sweeps


def sweep_called(text: str) -> Path:
    """The folder of a sweep, a store, a run or a trial; a link to the latest one is followed, so that its own name is shown.

    Raises ValueError if there is none, with the closest ones beside it.
    """
    path = Path(text).expanduser()
    if not path.exists() and path.parts[:1] == (LATEST,):
        path = SWEEPS / path
    path = _followed(path)
    if not path.is_dir():
        raise ValueError(no_folder(path))
    return path


def _followed(path: Path) -> Path:
    """With what the link `latest` leads to in its place."""
    for place in (path, *path.parents):
        if place.name == LATEST and place.is_symlink():
            return Path(os.path.normpath(place.parent / os.readlink(place))) / path.relative_to(place)
    return path


# Trials


class Named(NamedTuple):
    """A trial, as far as it can be called."""

    folder: Path
    info: TrialInfo

    @property
    def shown(self) -> str:
        return f"{number(self.folder)} ({short_numbers(self.info.name)})"


def trial_called(text: str, sweep: Path | None = None, cost: str = COST) -> Path:
    """The folder of a trial, in its sweep or store; without a sweep, `text` says which.

    Raises ValueError for what is no trial, or several, with those that may be meant.
    """
    text = text.strip()
    if sweep is not None and not _is_path(text):
        return _in_sweep(text, sweep, cost)
    whole, name = _parted(text)
    return _in_sweep(name, whole, cost) if name else _of_folder(whole)


def require_two(folders: Sequence[Path]) -> None:
    """Raises ValueError if two trials that are to be compared are one."""
    if len(folders) > len({folder.resolve() for folder in folders}):
        raise ValueError(f"{folders[0]} would be compared with itself; name another trial to compare it with")


def _is_path(text: str) -> bool:
    """Whether it is the path of something in a folder that exists; values of settings may have slashes, too."""
    return "/" in text and _is_folder(text.rpartition("/")[0])


def _is_folder(text: str) -> bool:
    try:
        return sweep_called(text).is_dir()
    except ValueError:
        return False


def _parted(text: str) -> tuple[Path, str]:
    """A folder, and what is called in it; a name may have slashes of its own."""
    if _is_folder(text):
        return sweep_called(text), ""
    for end in reversed([match.start() for match in re.finditer("/", text)]):
        if _is_folder(text[:end]):
            sweep = sweep_called(text[:end])
            if _named(sweep):
                return sweep, text[end + 1 :]
            break
    if text.startswith(f"{LATEST}/"):
        sweep_called(LATEST)  # there may be none
    if "/" in text:
        raise ValueError(no_folder(Path(text).expanduser()))
    raise ValueError(f"{text!r} is no folder; a trial is called by its sweep, too: {LATEST}/{text or 'NUMBER'}")


def _of_folder(folder: Path) -> Path:
    if (folder / RECORDS).is_file():
        return folder
    if failed := read_infeasible(folder):
        raise ValueError(f"{folder} could not be run: {failed.line}")
    trials = _named(folder)
    if not trials:
        raise ValueError(f"{folder} holds no {RECORDS}; name the numbered folder of a trial, such as multirun/DATE/TIME/3")
    kind = "store" if is_store(folder) else "sweep"
    raise ValueError(f"{folder} is a {kind}; name one of its trials, such as {folder}/{number(trials[0].folder)}")


def _in_sweep(text: str, sweep: Path, cost: str) -> Path:
    text = text.removeprefix("#")  # as views print a number
    if text and "/" not in text and (sweep / text / RECORDS).is_file():
        return sweep / text
    if is_role(text):
        outcomes, index = by_role(text, read_outcomes(sweep, cost))
        folder = outcomes.folders[index]
        assert folder is not None
        return folder
    if "/" not in text and (failed := read_infeasible(sweep / text)):
        raise ValueError(f"{sweep / text} could not be run: {failed.line}")
    return called(text, _named(sweep), str(sweep)).folder


def _named(sweep: Path) -> list[Named]:
    return [Named(*one) for one in read_infos(sweep)]


def called(text: str, trials: Sequence[Named], where: str) -> Named:
    """The trial of that number or name, or the only one of which all words are true; `where` is for the message.

    Raises ValueError if none is, or several are.
    """
    if not trials:
        raise ValueError(f"{where} holds no finished trial")
    words = text.split()
    of: tuple[Callable[[Named], bool], ...] = (
        lambda one: text in (number(one.folder), one.folder.name) or is_key_of(text, one.folder),
        lambda one: one.info.name == text,
        lambda one: all(_is_true(word, one.info) for word in words),
        lambda one: all(_is_true(word, one.info, _is_shown_as) for word in words),
        lambda one: all(_is_true(word, one.info) or _is_part(word, one.info.name) for word in words),
    )
    for holds in of if words else ():
        if found := [one for one in trials if holds(one)]:
            if len(found) == 1:
                return found[0]
            raise ValueError(f"{text!r} is any of {len(found)} trials of {where}: {_few(found)}; add a setting, or take a number")
    raise ValueError(f"no trial {text!r} in {where}; {_meant(text, trials)}")


def _is_part(word: str, name: str) -> bool:
    """Whether it stands in a name; digits alone are a number that no trial has, not the end of some value."""
    return "=" not in word and word in name and any(map(str.isalpha, word))


def _is_true(word: str, info: TrialInfo, same: Callable[[Any, str], bool] | None = None) -> bool:
    """Of a trial: a part of its name, what it is called after, or a setting by the last parts of its key."""
    key, sign, value = word.partition("=")
    if not sign:
        return word in (*info.name.split(), info.reducer)
    if word in info.name.split():
        return True
    return any(own == key or own.endswith(f".{key}") for own, has in settings(info).items() if (same or _same)(has, value))


def _same(has: Any, text: str) -> bool:
    """Whether a setting's value is what was typed."""
    if has is None:
        return text.lower() in NOTHING
    if isinstance(has, bool):
        return text.lower() == str(has).lower()
    try:
        return float(text) == float(has)
    except (TypeError, ValueError):
        return text.strip("'\"") == str(has)


def _is_shown_as(has: Any, text: str) -> bool:
    """Whether it is the value, or what views show of one with many digits."""
    return _same(has, text) or (isinstance(has, float) and short_numbers(str(has)) == text)


def _few(found: Sequence[Named]) -> str:
    more = f" and {len(found) - MOST_LISTED} more" if len(found) > MOST_LISTED else ""
    return f"{', '.join(one.shown for one in found[:MOST_LISTED])}{more}"


def _meant(text: str, trials: Sequence[Named]) -> str:
    names = {one.info.name: one for one in reversed(trials)}
    if text.isdigit():
        return f"it has {_few(trials)}"
    close = difflib.get_close_matches(text, [*names, *ROLES], MOST_LISTED)
    if close and close[0] in ROLES:
        return f"did you mean {close[0]}?"
    if not close:
        close = [name for name, one in names.items() if difflib.get_close_matches(text.split(" ")[0], [one.info.reducer], 1)]
    if close:
        return f"did you mean {_few([names[name] for name in close if name in names])}?"
    return f"it has {_few(trials)}; or say {', '.join(ROLES)}"


# By what they are in their sweep


def is_role(text: str) -> bool:
    """Whether a trial is called by its place among the others."""
    return text in ROLES or text.startswith("best@")


def by_role(text: str, found: Sequence[Outcomes]) -> tuple[Outcomes, int]:
    """The trial that is `dense`, `best`, `knee` or `best@0.25x` on its outcomes' cost axis, as its place in them.

    Raises ValueError if there is none, or if there are several models or benchmarks, each with one of its own.
    """
    share = _share(text)
    if len(found) != 1:
        settings = ", ".join(f"{one.model} on {one.benchmark}" for one in found)
        raise ValueError(f"{text!r} is a different trial for each of {settings}; name the one that is meant by its number")
    (outcomes,) = found
    index = _ROLES[text](outcomes) if text in _ROLES else _best(outcomes, share)
    return outcomes, index


def _share(text: str) -> float:
    if not text.startswith("best@"):
        return math.inf
    typed = SHARE.fullmatch(text)
    try:
        share = float(typed[1]) if typed else math.nan
    except ValueError:
        share = math.nan
    if not share > 0:
        raise ValueError(f"best@SHARE takes a share of the dense cost above 0, such as best@0.25x, got {text!r}")
    return share


def _dense(outcomes: Outcomes) -> int:
    found = dense_trial(outcomes)
    if found is None:
        raise ValueError(f"no trial without reduction; add {wanted(outcomes)} to the sweep")
    return found


def _knee(outcomes: Outcomes) -> int:
    accuracy = np.array([math.nan if row.stopped else row.accuracy for row in outcomes.table])
    found = knee_point(outcomes.costs, accuracy)
    if found is None:
        raise ValueError(f"the front of accuracy against {outcomes.cost} has fewer than three trials, and so no knee")
    return found


def _best(outcomes: Outcomes, share: float = math.inf) -> int:
    ran = [i for i, row in enumerate(outcomes.table) if row.samples and not row.stopped]
    if not ran:
        raise ValueError("no trial has scored answers to all questions that were asked")
    costs = _shares(outcomes) if share < math.inf else np.zeros(len(outcomes.table))
    within = [i for i in ran if costs[i] <= share]
    if not within:
        cheapest = min((i for i in ran if not math.isnan(costs[i])), key=lambda i: costs[i], default=ran[0])
        raise ValueError(
            f"no trial costs at most {share:g}x of dense in {outcomes.cost}; "
            f"the cheapest, {numbered(outcomes.table[cheapest].number, outcomes.names[cheapest])}, costs {costs[cheapest]:.3g}x"
        )
    return min(within, key=lambda i: (-outcomes.table[i].accuracy, outcomes.costs[i]))


_ROLES: Mapping[str, Callable[[Outcomes], int]] = {"dense": _dense, "best": _best, "knee": _knee}


def _shares(outcomes: Outcomes) -> Float[np.ndarray, " trials"]:
    """Each trial's cost on the axis as a share of the dense cost: of that of all relative costs, else of the dense trial's."""
    ratio = {absolute: name for name, absolute in ABSOLUTE.items()}.get(outcomes.cost, outcomes.cost)
    if ratio in ABSOLUTE:
        return np.array([getattr(row, ratio) for row in outcomes.table])
    with np.errstate(divide="ignore", invalid="ignore"):  # dense trials spend nothing on reduction
        return outcomes.costs / outcomes.costs[_dense(outcomes)]
