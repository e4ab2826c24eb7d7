"""The `prunesweep` command: one evaluation, a multirun, or a named sweep."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import env_override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from prunesweep import errors
from prunesweep.cli.mistyped import no_option
from prunesweep.console.meant import closest, unknown
from prunesweep.paths import CONF, expand_home, typed
from prunesweep.sweep import functions  # noqa: F401, conf/ calls them
from prunesweep.sweep.schema import require_choices, require_known_keys, require_whole_paths
from prunesweep.sweep.slips import (
    GROUPS,
    no_such_configuration,
    no_such_key,
    not_a_value,
    not_overridden,
    parted_at_commas,
    unknown_setting,
    unreadable,
)

NOT_WRITABLE = {
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some of your quota and run the same command again",
    errno.EROFS: "choose a folder that can be written with hydra.run.dir, hydra.sweep.dir and store.folder",
    errno.EACCES: "choose a folder that can be written with hydra.run.dir, hydra.sweep.dir and store.folder",
    errno.EPERM: "choose a folder that can be written with hydra.run.dir, hydra.sweep.dir and store.folder",
}
"""What to do about an error of the file system."""
PARTED = re.compile(
    r"(?:Ambiguous value for argument|Sweeping over Hydra's configuration is not supported :) '(.+)'$", re.MULTILINE
)
"""What Hydra says of several values where it takes one."""
SEARCHED = re.compile(r"path=file://(.+)")
"""Folders that Hydra says it has looked in."""
UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")
STARTED = time.time()  # imports are part of what a run takes


@hydra.main(config_path=str(CONF), config_name="eval", version_base="1.3")
def run(config: DictConfig) -> None:
    """One evaluation; a multirun's launcher evaluates its whole batch instead of calling this job by job."""
    settings = HydraConfig.get()
    with reported():
        expand_home(config)
        require_known_keys(config, settings)
        _run_single(config, Path(settings.runtime.output_dir), list(settings.overrides.task))


def _run_single(config: DictConfig, folder: Path, overrides: Sequence[str]) -> None:
    """Evaluate one configuration, write its folder, print its numbers."""
    from prunesweep.checks import InfeasibleError
    from prunesweep.report.summary import summarize_run
    from prunesweep.results.infeasible import Infeasible
    from prunesweep.sweep.configs import evaluate_configs
    from prunesweep.sweep.delivery import deliver

    begin = time.time()
    (finished,) = evaluate_configs([config], [overrides])
    if isinstance(finished, Infeasible):
        raise InfeasibleError(finished.reason)
    evaluated = time.time()
    deliver(finished, folder, config)
    timing = finished.timing.besides("plan", evaluated - begin - finished.timing.total).besides("start", begin - STARTED)
    summarize_run(folder, timing.besides("records", time.time() - evaluated), STARTED, config.store.folder)


def main() -> None:
    with reported():
        require_one_process()
    signal.signal(signal.SIGTERM, _interrupt)  # as Ctrl-C, also where Lightning has its own handler
    run_hydra(run)


STARTED_RANKS = {
    "torchrun": ("WORLD_SIZE", "LOCAL_RANK"),
    "srun": ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
    "mpirun": ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    "mpiexec": ("PMI_SIZE", "PMI_RANK"),
}
"""Programs that start the command several times, with the variables that say how often and which one it is."""


def require_one_process() -> None:
    """Raises ValueError where a program has started this command once per rank: each would run a sweep of its own."""
    at_hand = _interactive_step()
    for program, (count, rank) in STARTED_RANKS.items():
        if os.environ.get(count, "") in ("", "1") or rank not in os.environ or program in at_hand:
            continue
        raise ValueError(
            f"{program} has started this command once per process, and each would run the whole sweep; "
            "start it once with trainer.devices=N, which spawns its ranks, or with hydra/launcher=submitit_slurm "
            f"(if nothing did, the variables are left over: unset {count} {rank})"
        )


def _interactive_step() -> tuple[str, ...]:
    """Programs whose variables say nothing in a shell of `srun --pty`: its first task is at the terminal, where it starts a
    command once; the step's other tasks have none, and what Slurm tells MPI is the step's."""
    own = os.environ
    if "SLURM_PTY_PORT" not in own or own.get("SLURM_PROCID") != "0":
        return ()
    by_slurm = (own.get("PMI_SIZE"), own.get("PMI_RANK")) == (own.get("SLURM_STEP_NUM_TASKS"), "0")
    return ("srun", "mpiexec") if by_slurm else ("srun",)


def with_presets(arguments: Sequence[str]) -> list[str]:
    """With `reducer=FILE.yaml` replaced by what that preset sets, and the file's name in `presets`."""
    if not _names_a_file(arguments):
        return list(arguments)
    from prunesweep.use.preset import expanded

    return expanded(arguments)


def _names_a_file(arguments: Sequence[str]) -> bool:
    return any(one.startswith("reducer=") and one.endswith(".yaml") for one in arguments)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def run_hydra(command: Callable[[], None]) -> None:
    """Runs a Hydra command; Hydra is told to raise to us instead of printing a report of its own."""
    with reported(), env_override({"HYDRA_FULL_ERROR": "1"}):
        arguments = typed(sys.argv[1:])
        sys.argv[1:] = with_presets(arguments)
        require_options(sys.argv[1:])
        require_choices(sys.argv[1:])
        require_whole_paths(sys.argv[1:])
        command()


def require_options(arguments: Sequence[str]) -> None:
    """Ends the command for an option that Hydra does not have, or with a wrong value: with argparse's exit code, on one line."""
    parser, verb = get_args_parser(), sys.argv[0].partition("prunesweep ")[2]

    def end(message: str) -> NoReturn:
        wrong = message.removeprefix("unrecognized arguments: ").split()[0].partition("=")[0]
        if wrong.startswith("-"):
            own = [name for name in parser._option_string_actions if name.startswith("--")]
            said = no_option(wrong, own, verb)
            if said.endswith(wrong):
                setting = closest(wrong.lstrip("-"), GROUPS)
                said += f"; did you mean {setting}=...?" if setting else "; a setting is KEY=VALUE"
            message = f"{said}{' ' if said[-1] == '?' else '; '}--hydra-help lists those of Hydra"
        print(f"prunesweep: {message}", file=sys.stderr)
        raise SystemExit(2)

    parser.error = end
    parser.parse_args(list(arguments))


@contextmanager
def hydras_errors_explained() -> Iterator[None]:
    """Hydra's errors as ValueErrors in our words; with their traceback where HYDRA_FULL_ERROR=1 asks for it."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explained(error)) from error if errors.WANTS_TRACEBACK else None


def explained(error: Exception) -> str:
    """What went wrong and the way out, on one line; Hydra's errors have several."""
    if isinstance(error, MissingConfigException):
        return _not_found(error)
    if isinstance(error, OverrideParseException):
        return unreadable(str(error.override))
    if parted := PARTED.match(str(error)):
        return parted_at_commas(parted[1])
    if no_place := not_overridden(error):
        return no_place
    if isinstance(error, HydraException) and isinstance(error.__cause__, OmegaConfBaseException):
        return not_a_value(str(error.__cause__))
    if isinstance(error, HydraException) and isinstance(error.__cause__, (ValueError, TypeError)):
        key = str(error).rpartition("full_key: ")[2].strip() if "full_key: " in str(error) else ""
        if (target := re.search(r"call to target '(\S+)'", str(error))) and (unknown := UNEXPECTED.search(str(error.__cause__))):
            return unknown_setting(unknown[1], target[1], key)
        return f"{key}: {' '.join(str(error.__cause__).split())}" if key else " ".join(str(error.__cause__).split())
    if unplaced := re.search(r"Key '(\w+)' not in 'BasicSweeperConf'", str(error)):
        return no_such_key(unplaced[1], {})
    if several := re.search(r"Error resolving interpolation '\$\{(\w+)\}', possible", str(error)):
        return f"{several[1]} takes one choice at a time, and several were laid over one another; -m runs one after the other"
    if missing := re.search(r"Missing mandatory value: (\S+)", str(error)):
        return f"{missing[1]} must be given: {missing[1]}=..."
    if isinstance(error, OSError) and error.errno in NOT_WRITABLE:
        where = f" {error.filename}" if error.filename else ""
        return f"cannot write{where}: {error.strerror}; what was finished before is in the store: {NOT_WRITABLE[error.errno]}"
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return not_a_value(str(error))
    return errors.one_line(error)


def _not_found(error: MissingConfigException) -> str:
    """A choice of a group, a named sweep, or a folder of them."""
    missing = str(error.missing_cfg_file or "")
    if missing and error.options:
        group = next((group for group in GROUPS if missing.startswith(f"{group}/")), missing.rpartition("/")[0])
        return unknown(group, missing.removeprefix(f"{group}/"), error.options)
    if "primary config" in str(error):
        return no_such_configuration(missing, [Path(path) for path in SEARCHED.findall(str(error))])
    return str(error).splitlines()[0]


reported = partial(
    errors.reported,
    explain=explained,
    interrupted="interrupted; what was finished is in the store, and the same command goes on from there",
)


if __name__ == "__main__":
    main()
