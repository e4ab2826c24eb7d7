"""Hydra without its command line: configurations composed and sweeps run from within Python, as the command does both.

What Hydra keeps for the whole process (its version base, the configuration of the job at hand, the handlers of the log) is as
it was afterwards, so that a notebook, or a program with a Hydra of its own, does not notice.
"""

from __future__ import annotations

import io
import logging
import secrets
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime, setup_globals
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from prunesweep.paths import CONF, expand_home
from prunesweep.sweep import functions  # noqa: F401, conf/ calls them
from prunesweep.sweep.jobs import Composer
from prunesweep.sweep.schema import require_known_keys
from prunesweep.sweep.slips import EVALUATION
from prunesweep.targets import instantiate

VERSION_BASE = "1.3"
"""Of Hydra, as the command's."""
PROGRAM = "prunesweep"


@cache
def _loader() -> ConfigLoaderImpl:
    return ConfigLoaderImpl(create_config_search_path(str(CONF)))


@cache
def _composer() -> tuple[Composer, DictConfig]:
    """Composes trials fast, beginning from the configuration without any override."""
    return Composer(_loader()), _loader().load_configuration(EVALUATION, [], RunMode.RUN)


def composed(overrides: Sequence[str]) -> DictConfig:
    """The configuration of one trial, as the command would have it.

    Raises ValueError for a key that nothing reads, HydraException for what cannot be composed.
    """
    with _apart():
        composer, base = _composer()
        config = composer.load_sweep_config(base, list(overrides))
        expand_home(config)
        require_known_keys(config)
        return config


class Ended(NamedTuple):
    """A sweep that has been run."""

    folder: Path
    failed: str | None
    """With what last words the command would end in an error: a trial has no answer at all."""


def require_code_as_written(trials: Sequence[Sequence[str]]) -> None:
    """Raises ValueError if code that answers for trials, each given by its overrides, was edited since it was imported."""
    from prunesweep.results.keys.fingerprint import described, roots_of
    from prunesweep.sweep.loaded import require_as_written

    roots: dict[str, None] = {}
    for one in trials:
        config = composed(one)
        reducer, protocol = (described(instantiate(config[section])) for section in ("reducer", "protocol"))
        roots |= dict.fromkeys(roots_of(reducer, protocol, {"_target_": config.model.load["_target_"]}))
    require_as_written(tuple(roots))


def run_sweep(overrides: Sequence[str], sweeper: Mapping[str, Any], progress: bool) -> Ended:
    """Runs a multirun whose sweeper has these settings besides.

    Without `progress` nothing is printed; warnings of the log become Python's.  Raises ValueError for what cannot be begun.
    """
    _begin_anew()
    with _apart(), _printed(progress), _without_widgets(), ExitStack() as at_end:
        at_end.callback(_end_decoders)
        config = _loader().load_configuration(EVALUATION, [*overrides, "hydra.mode=MULTIRUN"], RunMode.MULTIRUN)
        with open_dict(config):
            config.hydra.sweeper.update(dict(sweeper))
        callbacks = Callbacks(config)
        at_end.callback(_let_go, callbacks)
        try:
            callbacks.on_multirun_start(config=config, config_name=EVALUATION)
        except SystemExit as stop:
            raise ValueError(_last_words(stop)) from stop
        context = HydraContext(config_loader=_loader(), callbacks=callbacks)
        running = Plugins.instance().instantiate_sweeper(config=config, hydra_context=context, task_function=_no_task)
        running.sweep(arguments=list(config.hydra.overrides.task))
        failed = None
        try:
            with redirect_stdout(io.StringIO()):  # the table is the caller's to show
                callbacks.on_multirun_end(config=config, config_name=EVALUATION)
        except SystemExit as stop:
            failed = _last_words(stop)
        return Ended(Path(config.hydra.sweep.dir), failed)


def _begin_anew() -> None:
    """What a command does once, because its process ends: see `work.THIS_RUN`, and the folder that decoders work in."""
    from prunesweep.sweep import work

    work.THIS_RUN = secrets.token_hex(16)
    _end_decoders()


def _end_decoders() -> None:
    """They were started in a folder that need not be the working folder of today; the next film starts another one."""
    if reader := sys.modules.get("prunesweep.video.reader"):
        reader.end_decoders()


def _no_task(_: DictConfig) -> None:
    raise AssertionError("launchers evaluate batches, not jobs")


def _let_go(callbacks: Callbacks) -> None:
    """A process that ends leaves no lock behind, but this one goes on."""
    for one in callbacks.callbacks:
        release: Callable[[], None] | None = getattr(one, "_let_go", None)
        if release:
            release()


def _last_words(stop: SystemExit) -> str:
    """Of the command, on one line."""
    return " ".join(str(stop.code).removeprefix(f"{PROGRAM}: ").split())


@contextmanager
def _apart() -> Iterator[None]:
    """Hydra as the command has it, for as long as it takes."""
    base, settings = version.VersionBase.instance(), HydraConfig.instance()
    runtime, root = JobRuntime.instance(), logging.getLogger()
    before = base.version_base, settings.cfg, runtime.conf, root.level, list(root.handlers)
    version.setbase(VERSION_BASE)
    settings.cfg = None
    setup_globals()
    runtime.conf = OmegaConf.create()
    runtime.set("name", PROGRAM)
    try:
        yield
    finally:
        base.version_base, settings.cfg, runtime.conf, root.level, root.handlers[:] = before


@contextmanager
def _without_widgets() -> Iterator[None]:
    """Libraries draw bars with ipywidgets where there are any; no bar of theirs is shown, so nobody need install these."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        yield


@contextmanager
def _printed(progress: bool) -> Iterator[None]:
    """What is said on the way goes to stderr, or nowhere."""
    if progress:
        with redirect_stdout(sys.stderr):
            yield
        return
    nowhere: TextIO = io.StringIO()
    heard = _Warnings(logging.WARNING)
    logger = logging.getLogger(PROGRAM)
    logger.addHandler(heard)
    try:
        with redirect_stdout(nowhere), redirect_stderr(nowhere):
            yield
    finally:
        logger.removeHandler(heard)
    for text in dict.fromkeys(heard.texts):
        warnings.warn(text, stacklevel=2)


class _Warnings(logging.Handler):
    """Keeps what the log warns of."""

    def __init__(self, level: int):
        super().__init__(level)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
