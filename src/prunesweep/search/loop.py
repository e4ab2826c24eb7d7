"""The search itself: baselines first, then batch after batch of proposals, until all trials have an outcome.

Nothing here knows Hydra's plugins: a `Host` composes configurations and has batches of jobs evaluated.
"""

from __future__ import annotations

import functools
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial, TrialState

from prunesweep.analysis.axis import BASELINE
from prunesweep.analysis.costs import Denominator
from prunesweep.analysis.summary import PER_TASK, require_objective
from prunesweep.analysis.table import numbers, summarize
from prunesweep.checks import EvaluationError, require_at_least
from prunesweep.results.infeasible import Infeasible, read_infeasible
from prunesweep.results.keys.fingerprint import digest
from prunesweep.results.pending import searching
from prunesweep.results.records import RECORDS, TRIAL, Trial, read_trial
from prunesweep.search import study as proposals
from prunesweep.search.bounds import least_costs
from prunesweep.search.constraints import Bound, Constraint, parse_bound, parse_constraint
from prunesweep.search.denominator import denominator, mixes_prompts, on_axis, require_denominator
from prunesweep.search.space import grid, lies_in, require_inside, without_places, written
from prunesweep.search.study import Grid, Proposals, default_sampler
from prunesweep.search.warm_start import Inside, Task, earlier, task_of
from prunesweep.search.workers import Worker
from prunesweep.targets import instantiate

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

DIRECTIONS = ("maximize", "minimize")
DENSE = "dense"
"""The baseline whose token counts tell costs beforehand."""
PROPOSALS_PER_TRIAL = 5
"""Where known costs rule out that many proposals per trial, the search ends: its space has nothing else to offer."""
POLL = 1.0
"""Seconds between looks at other workers' running trials, once there is nothing else to do."""
WORKERS = ".workers"
RELATIVE, AXIS = "denominator of relative costs", "dearest dense baseline"
"""A study over frames or prompts that was begun before there was one has costs that cannot be compared."""
DESCRIBED = ("reducer", "video", "protocol")
"""The settings that a trial's description holds."""

Numbers = Mapping[str, float]


@dataclass(frozen=True)
class Plan:
    """What to search for; field by field as in `hydra.sweeper`."""

    trials: int
    batch: int
    seed: int
    objectives: dict[str, str]
    space: dict[str, str]
    distributions: dict[str, BaseDistribution]
    fixed: dict[str, Any] = field(default_factory=dict)
    first: list[dict[str, Any]] = field(default_factory=list)
    baselines: dict[str, dict[str, Any]] = field(default_factory=dict)
    constraints: list[str] = field(default_factory=list)
    ceiling: str | None = None
    warm_start: list[str] = field(default_factory=list)
    sampler: Callable[..., BaseSampler] | None = None
    storage: str | None = None
    study: str = "prunesweep"

    def __post_init__(self) -> None:
        require_at_least("hydra.sweeper.trials", self.trials, 1)
        require_at_least("hydra.sweeper.batch", self.batch, 1)
        require_at_least("hydra.sweeper.seed", self.seed, 0)
        if not self.objectives:
            raise ValueError("hydra.sweeper.objectives is empty; give at least one, such as accuracy: maximize")
        for name, direction in self.objectives.items():
            if direction not in DIRECTIONS:
                raise ValueError(f"hydra.sweeper.objectives.{name} must be one of {', '.join(DIRECTIONS)}, got {direction!r}")
        for name in self.baselines:
            if not name.isidentifier():
                raise ValueError(f"hydra.sweeper.baselines.{name} needs a name of letters, digits and underscores")
        for metric in (*self.objectives, *(constraint.metric for constraint in self.parsed_constraints)):
            require_objective("hydra.sweeper.objectives or .constraints", metric)
        for settings in self.first:
            require_inside(settings, self.distributions, "hydra.sweeper.first")
        if self.wants_grid and len(self.grid) > self.trials:
            raise ValueError(
                f"the grid has {len(self.grid)} settings, more than hydra.sweeper.trials={self.trials}; raise it or thin the grid"
            )
        self.parsed_ceiling  # noqa: B018  # raises if it cannot be read

    @property
    def parsed_constraints(self) -> list[Constraint]:
        return [parse_constraint(text, list(self.baselines)) for text in self.constraints]

    @property
    def parsed_ceiling(self) -> Bound:
        return Bound(1.0) if self.ceiling is None else parse_bound(str(self.ceiling), list(self.baselines))

    @property
    def wants_grid(self) -> bool:
        return getattr(self.sampler, "func", None) is Grid

    @property
    def grid(self) -> list[dict[str, Any]]:
        make: Any = self.sampler
        chosen: Grid = make(seed=self.seed)
        settings = grid(self.distributions, chosen.points)
        if chosen.shuffle:
            random.Random(self.seed).shuffle(settings)
        return settings

    def require_race(self, race: Any) -> None:
        """Raises ValueError if racing could stop what this search looks for: it compares accuracy at the race's costs."""
        compared = {"accuracy", *race.costs}
        metrics = [*self.objectives, *(constraint.metric for constraint in self.parsed_constraints)]
        if race.rounds > 1 and (unknown := sorted(set(metrics) - compared)):
            raise ValueError(
                f"a race compares accuracy at equal {', '.join(race.costs)} and would be blind to {', '.join(unknown)}; "
                "add costs to race.costs, or set race.rounds=1"
            )


class Job(NamedTuple):
    """Overrides of one trial, and its folder within the sweep's."""

    overrides: list[str]
    folder: str


class Host(Protocol):
    """Hydra, as far as a search needs it."""

    def compose(self, overrides: Sequence[str]) -> DictConfig: ...

    def launch(self, jobs: Sequence[Job]) -> None:
        """Evaluates the jobs at once and writes their folders."""
        ...


def _any_of(distribution: Any) -> Any:
    return distribution.choices[0] if hasattr(distribution, "choices") else distribution.low


class Search:
    """One worker's part in a search; alone, all of it."""

    def __init__(self, plan: Plan, folder: Path, arguments: Sequence[str], host: Host):
        self.plan, self.folder, self.arguments, self.host = plan, folder, list(arguments), host
        self.baselines: dict[str, Numbers] = {}
        self.dense: Trial | None = None
        self.axis: Denominator | None = None
        self.metrics = [*plan.objectives, *(constraint.metric for constraint in plan.parsed_constraints)]
        self.signs = [1 if direction == "maximize" else -1 for direction in plan.objectives.values()]

    def run(self) -> list[FrozenTrial]:
        """All trials of the study, once every one of them has an outcome."""
        with proposals.quiet(), searching(self.folder, self.plan.trials), Worker(self.folder / WORKERS) as worker:
            base = self.host.compose(self._overrides({}))
            self.plan.require_race(instantiate(base.race))
            self._require_known_keys()
            baselines = (self.host.compose(self._baseline_overrides(own)) for own in self.plan.baselines.values())
            require_denominator(self.plan.distributions, self.metrics, baselines)
            self.task = task_of(base)
            with worker.alone():
                self.proposals = self._open(worker, base)
            with worker.lock("baselines"):
                self._evaluate_baselines()
            with worker.alone():
                self._prepare(base)
            try:
                while self._step(worker):
                    pass
            except BaseException:  # also Ctrl-C: nobody is at work on these any more
                with suppress(Exception), worker.alone():  # a full disk must not hide what happened; they are adopted then
                    self.proposals.put_back()
                raise
            return self.proposals.trials()

    def _require_known_keys(self) -> None:
        """Composes one proposal before anything is evaluated: a key that does not exist would be found after the baselines."""
        first = {name: _any_of(distribution) for name, distribution in self.plan.distributions.items()}
        self.host.compose(self._overrides(first))

    def _step(self, worker: Worker) -> bool:
        """Evaluates a batch, or waits where others are at work; False if there is nothing left to do."""
        with worker.alone():
            asked = self._ask()
            elsewhere = 0 if asked else self.proposals.running_elsewhere()
        if asked:
            self._evaluate(asked, worker)
        elif elsewhere:
            time.sleep(POLL)
        else:
            return False
        return True

    # Before the first proposal

    def _open(self, worker: Worker, base: DictConfig) -> Proposals:
        plan = self.plan
        opened = Proposals(
            self.folder,
            plan.storage,
            plan.study,
            plan.objectives,
            plan.distributions,
            plan.sampler or default_sampler,
            plan.seed,
            worker,
        )
        opened.require_same(
            {
                **{name: getattr(plan, name) for name in ("objectives", "space", "seed", "constraints", "ceiling", "baselines")},
                "settings": made_with(base, self.task),
                **({RELATIVE: AXIS} if mixes_prompts(plan.distributions) else {}),
            },
            former=lambda: fingerprint(base, self.task.former_model_key, self.task),
        )
        return opened

    def _evaluate_baselines(self) -> None:
        """Those that have no folder yet; one worker does it, the others wait and read.

        On all samples, whatever a race would say: constraints, costs and the ceiling refer to them.
        """
        evaluated = self._evaluated(
            [
                Job([*self._baseline_overrides(own), "race.rounds=1"], f"{BASELINE}{name}")
                for name, own in self.plan.baselines.items()
            ]
        )
        found = [self._required(name, trial) for name, trial in zip(self.plan.baselines, evaluated, strict=True)]
        self.axis = denominator(found, self.plan.distributions, self.metrics)
        if self.axis and mixes_prompts(self.plan.distributions):
            print(f"search: relative costs are of {self.axis.name}")
        for name, trial in zip(self.plan.baselines, found, strict=True):
            self.baselines[name] = self._numbers(trial)
            if name == DENSE:
                self.dense = trial

    def _required(self, name: str, trial: Trial | Infeasible) -> Trial:
        """Raises ValueError for a baseline that cannot be run: constraints and costs refer to it."""
        if isinstance(trial, Infeasible):
            raise ValueError(f"hydra.sweeper.baselines.{name} cannot be run: {trial.reason}")
        return trial

    def _numbers(self, trial: Trial) -> dict[str, float]:
        return numbers(summarize(trial, self.axis), trial)

    def _evaluated(self, jobs: Sequence[Job]) -> list[Trial | Infeasible]:
        """Their trials, or why they could not be run.

        Those that are there are not evaluated: a worker may have died after it had them.
        """
        missing = [job for job in jobs if self._read(job.folder) is None]
        if missing:
            self.host.launch(missing)
        trials = [self._read(job.folder) for job in jobs]
        if lost := [job.folder for job, trial in zip(jobs, trials, strict=True) if trial is None]:
            raise EvaluationError(f"the launcher left no records of {', '.join(lost)} in {self.folder}")
        return [trial for trial in trials if trial is not None]

    def _prepare(self, base: DictConfig) -> None:
        """What is known beforehand: the baselines that lie in the space, earlier sweeps, the settings to try first."""
        inside = functools.partial(lies_in, base=described(base), distributions=self.plan.distributions)
        for name in self.plan.baselines:
            self._tell_foreign(f"{BASELINE}{name}", self._read(f"{BASELINE}{name}"), inside)
        for folder in map(Path, self.plan.warm_start):
            if self.proposals.once(f"warm start {digest(str(folder.resolve()))}"):  # a store grows by what is searched here
                told = [self._tell_foreign(source, trial, inside) for source, trial in earlier(folder, self.task, inside)]
                if not any(told):
                    print(f"warm start: no complete trial of {folder} lies in the space and differs in nothing else")
        self.proposals.enqueue(self.plan.grid if self.plan.wants_grid else self.plan.first)

    def _tell_foreign(self, source: str, trial: Trial | Infeasible | None, inside: Inside) -> bool:
        """Whether it lies in the space and has the objectives."""
        params = inside(trial.info.settings) if isinstance(trial, Trial) else None
        if not isinstance(trial, Trial) or params is None:
            return False
        found = self._numbers(trial)
        values = self._values(found)
        if any(math.isnan(value) for value in values):
            return False
        self.proposals.tell_foreign(source, params, values, self._violations(found), found)
        return True

    # Proposals

    def _ask(self) -> list[optuna.Trial]:
        """At most a batch, of dead workers first; proposals whose known costs rule them out are told so and replaced."""
        asked = self.proposals.adopt(self.plan.batch)
        while len(asked) < self.plan.batch and len(self.proposals.own()) < self.plan.trials:
            if sum(map(proposals.is_own, self.proposals.trials())) >= PROPOSALS_PER_TRIAL * self.plan.trials:
                break
            if self.plan.wants_grid and not self.proposals.trials(TrialState.WAITING):
                break
            trial = self.proposals.ask()
            least = self._least_costs(trial.params)
            reason = self._hopeless(least)
            if reason is None:
                asked.append(trial)
            else:
                broken = {c.text: v for c, v in self._known_violations(least) if v > 0}
                self.proposals.give_up(trial, TrialState.PRUNED, proposals.NOT_STARTED, reason, broken)
        return asked

    def _least_costs(self, params: Mapping[str, Any]) -> dict[str, float]:
        """What is known of a proposal's costs; nothing without the dense baseline's records, or with other prompts or models."""
        if self.dense is None:
            return {}
        config = self.host.compose(self._overrides(params))
        if (config.model.name, config.benchmark.name) != (self.dense.info.model, self.dense.info.benchmark):
            return {}
        if described(config)["protocol"] != self.dense.info.settings["protocol"]:
            return {}
        return on_axis(least_costs(instantiate(config.reducer), config.video.frames, self.dense), self.axis)

    def _hopeless(self, least: Numbers) -> str | None:
        """Why a trial that costs at least so much need not be run; None if it may be worth it."""
        for constraint, violation in self._known_violations(least):
            if violation > 0:
                return f"it costs at least {least[constraint.metric]:.4g} {constraint.metric}, against {constraint.text}"
        best = [self._best_possible(name, sign, least) for name, sign in zip(self.plan.objectives, self.signs, strict=True)]
        for name, values in self._front():
            signed = [sign * value for sign, value in zip(self.signs, values, strict=True)]
            if signed != best and all(have >= could for have, could in zip(signed, best, strict=True)):
                return f"even at its best it would be beaten by {name}"
        return None

    def _known_violations(self, least: Numbers) -> list[tuple[Constraint, float]]:
        """Of the constraints that keep a cost below a bound."""
        return [
            (constraint, constraint.violation(least, self.baselines))
            for constraint in self.plan.parsed_constraints
            if constraint.metric in least and not constraint.least
        ]

    def _best_possible(self, objective: str, sign: int, least: Numbers) -> float:
        """Signed so that more is better."""
        if objective in least and sign < 0:
            return -least[objective]
        if objective == "accuracy" and sign > 0:
            return min(1.0, self.plan.parsed_ceiling.value({n: v["accuracy"] for n, v in self.baselines.items()}))
        if objective.startswith(PER_TASK) and sign > 0:
            return 1.0
        return math.inf

    def _front(self) -> list[tuple[str, list[float]]]:
        """What is complete and keeps all constraints: trials and baselines."""
        complete = [t for t in self.proposals.trials(TrialState.COMPLETE) if keeps(t.constraints)]
        points = [(f"trial {proposals.number(t)}", t.values) for t in complete]
        points += [
            (f"trial {BASELINE}{name}", self._values(found))
            for name, found in self.baselines.items()
            if not found["stopped"] and keeps(self._violations(found))
        ]
        return [point for point in points if not any(math.isnan(value) for value in point[1])]

    # Results

    def _evaluate(self, asked: Sequence[optuna.Trial], worker: Worker) -> None:
        found = self._evaluated([Job(self._overrides(trial.params), str(trial.number)) for trial in asked])
        with worker.alone():
            for trial, done in zip(asked, found, strict=True):
                if isinstance(done, Infeasible):
                    self.proposals.give_up(trial, TrialState.FAIL, proposals.INFEASIBLE, done.reason, {})
                else:
                    self._tell(trial, self._numbers(done))

    def _tell(self, trial: optuna.Trial, found: Numbers) -> None:
        values = self._values(found)
        if any(math.isnan(value) for value in values):
            self.proposals.give_up(trial, TrialState.FAIL, "failed", "no sample has an answer", {})
        elif found["stopped"]:
            trial.set_user_attr(proposals.NUMBERS, dict(found))
            reason = f"stopped after {found['samples']} samples: cannot beat all trials that cost no more any longer"
            self.proposals.give_up(trial, TrialState.PRUNED, proposals.STOPPED, reason, {})
        else:
            self.proposals.tell(trial, values, self._violations(found), found)

    def _values(self, found: Numbers) -> list[float]:
        for name in self.plan.objectives:
            _require_task(name, found)
        return [found[name] for name in self.plan.objectives]

    def _violations(self, found: Numbers) -> dict[str, float]:
        for constraint in self.plan.parsed_constraints:
            _require_task(constraint.metric, found)
        return {c.text: c.violation(found, self.baselines) for c in self.plan.parsed_constraints}

    # Overrides and folders

    def _overrides(self, params: Mapping[str, Any]) -> list[str]:
        settings = {**self.plan.fixed, **params}
        return [*self.arguments, *(f"{key}={written(value)}" for key, value in settings.items())]

    def _baseline_overrides(self, settings: Mapping[str, Any]) -> list[str]:
        """Another reducer has no use for what the command line says about the searched one."""
        foreign = "reducer" in settings
        kept = [a for a in self.arguments if not (foreign and a.lstrip("+~").startswith(("reducer=", "reducer.")))]
        return [*kept, *(f"{key}={written(value)}" for key, value in settings.items())]

    def _read(self, folder: str) -> Trial | Infeasible | None:
        """None if the trial is not there, or not whole."""
        path = self.folder / folder
        return read_trial(path) if (path / RECORDS).exists() and (path / TRIAL).exists() else read_infeasible(path)


def keeps(violations: Mapping[str, float]) -> bool:
    return all(violation <= 0 for violation in violations.values())


def described(config: DictConfig) -> dict[str, Any]:
    """As a trial's description has it: the limit on decoding is no part of it."""
    sections = _sections(config)
    return {**sections, "video": {key: value for key, value in sections["video"].items() if key != "seconds"}}


def _sections(config: DictConfig) -> dict[str, Any]:
    return {key: OmegaConf.to_container(config[key], resolve=True) for key in DESCRIBED}


def made_with(base: DictConfig, task: Task) -> dict[str, Any]:
    """Everything that would make other trials of the same proposals."""
    race = OmegaConf.to_container(base.race, resolve=True)
    return {"model": dict(task.loaded), "samples": task.samples_key, **without_places({"race": race, **_sections(base)})}


def fingerprint(base: DictConfig, model_key: str, task: Task) -> str:
    """The same in one, as searches were begun with before its parts were kept."""
    race = OmegaConf.to_container(base.race, resolve=True)
    return digest({"model": model_key, "samples": task.samples_key, "race": race, **_sections(base)})


def _require_task(metric: str, found: Numbers) -> None:
    if metric not in found:
        tasks = ", ".join(name for name in found if name.startswith(PER_TASK))
        raise ValueError(f"unknown objective {metric!r}; this benchmark has {tasks}")
