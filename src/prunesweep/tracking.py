"""Weights & Biases: one run per trial, one for the sweep.  Records stay the truth; nothing here is read back.

Works without account or network: offline unless `logger.mode` or WANDB_MODE says otherwise, and WANDB_MODE wins.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunesweep.analysis import Summary, task_accuracies
from prunesweep.records import Trial

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)


def attempt(report: Callable[..., None], *arguments: Any, **keywords: Any) -> None:
    """Report to W&B; whatever goes wrong there is told and does not stop the sweep, whose records are complete."""
    try:
        report(*arguments, **keywords)
    except Exception as error:
        log.warning("W&B: %s: %s (the records are not affected)", type(error).__name__, " ".join(str(error).split()))


def mode(logger: DictConfig) -> str:
    """online, offline or disabled."""
    return os.environ.get("WANDB_MODE") or logger.mode


def quiet() -> Any:
    """W&B settings: nothing on the terminal, nothing about this machine or its files in the run."""
    import wandb

    return wandb.Settings(
        silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True, x_disable_meta=True
    )


@contextmanager
def _started(logger: DictConfig, folder: Path, **settings: Any) -> Iterator[Any]:
    import wandb

    where: Any = {"dir": str(folder.absolute()), "mode": mode(logger)}
    run = wandb.init(project=logger.project, settings=quiet(), reinit="finish_previous", **where, **settings)
    try:
        yield run
    finally:
        run.finish()


def log_trial(config: DictConfig, trial: Trial, summary: Summary, group: str) -> None:
    """Settings, summary and accuracy by task of one trial."""
    with _started(config.logger, trial.folder, name=trial.info.name, group=group, job_type="trial", config=_public(trial)) as run:
        run.summary.update(asdict(summary))
        for task, scores in task_accuracies(trial.records).items():
            run.summary.update({f"task/{task}/{name}": value for name, value in scores._asdict().items()})


def _public(trial: Trial) -> dict[str, Any]:
    """Settings that say nothing about this machine: reducer, video and protocol, the names of model and benchmark."""
    return {**trial.info.settings, "model": trial.info.model, "benchmark": trial.info.benchmark}


def log_sweep(config: DictConfig, table: Sequence[Summary], sweep: Path, group: str) -> None:
    """The table of all trials, the Pareto chart as picture and as interactive plot, and the files as an artifact."""
    import wandb

    columns = list(asdict(table[0]))
    rows = wandb.Table(columns=columns, data=[list(asdict(row).values()) for row in table])
    with _started(config.logger, sweep, name="summary", group=group, job_type="summary") as run:
        run.log(
            {
                "trials": rows,
                "pareto": wandb.plot.scatter(rows, config.analysis.cost, "accuracy", title="Accuracy against cost"),
                "pareto_front": wandb.Image(str(sweep / "pareto.png")),
            }
        )
        run.summary.update({"trials": len(table), "on_front": sum(row.pareto for row in table)})
        artifact = wandb.Artifact(f"sweep-{group}", type="sweep")
        for name in ("summary.csv", "summary.parquet", "pareto.png"):
            artifact.add_file(str(sweep / name))
        run.log_artifact(artifact)
