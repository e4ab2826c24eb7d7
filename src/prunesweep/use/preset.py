"""A setting with what is known of it: one YAML file, which `reducer=FILE`, `ps.prune` and `prunesweep export` read.

It holds overrides, not objects: reading one composes the package's own YAML and runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prunesweep.disk.files import replace_file
from prunesweep.disk.foreign import read_yaml
from prunesweep.report.given import KEY
from prunesweep.sweep.overrides import override

FORMAT = 1
SUFFIX = ".yaml"
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
    return path.suffix == SUFFIX and path.is_file() and KEY in (read_yaml(path) or {})


def read_preset(path: Path) -> Preset:
    """Raises ValueError, in one line, for what is no preset of this version or sets what none may."""
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}; name the preset that prunesweep tune wrote")
    found = read_yaml(path)
    if not isinstance(found, dict) or KEY not in found:
        raise ValueError(f"{path} is no preset; prunesweep tune writes one")
    if (version := found.pop(KEY)) != FORMAT:
        raise ValueError(f"{path} is a preset of version {version}, and this prunesweep reads version {FORMAT}; tune once more")
    if lacking := [name for name in Preset.__dataclass_fields__ if name not in found]:
        raise ValueError(f"{path} has no {lacking[0]}, which every preset has; tune once more")
    if unknown := [name for name in found if name not in Preset.__dataclass_fields__]:
        raise ValueError(f"{path} has {unknown[0]!r}, which no preset of this version has")
    if not isinstance(found["shape"], dict):
        raise ValueError(f"{path}: shape must be the sizes of a model, got {found['shape']!r}; tune once more")
    overrides = found["overrides"]
    if not isinstance(overrides, list) or not overrides or not str(overrides[0]).startswith("reducer="):
        raise ValueError(f"{path}: overrides must be a list that begins with reducer=NAME")
    for one in overrides:
        if not isinstance(one, str) or not OVERRIDE.fullmatch(one) or "\n" in one or "_target_" in one:
            raise ValueError(f"{path} sets {one!r}; a preset sets a method, video.frames and protocol.sampling only")
    return Preset(**{**found, "overrides": tuple(overrides)})


def expanded(arguments: Sequence[str]) -> list[str]:
    """A command's overrides, with `reducer=FILE` in them replaced by what the preset sets, and the files named at the end.

    Raises ValueError for a file that is not there or no preset, and for several methods beside one.
    """
    out: list[str] = []
    files: list[str] = []
    for one in arguments:
        key, _, value = one.partition("=")
        if key != "reducer" or not value.endswith(SUFFIX):
            out.append(one)
            continue
        path = Path(value).expanduser()
        if "," in value and not path.is_file():
            raise ValueError(f"{one}: a preset sets more than a name, so it stands alone; run the others with the same store")
        out += read_preset(path).overrides
        files.append(str(path))
    return [*out, *([override(PRESETS, files)] if files else [])]


def require_made_for(files: Sequence[str], model: Mapping[str, Any]) -> None:
    """Raises ValueError for presets of another model than that of a configuration, by its name and its config.json.

    Settings may mean something else there, and nothing was confirmed.
    """
    from prunesweep.models.checkpoints import located, stated_sizes

    for file in files:
        preset = read_preset(path := Path(file).expanduser())
        if preset.model != model["name"]:
            raise ValueError(f"{path} was confirmed on model={preset.model}, not on {model['name']}; {_way_out(preset)}")
        require_sizes(preset, stated_sizes(located(model["load"])))


def require_sizes(preset: Preset, sizes: Mapping[str, Any]) -> None:
    """Raises ValueError for a model of other sizes than those that the preset was confirmed on, whatever either is called.

    `sizes` are those of `cost.Shape`, all or some of them.  The patches of a tower for pictures of any size are 0,
    and not compared.
    """
    own, other = _flat(preset.shape), _flat(sizes)
    if differing := [name for name in other if own.get(name) and own[name] != other[name]][:MOST_SIZES]:
        there, here = (", ".join(f"{name}={one[name]}" for name in differing) for one in (own, other))
        raise ValueError(f"the preset was confirmed on a model with {there}, but this one has {here}; {_way_out(preset)}")


MOST_SIZES = 3
"""In a message."""


def _flat(sizes: Mapping[str, Any]) -> dict[str, Any]:
    """`vision.patches` for what is within `vision`."""
    out: dict[str, Any] = {}
    for name, value in sizes.items():
        out |= {f"{name}.{key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
    return out


def _way_out(preset: Preset) -> str:
    return f"tune on this one, or give its settings yourself: {' '.join(preset.overrides)}"
