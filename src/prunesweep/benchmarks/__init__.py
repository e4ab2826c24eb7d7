"""Benchmarks: each is one file with a `load` function that returns samples, and one YAML in `conf/benchmark/`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest

from prunesweep.checks import require_at_least
from prunesweep.types import Sample


def by_video(samples: Sequence[Sample]) -> list[tuple[Sample, ...]]:
    """Samples that ask about one video together, in order of first appearance."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.video_id, []).append(sample)
    return [tuple(group) for group in groups.values()]


def spread(samples: Sequence[Sample], limit: int | None) -> list[Sample]:
    """At most `limit` samples, the same number of each task as far as they go, in the order of the file.

    Raises ValueError if the limit is below 1.
    """
    if limit is None:
        return list(samples)
    require_at_least("benchmark.limit", limit, 1)
    tasks: dict[str, list[Sample]] = {}
    for sample in samples:
        tasks.setdefault(sample.task, []).append(sample)
    rounds = chain.from_iterable(zip_longest(*tasks.values()))
    chosen = {sample.id for sample in [s for s in rounds if s is not None][:limit]}
    return [sample for sample in samples if sample.id in chosen]
