"""Pictures of a sweep: one function computes the points, one draws them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prunesweep.analysis import Summary

if TYPE_CHECKING:
    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from prunesweep.effects import Factor
    from prunesweep.outcomes import Outcomes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, told apart with any colour vision."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
COST_LABELS = {
    "llm_flops_ratio": "LLM prefill FLOPs, relative to the dense model",
    "llm_flops": "LLM prefill FLOPs per question",
    "total_flops_ratio": "all FLOPs (vision, LLM, decoding), relative to the dense model",
    "total_flops": "all FLOPs (vision, LLM, decoding) per question",
    "final_ratio": "visual tokens in the last LLM layer, relative to the dense model",
    "fastv_flops_ratio": "LLM prefill of visual tokens in FastV's convention, relative to the dense model",
    "sparsevlm_flops_ratio": "LLM prefill of visual tokens in SparseVLM's convention, relative to the dense model",
    "fastvid_flops_ratio": "LLM prefill of visual tokens in FastVID's convention, relative to the dense model",
    "layer_ratio": "visual tokens averaged over the LLM layers, relative to the dense model",
    "kv_ratio": "visual tokens in the KV caches while decoding, relative to the dense model",
    "reduction_flops": "FLOPs of merging and scoring tokens per question",
    "kv_bytes": "KV caches after prefill in half precision, bytes",
    "first_token_seconds": "measured time to the first token, seconds",
    "peak_memory_bytes": "measured peak memory, bytes",
    "entrance_ratio": "visual tokens entering the LLM, relative to the dense model",
}


class Point(NamedTuple):
    """A trial in the accuracy/cost plane."""

    trial: str
    reducer: str
    cost: float
    accuracy: float
    error: float
    samples: int
    pareto: bool
    stopped: bool = False


class ParetoPoints(NamedTuple):
    points: list[Point]
    cost: str


def pareto_points(table: Sequence[Summary], cost: str) -> ParetoPoints:
    """The trials that have an accuracy, cheapest first."""
    rows = [row for row in table if row.samples]
    points = [
        Point(r.trial, r.reducer, getattr(r, cost), r.accuracy, r.accuracy_error, r.samples, r.pareto, r.stopped)
        for r in sorted(rows, key=lambda r: getattr(r, cost))
    ]
    return ParetoPoints(points, cost)


def pareto_figure(data: ParetoPoints, title: str) -> Figure:
    """Accuracy against cost with one standard error; the front as a line of steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    front = [p for p in data.points if p.pareto]
    if len(front) > 1:
        axes.step(
            [p.cost for p in front], [p.accuracy for p in front], where="post", color="0.45", zorder=1, label="Pareto front"
        )
    for index, reducer in enumerate(sorted({p.reducer for p in data.points})):
        own = [p for p in data.points if p.reducer == reducer and not p.stopped]
        stopped = [p for p in data.points if p.reducer == reducer and p.stopped]
        axes.scatter(
            [p.cost for p in stopped],
            [p.accuracy for p in stopped],
            s=14,
            marker="x",
            alpha=0.5,
            color=COLOURS[index % len(COLOURS)],
        )
        axes.errorbar(
            [p.cost for p in own],
            [p.accuracy for p in own],
            yerr=[p.error for p in own],
            fmt=MARKERS[index % len(MARKERS)],
            color=COLOURS[index % len(COLOURS)],
            capsize=2,
            elinewidth=1,
            markersize=6,
            label=reducer,
        )
    if any(p.stopped for p in data.points):
        axes.scatter([], [], s=14, marker="x", color="0.5", label="stopped by a race (no bars: incomplete)")
    axes.set_xlabel(COST_LABELS[data.cost])
    axes.set_ylabel("accuracy")
    axes.set_title(
        f"{title}\nbars: one standard error, clustered by video; n = {_span([p.samples for p in data.points])}", fontsize=10
    )
    if data.points and max(p.cost for p in data.points) > 4 * min(p.cost for p in data.points):
        _log_axis(axes, data)
    axes.grid(alpha=0.3)
    if data.points:
        axes.legend(frameon=False)
    return figure


def _span(counts: Sequence[int]) -> str:
    ordered = sorted(set(counts))
    return "0" if not ordered else str(ordered[0]) if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"


def _log_axis(axes: Axes, data: ParetoPoints) -> None:
    """Costs of reduced models differ by factors, so a wide range is drawn on a logarithmic axis with plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_xscale("log")
    if data.cost.endswith("ratio"):
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}x"))
        axes.xaxis.set_minor_formatter(NullFormatter())


# Parallel coordinates


class Axis(NamedTuple):
    """One upright line: a setting, the cost or the accuracy."""

    name: str
    ticks: tuple[tuple[float, str], ...]
    """Places between 0 and 1, and what stands there."""


class Coordinates(NamedTuple):
    """The trials of one method as lines through their settings, cost and accuracy."""

    reducer: str
    axes: tuple[Axis, ...]
    lines: Float[np.ndarray, "trials axes"]
    """Between 0 and 1."""
    accuracy: Float[np.ndarray, " trials"]
    names: tuple[str, ...]
    samples: str


MOST_TICKS = 8
"""Of a setting with more values, the ends are named."""


def parallel_coordinates(outcomes: Outcomes) -> list[Coordinates]:
    """Of each method that has at least two trials with an answer and a setting that varies."""
    from prunesweep.effects import by_reducer, factors
    from prunesweep.sources import short

    found = []
    for reducer, own in by_reducer(outcomes).items():
        varying = factors(own)
        if len(own.table) < 2 or not varying:
            continue
        names = short([factor.name for factor in varying])
        columns = [_factor_axis(factor, names[factor.name]) for factor in varying]
        accuracy = np.array([row.accuracy for row in own.table])
        columns += [_number_axis(own.cost, own.costs), _number_axis("accuracy", accuracy)]
        samples = _span([row.samples for row in own.table])
        axes, places = zip(*columns, strict=True)
        found.append(Coordinates(reducer, axes, np.stack(places, 1), accuracy, own.names, samples))
    return found


def _factor_axis(factor: Factor, name: str) -> tuple[Axis, np.ndarray]:
    """Numbers where they lie between the smallest and the largest; anything else evenly spaced in its order."""
    levels = factor.levels
    if all(isinstance(level, (int, float)) and not isinstance(level, bool) for level in levels):
        places = [(level - levels[0]) / (levels[-1] - levels[0]) for level in levels]
    else:
        places = [index / (len(levels) - 1) for index in range(len(levels))]
    named = [(place, _level(level)) for place, level in zip(places, levels, strict=True)]
    return Axis(name, tuple(named if len(named) <= MOST_TICKS else (named[0], named[-1]))), np.array(places)[factor.value]


def _level(value: Any) -> str:
    return "off" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _number_axis(name: str, values: np.ndarray) -> tuple[Axis, np.ndarray]:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    places = (values - low) / ((high - low) or 1.0)
    return Axis(name, ((0.0, f"{low:.3g}"), (1.0, f"{high:.3g}"))), places


def parallel_figure(data: Coordinates) -> Figure:
    """A line per trial, coloured by accuracy."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.0, 1.5 * len(data.axes)), 4.2), layout="constrained")
    axes = figure.subplots()
    scale = Normalize(float(np.nanmin(data.accuracy)), float(np.nanmax(data.accuracy)))
    for line, accuracy in sorted(zip(data.lines, data.accuracy, strict=True), key=lambda pair: pair[1]):
        axes.plot(line, color=colormaps["cividis"](scale(accuracy)), linewidth=1.6, alpha=0.85)
    for place, axis in enumerate(data.axes):
        axes.axvline(place, color="0.4", linewidth=0.8)
        for height, text in axis.ticks:
            box = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
            axes.annotate(text, (place, height), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8, bbox=box)
    axes.set_xticks(range(len(data.axes)), [axis.name.replace("_", "\n", 1) for axis in data.axes], fontsize=8)
    axes.set(yticks=[], ylim=(-0.04, 1.04), xlim=(-0.1, len(data.axes) - 0.6))
    axes.spines[:].set_visible(False)
    axes.set_title(f"{data.reducer}, {len(data.lines)} trials, n = {data.samples} questions each", fontsize=10)
    figure.colorbar(ScalarMappable(scale, "cividis"), ax=axes, label="accuracy")
    return figure
