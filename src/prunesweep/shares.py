"""Shares of counts, exactly: 0.29 of 100 tokens are 29, though 0.29 * 100 is 28.999999999999996 in floating point.

A share is the decimal number that was typed, of 15 digits at most, so that 3 * 0.1 in a grid is 0.3; or a fraction.
Released code truncates the product in double precision instead; where a setting says so, `truncated_share` does the same.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, Literal

DIGITS = 15
"""That a number in double precision holds, whatever they are."""


def exact(share: float | Fraction) -> Fraction:
    """The number as it is written in decimal digits."""
    return share if isinstance(share, Fraction) else Fraction(f"{share:.{DIGITS}g}")


def floor_share(count: int, share: float | Fraction) -> int:
    return math.floor(count * exact(share))


def ceil_share(count: int, share: float | Fraction) -> int:
    return math.ceil(count * exact(share))


def nearest_share(count: int, share: float | Fraction) -> int:
    """Of two that are as near the even one, as Python and the released code round."""
    return round(count * exact(share))


Rounding = Literal["nearest", "floor", "ceil", "binary nearest", "binary floor", "binary ceil"]
"""Of a share of a count: of the decimal number, or of the product in double precision, as released code has it."""


def rounded_share(count: int, share: float, rounding: Rounding) -> int:
    binary, product = rounding.startswith("binary"), count * share
    how: Any = {"nearest": round, "floor": math.floor, "ceil": math.ceil}[rounding.removeprefix("binary ")]
    return int(how(product if binary else count * exact(share)))


def truncated_share(count: int, share: float) -> int:
    """What `int(count * share)` gives in released code: one less than `floor_share` where the product falls short of a whole."""
    return int(count * share)
