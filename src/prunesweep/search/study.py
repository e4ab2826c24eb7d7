"""The proposals, kept by Optuna: a journal in the sweep's folder, or any database that Optuna can use.

Every proposal draws from a sampler that is seeded anew with `seed` plus the number of trials before it.  So the same seed
gives the same proposals whether or not the search was interrupted, and workers that share a study never draw alike: who
asks holds the study's lock.

A trial in Optuna may be COMPLETE, PRUNED (`outcome` says whether a race stopped it or its known cost kept it from being
started), FAIL (no sample was answered), RUNNING with the name of the worker that evaluates it, or WAITING if that worker
was interrupted.  What came from elsewhere, baselines and earlier sweeps, has the user attribute `told_from` and does not
count towards the budget.
"""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from prunesweep.analysis.axis import BASELINE
from prunesweep.search.workers import JournalLock, Worker

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage

JOURNAL = "study.journal"
TOKEN = ".study"
"""A file that says which study a folder belongs to."""
PATIENCE = 60
"""Seconds that SQLite waits for another writer."""
SETTINGS = "settings"
"""What `require_same` compares part by part."""
WORKER, TOLD_FROM, OUTCOME, REASON, NUMBERS = "worker", "told_from", "outcome", "reason", "numbers"
FORMER_BASELINE = "baseline "
"""With which version 0.1 began the name of a baseline in a study."""
STOPPED, NOT_STARTED, INFEASIBLE = "stopped by the race", "not started", "infeasible"


class Grid(optuna.samplers.RandomSampler):
    """All combinations, in order or shuffled; they are enqueued, so that nothing is ever drawn.

    Of an interval, `points` values.  Optuna's own GridSampler works within `Study.optimize` only.
    """

    def __init__(self, points: int = 3, shuffle: bool = False, seed: int | None = None):
        super().__init__(seed)
        self.points, self.shuffle = points, shuffle


def default_sampler(seed: int) -> BaseSampler:
    return optuna.samplers.TPESampler(seed=seed, multivariate=True)


def backend(url: str | None) -> str:
    """What may be written down about a storage: not its address, not its password."""
    return "journal" if url is None else url.partition("://")[0].partition("+")[0]


def open_storage(url: str | None, folder: Path) -> BaseStorage:
    """Raises ValueError, which does not tell the address, if there is no such database."""
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend
    from sqlalchemy.exc import SQLAlchemyError

    if url is None:
        journal = folder / JOURNAL
        journal.touch()
        return JournalStorage(JournalFileBackend(str(journal), lock_obj=JournalLock(journal)))
    url = url.replace("sqlite:///~/", f"sqlite:///{Path.home()}/")
    options: dict[str, Any] = {"connect_args": {"timeout": PATIENCE}} if backend(url) == "sqlite" else {"pool_pre_ping": True}
    try:
        return RDBStorage(url, engine_kwargs=options)
    except (SQLAlchemyError, ImportError, optuna.exceptions.StorageInternalError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).replace(url, "URL").split())
        raise ValueError(f"cannot open hydra.sweeper.storage ({backend(url)}): {_without_password(reason, url)}") from None


def _without_password(text: str, url: str) -> str:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parts = make_url(url)
    except ArgumentError:
        return "it is no database URL such as sqlite:///study.db or postgresql://user:password@host/database"
    secrets_in_url = [parts.password, *(v for v in parts.query.values() if isinstance(v, str))]
    for secret in secrets_in_url:
        text = text.replace(str(secret), "***") if secret else text
    return text


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna marks much of what is used here as experimental."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", module="optuna")
        try:
            yield
        finally:
            optuna.logging.set_verbosity(verbosity)


def _change(key: str, had: Any, has: Any) -> str:
    """The first part that differs, with its value then and now."""
    if isinstance(had, Mapping) and isinstance(has, Mapping):
        part = next(name for name in (*has, *had) if had.get(name) != has.get(name))
        return _change(part if key == SETTINGS else f"{key}.{part}", had.get(part), has.get(part))
    return key if key == SETTINGS else f"{key} ({had} -> {has})"


class Proposals:
    """A study and its space.  Every method that writes must be called within `worker.alone()`."""

    def __init__(
        self,
        folder: Path,
        storage: str | None,
        name: str,
        objectives: Mapping[str, str],
        distributions: Mapping[str, BaseDistribution],
        sampler: Callable[..., BaseSampler],
        seed: int,
        worker: Worker,
    ):
        self.distributions, self.make_sampler, self.seed, self.worker = dict(distributions), sampler, seed, worker
        self.study = optuna.create_study(
            storage=open_storage(storage, folder), study_name=name, directions=list(objectives.values()), load_if_exists=True
        )
        self._claim(folder, name)

    def _claim(self, folder: Path, name: str) -> None:
        """All workers of a study share one folder, where the records are; raises ValueError if this is another one."""
        file = folder / TOKEN
        token = file.read_text(encoding="utf-8") if file.exists() else secrets.token_hex(8)
        if self.study.user_attrs.get("folder", token) != token or ("folder" not in self.study.user_attrs and self.trials()):
            raise ValueError(
                f"the study {name!r} in this storage belongs to another folder; give all its workers the same hydra.sweep.dir, "
                "or this search another hydra.sweeper.study"
            )
        file.write_text(token, encoding="utf-8")
        self.study.set_user_attr("folder", token)

    def require_same(self, made_with: Mapping[str, Any], former: Callable[[], str]) -> None:
        """Raises ValueError if the study was begun with other settings, and remembers them if it is new.

        `former` is the fingerprint that stood for the settings in searches of an earlier version.
        """
        begun = self.study.user_attrs.get("made_with")
        if begun is not None and isinstance(begun.get(SETTINGS), str) and begun[SETTINGS] == former():
            begun = {**begun, SETTINGS: made_with[SETTINGS]}
            self.study.set_user_attr("made_with", begun)
        if begun is None:
            self.study.set_user_attr("made_with", dict(made_with))
            return
        for key, value in made_with.items():
            if (had := begun.get(key)) != value:
                raise ValueError(
                    f"this search was begun with another {_change(key, had, value)}; go on with that, or choose another "
                    "hydra.sweep.dir"
                )

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def own(self) -> list[FrozenTrial]:
        """All that count towards the budget: begun, whatever became of them."""
        return [
            t for t in self.trials() if is_own(t) and t.state != TrialState.WAITING and t.user_attrs.get(OUTCOME) != NOT_STARTED
        ]

    def ask(self) -> Trial:
        """The next proposal, claimed by this worker."""
        waiting = self.trials(TrialState.WAITING)
        self.study.sampler = self._sampler(waiting[0].number if waiting else len(self.trials()))
        trial = self.study.ask(self.distributions)
        trial.set_user_attr(WORKER, self.worker.name)
        return trial

    def adopt(self, most: int) -> list[Trial]:
        """Some of the trials that dead workers left running, claimed by this worker; proposals cut short are completed."""
        orphans = [t for t in self.trials(TrialState.RUNNING) if not self.worker.is_alive(t.user_attrs.get(WORKER, ""))]
        return [self._adopted(orphan) for orphan in orphans[:most]]

    def put_back(self) -> None:
        """What this worker was at waits for whoever asks next, who gets it as it was proposed."""
        for trial in self.trials(TrialState.RUNNING):
            if trial.user_attrs.get(WORKER, self.worker.name) == self.worker.name:  # Optuna has no public way to let go
                self.study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    def _adopted(self, orphan: FrozenTrial) -> Trial:
        self.study.sampler = self._sampler(orphan.number)
        trial = Trial(self.study, orphan._trial_id)  # Optuna has no public way to take up a running trial
        for key, distribution in self.distributions.items():
            suggest(trial, key, distribution)
        trial.set_user_attr(WORKER, self.worker.name)
        return trial

    def running_elsewhere(self) -> int:
        return sum(t.user_attrs.get(WORKER) != self.worker.name for t in self.trials(TrialState.RUNNING))

    def _sampler(self, trials: int) -> BaseSampler:
        kind = getattr(self.make_sampler, "func", None)
        one_sequence = kind is optuna.samplers.QMCSampler  # Optuna counts its place in it
        return self.make_sampler(seed=self.seed if one_sequence else self.seed + trials)

    def enqueue(self, settings: Sequence[Mapping[str, Any]]) -> None:
        """To be proposed before anything is drawn; what was enqueued before is not enqueued again."""
        before = {t.user_attrs["enqueued"] for t in self.trials() if "enqueued" in t.user_attrs}
        for index, own in enumerate(settings):
            if index not in before:
                self.study.enqueue_trial(dict(own), user_attrs={"enqueued": index})

    def once(self, what: str) -> bool:
        """Whether this is the first time in this study that anybody asks."""
        done = list(self.study.user_attrs.get("done", []))
        if what in done:
            return False
        self.study.set_user_attr("done", [*done, what])
        return True

    def tell_foreign(
        self, source: str, params: Mapping[str, Any], values: Sequence[float], constraints: Mapping[str, float], numbers: Mapping
    ) -> None:
        """A result from elsewhere, once per source."""
        if any(told_from(t) == source for t in self.trials()):
            return
        attributes = {TOLD_FROM: source, NUMBERS: dict(numbers)}
        self.study.add_trial(
            optuna.create_trial(
                params=dict(params),
                distributions=self.distributions,
                values=list(values),
                constraints=dict(constraints),
                user_attrs=attributes,
            )
        )

    def tell(self, trial: Trial, values: Sequence[float], constraints: Mapping[str, float], numbers: Mapping[str, float]) -> None:
        """A complete result."""
        trial.set_user_attr(NUMBERS, dict(numbers))
        self._set_constraints(trial, constraints)
        self.study.tell(trial, list(values))

    def give_up(self, trial: Trial, state: TrialState, outcome: str, reason: str, constraints: Mapping[str, float]) -> None:
        """A trial without a complete result: PRUNED or FAIL, and why."""
        trial.set_user_attr(OUTCOME, outcome)
        trial.set_user_attr(REASON, reason)
        self._set_constraints(trial, constraints)
        self.study.tell(trial, state=state)

    def _set_constraints(self, trial: Trial, constraints: Mapping[str, float]) -> None:
        for text, violation in constraints.items():
            trial.set_constraint(text, violation)


def is_own(trial: FrozenTrial) -> bool:
    return TOLD_FROM not in trial.user_attrs


def told_from(trial: FrozenTrial) -> str | None:
    """Where a result from elsewhere lies, a baseline by the name of its folder; None for the search's own."""
    source = trial.user_attrs.get(TOLD_FROM)
    return f"{BASELINE}{source.removeprefix(FORMER_BASELINE)}" if source and source.startswith(FORMER_BASELINE) else source


def number(trial: FrozenTrial) -> str:
    """By which it is called, as in every table's column `#`: its folder's name, of another folder's trial with that."""
    return told_from(trial) or str(trial.number)


def suggest(trial: Trial, key: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(key, distribution.choices)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(key, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
    if isinstance(distribution, FloatDistribution):
        return trial.suggest_float(key, distribution.low, distribution.high, log=distribution.log)
    raise TypeError(f"unknown distribution {distribution}")
