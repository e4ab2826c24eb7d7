"""How good a search's front is after so many trials: its hypervolume, of finished searches and of replayed ones.

The hypervolume is the area below the front from no cost to the worst, accuracy counted from 0, as a share of the rectangle up to
full accuracy.  It is measured on the samples that were searched on, like the search's own aim: which sampler finds the front of
these samples sooner, not how accurate its settings are on others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

from prunesweep.analysis.front import hypervolume, steps
from prunesweep.analysis.table import rows_of
from prunesweep.console.layout import grid
from prunesweep.disk.foreign import read_yaml
from prunesweep.report.style import COLUMN, canvas, looks, styled, write_ends
from prunesweep.results.read import read_source

if TYPE_CHECKING:
    from matplotlib.figure import Figure


TABLE = "search.parquet"


NOT_STARTED = "not started"


DEFAULT_SAMPLER = "TPESampler"
"""Of a search without `sampler`."""


ENOUGH = 0.99
"""Of the best hypervolume: how soon it is reached says how fast a sampler is."""


class Curve(NamedTuple):
    """One search: its sampler, and the hypervolume after each trial."""

    sampler: str
    seed: int
    volumes: Float[np.ndarray, " trials"]


@dataclass(frozen=True)
class Curves:
    """All searches of one sampler, cut to the shortest."""

    sampler: str
    volumes: Float[np.ndarray, "searches trials"]


def volume(costs: Float[np.ndarray, " trials"], accuracy: Float[np.ndarray, " trials"], worst: float) -> float:
    """0 without a trial."""
    return float(hypervolume(*steps(costs, accuracy), worst)) if len(costs) and not np.isnan(costs).all() else 0.0


def read_curve(folder: Path, cost: str, worst: float) -> Curve:
    """Raises ValueError if the folder holds no finished search for accuracy and this cost."""
    import polars as pl

    if not (folder / TABLE).is_file():
        raise ValueError(f"{folder} holds no {TABLE}; name the folder of a finished search")
    sweeper = read_yaml(folder / "multirun.yaml")["hydra"]["sweeper"]
    table = pl.read_parquet(folder / TABLE)
    if missing := [name for name in ("accuracy", cost) if name not in table.columns]:
        raise ValueError(f"{folder} did not search for {missing[0]}; known: {', '.join(sweeper['objectives'])}")
    own = table.filter(pl.col("from").is_null() & (pl.col("outcome") != NOT_STARTED))  # in the order of the proposals
    costs, accuracy = (own[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in (cost, "accuracy"))
    volumes = np.array([volume(costs[: n + 1], accuracy[: n + 1], worst) for n in range(len(own))])
    target = sweeper["sampler"]["_target_"] if sweeper["sampler"] else DEFAULT_SAMPLER
    return Curve(target.rpartition(".")[2].removesuffix("Sampler"), sweeper["seed"], volumes)


def by_sampler(curves: Sequence[Curve]) -> list[Curves]:
    """Raises ValueError if a search has no trial."""
    grouped: dict[str, list[Curve]] = {}
    for curve in curves:
        grouped.setdefault(curve.sampler, []).append(curve)
    budget = min(len(curve.volumes) for curve in curves)
    if not budget:
        raise ValueError("a search has no trial of its own; there is nothing to compare")
    return [Curves(name, np.array([curve.volumes[:budget] for curve in own])) for name, own in grouped.items()]


def whole_volume(folder: Path, cost: str, worst: float) -> float:
    """Of all complete trials of a sweep; raises ValueError if there is none."""
    rows = rows_of([trial for trial in read_source(folder) if trial.info.stopped is None])
    if not rows:
        raise ValueError(f"{folder} holds no complete trials; name the folder of a sweep")
    return volume(np.array([getattr(row, cost) for row in rows]), np.array([row.accuracy for row in rows]), worst)


def volumes_text(groups: Sequence[Curves], best: float | None) -> str:
    """One line a sampler: mean and range over its searches, a third, two thirds and all of the way."""
    budget = groups[0].volumes.shape[1]
    looks = sorted({max(1, budget // 3), max(1, 2 * budget // 3), budget})
    head = ["sampler", "searches", *(f"hypervolume after {n}: mean (range)" for n in looks)]
    rows = [
        [group.sampler, str(len(group.volumes)), *(_mean_and_range(group.volumes[:, n - 1]) for n in looks)] for group in groups
    ]
    if best is not None:
        head.append(f"trials to {ENOUGH:.0%} of the grid's")
        rows = [[*row, _soon(group.volumes, ENOUGH * best)] for row, group in zip(rows, groups, strict=True)]
    text = grid(head, [tuple(row) for row in rows])
    return text if best is None else f"{text}\nall settings of the grid: {best:.4f}"


def _mean_and_range(values: Float[np.ndarray, " searches"]) -> str:
    return f"{values.mean():.4f} ({values.min():.4f} to {values.max():.4f})"


def _soon(volumes: Float[np.ndarray, "searches trials"], enough: float) -> str:
    """The first trial that gets there in each search, in order; `-` where none does."""
    first = sorted(int(np.argmax(v >= enough)) + 1 if (v >= enough).any() else np.inf for v in volumes)
    return ", ".join("-" if n == np.inf else str(n) for n in first)


@styled
def volumes_figure(groups: Sequence[Curves], best: float | None, title: str) -> Figure:
    """Mean over the searches of each sampler, named at its end, and their range as a band."""
    from matplotlib.ticker import MaxNLocator

    figure, (axes,) = canvas(COLUMN, 2.6)
    trials = np.arange(1, groups[0].volumes.shape[1] + 1)
    own, ends = looks([group.sampler for group in groups], dense=""), []
    for group in groups:
        colour = own[group.sampler].colour
        shown = group.volumes if best is None else best - group.volumes
        axes.fill_between(trials, shown.min(0), shown.max(0), color=colour, alpha=0.12, linewidth=0)
        axes.plot(trials, shown.mean(0), color=colour)
        ends.append((float(trials[-1]), float(shown.mean(0)[-1]), f"{group.sampler} ({len(shown)})", colour))
    if best is not None:
        axes.set_yscale("log", nonpositive="clip")
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.set_xlabel("trials")
    axes.set_ylabel("hypervolume of the front" if best is None else f"hypervolume short of\nall settings' {best:.3f}")
    axes.set_title(
        "\n".join(
            [*(line for part in title.split("\n") for line in wrap(part, 46)), "lines: means of (n) searches; bands: their range"]
        ),
        loc="left",
    )
    write_ends(axes, ends)
    return figure
