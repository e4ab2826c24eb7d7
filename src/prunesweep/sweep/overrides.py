"""Python's values as Hydra's overrides: what a command would be given for them, in Hydra's own language of values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

KEY = re.compile(r"\+{0,2}[\w@/-]+(\.[\w@/-]+)*")
"""A setting, or a group; a plus adds what is not there yet."""

NAME = re.compile(r"[A-Za-z_][\w.]*")
"""In a mapping."""


def override(key: str, value: Any, within: str = "") -> str:
    """`reducer.prune.keep_ratio=0.2`, of a key `within` a section; raises ValueError for no key, or no value of Hydra's."""
    if not isinstance(key, str) or not KEY.fullmatch(key):
        raise ValueError(f"no key {key!r}; keys are names with dots between them, such as prune.keep_ratio")
    plus, name = key[: len(key) - len(key.lstrip("+"))], key.lstrip("+")
    whole = f"{within}.{name}" if within else name
    return f"{plus}{whole}={written(value, whole)}"


def written(value: Any, key: str = "value") -> str:
    """One value, in Hydra's language; text is quoted only where it would be read as something else.

    Raises ValueError for what no configuration can hold, such as an object.
    """
    if isinstance(value, (str, Path)):
        return _text(str(value), key)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{_name(name, key)}:{written(inner, key)}' for name, inner in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(written(inner, key) for inner in value)}]"
    if hasattr(value, "tolist"):  # of numpy or torch
        return written(value.tolist(), key)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return "nan" if math.isnan(value) else repr(value)
    raise ValueError(f"{key} must be a number, text, true, false, null, a list or a mapping, got {type(value).__name__}")


def _name(name: Any, key: str) -> str:
    """Of a mapping's entry: Hydra has no quotes for it."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"{key} must have names of letters and digits in its mapping, got {name!r}")
    return name


def _text(value: str, key: str) -> str:
    """As it is, or in quotes."""
    if "\n" in value or "\r" in value:
        raise ValueError(f"{key} must be text on one line, got {value!r}")
    if value and "\\" not in value and _reads_as(value, value):
        return value
    for quoted in (_quoted(value, quote) for quote in "'\""):
        if _reads_as(quoted, value):
            return quoted
    raise ValueError(f"{key}: Hydra has no way to write {value!r}")


def _quoted(value: str, quote: str) -> str:
    """Backslashes count in front of a quote only: there, and at the end, each is written twice."""
    return quote + re.sub(rf"(\\*)({quote}|$)", lambda found: found[1] * 2 + (f"\\{quote}" if found[2] else ""), value) + quote


@cache
def _reads_as(written: str, value: str) -> bool:
    """Whether Hydra reads the text as this very value."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(f"key={written}")
        found: Any = parsed.value()
    except HydraException:
        return False
    return not parsed.is_sweep_override() and isinstance(found, str) and found == value
