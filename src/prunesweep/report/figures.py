"""Pictures of a sweep's statistics.  What is drawn has been computed by a function of its own, here or in the module named."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prunesweep.analysis import significance
from prunesweep.analysis.front import hypervolume, steps
from prunesweep.report.plots import COLOURS, COST_LABELS, COST_NAMES, MARKERS, MOST_COLUMNS, axis_label, log_axis, span
from prunesweep.results.read import short

if TYPE_CHECKING:
    import polars as pl
    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from prunesweep.analysis.ablation import Ablation, Factor, Importance, Interaction
    from prunesweep.analysis.outcomes import Outcomes
    from prunesweep.analysis.resampling import ResampledFront


def _figure(columns: int, width: float, height: float, sharey: bool = False, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """`height` is that of a row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, rows * height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).flat)


def _nothing(why: str) -> Figure:
    """A figure that says why it shows nothing."""
    figure, (axes,) = _figure(1, 8, 1)
    axes.set_axis_off()
    axes.set_title(why, fontsize=10)
    return figure


# The front


def front_figure(outcomes: Outcomes, front: ResampledFront) -> Figure:
    """`resampling.front` with its band; a trial is the darker, the surer it is on the front."""
    figure, (axes,) = _figure(1, 8, 5)
    axes.fill_between(
        front.cost, front.low, front.high, step="post", color="0.88", label="the best accuracy in 95 % of draws of the videos"
    )
    axes.step(front.cost, front.best, where="post", color="0.4", label="Pareto front")
    reducers = sorted({row.reducer for row in outcomes.table if row.samples})
    intervals = np.array([significance.accuracy_interval(one) for one in significance.accuracies(outcomes)])
    for index, reducer in enumerate(reducers):
        own = [i for i, row in enumerate(outcomes.table) if row.reducer == reducer and row.samples]
        accuracy, colour = [outcomes.table[i].accuracy for i in own], COLOURS[index % len(COLOURS)]
        axes.vlines(outcomes.costs[own], *intervals[own].T, color=colour, linewidth=1, alpha=0.5)
        look: Any = {"c": colour, "marker": MARKERS[index % len(MARKERS)]}
        pale: Any = {"alpha": 0.25 + 0.75 * front.probability[own]}
        axes.scatter(outcomes.costs[own], accuracy, zorder=3, **look, **pale)
        axes.scatter([], [], label=reducer, **look)  # not as pale as its first trial
    costs = outcomes.costs[~np.isnan(outcomes.costs)]
    if len(costs) and 0 < 4 * costs.min() < costs.max():
        log_axis(axes, outcomes.cost)
    axes.set(xlabel=axis_label(outcomes.cost, outcomes.relative_to), ylabel="accuracy")
    samples = span([row.samples for row in outcomes.table if row.samples])
    axes.set_title(
        f"95 % intervals, clustered by {outcomes.answered_videos} videos; n = {samples}; pale: seldom on the front", fontsize=10
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


# Ablations


def effects_figure(ablation: Ablation) -> Figure:
    """Main effects of `ablation.ablation`: a panel per setting, adjusted means with 95 % intervals."""
    if not ablation.main:
        return _nothing(f"{ablation.reducer}: these {ablation.trials} trials tell no setting's effect apart")
    names = short([effect.factor for effect in ablation.main])
    figure, panels = _figure(len(ablation.main), max(4.0, 2.7 * len(ablation.main)), 3.2, sharey=True)
    for axes, effect in zip(panels, ablation.main, strict=True):
        places = range(len(effect.levels))
        means = [level.accuracy for level in effect.levels]
        margins = np.array([[one.value - one.low, one.high - one.value] for one in means]).T
        axes.errorbar(places, [one.value for one in means], yerr=margins, fmt="o-", color=COLOURS[0], capsize=3, linewidth=1)
        axes.set_xticks(places, [_level(level.value) for level in effect.levels], fontsize=8)
        axes.set_title(f"{names[effect.factor]}\n{_p(effect.adjusted)}", fontsize=9)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy")
    samples = f"n = {ablation.samples} questions on {ablation.videos} videos, p Holm-corrected"
    figure.suptitle(f"{ablation.reducer}, {ablation.trials} trials, 95 % intervals; {samples}", fontsize=10)
    return figure


def interactions_figure(interactions: Sequence[Interaction], title: str) -> Figure:
    """Mean accuracies of pairs of settings with their 95 % intervals: the panels of the paper's ablation.

    Colours are on one scale in all panels.
    """
    columns = min(MOST_COLUMNS, len(interactions))
    figure, panels = _figure(columns, max(4.2, 4.0 * columns), 3.3, rows=math.ceil(len(interactions) / columns))
    for axes in panels[len(interactions) :]:
        axes.set_axis_off()
    values = [cell.accuracy.value for pair in interactions for cell in pair.cells]
    for axes, pair in zip(panels, interactions, strict=False):
        first, second = (list(dict.fromkeys(getattr(cell, side) for cell in pair.cells)) for side in ("first", "second"))
        table = np.full((len(first), len(second)), math.nan)
        for cell in pair.cells:
            place = first.index(cell.first), second.index(cell.second)
            table[place] = cell.accuracy.value
            bright = cell.accuracy.value > (min(values) + max(values)) / 2
            text = f"{cell.accuracy.value:.3f}\n{cell.accuracy.low:.2f} to {cell.accuracy.high:.2f}"
            axes.annotate(text, place[::-1], ha="center", va="center", fontsize=8, color="black" if bright else "white")
        axes.imshow(table, cmap="cividis", vmin=min(values), vmax=max(values), aspect="auto")
        axes.set_yticks(range(len(first)), [_level(value) for value in first], fontsize=8)
        axes.set_xticks(range(len(second)), [_level(value) for value in second], fontsize=8)
        names = short(list(pair.factors))
        axes.set(ylabel=names[pair.factors[0]], xlabel=names[pair.factors[1]])
        axes.set_title(f"interaction {_p(pair.adjusted)}", fontsize=9)
    figure.suptitle(f"{title}; mean accuracy, 95 % intervals", fontsize=10)
    return figure


def _p(p_value: float) -> str:
    return "no test possible" if math.isnan(p_value) else f"p = {p_value:.2g}"


def importance_figure(found: Sequence[Importance]) -> Figure:
    """`ablation.importances` as bars, a panel per method."""
    if not found:
        return _nothing("importance cannot be told: held-out trials are foreseen no better than by their mean")
    figure, panels = _figure(len(found), max(4.5, 4 * len(found)), 2.6)
    for axes, one in zip(panels, found, strict=True):
        names = short(list(one.shares))
        ordered = sorted(one.shares.items(), key=lambda pair: pair[1])
        axes.barh([names[name] for name, _ in ordered], [share for _, share in ordered], color=COLOURS[2])
        axes.set(xlim=(0, 1), xlabel=f"share of the variance of {one.target}\nthat each explains alone (fANOVA)")
        axes.set_title(f"{one.reducer}, {one.trials} trials", fontsize=10)
        axes.grid(alpha=0.3, axis="x")
    return figure


# A search


class History(NamedTuple):
    """How a search went, one entry per complete proposal in their order."""

    proposal: np.ndarray
    accuracy: np.ndarray
    cost: np.ndarray
    hypervolume: np.ndarray
    """Of the front of all proposals up to this one, as `front.hypervolume`, up to the largest cost of the search."""
    cost_name: str


def search_history(table: pl.DataFrame, cost: str = "llm_flops_ratio") -> History:
    """Of a search's `search.parquet`.  Raises ValueError if accuracy or that cost was no objective, or nothing is complete."""
    import polars as pl

    for name in ("accuracy", cost):
        if name not in table.columns:
            raise ValueError(f"{name} was no objective of this search; its columns: {', '.join(table.columns)}")
    done = table.with_row_index("proposal").filter(pl.col("outcome") == "complete")
    if not len(done):
        raise ValueError("no proposal of this search is complete")
    accuracy, costs = (done[name].cast(pl.Float64).to_numpy() for name in ("accuracy", cost))
    volumes = []
    for count in range(1, len(done) + 1):
        level, best = steps(costs[:count], accuracy[:count])
        volumes.append(float(hypervolume(level, best, float(costs.max()))))
    return History(done["proposal"].to_numpy(), accuracy, costs, np.array(volumes), cost)


def history_figure(history: History) -> Figure:
    """What was proposed, in order, and how the front grew."""
    figure, (plane, growth) = _figure(2, 10, 4)
    dots = plane.scatter(history.cost, history.accuracy, c=history.proposal, cmap="cividis", s=28)
    plane.set(xlabel=axis_label(history.cost_name) if history.cost_name in COST_LABELS else history.cost_name, ylabel="accuracy")
    plane.grid(alpha=0.3)
    figure.colorbar(dots, ax=plane, label="proposal")
    growth.step(history.proposal, history.hypervolume, where="post", color=COLOURS[0])
    growth.set(xlabel="proposal", ylabel=f"hypervolume up to {history.cost.max():.3g}")
    growth.grid(alpha=0.3)
    told = "baselines and what else was told included"
    figure.suptitle(f"{len(history.proposal)} complete trials, {told}; estimates on the search's own questions", fontsize=10)
    return figure


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
    values: tuple[int, ...]
    """How many each setting has."""

    @property
    def tells_more(self) -> bool:
        """Whether lines show what a plain chart does not: with few values they lie on each other."""
        return sum(values > FEW_VALUES for values in self.values) > 1


FEW_VALUES = 3
MOST_TICKS = 8
"""Of a setting with more values, the ends are named."""


def parallel_coordinates(outcomes: Outcomes) -> list[Coordinates]:
    """Of each method that has at least two trials with an answer and a setting that varies."""
    from prunesweep.analysis.ablation import by_reducer, factors

    found = []
    for reducer, own in by_reducer(outcomes).items():
        varying = factors(own)
        if len(own.table) < 2 or not varying:
            continue
        names = short([factor.name for factor in varying])
        columns = [_factor_axis(factor, names[factor.name]) for factor in varying]
        accuracy = np.array([row.accuracy for row in own.table])
        columns += (
            []
            if np.isnan(own.costs).all()
            else [_number_axis(COST_NAMES[own.cost], own.costs, "x" if own.cost.endswith("ratio") else "")]
        )
        columns.append(_number_axis("accuracy", accuracy))
        samples = span([row.samples for row in own.table])
        axes, places = zip(*columns, strict=True)
        values = tuple(len(factor.levels) for factor in varying)
        found.append(Coordinates(reducer, axes, np.stack(places, 1), accuracy, own.names, samples, values))
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
    return "off" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _number_axis(name: str, values: np.ndarray, unit: str = "") -> tuple[Axis, np.ndarray]:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    places = (values - low) / ((high - low) or 1.0)
    return Axis(name, ((0.0, f"{low:.3g}{unit}"), (1.0, f"{high:.3g}{unit}"))), places


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
