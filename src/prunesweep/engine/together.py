"""Branches of the prefix tree that wait for their answer, generated as one batch.

Batching never changes an answer: each row is computed for itself, behind a mask where its caches are shorter than another's.
On a device or in a type where products of other sizes round otherwise, last bits may differ, as they do between devices.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any, NamedTuple

from prunesweep.engine.devices import AtOnce
from prunesweep.engine.stages import Generate, generate_together
from prunesweep.lazy import torch
from prunesweep.types import Answer, Memory, Model, Prefix

log = logging.getLogger(__name__)

WASTE = 4.0
"""Padded caches take at most so many times what the caches themselves do: longer ones wait for others of their kind."""
NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")
"""In the words of torch, where it has no class of its own for it."""


class Waiting(NamedTuple):
    """A branch before its last stage."""

    stage: Generate
    prefix: Prefix

    @property
    def bytes(self) -> list[int]:
        """Of its caches, by layer."""
        return [_bytes(memory) for memory in self.prefix.kv]


def can_wait(stage: Any, model: Model) -> bool:
    """Whether a stage can be answered together with others: one that chooses anew what each token sees cannot."""
    return isinstance(stage, Generate) and stage.decoding is None and hasattr(model, "branches")


def batches(waiting: Sequence[Waiting], at_once: AtOnce) -> Iterator[list[int]]:
    """Which of them go together: those of like length, no more than there may be."""
    sizes = [one.bytes for one in waiting]
    group: list[int] = []
    longest: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda index: sum(sizes[index])):
        longer = [max(pair) for pair in zip_longest(longest, sizes[index], fillvalue=0)]
        padded = sum(longer) * (len(group) + 1)
        own = sum(sum(sizes[one]) for one in [*group, index])
        if group and (len(group) == at_once.most or padded > at_once.memory or padded > WASTE * own):
            yield group
            group, longer = [], sizes[index]
        group, longest = [*group, index], longer
    if group:
        yield group


def answer_all(waiting: Sequence[Waiting], model: Model, at_once: AtOnce) -> tuple[list[Answer | Exception], AtOnce]:
    """In the order given; and how many to go on with, fewer where these did not fit into memory."""
    found: dict[int, Answer | Exception] = {}
    while left := [index for index in range(len(waiting)) if index not in found]:
        group = [left[place] for place in next(batches([waiting[index] for index in left], at_once))]
        try:
            answers = _answered([waiting[index] for index in group], model)
        except NoMemoryError:
            half = len(group) // 2
            log.warning(TOO_MANY, len(group), half, half)
            at_once = replace(at_once, most=half)
            continue
        found.update(zip(group, answers, strict=True))
    return [found[index] for index in range(len(waiting))], at_once


TOO_MANY = "%d answers at once do not fit into memory; going on with %d at once (engine.batch=%d)"


class NoMemoryError(Exception):
    """Several answers at once do not fit."""


def _answered(group: Sequence[Waiting], model: Model) -> list[Answer | Exception]:
    if len(group) > 1:
        try:
            return generate_together([one.stage for one in group], [one.prefix for one in group], model)
        except Exception as error:
            if _is_out_of_memory(error):
                raise NoMemoryError from error
    return [_alone(one, model) for one in group]  # so that whose fault it was is its own record


def _alone(one: Waiting, model: Model) -> Answer | Exception:
    try:
        return one.stage(one.prefix, model)
    except Exception as error:  # becomes its record
        return error


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in NO_MEMORY)


def _bytes(memory: Memory) -> int:
    return sum(tensor.nbytes for tensor in memory)
