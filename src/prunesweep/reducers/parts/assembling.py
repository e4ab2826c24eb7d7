"""What mergers hand on: tokens that stay as they are, in any order, and tokens that are weighted sums of patches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from prunesweep.lazy import torch
from prunesweep.reducers import Positions
from prunesweep.types import Contributions, Merged, Tokens

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

BLOCK_VALUES = 2**24
"""Of patches that are gathered at once to be summed: 64 MiB in float32."""


def placed(
    tokens: Tokens, place: Int[Tensor, " n"], x: Float[Tensor, "n c"], source: Int[Tensor, "t u"], positions: Positions
) -> Merged:
    """Tokens in their final order, each with the place that it stands at among the patches, counted through the video.

    Groups are frames.  Original positions of patches of the tower are those of the visual tokens that they lie in.
    """
    frames, patches, _ = tokens.x.shape
    original = positions == "original"
    return Merged(
        tokens=tokens,
        x=x,
        group=place // source.shape[1],
        source=source,
        position=pooled_place(place, source.shape[1], patches) if original else torch.arange(len(place), device=place.device),
        span=frames * patches if original else len(place),
    )


def pooled_place(place: Int[Tensor, " n"], own: int, patches: int) -> Int[Tensor, " n"]:
    """From square grids of `own` patches to coarser ones of `patches` visual tokens; the same where these are as many."""
    if own == patches:
        return place
    fine, coarse = math.isqrt(own), math.isqrt(patches)
    row, column = place % own // fine, place % fine
    return place // own * patches + row * coarse // fine * coarse + column * coarse // fine


def kept_in_order_of(tokens: Tokens, place: Int[Tensor, " n"], positions: Positions) -> Merged:
    """The visual tokens at these places, each once, as they are and in this order, and no others."""
    frames, patches, _ = tokens.x.shape
    source = torch.full((frames * patches,), -1, device=place.device)
    source[place] = torch.arange(len(place), device=place.device)
    return placed(tokens, place, tokens.x.flatten(0, 1)[place], source.view(frames, patches), positions)


def summed(
    tokens: Tokens,
    place: Int[Tensor, " n"],
    shares: Contributions,
    positions: Positions,
    features: Float[Tensor, "t u v"] | None = None,
) -> Merged:
    """Weighted sums of visual tokens, or of the tower's patches; a patch's source is the token that it has the largest share of,
    of equals the first.
    """
    x = tokens.x if features is None else features
    frames, patches, _ = x.shape
    source = largest_share(shares, frames * patches).view(frames, patches)
    merged = placed(tokens, place, weighted_sums(x.flatten(0, 1), shares, len(place)), source, positions)
    return replace(merged, contributions=shares)


def weighted_sums(flat: Float[Tensor, "m c"], shares: Contributions, count: int) -> Float[Tensor, "count c"]:
    """In float32, then in the type of `flat`; in one order on every device, so that runs agree to the bit."""
    order = shares.token.argsort(stable=True)
    patch, share = shares.patch[order], shares.share[order].float()
    lengths = torch.bincount(shares.token, minlength=count)
    ends = lengths.cumsum(0).tolist()
    out = flat.new_empty(count, flat.shape[1])
    most = max(1, BLOCK_VALUES // flat.shape[1])
    first, begin = 0, 0
    while first < count:
        stop = first + 1
        while stop < count and ends[stop] - begin <= most:
            stop += 1
        part = slice(begin, ends[stop - 1])
        weighted = flat[patch[part]].float().mul_(share[part, None])
        out[first:stop] = torch.segment_reduce(weighted, "sum", lengths=lengths[first:stop], axis=0, initial=0, unsafe=True)
        first, begin = stop, ends[stop - 1]
    return out


def largest_share(shares: Contributions, patches: int) -> Int[Tensor, " patches"]:
    """The token that each patch has the largest share of; -1 for a patch that is in none."""
    order = shares.token.argsort(stable=True)
    for key in (-shares.share, shares.patch):
        order = order[key[order].argsort(stable=True)]
    patch = shares.patch[order]
    first = torch.ones_like(patch, dtype=torch.bool)
    first[1:] = patch[1:] != patch[:-1]
    source = torch.full((patches,), -1, device=patch.device)
    source[patch[first]] = shares.token[order][first]
    return source


def mean_shares(token: Int[Tensor, " m"], patch: Int[Tensor, " m"]) -> Contributions:
    """Every token as the plain mean of its patches."""
    size = torch.bincount(token)
    return Contributions(token, patch, 1 / size[token].float())


class Part(NamedTuple):
    """Some of a video's tokens."""

    place: Int[Tensor, " n"]
    """That each stands at."""
    shares: Contributions
    """Tokens counted within the part."""


def untouched(place: Int[Tensor, " n"]) -> Part:
    """The visual tokens at these places, as they are."""
    token = torch.arange(len(place), device=place.device)
    return Part(place, Contributions(token, place, torch.ones(len(place), device=place.device)))


def joined(parts: Sequence[Part]) -> Part:
    """The tokens of all parts, one part after the other."""
    firsts = accumulate((len(part.place) for part in parts), initial=0)
    token = [part.shares.token + first for first, part in zip(firsts, parts, strict=False)]
    shares = (torch.cat([part.shares[column] for part in parts]) for column in (1, 2))
    return Part(torch.cat([part.place for part in parts]), Contributions(torch.cat(token), *shares))


def reordered(part: Part, order: Int[Tensor, " n"]) -> Part:
    """The same tokens, those at `order` one after the other."""
    return Part(part.place[order], part.shares._replace(token=order.argsort()[part.shares.token]))
