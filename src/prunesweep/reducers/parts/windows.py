"""Stretches of a video's frames: windows in which patches stand still, segments between frames that differ."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from prunesweep.lazy import torch
from prunesweep.reducers.parts.similarity import best, paired_cosine

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jaxtyping import Bool, Float
    from torch import Tensor


class Windows(NamedTuple):
    lengths: list[int]
    saved: int
    """By how many tokens the video shrinks if every static patch of a window is averaged over its frames."""


def best_windows(alike: Bool[Tensor, "t-1 p"], longest: int) -> Windows:
    """The windows that save most tokens, n - 1 for every static patch of n frames; of equal ones the shortest at the end.

    `alike` says whether a patch resembles that of the next frame; it is static in a window if it does so throughout.
    """
    best, lengths = [0], [1]
    run = torch.zeros(alike.shape[1], dtype=torch.long)
    for last, same in enumerate(alike.cpu(), 1):
        run = (run + 1) * same  # for how many frames up to this one each patch has been standing still
        still = torch.bincount(run, minlength=last + 1).flip(0).cumsum(0).flip(0).tolist()
        value, length = best[-1], 1
        for size in range(2, min(last + 1, longest) + 1):
            found = (best[last - size] if last >= size else 0) + still[size - 1] * (size - 1)
            if found > value:
                value, length = found, size
        best.append(value)
        lengths.append(length)
    chosen: list[int] = []
    while (last := len(alike) - sum(chosen)) >= 0:
        chosen.append(lengths[last])
    return Windows(chosen[::-1], best[-1])


def static_patches(alike: Bool[Tensor, "t-1 p"], lengths: list[int]) -> Bool[Tensor, "g p"]:
    """Which patches stand still through each window; none in a window of one frame."""
    none = torch.zeros(alike.shape[1], dtype=torch.bool, device=alike.device)
    return torch.stack([alike[first : stop - 1].all(0) if stop - first > 1 else none for first, stop in bounds(lengths)])


def bounds(lengths: Iterable[int]) -> list[tuple[int, int]]:
    """First frame, and the one behind the last, of stretches that follow each other."""
    ends = [0]
    for length in lengths:
        ends.append(ends[-1] + length)
    return list(pairwise(ends))


def frame_similarity(frames: Float[Tensor, "t g"]) -> Float[Tensor, " t-1"]:
    """Cosine of each frame with the next."""
    return paired_cosine(frames[:-1], frames[1:])


def cut(similarity: Float[Tensor, " t-1"], threshold: float, least: int) -> list[int]:
    """Lengths of the segments between frames less alike than the threshold, and between as many others, least alike first, as
    make `least` segments, if there are that many.
    """
    cuts = similarity < threshold
    missing = least - 1 - int(cuts.sum())
    if missing > 0:
        cuts = cuts | best(-similarity.masked_fill(cuts, math.inf), missing)
    ends = [index + 1 for index, is_cut in enumerate(cuts.tolist()) if is_cut]
    return [stop - first for first, stop in pairwise([0, *ends, len(similarity) + 1])]
