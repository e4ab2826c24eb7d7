"""Samples without an answer, by the kind of their error."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from prunesweep.results.records import Trial


class Failure(NamedTuple):
    """Errors of one kind: their messages differ in numbers at most."""

    error: str
    """The first one's message."""
    messages: int
    """Different ones."""
    samples: tuple[str, ...]
    trials: tuple[str, ...]
    records: int


NUMBER = re.compile(r"\d+(\.\d+)?")


def failures(trials: Iterable[Trial]) -> list[Failure]:
    """The errors of all trials by kind."""
    import polars as pl

    return by_kind(
        (trial.info.name, sample, error)
        for trial in trials
        for sample, error in trial.records.filter(pl.col("error").is_not_null()).select("sample_id", "error").iter_rows()
    )


def by_kind(errors: Iterable[tuple[str, str, str]]) -> list[Failure]:
    """Errors, each given as trial, sample and message, gathered by kind in the order in which they are met."""
    kinds: dict[str, list[tuple[str, str, str]]] = {}
    for row in errors:
        kinds.setdefault(NUMBER.sub("0", row[2]), []).append(row)
    found = []
    for own in kinds.values():
        trials, samples, messages = (tuple(dict.fromkeys(column)) for column in zip(*own, strict=True))
        found.append(Failure(messages[0], len(messages), samples, trials, len(own)))
    return found
