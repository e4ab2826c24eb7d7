"""Launchers: a whole batch of jobs is evaluated once, then Hydra delivers each job its result.

`shared` evaluates it here; `joblib`, `ray`, `submitit_local` and `submitit_slurm` (see conf/hydra/launcher/) spread the
batch's videos over jobs elsewhere, each with all trials, so that these share their work there too.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

if TYPE_CHECKING:
    from prunesweep.results.infeasible import Infeasible
    from prunesweep.sweep.batch import Finished, Spread
    from prunesweep.sweep.kept import Kept


@dataclass
class SharedLauncherConf:
    _target_: str = "hydra_plugins.prunesweep.launcher.SharedLauncher"


ConfigStore.instance().store(group="hydra/launcher", name="shared", node=SharedLauncherConf, provider="prunesweep")


class SharedLauncher(Launcher):
    """Composes every job's configuration, evaluates them together, and ends each job as Hydra does."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from prunesweep.sweep.jobs import Composer

        hydra_context.config_loader = Composer(hydra_context.config_loader)  # the sweeper composes by it, too
        self.hydra_context = hydra_context
        self.config = config
        self.kept: Kept | None = None

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        began = time.perf_counter()
        from prunesweep.console.waiting import doing
        from prunesweep.results.timing import add_timing
        from prunesweep.sweep.batch import Finished
        from prunesweep.sweep.configs import evaluate_configs

        imported = time.perf_counter()
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        sweep = Path(self.config.hydra.sweep.dir)
        sweep.mkdir(parents=True, exist_ok=True)
        with doing(f"composing {len(job_overrides)} trials"):
            configs = [self._compose(overrides, initial_job_idx + i) for i, overrides in enumerate(job_overrides)]
        tasks = [list(config.hydra.overrides.task) for config in configs]
        composed = time.perf_counter()
        with doing("evaluating"):
            finished = evaluate_configs(configs, tasks, self._spread(), self.kept)
        evaluated = time.perf_counter()
        with doing("writing the trials' folders"):
            returns = [self._deliver(config, result) for config, result in zip(configs, finished, strict=True)]
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        timings = [result.timing for result in finished if isinstance(result, Finished)]
        around = {"start": imported - began, "compose": composed - imported, "records": time.perf_counter() - evaluated}
        add_timing(sweep, timings, evaluated - composed, around)
        return returns

    def _spread(self) -> "Spread | None":
        """How work is spread over others; here it is not."""
        return None

    def _compose(self, overrides: Sequence[str], number: int) -> DictConfig:
        config = self.hydra_context.config_loader.job(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = str(number)
            config.hydra.job.num = number
        return config

    def _deliver(self, config: DictConfig, finished: "Finished | Infeasible") -> JobReturn:
        from prunesweep.sweep.delivery import deliver
        from prunesweep.sweep.jobs import end_job

        return end_job(self.hydra_context, config, lambda folder, task: deliver(finished, folder, task))


class SpreadLauncher(SharedLauncher):
    """As `shared`, but what the store lacks is evaluated by the jobs of a pool."""

    def __init__(self, pool: str, **settings: Any):
        self.pool, self.settings = pool, settings

    def _spread(self) -> "Spread":
        from functools import partial

        from prunesweep.sweep.executors import make_pool
        from prunesweep.sweep.remote import spread

        return partial(spread, make_pool(self.pool, self.settings))
