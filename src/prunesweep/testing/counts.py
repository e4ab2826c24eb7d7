"""What counts of tokens have to do with the setting that says how many stay."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

from prunesweep.reducers import bounds_of
from prunesweep.testing.law import require

LOOSE = 2
"""A least number of tokens that no video comes within this factor of says too little."""


def is_share(part: Any, name: str) -> bool:
    """Whether a part's setting is how much of something stays, or goes."""
    value = getattr(part, name, None) if name else None
    return isinstance(value, float) and name not in bounds_of(part) and "threshold" not in name


def require_one_way(who: str, counts: dict[Any, int], slack: float) -> None:
    """Raises AssertionError unless counts only rise or only fall, but for so many."""
    in_order = list(counts.values())
    if in_order and in_order[-1] < in_order[0]:
        in_order.reverse()
    back = max((high - now for high, now in zip(accumulate(in_order, max), in_order, strict=True)), default=0)
    require(back <= slack, lambda: f"{who}: counts turn back by {back}, at most {slack:g}: {counts}")


def require_proportional(who: str, counts: dict[float, int], tokens: int) -> None:
    """Counts are share x tokens, or lie between the two ends in proportion, to the step that they come in.

    A least number that is left whatever the share is no part of the proportion.
    """
    if not counts or min(counts.values()) == max(counts.values()):
        return
    rising = counts[max(counts)] >= counts[min(counts)]
    shares = {share if rising else 1 - share: count for share, count in counts.items()}
    least, most = min(shares.values()), max(shares.values())
    step = math.gcd(*shares.values())
    ends = max(shares) - min(shares)
    lines = (lambda share: share * tokens, lambda share: least + (share - min(shares)) / ends * (most - least))
    off = min(max(abs(count - line(share)) for share, count in shares.items() if count > least) for line in lines)
    require(
        off < step * (1 + 1e-9),
        lambda: (
            f"{who}: counts {counts} are off the share by {off:.2f}, by less than a step of {step} at most; mend the rounding"
        ),
    )
