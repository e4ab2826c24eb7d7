"""Bipartite soft matching of ToMe (arXiv 2210.09461): every other token to the most similar of the others.

Written from a description.  The pairs that are most alike merge; several tokens may merge into one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from prunesweep.lazy import torch
from prunesweep.reducers.parts.similarity import unit

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor


class Pairs(NamedTuple):
    """What becomes of n tokens, of which `left` are left."""

    goes_to: Int[Tensor, "b n"]
    merged: Bool[Tensor, "b n"]
    """Which went to the place of another."""
    left: int


def best_pairs(metric: Float[Tensor, "b n d"], fewer: int, class_token: bool = False, distillation_token: bool = False) -> Pairs:
    """Tokens at even places (A) matched to those at odd ones (B) by cosine; the `fewer` best of A merge, at most half of all.

    What is left of A comes first: in order of place where there is a class token, which never merges, else the most similar
    first, as released.  Then B, in order of place.  A distillation token, the second, receives nothing.
    """
    sets, tokens, _ = metric.shape
    fewer = max(0, min(fewer, (tokens - class_token - distillation_token) // 2))
    vectors = unit(metric)
    similarity = vectors[:, ::2] @ vectors[:, 1::2].mT
    if distillation_token:
        similarity[:, :, 0] = -math.inf
    if class_token:
        similarity[:, 0] = -math.inf
    if not fewer:
        every = torch.arange(tokens, device=metric.device).expand(sets, -1)
        return Pairs(every, torch.zeros_like(every, dtype=torch.bool), tokens)
    value, match = similarity.max(2)
    rank = value.argsort(dim=1, descending=True, stable=True).argsort(1)
    merges = rank < fewer
    left = rank.shape[1] - fewer
    stands = (~merges).cumsum(1) - 1 if class_token else rank - fewer
    goes_to = torch.empty(sets, tokens, dtype=torch.long, device=metric.device)
    goes_to[:, ::2] = torch.where(merges, left + match, stands)
    goes_to[:, 1::2] = left + torch.arange(similarity.shape[2], device=metric.device)
    merged = torch.zeros_like(goes_to, dtype=torch.bool)
    merged[:, ::2] = merges
    return Pairs(goes_to, merged, tokens - fewer)
