"""Hydra callbacks; Hydra imports this module at every start, so it imports nothing heavy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from prunesweep.console.terminal import say
from prunesweep.disk.foreign import read_yaml
from prunesweep.paths import expand_home
from prunesweep.results.folders import claim, in_use, is_named_by_time
from prunesweep.results.latest import begun
from prunesweep.results.records import CONFIG, LATEST, RECORDS
from prunesweep.results.timing import TIMING
from prunesweep.sweep.schema import require_known_hydra_keys, require_known_keys

if TYPE_CHECKING:
    from prunesweep.disk.locks import Lock
    from prunesweep.report.wandb_process import Reporter

MULTIRUN = "multirun.yaml"
"""Where sweepers save the configuration they were started with."""
WITHOUT_EFFECT = ("hydra", "trainer", "engine", "store", "retry_errors", "logger", "analysis", "presets")
"""Sections that decide how a sweep runs and is shown, not which trials it has."""
PATIENCE = "video.seconds"
"""Of decoding; the same."""
RUN_DIR, SWEEP_DIR = "hydra.run.dir", "hydra.sweep.dir"
BUDGET = ("trials", "batch")
"""Of a sweeper: a search may go on with more trials."""


class SummaryCallback(Callback):
    """Sums up a multirun when it ends: table, files, picture.  Beside it, a process is told what to show on W&B."""

    def __init__(self) -> None:
        self.reporter: Reporter | None = None
        self.held: Lock | None = None
        """On the folder of this run."""
        self.told: set[Path] = set()
        """Trials that the process knows of."""

    def __getstate__(self) -> dict[str, Any]:
        """A launcher that runs jobs elsewhere takes callbacks along; the process stays here."""
        return {**self.__dict__, "reporter": None, "held": None}

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        expand_home(config)
        with _ending():
            require_known_keys(config)
        self._take(config, RUN_DIR)
        folder = Path(config.hydra.run.dir)
        if (folder / RECORDS).exists() and not is_same_run(folder / CONFIG, config):
            raise SystemExit(f"prunesweep: {folder} already holds another run; choose another {RUN_DIR}")
        _take_presets(config, folder)
        self.reporter = self._reporter(config, folder)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        if job_return.status == JobStatus.COMPLETED:
            self._tell(Path(config.hydra.runtime.output_dir))

    def on_run_end(self, **_: Any) -> None:
        self._finish_report()
        self._let_go()

    def _take(self, config: DictConfig, key: str) -> None:
        """A folder of this run's own; one that was named by hand is held while it runs."""
        with suppress(OSError), _ending():  # what cannot be written is said by whoever writes there first
            if not claim(config, key):
                self.held = in_use(Path(OmegaConf.select(config, key)), key)

    def _let_go(self) -> None:
        if self.held:
            self.held.release()
            self.held = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        self.started = time.time()
        expand_home(config)
        with _ending():
            require_known_hydra_keys(OmegaConf.to_container(config.hydra, resolve=False))  # type: ignore[arg-type]
        searches = config.hydra.runtime.choices["hydra/sweeper"] == "search"
        if searches:
            with _ending():
                _follow_latest(config)
        if not searches or is_named_by_time(config, SWEEP_DIR):  # a search's workers share a folder that was named by hand
            self._take(config, SWEEP_DIR)
        sweep = Path(config.hydra.sweep.dir)
        goes_on = searches and (sweep / ".study").exists()
        if any(sweep.glob(f"*/{RECORDS}")):  # its trials would be taken for this sweep's
            if not goes_on and not is_same_sweep(sweep / MULTIRUN, config):
                raise SystemExit(f"prunesweep: {sweep} already holds another sweep; choose another hydra.sweep.dir")
            (sweep / TIMING).unlink(missing_ok=True)  # of the run before
        _take_presets(config, sweep)
        self.reporter = self._reporter(config, sweep)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        from prunesweep.report.summary import summarize_sweep

        sweep = Path(config.hydra.sweep.dir)
        begun(sweep)  # also where no trial could be run, which it says
        try:
            try:
                analysis = config.analysis
                summarize_sweep(sweep, analysis.cost, analysis.margin, time.time() - self.started, config.store.folder)
            finally:  # it ends the command where no sample could be evaluated, and that is to be seen, too
                self._tell_all(sweep, config.analysis.cost, config.analysis.margin)
        except Exception as error:  # Hydra turns a callback's exceptions into warnings and exits with 0
            raise SystemExit(f"prunesweep: the sweep's summary failed: {type(error).__name__}: {error}") from error
        finally:
            self._finish_report()
            self._let_go()

    def _reporter(self, config: DictConfig, folder: Path) -> Reporter | None:
        if config.logger.name == "none":
            return None
        from prunesweep.report.wandb_process import reporter

        try:
            return reporter(config, folder)
        except (OSError, ValueError) as error:
            raise SystemExit(f"prunesweep: {error}") from error

    def _tell(self, folder: Path) -> None:
        if self.reporter and folder.absolute() not in self.told and (folder / RECORDS).exists():
            self.told.add(folder.absolute())
            self.reporter.trial(folder)

    def _tell_all(self, sweep: Path, cost: str, margin: float) -> None:
        if self.reporter and (finished := sorted(path.parent for path in sweep.glob(f"*/{RECORDS}"))):
            for folder in finished:  # those that ran elsewhere
                self._tell(folder)
            self.reporter.summary(sweep, cost, margin)

    def _finish_report(self) -> None:
        if self.reporter:
            say(f"W&B         {self.reporter.finish()}", labels=True)
            self.reporter = None


def _take_presets(config: DictConfig, folder: Path) -> None:
    """Copies them beside the results, so that what was said of a setting is there when they are read.

    Ends the command for a preset of another model.
    """
    if files := list(config.get("presets") or ()):
        from prunesweep.report.given import keep
        from prunesweep.use.preset import require_made_for

        with _ending():
            require_made_for(files, OmegaConf.to_container(config.model, resolve=True))  # type: ignore[arg-type]
        with suppress(OSError), _ending():  # as `_take`
            keep(files, folder)


@contextmanager
def _ending() -> Iterator[None]:
    """Hydra turns a callback's exceptions into warnings; this ends the command."""
    try:
        yield
    except ValueError as error:
        raise SystemExit(f"prunesweep: {error}") from error


def _follow_latest(config: DictConfig) -> None:
    """Puts the folder that `latest` leads to in its place where a search names it, before a new search has that name.

    Jobs are composed anew, from overrides: there the search's own folder is one more.  Raises ValueError if there is none.
    """
    own, warm = str(config.hydra.sweep.dir), [str(one) for one in config.hydra.sweeper.warm_start]
    if not any(LATEST in Path(one).parts for one in (own, *warm)):
        return
    from prunesweep.analysis.naming import sweep_called

    with open_dict(config):
        config.hydra.sweeper.warm_start = [str(sweep_called(one)) if LATEST in Path(one).parts else one for one in warm]
        if LATEST in Path(own).parts:
            config.hydra.sweep.dir = str(sweep_called(own))
            config.hydra.overrides.hydra = [*config.hydra.overrides.hydra, f"{SWEEP_DIR}='{config.hydra.sweep.dir}'"]


def is_same_sweep(saved: Path, config: DictConfig) -> bool:
    """Whether a folder's sweep has the trials of this one, so that running it again resumes it."""
    try:
        return _trials_of(read_yaml(saved)) == _trials_of(OmegaConf.to_container(config, resolve=False))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # no sweep of ours
        return False


def is_same_run(saved: Path, config: DictConfig) -> bool:
    """Whether a folder's trial is this run's, so that running it again writes the same records."""
    own = {str(key): config[key] for key in config if key not in WITHOUT_EFFECT}
    try:
        before = {key: value for key, value in read_yaml(saved).items() if key not in WITHOUT_EFFECT}
        return _without_patience(before) == _without_patience(
            {key: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node for key, node in own.items()}
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # no run of ours
        return False


def _without_patience(sections: dict[str, Any]) -> dict[str, Any]:
    return {**sections, "video": {key: value for key, value in sections["video"].items() if key != "seconds"}}


def _trials_of(raw: Any) -> dict[str, Any]:
    """What determines a sweep's trials."""
    sweeper = {key: value for key, value in raw["hydra"]["sweeper"].items() if key not in BUDGET}
    overrides = [o for o in raw["hydra"]["overrides"]["task"] if not o.lstrip("+~").startswith((*WITHOUT_EFFECT, PATIENCE))]
    sections = {key: value for key, value in raw.items() if key not in WITHOUT_EFFECT}
    return {"sections": _without_patience(sections), "overrides": overrides, "sweeper": sweeper}
