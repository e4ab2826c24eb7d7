"""What may leave this machine: settings and overrides without its folders or anything that looks like a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

LOCAL = re.compile(
    r"(?!(?<=<)/\w+(?:[\s>]|$))(?<![\w.:/\\-])(?:file://)?(?:~[\\/]|[A-Za-z]:[\\/]|[\\/])(?:[^\s,'\"\]\[{}=]*[\\/])?(?=[^\\/\s,'\"\]\[{}=])"
)
"""The folders of an absolute path; what is left is its last part.  `</b>` ends a tag and is no path."""
SECRET = re.compile(r"(key|token|secret|password|credential)s?$", re.IGNORECASE)
"""Ends of names whose values are nobody's business; `max_tokens` and the like are numbers and stay."""
HIDDEN = "(hidden)"


def public(value: Any) -> Any:
    """The same value, strings without folders; mappings and sequences likewise, values under secret names hidden."""
    if isinstance(value, str):
        return LOCAL.sub("", value)
    if isinstance(value, Mapping):
        return {key: HIDDEN if _secret(str(key), inner) else public(inner) for key, inner in value.items()}
    if isinstance(value, Sequence):
        return [public(inner) for inner in value]
    return value


def _secret(name: str, value: Any) -> bool:
    return isinstance(value, str) and bool(SECRET.search(name))


def public_override(override: str) -> str:
    """`key=value` as typed, folders and secrets left out."""
    name, sign, value = override.partition("=")
    return f"{name}{sign}{HIDDEN if _secret(name, value) and value else public(value)}"
