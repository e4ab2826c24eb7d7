"""A setting with what is known of it: one YAML file, which `reducer=FILE`, `ps.prune` and `prunesweep export` read.

It holds overrides, not objects: reading one composes the package's own YAML and runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prunesweep.files import replace_file
from prunesweep.foreign import read_yaml
from prunesweep.report.given import KEY
from prunesweep.sweep.overrides import override

FORMAT = 1
PRESETS = "presets"
"""Of conf/eval.yaml."""
OVERRIDE = re.compile(r"(reducer|reducer\.[\w.]+|video\.frames|protocol\.sampling)=.*")
"""What a preset may set: the method and how videos are sampled, nothing of the model, the machine or the store."""


@dataclass(frozen=True)
class Preset:
    """What was chosen, for what, and how it was confirmed."""

    overrides: tuple[str, ...]
    """As a command has them; the first one names the method."""
    model: str
    benchmark: str
    goal: str
    statement: str
    """In words, with its error and number of questions."""
    confirmed: bool
    """Whether the loss was shown to be within the margin."""
    keys: Mapping[str, str]
    """Fingerprints of the model and of the questions that it was confirmed on."""
    shape: Mapping[str, Any]
    """Sizes of the model."""
    made_with: Mapping[str, str]
    """Versions."""
    numbers: Mapping[str, Any]
    """Of the statement."""

    @property
    def name(self) -> str:
        """Method and settings, as they are shown."""
        return " ".join(one.removeprefix("reducer=").removeprefix("reducer.") for one in self.overrides)


def write_preset(preset: Preset, path: Path) -> None:
    import yaml

    said = f"# {preset.statement}\n# Use it: prunesweep reducer={path.name}, or ps.prune(model, {path.name!r})\n"
    plain = {KEY: FORMAT, **asdict(preset), "overrides": list(preset.overrides)}
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)
    replace_file(path, (said + text).encode())


def is_preset(path: Path) -> bool:
    """Whether a file says that it is one; raises ValueError for a YAML file that cannot be read."""
    return path.suffix == ".yaml" and path.is_file() and KEY in (read_yaml(path) or {})


def read_preset(path: Path) -> Preset:
    """Raises ValueError, in one line, for what is no preset of this version or sets what none may."""
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}; name the preset that prunesweep tune wrote")
    found = read_yaml(path)
    if not isinstance(found, dict) or KEY not in found:
        raise ValueError(f"{path} is no preset; prunesweep tune writes one")
    if found.pop(KEY) != FORMAT:
        raise ValueError(f"{path} is a preset of another version of prunesweep; tune once more")
    if lacking := [name for name in Preset.__dataclass_fields__ if name not in found]:
        raise ValueError(f"{path} has no {lacking[0]}, which every preset has; tune once more")
    if unknown := [name for name in found if name not in Preset.__dataclass_fields__]:
        raise ValueError(f"{path} has {unknown[0]!r}, which no preset of this version has")
    overrides = found["overrides"]
    if not isinstance(overrides, list) or not overrides or not str(overrides[0]).startswith("reducer="):
        raise ValueError(f"{path}: overrides must be a list that begins with reducer=NAME")
    for one in overrides:
        if not isinstance(one, str) or not OVERRIDE.fullmatch(one) or "\n" in one or "_target_" in one:
            raise ValueError(f"{path} sets {one!r}; a preset sets a method, video.frames and protocol.sampling only")
    return Preset(**{**found, "overrides": tuple(overrides)})


def expanded(arguments: Sequence[str], model: str) -> list[str]:
    """A command's overrides, with `reducer=FILE` in them replaced by what the preset sets, and the files named at the end.

    Raises ValueError for a file that is not there or no preset, and for a preset of another model than `model`, whose settings
    may mean something else there.
    """
    out: list[str] = []
    files: list[str] = []
    for one in arguments:
        key, _, value = one.partition("=")
        path = Path(value).expanduser()
        if key != "reducer" or not value.endswith(".yaml"):
            out.append(one)
            continue
        preset = read_preset(path)
        require_model(preset, path, model)
        out += preset.overrides
        files.append(str(path))
    return [*out, *([override(PRESETS, files)] if files else [])]


def require_model(preset: Preset, path: Path, model: str) -> None:
    if preset.model != model:
        raise ValueError(
            f"{path} was confirmed on model={preset.model}, not on {model}; tune there, or give its settings yourself: "
            f"{' '.join(preset.overrides)}"
        )


def require_sizes(sizes: Mapping[str, Any], model: Any, called: str) -> None:
    """Raises ValueError for a loaded model of other sizes than those of the preset's, whatever either is called."""
    if asdict(model.shape) != dict(sizes):
        raise ValueError(f"the preset is of a model of other sizes than this {called}; tune on this one")
