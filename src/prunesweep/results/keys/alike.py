"""Code that was rewritten and answers as before: what it made before stays in use.

A fingerprint of syntax trees changes with every rewrite, also with one that changes no answer.  Where the answers were found to
be the same, `data/alike.json` says as which fingerprint today's code counts: the one it had when it last answered otherwise.
`python -m prunesweep.dev.alike` writes it; the tests hold the answers themselves to what they were (`tests/laws/`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache

from prunesweep.paths import DATA

TABLE = DATA / "alike.json"


@cache
def table() -> Mapping[str, str]:
    """By today's fingerprint the one that it counts as."""
    return json.loads(TABLE.read_text(encoding="utf-8"))


def counts_as(fingerprint: str) -> str:
    return table().get(fingerprint, fingerprint)
