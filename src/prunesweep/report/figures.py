"""Pictures of a sweep's statistics.  What is drawn has been computed by a function of its own, here or in the module named."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prunesweep.analysis.clusters import CONFIDENCE
from prunesweep.analysis.front import hypervolume, steps
from prunesweep.report.plots import (
    COST_LABELS,
    COST_NAMES,
    MANY,
    axis_label,
    draw_points,
    log_axis,
    name_point,
    pareto_points,
    span,
)
from prunesweep.report.style import COLOURS, COLUMN, GREY, PAGE, PALE, SCALE, SOFT, canvas, headed, looks, styled
from prunesweep.results.read import short

if TYPE_CHECKING:
    import polars as pl
    from jaxtyping import Float
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from prunesweep.analysis.ablation import Ablation, Factor, Importance, Interaction
    from prunesweep.analysis.outcomes import Outcomes
    from prunesweep.analysis.resampling import ResampledFront


@styled
def _nothing(why: str) -> Figure:
    """A figure that says why it shows nothing."""
    figure, (axes,) = canvas(PAGE, 0.6)
    axes.set_axis_off()
    axes.set_title(why)
    return figure


LEVEL = 1 - CONFIDENCE


# The front


@styled
def front_figure(outcomes: Outcomes, front: ResampledFront) -> Figure:
    """`resampling.front` with its band; trials that are not on the front are pale."""
    figure, (axes,) = canvas(COLUMN, 2.8)
    axes.fill_between(front.cost, front.low, front.high, step="post", color=PALE, linewidth=0)
    axes.step(front.cost, front.best, where="post", color=SOFT, zorder=1)
    data = pareto_points(outcomes.table, outcomes.cost)
    own = looks(reducers := sorted({point.reducer for point in data.points}))
    for reducer in reducers:
        draw_points(axes, [p for p in data.points if p.reducer == reducer], own[reducer], reducer, len(data.points) > MANY)
    for point in data.points:
        if point.label:
            name_point(axes, point.cost, point.accuracy, point.label)
    costs = outcomes.costs[~np.isnan(outcomes.costs)]
    if len(costs) and 0 < 4 * costs.min() < costs.max():
        log_axis(axes, outcomes.cost)
    axes.set(xlabel=axis_label(outcomes.cost, outcomes.relative_to), ylabel="accuracy")
    samples = span([row.samples for row in outcomes.table if row.samples])
    said = f"n = {samples} on {outcomes.answered_videos} videos; bars: 95 % intervals"
    axes.set_title(f"{said}\nband: 95 % of the front over draws of the videos", loc="left")
    axes.legend(loc="lower right")
    return figure


# Ablations


ROW = 0.14
"""Inches of one value of a setting."""


@styled
def effects_figure(ablation: Ablation) -> Figure:
    """Main effects of `ablation.ablation` on one scale, the largest first: adjusted means with 95 % intervals.

    What is not significant is grey.
    """
    if not ablation.main:
        return _nothing(f"{ablation.reducer}: these {ablation.trials} trials tell no setting's effect apart")
    names = short([effect.factor for effect in ablation.main])
    ordered = sorted(ablation.main, key=lambda effect: (not effect.adjusted <= LEVEL, -effect.range))
    rows = sum(len(effect.levels) + 1.6 for effect in ordered)
    figure, (axes,) = canvas(COLUMN, 0.75 + ROW * rows)
    places: list[float] = []
    y = 0.0
    for effect in ordered:
        colour = COLOURS[0] if effect.adjusted <= LEVEL else GREY
        said = f"{names[effect.factor]}: {100 * effect.range:.1f} points, {_p(effect.adjusted)}"
        axes.annotate(said, (0, y), xycoords=("axes fraction", "data"), xytext=(2, 0), textcoords="offset points", va="center",
                      fontweight="bold", fontsize=6.5)  # fmt: skip
        own = [y + 1 + i for i in range(len(effect.levels))]
        for at, level in zip(own, effect.levels, strict=True):
            axes.hlines(at, level.accuracy.low, level.accuracy.high, color=colour, linewidth=1.2)
        axes.plot([level.accuracy.value for level in effect.levels], own, "o-", color=colour, linewidth=0.5)
        places += own
        y = own[-1] + 1.6
    axes.set_yticks(places, [_level(level.value) for effect in ordered for level in effect.levels])
    axes.set(ylim=(y - 0.6, -0.8), xlabel="mean accuracy, 95 % intervals")
    axes.grid(visible=False, axis="y")
    samples = f"n = {ablation.samples} on {ablation.videos} videos, p Holm-corrected"
    axes.set_title(f"{ablation.reducer}, {ablation.trials} trials\n{samples}", loc="left")
    return figure


PANELS = 3
"""Of pairs in a row."""


@styled
def interactions_figure(interactions: Sequence[Interaction], title: str) -> Figure:
    """Mean accuracies of pairs of settings with their 95 % intervals: the panels of the paper's ablation.

    Colours are on one scale in all panels.
    """
    columns = min(PANELS, len(interactions))
    rows = math.ceil(len(interactions) / columns)
    figure, panels = canvas(COLUMN if columns == 1 else PAGE, 0.3 + 1.9 * rows, rows, columns)
    for axes in panels[len(interactions) :]:
        axes.set_axis_off()
    values = [cell.accuracy.value for pair in interactions for cell in pair.cells]
    for axes, pair in zip(panels, interactions, strict=False):
        _pair(axes, pair, min(values), max(values))
    headed(figure, f"{title}; mean accuracy, 95 % intervals".replace("$", r"\$"))
    return figure


def _pair(axes: Axes, pair: Interaction, least: float, most: float) -> None:
    first, second = (list(dict.fromkeys(getattr(cell, side) for cell in pair.cells)) for side in ("first", "second"))
    table = np.full((len(first), len(second)), math.nan)
    for cell in pair.cells:
        place = first.index(cell.first), second.index(cell.second)
        table[place] = cell.accuracy.value
        bright = cell.accuracy.value > (least + most) / 2
        text = f"{cell.accuracy.value:.3f}\n{cell.accuracy.low:.2f}–{cell.accuracy.high:.2f}"
        axes.annotate(text, place[::-1], ha="center", va="center", fontsize=6, color="black" if bright else "white")
    axes.imshow(table, cmap=SCALE, vmin=least, vmax=most, aspect="auto")
    axes.set_yticks(range(len(first)), [_level(value) for value in first])
    axes.set_xticks(range(len(second)), [_level(value) for value in second])
    axes.grid(visible=False)
    names = short(list(pair.factors))
    axes.set(ylabel=names[pair.factors[0]], xlabel=names[pair.factors[1]])
    axes.set_title(f"interaction {_p(pair.adjusted)}", loc="left")


def _p(p_value: float) -> str:
    return "no test possible" if math.isnan(p_value) else f"p = {p_value:.2g}"


@styled
def importance_figure(found: Sequence[Importance]) -> Figure:
    """`ablation.importances` as bars, a panel per method."""
    if not found:
        return _nothing("importance cannot be told: held-out trials are foreseen no better than by their mean")
    most = max(len(one.shares) for one in found)
    figure, panels = canvas(COLUMN, (0.75 + 0.18 * most) * len(found), len(found), 1, sharex=True)
    for axes, one in zip(panels, found, strict=True):
        names = short(list(one.shares))
        ordered = sorted(one.shares.items(), key=lambda pair: pair[1])
        bars = axes.barh([names[name] for name, _ in ordered], [share for _, share in ordered], color=COLOURS[0], height=0.6)
        axes.bar_label(bars, [f"{100 * share:.0f} %" for _, share in ordered], padding=2, fontsize=6.5)
        axes.set(xlim=(0, 1.08))
        axes.grid(visible=False, axis="y")
        axes.set_title(f"{one.reducer}, {one.trials} trials: {one.target}", loc="left")
    panels[-1].set_xlabel("share of the variance that\neach explains alone (fANOVA)")
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


@styled
def history_figure(history: History) -> Figure:
    """What was proposed, in order, and how the front grew."""
    figure, (plane, growth) = canvas(PAGE, 2.5, 1, 2)
    dots = plane.scatter(history.cost, history.accuracy, c=history.proposal, cmap=SCALE, s=12, linewidth=0)
    plane.set(xlabel=axis_label(history.cost_name) if history.cost_name in COST_LABELS else history.cost_name, ylabel="accuracy")
    figure.colorbar(dots, ax=plane, label="proposal")
    growth.step(history.proposal, history.hypervolume, where="post", color=COLOURS[0])
    growth.set(xlabel="proposal", ylabel=f"hypervolume up to {history.cost.max():.3g}")
    told = "baselines and what else was told included"
    headed(figure, f"{len(history.proposal)} complete trials, {told}; estimates on the search's own questions")
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


@styled
def parallel_figure(data: Coordinates) -> Figure:
    """A line per trial, coloured by accuracy."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    figure, (axes,) = canvas(PAGE, 2.6)
    scale = Normalize(float(np.nanmin(data.accuracy)), float(np.nanmax(data.accuracy)))
    for line, accuracy in sorted(zip(data.lines, data.accuracy, strict=True), key=lambda pair: pair[1]):
        axes.plot(line, color=colormaps[SCALE](scale(accuracy)), linewidth=0.9, alpha=0.85)
    box = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
    for place, axis in enumerate(data.axes):
        axes.axvline(place, color=SOFT, linewidth=0.6)
        for height, text in axis.ticks:
            axes.annotate(text, (place, height), xytext=(3, 0), textcoords="offset points", va="center", fontsize=6, bbox=box)
    axes.set_xticks(range(len(data.axes)), [axis.name.replace("_", "\n", 1) for axis in data.axes])
    axes.set(yticks=[], ylim=(-0.04, 1.04), xlim=(-0.1, len(data.axes) - 0.6))
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    axes.set_title(f"{data.reducer}, {len(data.lines)} trials, n = {data.samples} questions each", loc="left")
    figure.colorbar(ScalarMappable(scale, SCALE), ax=axes, label="accuracy")
    return figure
