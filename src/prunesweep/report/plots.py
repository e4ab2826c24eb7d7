"""Pictures of a sweep: one function computes the points, one draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from prunesweep.analysis.costs import ABSOLUTE
from prunesweep.analysis.summary import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, told apart with any colour vision."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
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


class ParetoPoints(NamedTuple):
    points: list[Point]
    cost: str
    unanswered: int = 0
    """Trials that have no accuracy, and so no point."""
    relative_to: str = ""
    """What relative costs are shares of."""


def pareto_points(table: Sequence[Summary], cost: str) -> ParetoPoints:
    """The trials that have an accuracy, cheapest first."""
    rows = [row for row in table if row.samples]
    points = [
        Point(r.trial, r.reducer, getattr(r, cost), r.accuracy, r.accuracy_error, r.samples, r.pareto, r.stopped)
        for r in sorted(rows, key=lambda r: getattr(r, cost))
    ]
    return ParetoPoints(points, cost, len(table) - len(rows), table[0].relative_to if table else "")


def pareto_figure(panels: Mapping[str, ParetoPoints]) -> Figure:
    """Accuracy against cost with one standard error, the front as a line of steps; a panel per model and benchmark."""
    from matplotlib.figure import Figure

    columns = min(len(panels), MOST_COLUMNS)
    rows = math.ceil(len(panels) / columns)
    size = (8, 5) if len(panels) == 1 else (6 * columns, 4.4 * rows)
    figure = Figure(figsize=size, layout="constrained")
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    reducers = sorted({point.reducer for data in panels.values() for point in data.points})
    for axes, (title, data) in zip(places, panels.items(), strict=False):
        _draw_front(axes, data, title, reducers)
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    return figure


MOST_COLUMNS = 3


def _draw_front(axes: Axes, data: ParetoPoints, title: str, reducers: Sequence[str]) -> None:
    front = [p for p in data.points if p.pareto]
    if len(front) > 1:
        axes.step(
            [p.cost for p in front], [p.accuracy for p in front], where="post", color="0.45", zorder=1, label="Pareto front"
        )
    for index, reducer in enumerate(reducers):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        own = [p for p in data.points if p.reducer == reducer and not p.stopped]
        stopped = [p for p in data.points if p.reducer == reducer and p.stopped]
        axes.scatter([p.cost for p in stopped], [p.accuracy for p in stopped], s=14, marker="x", alpha=0.5, color=colour)
        if own:
            axes.errorbar(
                [p.cost for p in own],
                [p.accuracy for p in own],
                yerr=[p.error for p in own],
                fmt=marker,
                color=colour,
                capsize=2,
                elinewidth=1,
                markersize=6,
                label=reducer,
            )
    if any(p.stopped for p in data.points):
        axes.scatter([], [], s=14, marker="x", color="0.5", label="stopped by a race (no bars: incomplete)")
    axes.set_xlabel(axis_label(data.cost, data.relative_to))
    axes.set_ylabel("accuracy")
    unanswered = f"; {data.unanswered} trials without an answer" if data.unanswered else ""
    samples = span([p.samples for p in data.points])
    axes.set_title(f"{title}\nbars: one standard error, clustered by video; n = {samples}{unanswered}", fontsize=10)
    if data.points and max(p.cost for p in data.points) > 4 * min(p.cost for p in data.points):
        log_axis(axes, data.cost)
    axes.grid(alpha=0.3)
    if data.points:
        axes.legend(frameon=False)


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
