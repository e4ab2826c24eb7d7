"""Results from before this search: trials of sweeps and records of stores, if they answer the same samples by the same model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from prunesweep.benchmarks import Part
from prunesweep.console.layout import visible
from prunesweep.models.checkpoints import located
from prunesweep.results.keys import former
from prunesweep.results.keys.fingerprint import Files, digest, of_model, of_samples
from prunesweep.results.read import read_folder
from prunesweep.results.records import Trial, TrialInfo, read_shape, trial_folders
from prunesweep.results.store import FORMAT, Store, StoredTrial
from prunesweep.targets import instantiate

if TYPE_CHECKING:
    import polars as pl

Inside = Callable[[Mapping[str, Any]], dict[str, Any] | None]
"""A trial's settings as parameters, or None if they do not lie in the space."""
SHOWN = 8
"""Digits of a fingerprint that tell a trial from others on paper."""


@dataclass(frozen=True)
class Task:
    """What a search's trials answer, and by which model."""

    model: str
    benchmark: str
    load: Mapping[str, Any]
    """`model.load`, with a hub checkpoint as the folder of its download."""
    loaded: Mapping[str, Any]
    """The same as fingerprints."""
    samples_key: str
    sample_keys: frozenset[str]

    @property
    def model_key(self) -> str:
        return digest(self.loaded)

    @cached_property
    def former_model_key(self) -> str:
        """As format 1 had it."""
        return digest(former.of_model(self.load, Files()))

    def is_model(self, key: str) -> bool:
        return key == self.model_key or key == self.former_model_key


def task_of(base: DictConfig) -> Task:
    """Reads the benchmark and the model's files, not the model."""
    files = Files(Store.open(Path(base.store.folder)).files if base.store.folder else None)
    load = located(OmegaConf.to_container(base.model.load, resolve=True))  # type: ignore[arg-type]
    part = instantiate(base.questions) if "questions" in base else Part()  # searches begun before there were parts
    asked = part(instantiate(base.benchmark.load))
    samples = of_samples(asked, files).values()
    loaded = of_model(load, files)
    files.remember()
    return Task(base.model.name, base.benchmark.name, load, loaded, digest(sorted(samples)), frozenset(samples))


def earlier(folder: Path, task: Task, inside: Inside) -> Iterator[tuple[str, Trial]]:
    """Complete trials of a sweep or a store, with a name each; raises ValueError if the folder is about something else."""
    return _of_store(Store.existing(folder), task, inside) if (folder / FORMAT).exists() else _of_sweep(folder, task)


def _of_sweep(folder: Path, task: Task) -> Iterator[tuple[str, Trial]]:
    trials = [read_folder(trial) for trial in trial_folders(folder)]
    if not trials:
        raise ValueError(f"hydra.sweeper.warm_start: {folder} holds no trials; name the folder of a sweep or of a store")
    for trial in trials:
        _require_same(trial.info, task, folder)
    return ((f"{folder.name}/{trial.folder.name}", trial) for trial in trials if trial.info.stopped is None)


def _require_same(info: TrialInfo, task: Task, folder: Path) -> None:
    if (info.model, info.benchmark) != (task.model, task.benchmark):
        about = f"{info.model} on {info.benchmark}, this search about {task.model} on {task.benchmark}"
        raise ValueError(f"hydra.sweeper.warm_start: {folder} is about {about}")
    if not task.is_model(info.model_key):
        raise ValueError(f"hydra.sweeper.warm_start: {folder} used other weights or settings of {task.model} than this search")
    if info.samples_key != task.samples_key:
        raise ValueError(
            f"hydra.sweeper.warm_start: {folder} answered other samples than the {len(task.sample_keys)} of this search; "
            "choose the same benchmark and benchmark.limit"
        )


def _of_store(store: Store, task: Task, inside: Inside) -> Iterator[tuple[str, Trial]]:
    same = [trial for trial in store.trials() if task.is_model(digest(trial.made_of.get("model")))]
    if not same:
        raise ValueError(f"hydra.sweeper.warm_start: the store {store.folder} has no trial of this model with these weights")
    fit = [trial for trial in same if _has_settings(trial.about) and inside(trial.about["settings"]) is not None]
    records = store.records([trial.key for trial in fit])
    return _whole(fit, records, store.folder, task)


def _has_settings(about: Mapping[str, Any]) -> bool:
    """Whether a store's description, which somebody else may have written, says all that a trial of a search needs."""
    try:
        read_shape(about["shape"])
        return isinstance(about["settings"], dict) and isinstance(about["settings"]["reducer"], dict) and "reducer" in about
    except (KeyError, TypeError, ValueError):
        return False


def _whole(stored: list[StoredTrial], records: pl.DataFrame, folder: Path, task: Task) -> Iterator[tuple[str, Trial]]:
    import polars as pl

    ours = records.filter(pl.col("sample_key").is_in(list(task.sample_keys)))
    by_key = {key: part for (key,), part in ours.group_by("key", maintain_order=True)}
    for trial in stored:
        part = by_key.get(trial.key)
        if part is not None and len(part) == len(task.sample_keys):
            about = trial.about
            names = (trial.key[:SHOWN], visible(str(about["reducer"])), task.model, task.benchmark)
            info = TrialInfo(*names, (), about["settings"], read_shape(about["shape"]), trial.key)
            yield f"store/{trial.key[:SHOWN]}", Trial(info, part, folder)
