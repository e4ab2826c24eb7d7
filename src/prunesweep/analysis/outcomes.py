"""What all trials of a sweep answered, as one matrix: the input of every statistic.  No model, no GPU.

Records are read trial by trial and only the matrix stays, so millions of them fit: a byte per trial and sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prunesweep.analysis.axis import on_one_axis
from prunesweep.analysis.costs import require_cost
from prunesweep.analysis.free import scored_exactly
from prunesweep.analysis.margins import require_margin
from prunesweep.analysis.summary import Summary
from prunesweep.analysis.table import mark_front, summarize
from prunesweep.checks import MARGIN
from prunesweep.results.pending import unfinished
from prunesweep.results.read import is_store, read_folder, read_source, unreadable
from prunesweep.results.records import RECORDS, USAGE, Trial, TrialInfo, trial_folders

if TYPE_CHECKING:
    import polars as pl
    from jaxtyping import Bool, Int, Int8

COLUMNS = (
    "sample_id",
    "video_id",
    "task",
    "target",
    "correct",
    "error",
    "named",
    "prediction",
    *USAGE,
)
"""Of the records: all that statistics need."""
READERS = 2
"""Trials read at a time."""
RIGHT, WRONG, UNANSWERED = 1, 0, -1


class ByVideo(NamedTuple):
    """Right answers and answers of each trial on each video."""

    right: Int[np.ndarray, "trials videos"]
    answers: Int[np.ndarray, "trials videos"]


@dataclass(frozen=True)
class Outcomes:
    """All trials of one model and benchmark, in the order of the sweep; samples are sorted by video, then by id."""

    model: str
    benchmark: str
    infos: tuple[TrialInfo, ...]
    folders: tuple[Path | None, ...]
    table: tuple[Summary, ...]
    """One row per trial, Pareto-optimal ones marked."""
    cost: str
    """The axis of the front."""
    margin: float
    """A loss of accuracy that is accepted."""
    samples: tuple[str, ...]
    tasks: tuple[str, ...]
    """Of each sample."""
    video: Int[np.ndarray, " samples"]
    """Ascending indices."""
    correct: Int8[np.ndarray, "trials samples"]
    """RIGHT, WRONG or UNANSWERED."""

    @property
    def relative_to(self) -> str:
        """What all relative costs are shares of."""
        return self.table[0].relative_to if self.table else ""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(row.trial for row in self.table)

    @property
    def videos(self) -> int:
        return int(self.video[-1]) + 1 if len(self.video) else 0

    @property
    def answered_videos(self) -> int:
        """Those of which some trial answered a question; `videos` are those asked about."""
        return int((self.by_video.answers > 0).any(0).sum())

    @property
    def answered(self) -> Bool[np.ndarray, "trials samples"]:
        return self.correct != UNANSWERED

    @cached_property
    def costs(self) -> np.ndarray:
        """Of each trial on the chosen axis."""
        return np.array([getattr(row, self.cost) for row in self.table])

    @cached_property
    def by_video(self) -> ByVideo:
        return ByVideo(self.per_video(self.correct == RIGHT), self.per_video(self.answered))

    def per_video(self, values: np.ndarray) -> Int[np.ndarray, "trials videos"]:
        """Sums of a `trials samples` array over each video's samples."""
        starts = np.searchsorted(self.video, np.arange(self.videos))
        return np.add.reduceat(values, starts, axis=1, dtype=np.int32) if self.videos else np.zeros((len(values), 0), np.int32)

    def of_task(self, task: str) -> Outcomes:
        """The same trials on one task's samples; the table, costs included, stays that of all samples."""
        return self.where(np.array(self.tasks) == task)

    def where(self, chosen: Bool[np.ndarray, " samples"]) -> Outcomes:
        """The same trials on some of the samples."""
        index = np.flatnonzero(chosen)
        _, video = np.unique(self.video[index], return_inverse=True)
        samples, tasks = (tuple(names[i] for i in index) for names in (self.samples, self.tasks))
        return replace(self, samples=samples, tasks=tasks, video=video, correct=self.correct[:, index])

    def trials(self, chosen: Sequence[int]) -> Outcomes:
        """Some of the trials, on all samples."""
        infos, table = tuple(self.infos[i] for i in chosen), tuple(self.table[i] for i in chosen)
        folders = tuple(self.folders[i] for i in chosen)
        return replace(self, infos=infos, folders=folders, table=table, correct=self.correct[list(chosen)])


class Finding(NamedTuple):
    """What is kept of one trial."""

    info: TrialInfo
    folder: Path | None
    summary: Summary
    samples: pl.DataFrame
    """sample_id, video_id, task, target."""
    correct: Int8[np.ndarray, " samples"]


def find(trial: Trial, summary: Summary | None = None) -> Finding:
    """With the trial's own summary, if it is there already; raises ValueError if the records lack what numbers need."""
    import polars as pl

    try:
        correct = trial.records["correct"].cast(pl.Int8).fill_null(UNANSWERED).to_numpy()
        samples = trial.records.select("sample_id", "video_id", "task", "target")
        return Finding(trial.info, trial.folder, summary or summarize(trial), samples, correct)
    except (pl.exceptions.PolarsError, KeyError, TypeError, ValueError) as error:
        raise unreadable(trial.folder or Path(trial.info.name), error) from error


def read_findings(source: Path, exact: bool = False) -> Iterator[Finding]:
    """The findings of all trials of a sweep's folder or of a store; `exact`: free answers are right word by word.

    Raises ValueError as `read_source`.
    """
    found = find_exact if exact else find
    if is_store(source) or not source.is_dir():
        yield from map(found, read_source(source, COLUMNS))
        return
    with ThreadPoolExecutor(READERS) as readers:
        yield from readers.map(lambda folder: found(read_folder(folder, COLUMNS)), trial_folders(source))


def find_exact(trial: Trial) -> Finding:
    return find(trial._replace(records=scored_exactly(trial.records)))


@dataclass
class _Group:
    """The findings of one model and benchmark, gathered."""

    infos: list[TrialInfo] = field(default_factory=list)
    folders: list[Path | None] = field(default_factory=list)
    table: list[Summary] = field(default_factory=list)
    rows: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    """Per trial: places of its samples, and its outcomes."""
    index: dict[str, int] = field(default_factory=dict)
    described: list[tuple[str, str, str]] = field(default_factory=list)
    """Video, task and target of each sample."""
    last: Any = None
    places: Any = None

    def add(self, found: Finding) -> None:
        if self.last is None or not self.last.equals(found.samples):
            self.places, self.last = self._places(found), found.samples
        self.infos.append(found.info)
        self.folders.append(found.folder)
        self.table.append(found.summary)
        self.rows.append((self.places, found.correct))

    def _places(self, found: Finding) -> np.ndarray:
        """Raises ValueError if two different questions have one id: they are no pair, and their answers not one trial's."""
        samples = found.samples
        for sample, *described in samples.iter_rows():
            place = self.index.setdefault(sample, len(self.described))
            if place == len(self.described):
                self.described.append(tuple(described))
            elif self.described[place] != tuple(described):
                raise ValueError(_two_called(sample, found.info))
        places = np.array([self.index[sample] for sample in samples["sample_id"]], dtype=np.int64)
        if len(np.unique(places)) < len(places):
            raise ValueError(_two_called(samples.filter(samples["sample_id"].is_duplicated())["sample_id"][0], found.info))
        return places

    def matrix(self) -> np.ndarray:
        correct = np.full((len(self.rows), len(self.described)), UNANSWERED, dtype=np.int8)
        for row, (places, values) in zip(correct, self.rows, strict=True):
            row[places] = values
        return correct


def _two_called(sample: str, info: TrialInfo) -> str:
    return (
        f"two different questions of {info.benchmark} are called {sample}; read their sweeps one by one, or run them with names "
        "that tell the benchmarks apart: benchmark.name=..."
    )


def gather(findings: Iterable[Finding], cost: str = "llm_flops_ratio", margin: float = MARGIN) -> list[Outcomes]:
    """One Outcomes per model and benchmark.

    Raises ValueError if `cost` is not one of COSTS or known of no trial, `margin` is no share, or two questions of a
    benchmark have the same id.
    """
    require_cost(cost)
    require_margin(margin)
    groups: dict[tuple[str, str], _Group] = {}
    for found in findings:
        groups.setdefault((found.info.model, found.info.benchmark), _Group()).add(found)
    return [_outcomes(*setting, group, cost, margin) for setting, group in groups.items()]


def _require_known(table: Sequence[Summary], cost: str) -> None:
    costs = np.array([getattr(row, cost) for row in table if row.samples])
    if len(costs) and np.isnan(costs).all():
        raise ValueError(f"no trial has {cost}; it is measured where a sweep is run with engine.measure=true")


def _outcomes(model: str, benchmark: str, group: _Group, cost: str, margin: float) -> Outcomes:
    _require_known(group.table, cost)
    ids = list(group.index)
    order = sorted(range(len(ids)), key=lambda i: (group.described[i][0], ids[i]))
    _, video = np.unique([group.described[i][0] for i in order], return_inverse=True)
    return Outcomes(
        model=model,
        benchmark=benchmark,
        infos=tuple(group.infos),
        folders=tuple(group.folders),
        table=tuple(mark_front(on_one_axis(group.infos, group.table, group.folders), cost)),
        cost=cost,
        margin=margin,
        samples=tuple(ids[i] for i in order),
        tasks=tuple(group.described[i][1] for i in order),
        video=video,
        correct=group.matrix()[:, order],
    )


def collect(trials: Iterable[Trial], cost: str = "llm_flops_ratio", margin: float = MARGIN) -> list[Outcomes]:
    """Of trials that have been read."""
    return gather(map(find, trials), cost, margin)


def read_outcomes(source: Path, cost: str = "llm_flops_ratio", margin: float = MARGIN, exact: bool = False) -> list[Outcomes]:
    """Of the findings of a sweep's folder or a store.

    Raises ValueError if there is no finished trial in it, or one that cannot be read.
    """
    found = gather(read_findings(source, exact), cost, margin)
    if not found and (source / RECORDS).is_file():
        raise ValueError(f"{source} is one trial; name its sweep's folder, {source.parent}")
    if not found:
        none = f"{source} holds no finished trial; name the folder of a sweep, such as multirun/DATE/TIME, or a store"
        raise ValueError(unfinished(source) or none)
    return found
