"""The `prunesweep` command: one evaluation, a multirun, or a named sweep."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import env_override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from prunesweep.paths import CONF, DATA

STARTED = time.time()  # imports are part of what a run takes
WANTS_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1"
OmegaConf.register_new_resolver("package_data", lambda name: str(DATA / name), replace=True)


@hydra.main(config_path=str(CONF), config_name="eval", version_base="1.3")
def run(config: DictConfig) -> None:
    """One evaluation; a multirun's launcher evaluates its whole batch instead of calling this job by job."""
    from prunesweep.sweep import run_single

    settings = HydraConfig.get()
    with reported():
        run_single(config, Path(settings.runtime.output_dir), list(settings.overrides.task), STARTED)


def main() -> None:
    run_hydra(run)


def run_hydra(command: Callable[[], None]) -> None:
    """Runs a Hydra command; Hydra is told to raise to us instead of printing a report of its own."""
    with reported(), env_override({"HYDRA_FULL_ERROR": "1"}):
        command()


@contextmanager
def reported() -> Iterator[None]:
    """Turns any exception into one line and exit code 1; with HYDRA_FULL_ERROR=1 the traceback is shown."""
    try:
        yield
    except Exception as error:
        if WANTS_TRACEBACK:
            raise
        sys.exit(f"prunesweep: {one_line(error)}")
    except KeyboardInterrupt:
        sys.exit("prunesweep: interrupted")


def one_line(error: Exception) -> str:
    """What went wrong and the way out, on one line."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return f"unknown {group} {name!r}; known: {', '.join(error.options)}"
    if isinstance(error, MissingConfigException):
        return str(error).splitlines()[0]
    if unknown := re.search(r"Could not override '(\S+)'", str(error)):
        return f"no key {unknown[1]!r} with these choices of groups; prunesweep --cfg job shows all keys"
    if isinstance(error, HydraException) and isinstance(error.__cause__, (ValueError, TypeError)):
        key = str(error).rpartition("full_key: ")[2].strip() if "full_key: " in str(error) else ""
        return f"{key}: {' '.join(str(error.__cause__).split())}" if key else " ".join(str(error.__cause__).split())
    if missing := re.search(r"Missing mandatory value: (\S+)", str(error)):
        return f"{missing[1]} must be given: {missing[1]}=..."
    if isinstance(error, (HydraException, OmegaConfBaseException, ValueError)):
        return " ".join(str(error).split())
    return f"unexpected {type(error).__name__}: {' '.join(str(error).split())}; HYDRA_FULL_ERROR=1 shows where"


if __name__ == "__main__":
    main()
