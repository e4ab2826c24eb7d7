"""Cosines and picks that several methods are made of.  Scores are float32; of equals the first wins."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from prunesweep.lazy import F, torch

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

BLOCK_VALUES = 2**22
"""Of similarities that are in memory at once where all tokens of a video are compared: 16 MiB."""
PARTS, LEAST_ROWS = 8, 128
"""Of tokens that are compared with those behind them, where they are not too few for a product to be fast."""


def unit(x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n c"]:
    return F.normalize(x.float(), dim=-1)


def paired_cosine(one: Float[Tensor, "*n c"], other: Float[Tensor, "*n c"]) -> Float[Tensor, "*n"]:
    """Of each token with its counterpart."""
    return F.cosine_similarity(one.float(), other.float(), dim=-1)


def best(score: Float[Tensor, "*b n"], count: int | Int[Tensor, "*b"]) -> Bool[Tensor, "*b n"]:
    """Which n have the `count` highest scores; of equals the first."""
    rank = score.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    return rank < (count[..., None] if isinstance(count, torch.Tensor) else count)


class Match(NamedTuple):
    """What is most similar to each of n tokens; of equals the first."""

    value: Float[Tensor, " n"]
    index: Int[Tensor, " n"]


def best_match(one: Float[Tensor, "n c"], other: Float[Tensor, "m c"]) -> Match:
    """By inner product, a block of tokens at a time."""
    rows = max(1, BLOCK_VALUES // max(1, len(other)))
    blocks = [(block @ other.T).max(1) for block in one.split(rows)]
    return Match(torch.cat([found.values for found in blocks]), torch.cat([found.indices for found in blocks]))


def loneliest(unit_x: Float[Tensor, "n c"]) -> Int[Tensor, " one"]:
    """The token whose second smallest distance, that to its nearest neighbour, is largest; distances are 1 - cosine.

    Each pair is compared once: of a block with what comes behind it, by row and by column.
    """
    count = len(unit_x)
    rows = max(1, min(BLOCK_VALUES // count, max(LEAST_ROWS, math.ceil(count / PARTS))))
    least = unit_x.new_full((2, count), math.inf)
    for first in range(0, count, rows):
        distance = 1 - unit_x[first : first + rows] @ unit_x[first:].T
        behind = distance[:, rows:]
        if behind.shape[1]:
            least[:, first + rows :] = _two_least(torch.cat([least[:, first + rows :], _two_least(behind.clone())]))
        own = torch.cat([least[:, first : first + rows], _two_least(distance.T)])
        least[:, first : first + rows] = _two_least(own)
    return least[min(2, count) - 1].argmax()[None]


def _two_least(x: Float[Tensor, "m n"]) -> Float[Tensor, "2 n"]:
    """Of each column, of equals both; writes into x."""
    least = x.min(0)
    return torch.stack([least.values, x.scatter_(0, least.indices[None], math.inf).amin(0)])


def farthest(
    distances_of: Callable[[Int[Tensor, " b"]], Float[Tensor, "b n"]], first: Int[Tensor, " b"], count: int
) -> Int[Tensor, "b count"]:
    """In each of b sets `count` picks, in their order: after the first always the one farthest from its nearest pick.

    `distances_of` gives the distances of one pick per set to all n; what is picked is not picked again.
    """
    picks = [first]
    nearest = distances_of(first).scatter(1, first[:, None], -math.inf)
    for _ in range(count - 1):
        pick = nearest.argmax(1)
        picks.append(pick)
        nearest = torch.minimum(nearest, distances_of(pick)).scatter_(1, pick[:, None], -math.inf)
    return torch.stack(picks, 1)
