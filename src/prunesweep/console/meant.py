"""What was probably meant by a name that nothing has."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

CLOSE = 0.6
"""Likeness from which on a name is taken for a slip of another: difflib's own default."""
SHORTENED = 3
"""Letters of a name that the only other which begins with them is taken to be meant by."""


def closest(name: str, known: Iterable[str], likeness: float = CLOSE) -> str | None:
    """The most similar name, else the one that begins like it, plurals aside (`keep` for `keep_ratio`); None where none does."""
    names = list(dict.fromkeys(known))
    if similar := difflib.get_close_matches(name, names, 1, likeness):
        return similar[0]
    longer = sorted((other for other in names if other.startswith(name)), key=len) if len(name) >= SHORTENED else []
    return longer[0] if longer and all(other.startswith(longer[0]) for other in longer) else None


def unknown(what: str, name: str, known: Iterable[str], said: str | None = None) -> str:
    """What to say of a name that is none of those known; `said` is how it was written."""
    names = list(known)
    meant = closest(name, names)
    return f"unknown {what} {said or name!r}; {f'did you mean {meant}? ' if meant else ''}known: {', '.join(names)}"
