"""Pictures of a sweep: one function computes the points, one draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from prunesweep.analysis.costs import ABSOLUTE
from prunesweep.analysis.front import knee_point
from prunesweep.analysis.significance import accuracy_interval
from prunesweep.analysis.summary import Summary, scores_of
from prunesweep.report.style import COLUMN, PAGE, SOFT, Look, canvas, looks, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COST_LABELS = {
    "llm_flops_ratio": "LLM prefill FLOPs, relative to the dense run",
    "llm_flops": "LLM prefill FLOPs per question",
    "total_flops_ratio": "all FLOPs (vision, LLM, decoding), relative to the dense run",
    "total_flops": "all FLOPs (vision, LLM, decoding) per question",
    "fastv_flops_ratio": "LLM prefill of visual tokens in FastV's convention, relative to the dense run",
    "fastv_flops": "LLM prefill of visual tokens in FastV's convention per question",
    "sparsevlm_flops_ratio": "LLM prefill of visual tokens in SparseVLM's convention, relative to the dense run",
    "sparsevlm_flops": "LLM prefill of visual tokens in SparseVLM's convention per question",
    "fastvid_flops_ratio": "LLM prefill of visual tokens in FastVID's convention, relative to the dense run",
    "fastvid_flops": "LLM prefill of visual tokens in FastVID's convention per question",
    "entrance_ratio": "visual tokens entering the LLM, relative to the dense run",
    "entrance_tokens": "visual tokens entering the LLM per question",
    "final_ratio": "visual tokens in the last LLM layer, relative to the dense run",
    "final_tokens": "visual tokens in the last LLM layer per question",
    "layer_ratio": "visual tokens averaged over the LLM layers, relative to the dense run",
    "layer_tokens": "visual tokens averaged over the LLM layers per question",
    "kv_ratio": "visual tokens in the KV caches while decoding, relative to the dense run",
    "kv_tokens": "visual tokens in the KV caches while decoding per question",
    "reduction_flops": "FLOPs of merging and scoring tokens per question",
    "kv_bytes": "KV caches after prefill in half precision",
    "first_token_seconds": "measured time to the first token",
    "peak_memory_bytes": "measured peak memory",
}


COST_NAMES = {
    "llm_flops": "LLM prefill FLOPs",
    "total_flops": "FLOPs in all",
    "fastv_flops": "FLOPs as FastV counts",
    "sparsevlm_flops": "FLOPs as SparseVLM counts",
    "fastvid_flops": "FLOPs as FastVID counts",
    "reduction_flops": "FLOPs of merging and scoring",
    "kv_bytes": "bytes of KV caches",
    "entrance_tokens": "visual tokens entering the LLM",
    "final_tokens": "visual tokens in the last layer",
    "layer_tokens": "visual tokens over the layers",
    "kv_tokens": "visual tokens in the KV caches",
    "first_token_seconds": "s to the first token",
    "peak_memory_bytes": "bytes of peak memory",
}
COST_NAMES |= {ratio: COST_NAMES[absolute] for ratio, absolute in ABSOLUTE.items()} | {"total_flops_ratio": "all FLOPs"}
"""What is counted: to follow a number."""


def column_name(cost: str) -> str:
    """To stand above numbers."""
    return f"{COST_NAMES[cost]}, of dense" if cost.endswith("ratio") else COST_NAMES[cost]


def unit(cost: str) -> str:
    """Of a cost that is no ratio."""
    endings = {"seconds": "s", "bytes": "B", "tokens": "tokens"}
    return endings.get(cost.rpartition("_")[2], "FLOPs")


def axis_label(cost: str, relative_to: str = "") -> str:
    """With its unit, or with the name of what it is a share of."""
    if cost.endswith("ratio"):
        return label(cost, relative_to).replace(" relative to ", " relative to\n")
    return COST_LABELS[cost] + {"s": ", seconds", "B": ", bytes"}.get(unit(cost), "")


def label(cost: str, relative_to: str = "") -> str:
    """What is counted, and what it is a share of by its name."""
    return COST_LABELS[cost].replace(THE_DENSE_RUN, relative_to or THE_DENSE_RUN)


THE_DENSE_RUN = "the dense run"
"""How the labels of relative costs end."""


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
    low: float = math.nan
    """95 % interval of the accuracy; NaN where there is none."""
    high: float = math.nan
    label: str = ""
    """What to write beside it."""


class ParetoPoints(NamedTuple):
    points: list[Point]
    cost: str
    unanswered: int = 0
    """Trials that have no accuracy, and so no point."""
    relative_to: str = ""
    """What relative costs are shares of."""


def pareto_points(table: Sequence[Summary], cost: str) -> ParetoPoints:
    """The trials that have an accuracy, cheapest first."""
    rows = sorted((row for row in table if row.samples), key=lambda r: getattr(r, cost))
    labels = _labels(rows, cost)
    points = [
        Point(
            r.trial, r.reducer, getattr(r, cost), r.accuracy, r.accuracy_error, r.samples, r.pareto, r.stopped,
            *accuracy_interval(scores_of(r)), labels.get(i, ""),
        )
        for i, r in enumerate(rows)
    ]  # fmt: skip
    return ParetoPoints(points, cost, len(table) - len(rows), table[0].relative_to if table else "")


def _labels(rows: Sequence[Summary], cost: str) -> dict[int, str]:
    """The dense model and the knee, by index."""
    done = [i for i, row in enumerate(rows) if not row.stopped]
    knee = knee_point(np.array([getattr(rows[i], cost) for i in done]), np.array([rows[i].accuracy for i in done]))
    dense = max((i for i in done if rows[i].dense), key=lambda i: (rows[i].llm_flops, rows[i].reducer == "none"), default=None)
    return ({done[knee]: "knee"} if knee is not None else {}) | ({dense: "dense"} if dense is not None else {})


@styled
def pareto_figure(panels: Mapping[str, ParetoPoints]) -> Figure:
    """Accuracy against cost with 95 % intervals, the front as a line of steps; a panel per model and benchmark."""
    columns = min(len(panels), MOST_COLUMNS)
    rows = math.ceil(len(panels) / columns)
    figure, places = canvas(COLUMN if columns == 1 else PAGE, 2.7 * rows, rows, columns)
    reducers = sorted({point.reducer for data in panels.values() for point in data.points})
    for axes, (title, data) in zip(places, panels.items(), strict=False):
        _draw_front(axes, data, title, reducers)
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    return figure


MOST_COLUMNS = 2
USUAL, NAMED = 14, 34
"""Areas of markers in square points: which of two neighbours a name means is seen from its size."""
MANY = 40
"""Of more trials, those on the front and those that are named have a bar."""


def _draw_front(axes: Axes, data: ParetoPoints, title: str, reducers: Sequence[str]) -> None:
    front, own = [p for p in data.points if p.pareto], looks(reducers)
    if len(front) > 1:
        axes.step([p.cost for p in front], [p.accuracy for p in front], where="post", color=SOFT, zorder=1)
    for reducer in reducers:
        draw_points(axes, [p for p in data.points if p.reducer == reducer], own[reducer], reducer, len(data.points) > MANY)
    if any(p.stopped for p in data.points):
        axes.scatter([], [], s=8, marker="x", color=SOFT, label="stopped early")
    for p in data.points:
        if p.label:
            name_point(axes, p.cost, p.accuracy, p.label)
    axes.set(xlabel=axis_label(data.cost, data.relative_to), ylabel="accuracy")
    unanswered = f"; {data.unanswered} without an answer" if data.unanswered else ""
    samples = span([p.samples for p in data.points])
    axes.set_title(f"{title}\nn = {samples}; bars: 95 % intervals{unanswered}", loc="left")
    if data.points and max(p.cost for p in data.points) > 4 * min(p.cost for p in data.points) > 0:
        log_axis(axes, data.cost)
    if data.points:
        axes.legend(loc="lower right", ncols=2 if len(reducers) > 4 else 1)


def draw_points(axes: Axes, points: Sequence[Point], look: Look, name: str, few_bars: bool = False) -> None:
    """The trials of one method; stopped ones are small crosses without a bar."""
    done = [p for p in points if not p.stopped]
    stopped = [p for p in points if p.stopped]
    axes.scatter([p.cost for p in stopped], [p.accuracy for p in stopped], s=8, marker="x", alpha=0.5, color=look.colour)
    for p in done:
        if not math.isnan(p.low) and (not few_bars or p.pareto or p.label):
            axes.vlines(p.cost, p.low, p.high, color=look.colour, linewidth=0.7, alpha=0.75 if p.pareto or p.label else 0.3)
    for sure, alpha in ((False, 0.45), (True, 1.0)):
        own = [p for p in done if (p.pareto or bool(p.label)) == sure]
        sizes = [NAMED if p.label else USUAL for p in own]
        axes.scatter([p.cost for p in own], [p.accuracy for p in own], s=sizes, marker=look.marker, color=look.colour,
                     alpha=alpha, linewidth=0, zorder=3)  # fmt: skip
    if done:
        axes.scatter([], [], s=USUAL, marker=look.marker, color=look.colour, label=name, linewidth=0)


def name_point(axes: Axes, cost: float, accuracy: float, text: str) -> None:
    """Writes a name beside a point, to its left: the front is below and right of it."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=1.8, foreground="white")]
    axes.annotate(text, (cost, accuracy), xytext=(-4, 4), textcoords="offset points", ha="right", fontweight="bold",
                  path_effects=halo, zorder=5)  # fmt: skip


def span(counts: Sequence[int]) -> str:
    ordered = sorted(set(counts))
    return "0" if not ordered else str(ordered[0]) if len(ordered) == 1 else f"{ordered[0]} to {ordered[-1]}"


def log_axis(axes: Axes, cost: str) -> None:
    """Costs of reduced models differ by factors, so a wide range is drawn on a logarithmic axis with plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_xscale("log")
    if cost.endswith("ratio"):
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}x"))
        axes.xaxis.set_minor_formatter(NullFormatter())
