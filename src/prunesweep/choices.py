"""What to evaluate: a model, a benchmark and trials of methods, by their names in `conf/`.

Composed as the command composes them, so that a name, a setting or a value that it would refuse is refused here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from prunesweep.use.preset import Preset

Group = Literal["model", "benchmark", "reducer"]
BESIDE = ("video", "protocol")
"""Sections whose settings a trial may have besides its reducer's."""


@dataclass(frozen=True)
class Choice:
    """A model, a benchmark or a reducer of `conf/`, with settings of one's own.  Equal choices are the same trial."""

    group: Group
    name: str
    settings: tuple[str, ...] = ()
    """As a command has them: `benchmark.limit=200`."""
    conf: str | None = None
    """The folder, like the package's `conf/`, that has it; None for the package's own."""
    preset: str | None = field(default=None, compare=False)
    """The file that `prunesweep tune` wrote, if it is one's."""

    @property
    def overrides(self) -> tuple[str, ...]:
        return f"{self.group}={self.name}", *self.settings

    def __str__(self) -> str:
        return " ".join([self.name, *(setting.removeprefix(f"{self.group}.") for setting in self.settings)])

    def __repr__(self) -> str:
        return f"<{self.group} {self}>"


def load_model(name: str | Path, /, **settings: Any) -> Choice:
    """A model of `conf/model/`: `ps.load_model("llava_onevision_7b", frames=16)`.  Weights are read when it evaluates.

    One of your own is named by its file, FOLDER/model/NAME.yaml; benchmarks and reducers likewise.
    Raises ValueError for an unknown name or setting, and for one that must be given.
    """
    return _checked(_choice("model", name, settings))


def load_benchmark(name: str | Path, /, **settings: Any) -> Choice:
    """A benchmark of `conf/benchmark/`: `ps.load_benchmark("mvbench", path="/data/mvbench", limit=400)`.

    `limit` is a number of questions, the same of each task; None takes all.  Videos are read when it is evaluated.
    Raises ValueError as `load_model`.
    """
    return _checked(_choice("benchmark", name, settings))


def reducer(name: str | Path, settings: Mapping[str, Any] | None = None, /, **more: Any) -> Choice:
    """A method of `conf/reducer/`, which makes a trial: `ps.reducer("prunevid", {"prune.keep_ratio": 0.4})`.

    Keys are the reducer's own; those that begin with `video.` or `protocol.` set how the trial is asked: `video.frames` is a
    number of frames.  Raises ValueError for an unknown name or setting, and for a value out of bounds.
    """
    return _checked(_choice("reducer", name, {**(settings or {}), **more}))


def grid(name: str | Path, settings: Mapping[str, Sequence[Any]], /) -> list[Choice]:
    """Trials of a method, one for each combination of the values given for each key; the last key varies fastest.

    Raises ValueError as `reducer`, and for a key without values.
    """
    axes = [getattr(values, "tolist", lambda own=values: own)() for values in settings.values()]  # of numpy or torch
    for (key, given), values in zip(settings.items(), axes, strict=True):
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise ValueError(f"grid: {key} takes a list of values, got {given!r}")
        for value in values:
            _checked(_choice("reducer", name, {key: value}))
    combinations = itertools.product(*axes)
    return [_choice("reducer", name, dict(zip(settings, values, strict=True))) for values in combinations]


def _choice(group: Group, name: str | Path, settings: Mapping[str, Any]) -> Choice:
    from prunesweep.sweep.overrides import override

    own = tuple(override(key, value, section_of(group, key)) for key, value in settings.items())
    if isinstance(name, (str, Path)) and str(name).endswith(".yaml"):
        file = Path(name).expanduser().absolute()
        if group == "reducer" and (preset := preset_of(file)):
            return Choice(group, preset.overrides[0].partition("=")[2], (*preset.overrides[1:], *own), preset=str(file))
        if not file.is_file() or file.parent.name != group:
            other = ", or a preset that prunesweep tune wrote" if group == "reducer" else ""
            raise ValueError(f"{name} must be a file in a folder called {group}, as in conf/{group}/{other}")
        return Choice(group, file.stem, own, str(file.parents[1]))
    if not isinstance(name, (str, Path)) or not re.fullmatch(r"[\w./-]+", str(name)):
        raise ValueError(f"a {group} is called by its name in conf/{group}/, got {name!r}")
    return Choice(group, str(name), own)


def preset_of(file: str | Path) -> Preset | None:
    """What `prunesweep tune` has written; None for other files, and where there is none."""
    from prunesweep.use.preset import is_preset, read_preset

    path = Path(file).expanduser()
    return read_preset(path) if is_preset(path) else None


def section_of(group: str, key: Any) -> str:
    """The section of a key, where the key does not begin with it."""
    first = str(key).lstrip("+").partition(".")[0]
    return "" if "." in str(key) and (first == group or (group == "reducer" and first in BESIDE)) else group


def _checked(choice: Choice) -> Choice:
    """Raises ValueError for what the command would refuse before it reads anything."""
    from omegaconf import OmegaConf

    from prunesweep.sweep.session import composed
    from prunesweep.targets import instantiate

    with explained():
        section = composed([*searched(choice), *choice.overrides])[choice.group]
        for missing in sorted(OmegaConf.missing_keys(section)):
            key = f"{choice.group}.{missing}"
            raise ValueError(f"{key} must be given: {key}=...")
        if choice.group == "reducer":
            instantiate(section)
    return choice


def searched(*choices: Choice) -> list[str]:
    """Where Hydra is to look besides its own folder."""
    from prunesweep.sweep.overrides import override

    folders = dict.fromkeys(choice.conf for choice in choices if choice.conf)
    return [override("hydra.searchpath", [f"file://{folder}" for folder in folders])] if folders else []


def choice_of(group: Group, value: Choice | str) -> Choice:
    """A choice, or one by its name alone."""
    chosen = _checked(_choice(group, value, {})) if isinstance(value, (str, Path)) else value
    if not isinstance(chosen, Choice) or chosen.group != group:
        maker = {"model": "load_model", "benchmark": "load_benchmark", "reducer": "reducer"}[group]
        raise ValueError(f"a {group} is made by prunesweep.{maker}, got {value!r}")
    return chosen


def explained() -> AbstractContextManager[None]:
    """Hydra's errors as the command words them; its traceback as well with HYDRA_FULL_ERROR=1."""
    from prunesweep.cli.run import hydras_errors_explained  # it also teaches OmegaConf the functions that conf/ calls

    return hydras_errors_explained()
