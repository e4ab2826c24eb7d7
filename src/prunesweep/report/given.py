"""Presets that trials of a sweep were made with: what `prunesweep tune` said when it chose them.

They are somebody's files: what is shown of them is text, and a file that cannot be read is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from prunesweep.console.layout import visible
from prunesweep.disk.files import replace_file
from prunesweep.disk.foreign import read_yaml
from prunesweep.results.keys.fingerprint import LENGTH, digest
from prunesweep.results.records import TrialInfo

KEY = "prunesweep_preset"
"""By which a file says that it is one: see `use.preset`, whose files these are."""
FOLDER = "presets"
"""Where a run keeps those that it was given."""
BESIDE = "preset.yaml"
"""As tuning calls it, beside the two sweeps that it ran."""


class Given(NamedTuple):
    """What a preset says, and of what."""

    model: str
    overrides: frozenset[str]
    statement: str
    name: str
    """Method and settings."""
    fingerprint: str
    """Of all that the file says."""
    model_key: str = ""
    """Fingerprint of the model's weights and settings; empty where it is not known."""


def presets(sweep: Path) -> list[Given]:
    """Those that lie in a sweep's folder, and the one that a sweep of tuning led to; files that cannot be read are none."""
    files = [*sorted((sweep / FOLDER).glob("*.yaml")), sweep / BESIDE, sweep.resolve().parent / BESIDE]
    return list(_read(file for file in files if file.is_file()))


def _read(files: Iterator[Path]) -> Iterator[Given]:
    for file in files:
        try:
            found = read_yaml(file)
            if isinstance(found, dict) and KEY in found:
                overrides = [visible(str(one)) for one in found["overrides"]]
                name = " ".join(one.removeprefix("reducer=").removeprefix("reducer.") for one in overrides)
                told = visible(str(found["statement"]))
                keys = found.get("keys") or {}
                yield Given(str(found["model"]), frozenset(overrides), told, name, digest(found), str(keys.get("model", "")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue


def keep(files: Sequence[str], folder: Path) -> None:
    """Copies the presets that a run was given to its folder.  Raises ValueError for one that cannot be read."""
    for file in files:
        source = Path(file).expanduser()
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        copy = folder / FOLDER / f"{source.stem}-{digest(read_yaml(source))[: LENGTH // 2]}.yaml"
        replace_file(copy, source.read_bytes())


def given_to(info: TrialInfo, known: Sequence[Given]) -> Given | None:
    """The preset that a trial has all settings of, and no other of its method; None where there is none.

    What was said holds for the weights that it was said of.
    """
    own = frozenset(one for one in info.overrides if one.startswith("reducer"))
    for one in known:
        method = frozenset(override for override in one.overrides if override.startswith("reducer"))
        weights = not (one.model_key and info.model_key) or one.model_key == info.model_key
        if weights and one.model == info.model and method == own and one.overrides <= frozenset(info.overrides):
            return one
    return None


def statement_of(info: TrialInfo, known: Sequence[Given]) -> str | None:
    """What that preset says."""
    found = given_to(info, known)
    return found.statement if found else None
