"""Is a loss smaller than a margin?  Non-inferiority of paired answers, and the questions that it takes to tell.

The test is a score test (Tango, 1998): it takes the variance that a loss of the margin would have.  The t test takes the
variance seen, which is small just where few losses happened to be seen, and calls far too many trials safe for it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from prunesweep.analysis.clusters import quantile, tails

if TYPE_CHECKING:
    from jaxtyping import Float

    Trials = Float[np.ndarray, " trials"]

MOST_QUESTIONS = 10**9
"""Asked for at most; more say that the trial is as good as on the edge."""


def require_margin(margin: float, setting: str = "margin") -> None:
    """Raises ValueError if `margin`, the value of a setting, is no share of the questions."""
    if not 0 < margin < 1:
        raise ValueError(f"{setting} must be in (0, 1), such as 0.01 for 1 point, got {margin:g}")


def variance_at(gained: Trials, lost: Trials, samples: Trials, margin: float) -> Trials:
    """Of one question's change if a share of `margin` more answers is lost than gained, which these counts make likeliest.

    The share of gained answers solves 2 n q^2 - b q - g margin (1 - margin) = 0 (Tango, 1998).
    """
    linear = (gained + lost) * (1 - margin) - 2 * margin * (samples - lost)
    root = np.sqrt(linear**2 + 8 * samples * gained * margin * (1 - margin))
    return (linear + root) / (2 * samples) + margin - margin**2


def loss_p_values(gained: Trials, lost: Trials, samples: Trials, design: Trials, freedom: Trials, margin: float) -> Trials:
    """One-sided, of losing `margin` or more; `design` and `freedom` are those of the paired difference."""
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(variance_at(gained, lost, samples, margin) * design / samples)
        return tails(((gained - lost) / samples + margin) / error, freedom)


class Pair(NamedTuple):
    """What is known of one trial against its dense one."""

    gained: float
    lost: float
    samples: float
    design: float
    freedom: float


def questions_needed(pair: Pair, margin: float, safe: float, worse: float, power: float) -> int:
    """The fewest questions like these that show either a loss below the margin or a loss at all, if this one is the true one.

    `safe` is the one-sided level of the first test, `worse` the two-sided one of the second; `power` the chance to show it.
    """
    change = (pair.gained - pair.lost) / pair.samples
    own = math.sqrt(max((pair.gained + pair.lost) / pair.samples - change**2, 0.0))
    gained, lost, samples = (np.array(count) for count in (pair.gained, pair.lost, pair.samples))
    at_margin = math.sqrt(float(variance_at(gained, lost, samples, margin)))

    def shown(wanted: int) -> bool:
        freedom = pair.freedom * wanted / pair.samples
        root = math.sqrt(pair.design / wanted)
        chance = float(quantile(power, freedom)) * own
        loses_less = change + margin > root * (float(quantile(1 - safe, freedom)) * at_margin + chance)
        loses = -change > root * (float(quantile(1 - worse / 2, freedom)) * own + chance)
        return loses_less or loses

    most = 2
    while not shown(most) and most < MOST_QUESTIONS:
        most *= 2
    return bisect_left(range(most), 1, lo=1, key=lambda wanted: int(shown(wanted)))
