"""The sweeper `search`: Optuna proposes batches of trials, the launcher evaluates each batch at once.

hydra:
  sweeper:
    trials: 40
    objectives: {accuracy: maximize, llm_flops_ratio: minimize}
    space:
      reducer.prune.layer: range(1, 7)                # whole numbers, the end excluded as everywhere in Hydra
      reducer.prune.keep_ratio: interval(0.1, 0.8)    # real numbers; tag(log, interval(...)) for a log scale
      reducer.merge.positions: choice(renumbered, original)
    first: [{reducer.prune.keep_ratio: 0.4}]          # settings to try before anything is proposed
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    import optuna

STUDY = "study.journal"
DIRECTIONS = ("maximize", "minimize")


@dataclass
class SearchSweeperConf:
    _target_: str = "hydra_plugins.prunesweep.search.SearchSweeper"
    _convert_: str = "all"
    trials: int = 40
    batch: int = 4
    seed: int = 0
    objectives: dict[str, str] = field(default_factory=lambda: {"accuracy": "maximize", "llm_flops_ratio": "minimize"})
    space: dict[str, str] = field(default_factory=dict)
    first: list[dict[str, Any]] = field(default_factory=list)


ConfigStore.instance().store(group="hydra/sweeper", name="search", node=SearchSweeperConf, provider="prunesweep")


class SearchSweeper(Sweeper):
    """Multi-objective TPE over any keys of the configuration, with a journal file in the sweep's folder."""

    def __init__(
        self, trials: int, batch: int, seed: int, objectives: dict[str, str], space: dict[str, str], first: list[dict[str, Any]]
    ):
        if trials < 1 or batch < 1:
            raise ValueError(f"hydra.sweeper.trials and .batch must be at least 1, got {trials} and {batch}")
        if not space:
            raise ValueError("hydra.sweeper.space is empty; give at least one key, such as reducer.prune.layer: range(1, 7)")
        for name, direction in objectives.items():
            if direction not in DIRECTIONS:
                raise ValueError(f"hydra.sweeper.objectives.{name} must be one of {', '.join(DIRECTIONS)}, got {direction!r}")
        self.trials, self.batch, self.seed = trials, batch, seed
        self.objectives, self.space, self.first = dict(objectives), dict(space), list(first)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        self._require_known()
        suggesters = self._suggesters(arguments)
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        study = self._study(folder)
        done = 0
        while done < self.trials:
            asked = [study.ask() for _ in range(min(self.batch, self.trials - done))]
            jobs = [[*arguments, *(f"{key}={suggest(trial)}" for key, suggest in suggesters.items())] for trial in asked]
            self.validate_batch_is_legal(jobs)
            for trial, result in zip(asked, self.launcher.launch(jobs, initial_job_idx=done), strict=True):
                self._tell(study, trial, result.return_value)
            done += len(jobs)

    def _require_known(self) -> None:
        from prunesweep.analysis import OBJECTIVES

        for name in self.objectives:
            if name not in OBJECTIVES:
                raise ValueError(f"unknown objective {name!r} in hydra.sweeper.objectives; known: {', '.join(OBJECTIVES)}")
        for key in (key for settings in self.first for key in settings):
            if key not in self.space:
                raise ValueError(f"hydra.sweeper.first has {key!r}, which is not in hydra.sweeper.space")

    def _suggesters(self, arguments: Sequence[str]) -> dict[str, Callable[["optuna.Trial"], Any]]:
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        for override in parser.parse_overrides(list(arguments)):
            if override.is_sweep_override():
                raise ValueError(f"{override.get_key_element()} is swept on the command line; put it into hydra.sweeper.space")
        parsed = parser.parse_overrides([f"{key}={value}" for key, value in self.space.items()])
        return {override.get_key_element(): _suggester(override) for override in parsed}

    def _study(self, folder: Path) -> "optuna.Study":
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():  # Optuna marks the multivariate sampler and names of objectives as experimental
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study = optuna.create_study(
                storage=JournalStorage(JournalFileBackend(str(folder / STUDY))),
                sampler=optuna.samplers.TPESampler(seed=self.seed, multivariate=True),
                directions=list(self.objectives.values()),
                study_name="prunesweep",
            )
            study.set_metric_names(list(self.objectives))
        for settings in self.first:
            study.enqueue_trial(settings)
        return study

    def _tell(self, study: "optuna.Study", trial: "optuna.Trial", numbers: dict[str, float]) -> None:
        import optuna

        values = [numbers[name] for name in self.objectives]
        if any(math.isnan(value) for value in values):
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, values)


def _suggester(override: Override) -> Callable[["optuna.Trial"], Any]:
    """How to ask Optuna for a value of one key."""
    key, value = override.get_key_element(), override.value()
    log_scale = "log" in getattr(value, "tags", ())
    if isinstance(value, IntervalSweep):
        return lambda trial: trial.suggest_float(key, value.start, value.end, log=log_scale)
    if isinstance(value, RangeSweep) and all(isinstance(edge, int) for edge in (value.start, value.stop, value.step)):
        return lambda trial: trial.suggest_int(key, value.start, value.stop - 1, step=value.step)
    if isinstance(value, (ChoiceSweep, RangeSweep)):
        choices = list(override.sweep_string_iterator())
        return lambda trial: trial.suggest_categorical(key, choices)
    raise ValueError(f"hydra.sweeper.space.{key} must be interval(...), range(...) or choice(...), got {override.input_line}")
