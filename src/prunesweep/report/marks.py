"""Trials that every chart names: the dense one, the knee, and those at their method's own settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from prunesweep.analysis.outcomes import Outcomes
from prunesweep.analysis.varied import IGNORED
from prunesweep.disk.foreign import read_yaml
from prunesweep.paths import CONF
from prunesweep.report.verdict import Verdict
from prunesweep.results.read import settings
from prunesweep.results.records import CONFIG

DENSE, KNEE, DEFAULT = "dense", "knee", "paper default"
UNSAID = ("positions", "seed")
"""Ends of settings of which papers say nothing: with any value a trial is still the paper's."""
PAPER = "arXiv"
"""What the first line of a method's YAML says where a paper stands behind its defaults."""
MODELS_OWN = "${model."
"""How a default begins that a model's YAML sets."""


def marked(found: Verdict) -> dict[int, str]:
    """What to write beside which trials, by index; a trial that is several of these has the first name."""
    outcomes = found.outcomes
    names = {i: DEFAULT for i in range(len(outcomes.table)) if outcomes.table[i].samples and is_default(outcomes, i)}
    if found.front.knee is not None:
        names[found.front.knee] = KNEE
    if found.against is not None:
        names[found.against.dense] = DENSE
    return names


def is_default(outcomes: Outcomes, trial: int) -> bool:
    """Whether a trial has all settings as its method's YAML has them, where that follows a paper."""
    own, info = defaults(outcomes.infos[trial].reducer), outcomes.infos[trial]
    if not own:
        return False
    has = settings(info)
    left = {name: value for name, value in own.items() if not _same(has.get(name), value)}
    if not left or any(not str(value).startswith(MODELS_OWN) for value in left.values()):
        return not left
    model = _model(outcomes, trial)
    return all(_same(has.get(name), model.get(str(value).removeprefix(MODELS_OWN).rstrip("}"))) for name, value in left.items())


def _model(outcomes: Outcomes, trial: int) -> Mapping[str, Any]:
    """The model's settings as the trial's folder has them; none where it does not say."""
    folder = outcomes.folders[trial]
    try:
        found = read_yaml(folder / CONFIG)["model"] if folder else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, Mapping) else {}


def _same(one: Any, other: Any) -> bool:
    """Equal, and both numbers or neither: in Python `True` is 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


@cache
def defaults(reducer: str) -> dict[str, Any]:
    """Settings by dotted name that a method of this package has by its paper; none of a baseline or a method of others."""
    file = CONF / "reducer" / f"{reducer}.yaml"
    if not reducer.isidentifier() or not file.is_file() or PAPER not in file.read_text(encoding="utf-8").partition("\n")[0]:
        return {}
    return dict(_leaves("reducer.", read_yaml(file)))


def _leaves(prefix: str, node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(f"{prefix}{key}.", value)
        elif not f"{prefix}{key}".endswith((*IGNORED, *UNSAID)):
            yield f"{prefix}{key}", value
