"""The sweeper `search`: Optuna proposes batches of trials, the launcher evaluates each batch at once.

hydra:
  sweeper:
    trials: 40                                        # in all; running the same folder again goes on where it was
    batch: 4                                          # proposed and evaluated together, sharing what they have in common
    seed: 0
    objectives: {accuracy: maximize, llm_flops_ratio: minimize}
    space:
      reducer.prune.layer: range(1, 7)                # whole numbers, the end excluded as everywhere in Hydra
      reducer.prune.keep_ratio: interval(0.1, 0.8)    # real numbers; tag(log, interval(...)) for a log scale
      reducer.merge.positions: choice(renumbered, original)
    fixed: {reducer.merge.segment_ratio: 0.5}         # in every proposed trial
    first: [{reducer.prune.keep_ratio: 0.4}]          # settings to try before anything is proposed
    baselines: {dense: {reducer: none}}               # evaluated before everything else
    constraints: [accuracy >= dense - 0.01, llm_flops_ratio <= 0.25]
    ceiling: dense + 0.02                             # the best accuracy that is thought possible; 1 without it
    warm_start: [multirun/2030-01-31/12-00-00]        # sweeps on the same model and benchmark
    storage: null                                     # a journal in the sweep's folder, or a database URL of Optuna's
    study: prunesweep

The sampler is one of conf/sampler/.  Evaluation itself, with or without a race, is the launcher's; see prunesweep.search.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

if TYPE_CHECKING:
    from prunesweep.search.loop import Job

STORAGE = "hydra.sweeper.storage"


@dataclass
class SearchSweeperConf:
    _target_: str = "hydra_plugins.prunesweep.search.SearchSweeper"
    _convert_: str = "all"
    trials: int = 40
    batch: int = 4
    seed: int = 0
    objectives: dict[str, str] = field(default_factory=lambda: {"accuracy": "maximize", "llm_flops_ratio": "minimize"})
    space: dict[str, str] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    first: list[dict[str, Any]] = field(default_factory=list)
    baselines: dict[str, Any] = field(default_factory=dict)
    constraints: list[str] = field(default_factory=list)
    ceiling: str | None = None
    warm_start: list[str] = field(default_factory=list)
    sampler: Any = None
    storage: str | None = None
    study: str = "prunesweep"


ConfigStore.instance().store(group="hydra/sweeper", name="search", node=SearchSweeperConf, provider="prunesweep")


class SearchSweeper(Sweeper):
    """Hydra's side of `prunesweep.search`: parses overrides, composes configurations, launches batches."""

    def __init__(self, **settings: Any):
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.config = config
        self.launching = 0.0
        self._hide_storage()
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def _hide_storage(self) -> None:
        """The address may hold a password: what Hydra writes down from here on names the kind of database only."""
        if self.settings["storage"] is None:
            return
        from prunesweep.search.study import backend

        kind = backend(self.settings["storage"])
        with open_dict(self.config):
            self.config.hydra.sweeper.storage = kind
            given = [o for o in self.config.hydra.overrides.hydra if not o.lstrip("+").startswith(f"{STORAGE}=")]
            self.config.hydra.overrides.hydra = [*given, f"{STORAGE}={kind}"]

    def sweep(self, arguments: list[str]) -> None:
        from prunesweep.results.timing import add_timing
        from prunesweep.search.loop import Plan, Search
        from prunesweep.search.report import report
        from prunesweep.search.space import parse_space
        from prunesweep.sweep.kept import Kept

        begin = time.perf_counter()
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        for override in parser.parse_overrides(list(arguments)):
            if override.is_sweep_override():
                raise ValueError(f"{override.get_key_element()} is swept on the command line; put it into hydra.sweeper.space")
        if not self.settings["space"]:
            raise ValueError("hydra.sweeper.space is empty; give at least one key, such as reducer.prune.layer: range(1, 7)")
        plan = Plan(**self.settings, distributions=parse_space(self.settings["space"], parser))
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        self.launcher.kept = Kept()
        trials = Search(plan, folder, arguments, self).run()
        self.launcher.kept = None
        print(report(plan, trials, folder))
        if self.launching:
            add_timing(folder, [], 0.0, {"search": time.perf_counter() - begin - self.launching})

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        config: DictConfig = self.hydra_context.config_loader.job(self.config, list(overrides))
        return config

    def launch(self, jobs: "Sequence[Job]") -> None:
        """The launcher composes all jobs before it runs any, so they need not be validated."""
        batch = [[*job.overrides, f"hydra.sweep.subdir='{job.folder}'"] for job in jobs]
        numbered = [int(job.folder) for job in jobs if job.folder.isdigit()]
        begin = time.perf_counter()
        results = self.launcher.launch(batch, initial_job_idx=min(numbered, default=0))
        self.launching += time.perf_counter() - begin
        for result in results:
            _ = result.return_value  # raises what a job raised
