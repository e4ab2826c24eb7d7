"""The sweeper `grids`: several grids side by side in one batch, so that methods with different settings share work.

hydra:
  sweeper:
    grids:
      - {reducer: prunevid, reducer.prune.layer: "2,4", reducer.prune.keep_ratio: "0.2,0.4"}
      - {reducer: random, reducer.merge.keep_ratio: "0.1,0.2,0.4"}
      - {reducer: none}
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


@dataclass
class GridsSweeperConf:
    _target_: str = "hydra_plugins.prunesweep.grids.GridsSweeper"
    _convert_: str = "all"
    grids: list[dict[str, Any]] = field(default_factory=list)


ConfigStore.instance().store(group="hydra/sweeper", name="grids", node=GridsSweeperConf, provider="prunesweep")


class GridsSweeper(Sweeper):
    """The union of grids; overrides on the command line apply to every grid.

    Interpolations in a grid's values are each job's own: `"${paper_layer:5}"` depends on the job's model.
    """

    def __init__(self, grids: list[dict[str, Any]]):
        self.grids: Any = grids

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.config = config
        self.grids = OmegaConf.to_container(config.hydra.sweeper.grids, resolve=False)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Raises ValueError without grids.

        Hydra's `validate_batch_is_legal` would compose every job once more: the launcher composes all before it runs any.
        """
        if not self.grids:
            raise ValueError("hydra.sweeper.grids is empty; list at least one grid, such as {reducer: none}")
        batch = [job for grid in self.grids for job in self._jobs(grid, arguments)]
        sweep = Path(self.config.hydra.sweep.dir)
        sweep.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, sweep / "multirun.yaml")
        returns = self.launcher.launch(batch, initial_job_idx=0)
        return [[result for result in returns if result.return_value is not None]]  # reading a failed job's value raises

    def _jobs(self, grid: dict[str, Any], arguments: Sequence[str]) -> list[list[str]]:
        from prunesweep.sweep.schema import require_whole_paths

        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        own = [f"{key}={'null' if value is None else value}" for key, value in grid.items()]
        require_whole_paths(own)
        overrides = parser.parse_overrides([*own, *arguments])
        (jobs,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
        return jobs
