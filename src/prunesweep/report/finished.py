"""A finished sweep as an object: its table, fronts, comparisons, pictures and page, in Python and in notebooks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from prunesweep.analysis.accuracy import Accuracy, accuracy
from prunesweep.analysis.comparison import QUESTION, Difference, paired
from prunesweep.analysis.costs import require_cost
from prunesweep.analysis.naming import COST, require_two, trial_called
from prunesweep.analysis.outcomes import MARGIN, Outcomes, find, gather, read_outcomes
from prunesweep.analysis.summary import Summary, not_run
from prunesweep.analysis.table import cheapest_first, mark_front, table_frame
from prunesweep.analysis.varied import varied
from prunesweep.analysis.wording import accuracy_text, difference_text, numbered
from prunesweep.console.layout import count
from prunesweep.disk.foreign import read_yaml
from prunesweep.paths import from_here
from prunesweep.report.notebook import shown
from prunesweep.report.overview import as_html, overview
from prunesweep.report.overview import shown as on_stdout
from prunesweep.results.infeasible import infeasible_folders
from prunesweep.results.read import is_store, number, read_folder, reread
from prunesweep.results.records import CONFIG, RECORDS, Trial, schema

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

    from prunesweep.results.infeasible import Infeasible
    from prunesweep.results.records import TrialInfo

MULTIRUN = "multirun.yaml"
"""Where sweepers save the configuration they were started with."""
SEARCH = "search.parquet"
REPORT = "report.html"


@dataclass(frozen=True, repr=False)
class Comparison:
    """Two trials on the questions that both answered.

    `difference` has the first one's accuracy minus the second one's with its standard error, clustered by video, its 95 %
    interval, tests, and how many answers were gained and lost.  Printed, it is what `prunesweep compare` says.
    """

    trial: str
    baseline: str
    scores: tuple[Accuracy, Accuracy]
    difference: Difference

    def __str__(self) -> str:
        lines = [f"{accuracy_text(*own)}  {name}" for own, name in zip(self.scores, (self.trial, self.baseline), strict=True)]
        return "\n".join([*lines, difference_text(self.difference)])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


@dataclass(frozen=True)
class Sweep:
    """The trials of a sweep's folder, of a run's, or of a store.

    What is read is kept: read a sweep that goes on once more to see what is new.  A trial is called by its number in the column
    `#` of the table, by `dense`, `best`, `best@0.25x` or `knee`, or by words that are true of it alone:
    `prunevid prune.keep_ratio=0.4`.
    """

    folder: Path
    """Absolute, so that a notebook may change its working folder."""
    cost: str = COST
    """The axis of fronts, unless another one is given: a cost of the ledger, such as `total_flops_ratio`."""

    def __post_init__(self) -> None:
        require_cost(self.cost)
        object.__setattr__(self, "folder", Path(self.folder).absolute())

    @cached_property
    def all_outcomes(self) -> tuple[Outcomes, ...]:
        """Who answered what, for each model and benchmark: the input of `prunesweep.analysis`.

        Raises ValueError if there is no finished trial, or one that cannot be read.
        """
        if (self.folder / RECORDS).is_file():
            return tuple(gather([find(read_folder(self.folder))], self.cost))
        return tuple(read_outcomes(self.folder, self.cost))

    @property
    def outcomes(self) -> Outcomes:
        """The same of the only model and benchmark; raises ValueError if there are several."""
        if len(self.all_outcomes) > 1:
            where = ", ".join(f"{one.model} on {one.benchmark}" for one in self.all_outcomes)
            raise ValueError(f"{self.folder} has several models or benchmarks: {where}; take one of all_outcomes")
        return self.all_outcomes[0]

    @property
    def table(self) -> pl.DataFrame:
        """A row for each trial, cheapest first: `#`, reducer, settings that vary, accuracy, error, count, cost, the rest.

        Columns are those of `summary.csv`.  FLOPs and tokens are means per question; a `_ratio` is a share of what
        `relative_to` names; accuracies are shares, their `_error` is a standard error clustered by video.
        """
        return self._frame(self.cost)

    def _frame(self, cost: str) -> pl.DataFrame:
        return table_frame(self._rows(cost), varied(self._trials, self._failed), cost)

    def _rows(self, cost: str) -> list[Summary]:
        rows = [row for one in self._along(cost) for row in cheapest_first(one.table, cost)]
        return [*rows, *(not_run(one.name, one.reducer, one.reason, number(folder)) for folder, one in self._failed)]

    @property
    def _trials(self) -> list[tuple[Path, TrialInfo]]:
        pairs = (pair for one in self.all_outcomes for pair in zip(one.folders, one.infos, strict=True))
        return [(folder, info) for folder, info in pairs if folder]

    @cached_property
    def _failed(self) -> list[tuple[Path, Infeasible]]:
        return [] if is_store(self.folder) else infeasible_folders(self.folder)

    def _along(self, cost: str) -> list[Outcomes]:
        """On another axis."""
        require_cost(cost)
        found = [replace(one, cost=cost, table=tuple(mark_front(one.table, cost))) for one in self.all_outcomes]
        if all(math.isnan(getattr(row, cost)) for one in found for row in one.table):
            raise ValueError(f"no trial has {cost}; it is measured where a sweep is run with engine.measure=true")
        return found

    def front(self, cost: str | None = None) -> Front:
        """The Pareto front of accuracy against a cost; raises ValueError for an unknown cost, or one that no trial has."""
        self._along(cost or self.cost)
        return Front(self, cost or self.cost)

    def plot(self, cost: str | None = None) -> Figure:
        """Accuracy against cost of all trials, with one standard error and the front; a panel per model and benchmark."""
        return self.front(cost).plot()

    def compare(self, trial: str, baseline: str) -> Comparison:
        """The paired difference in accuracy of two trials, which may be called by folders of other sweeps, too.

        Raises ValueError for what is no trial, or several, and if the two are one, or have no question in common.
        """
        columns = ("sample_id", "correct", *QUESTION)
        names, records = [], []
        folders = self._folder(trial), self._folder(baseline)
        require_two(folders)
        for folder in folders:
            info = self._info(folder)
            names.append(f"{numbered(number(folder), info.name)} on {info.benchmark}, {info.model}")
            records.append(reread(folder, columns))
        scores = accuracy(records[0]), accuracy(records[1])
        return Comparison(names[0], names[1], scores, paired(*records))

    def trial(self, name: str) -> Trial:
        """A trial with its `info`, settings included, and its `records`: a row for each question.

        Raises ValueError for what is no trial, or several.
        """
        folder = self._folder(name)
        if is_store(self.folder) and folder.parent.parent == self.folder:
            return Trial(self._info(folder), reread(folder, list(schema())), folder)
        return read_folder(folder)

    def _folder(self, name: str) -> Path:
        if (self.folder / RECORDS).is_file() and str(name) in (self.folder.name, self._info(self.folder).name):
            return self.folder
        return trial_called(str(name), self.folder, self.cost)

    def _info(self, folder: Path) -> TrialInfo:
        return next((info for at, info in self._trials if at == folder), None) or read_folder(folder, ("sample_id",)).info

    def verdict(self, margin: float = MARGIN) -> str:
        """What can be said of the trials, in words; `margin` is an accepted loss of accuracy (0.01: one point)."""
        from prunesweep.report.verdict import text, verdict

        return "\n\n".join(text(verdict(replace(one, margin=margin), with_importance=False)) for one in self.all_outcomes)

    def report(self, path: str | Path | None = None) -> Path:
        """Writes the interactive page, one file that opens without a network; returns its path.

        Without a path it is `report.html` in the sweep's folder; of a store, in the working folder.
        """
        from prunesweep.report.html import write_report

        place = Path(path).expanduser() if path else (Path() if is_store(self.folder) else self.folder) / REPORT
        write_report(self._along(self.cost), self.folder, place)
        return place

    @property
    def proposals(self) -> pl.DataFrame:
        """A row for each proposal of a search: its settings, objectives, outcome, and why it was not run.

        Raises ValueError if the sweep is no search.
        """
        import polars as pl

        if not (self.folder / SEARCH).is_file():
            raise ValueError(f"{self.folder} holds no {SEARCH}: it was no search, or has not ended")
        return pl.read_parquet(self.folder / SEARCH, glob=False)

    def __repr__(self) -> str:
        try:
            said = "; ".join(f"{count(len(one.table), 'trial')} of {one.model} on {one.benchmark}" for one in self.all_outcomes)
        except ValueError as error:
            said = str(error)
        return f"Sweep({from_here(self.folder)!r}: {said})"

    def _repr_html_(self) -> str:
        return self._html(self.cost, self._rows(self.cost))

    def text(self, everything: bool = False) -> str:
        """Its trials, a line each; on a terminal those of many that are chosen, and as wide as that, unless `everything`."""
        return on_stdout(self._rows(self.cost), varied(self._trials, self._failed), self.cost, self.folder, everything)

    def _html(self, cost: str, rows: Sequence[Summary]) -> str:
        return as_html(overview(rows, varied(self._trials, self._failed), cost))


@dataclass(frozen=True)
class Front:
    """A sweep's Pareto front on one axis: the trials that no other beats, cheaper or equal and at least as accurate."""

    sweep: Sweep
    cost: str

    @property
    def table(self) -> pl.DataFrame:
        """The rows of the sweep's table that are on the front, cheapest first."""
        whole = self.sweep._frame(self.cost)
        return whole.filter(whole["pareto"])

    def plot(self) -> Figure:
        """All trials with 95 % intervals, the front as steps; a panel for each model and benchmark."""
        from prunesweep.report.plots import pareto_figure, pareto_points

        found = self.sweep._along(self.cost)
        panels = {f"{one.model} on {one.benchmark}": pareto_points(one.table, self.cost) for one in found}
        drawn = {title: points for title, points in panels.items() if points.points}
        if not drawn:
            raise ValueError(f"no trial of {self.sweep.folder} has an accuracy to draw")
        return shown(pareto_figure(drawn))

    def __repr__(self) -> str:
        return f"Front({from_here(self.sweep.folder)!r}: {count(len(self.table), 'trial')} of accuracy against {self.cost})"

    def _repr_html_(self) -> str:
        return self.sweep._html(self.cost, [row for row in self.sweep._rows(self.cost) if row.pareto])


def read(folder: Path, cost: str | None = None) -> Sweep:
    """Raises ValueError if nothing can be read there."""
    found = Sweep(folder, cost or axis_of(folder))
    _ = found.all_outcomes
    return found


def axis_of(folder: Path) -> str:
    """The cost axis that a sweep was run with; the usual one where it does not say."""
    for name in (MULTIRUN, CONFIG):
        try:
            return str(read_yaml(folder / name)["analysis"]["cost"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return COST
