"""Accuracies, differences and p-values as text, never without their error and sample count."""

from __future__ import annotations

import math

from prunesweep.analysis.accuracy import Accuracy
from prunesweep.analysis.comparison import Difference
from prunesweep.analysis.significance import accuracy_interval
from prunesweep.analysis.summary import Summary, scores_of
from prunesweep.console.layout import short_numbers

SMALLEST_P = 1e-12
"""Smaller p-values say nothing more: the normal approximation does not reach there."""


def accuracy_text(mean: float, error: float, samples: int, videos: int = 0, effective: float = math.nan) -> str:
    """`0.812 ± 0.014 (n=1000)`; `1.000 [0.964, 1.000] (n=100)`, an exact interval, where all answers are alike.

    Without either where too few videos allow none.
    """
    if samples == 0:
        return "not scored (n=0)"
    if mean in (0.0, 1.0) and videos:
        low, high = accuracy_interval(Accuracy(mean, error, samples, videos, effective))
        return f"{mean:.3f} [{low:.3f}, {high:.3f}] (n={samples})"
    plus_minus = "± n/a" if math.isnan(error) else f"± {error:.3f}"
    return f"{mean:.3f} {plus_minus} (n={samples})"


def summary_text(row: Summary) -> str:
    """As `accuracy_text`; of a stopped trial the interval of its race, because a standard error holds only without looking."""
    if row.accuracy_low is None:
        return accuracy_text(*scores_of(row))
    return f"{row.accuracy:.3f} [{row.accuracy_low:.3f}, {row.accuracy_high:.3f}] (n={row.samples})"


def difference_text(difference: Difference) -> str:
    """`-0.031 ± 0.007 (n=1000), 95 % interval -0.045 to -0.017, p = 0.000012; ...`."""
    d = difference
    alike = "no answer differs" if not (d.gained or d.lost) else "all videos changed alike" if d.error == 0 else ""
    return (
        f"{d.mean:+.3f} ± {d.error:.3f} (n={d.samples}), 95 % interval {d.low:+.3f} to {d.high:+.3f}, {p_text(d.p_value)}, "
        f"clustered by {d.videos} videos; gained {d.gained}, lost {d.lost}, exact McNemar {p_text(d.mcnemar)}"
        + (f"; {alike}, so the interval is exact, each video counted once" if alike else "")
    )


def numbered(number: str, name: str) -> str:
    """`#7 prunevid keep_ratio=0.4`: a trial's name with what the next command calls it by, where it lies in a folder."""
    return short_numbers(f"#{number} {name}" if number else name)


def p_text(p_value: float) -> str:
    """`p = 0.031`, with two digits; `p < 1e-12` below that."""
    if p_value < SMALLEST_P:
        return f"p < {SMALLEST_P:g}"
    return f"p = {p_value:.2g}"
