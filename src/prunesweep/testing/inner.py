"""Laws of what methods do inside the LLM, and of its caches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from prunesweep.checks import InfeasibleError
from prunesweep.engine.plan import inside
from prunesweep.engine.prefix_tree import Clock, Job, evaluate_jobs
from prunesweep.engine.stages import Ask, Layers, Prune, changed, looked
from prunesweep.lazy import torch
from prunesweep.reducers import (
    Change,
    Left,
    NoCounterpartError,
    Reducer,
    Step,
    asks_first,
    bounds_of,
    called,
    earlier_caches,
    fewest_by_step,
    left_by_step,
    look_of,
    place_of,
    reads_of,
)
from prunesweep.testing.counts import LOOSE, require_one_way, require_proportional
from prunesweep.testing.decoder import (
    LAYERS,
    PROMPTS,
    QUESTIONS,
    Given,
    Prompt,
    entering,
    run_stages,
    same_tensors,
    small_decoder,
)
from prunesweep.testing.law import Law, require
from prunesweep.testing.settings import add, knob_of, switched, turned
from prunesweep.types import Prefix

GROUPED = 64
"""Up to so many tokens in one group are tried."""


@dataclass(frozen=True)
class Moment:
    """A step on its way: what came to it, what it said, and what went on."""

    step: Step
    prompt: Prompt
    question: tuple[int, ...]
    before: Prefix
    change: Change
    after: Prefix
    start: Prefix
    """What entered the LLM."""

    def __str__(self) -> str:
        return f"{self.step} on {self.prompt}"


@dataclass
class Runs:
    """A reducer's steps with every setting on every prompt, worked out once."""

    reducer: Reducer
    slots: tuple[str, ...]
    moments: list[Moment] = field(default_factory=list)
    ends: list[tuple[Reducer, Prompt, tuple[int, ...], Prefix]] = field(default_factory=list)
    unanswered: int = 0

    def settings(self) -> dict[str, Reducer]:
        """Of each part as given, with its switches turned, and three values of its knob."""
        found = {"as given": self.reducer}
        for slot in self.slots:
            parts = switched(getattr(self.reducer, slot), ("positions",))
            values = turned(self.reducer, slot)
            parts |= {f"{self.reducer.knob}={value}": values[value] for value in list(values)[1::3]}
            found |= {f"{slot} {name}": replace(self.reducer, **{slot: part}) for name, part in parts.items()}
        return found

    @property
    def all(self) -> list[Moment]:
        if not self.ends:
            with torch.inference_mode():
                for name, reducer in self.settings().items():
                    for prompt in PROMPTS if name == "as given" else PROMPTS[:2]:
                        for question in QUESTIONS if name == "as given" else QUESTIONS[:2]:
                            self._run(reducer, prompt, question)
        return self.moments

    def _run(self, reducer: Reducer, prompt: Prompt, question: tuple[int, ...]) -> None:
        state = start = entering(prompt)
        model = small_decoder()
        try:
            for stage in inside(reducer, question, LAYERS):
                after = stage(state, model)
                if isinstance(stage, Prune):
                    seen, _ = looked(state, stage.pruner, model)
                    change = changed(stage.pruner(seen))
                    self.moments.append(Moment(stage.pruner, prompt, question, seen, change, after, start))
                state = after
        except (NoCounterpartError, InfeasibleError):
            self.unanswered += 1
            return
        except Exception as error:
            raise AssertionError(f"{reducer} on {prompt}: {type(error).__name__}: {error}") from error
        self.ends.append((reducer, prompt, question, state))


def step_laws(reducer: Reducer) -> list[Law]:
    slots = tuple(slot for slot in ("prune", "inner") if getattr(reducer, slot) is not None)
    if not slots:
        return []
    runs = Runs(replace(reducer, merge=None, evict=None, decode=None), slots)
    claims: dict[str, Callable[[Runs], None]] = {
        "1. shared is separate, to the bit": shared_is_separate,
        "4. kept tokens are sorted, unique and never text": kept,
        "4. left is what is left": left_is_left,
        "4. fewest is the least, and near it": fewest_is_tight,
        "4. most is the most, and reached": most_is_most,
        "the same again is the same": deterministic,
        "the question is asked first if it is read": question_read,
        "caches of earlier layers are as it says": caches,
        "7. usage counts what each layer and its cache hold": usage,
        "7. what is compared costs FLOPs": flops,
        "what is carried reaches later steps": carried,
        "4. the count follows the knob": follows_knob,
        "3. a share of 1 keeps all": keeps_all,
    }
    return [Law(f"{'/'.join(slots)}: {name}", partial(claim, runs)) for name, claim in claims.items()]


def shared_is_separate(runs: Runs) -> None:
    """All settings and questions on a prompt at once, in any order, and each alone."""
    model = small_decoder()
    for prompt in PROMPTS[:2]:
        given = Given(entering(prompt))
        jobs = []
        for name, reducer in runs.settings().items():
            for question in QUESTIONS[:2]:
                jobs.append(Job((name, question), (given, *inside(reducer, question, LAYERS))))
        alone = evaluate_jobs(model, jobs, Clock(), share=False)
        for order in (jobs, jobs[::-1]):
            together = {outcome.key: outcome.result for outcome in evaluate_jobs(model, order, Clock())}
            for outcome in alone:
                other = together[outcome.key]
                same = type(outcome.result) is type(other) and same_tensors(outcome.result, other)
                require(
                    same,
                    lambda: (
                        f"{runs.reducer.name}, {outcome.key[0]}, on {prompt}: shared differs from separate; "
                        "carry what later steps need in the state, never in the step"
                    ),
                )


def kept(runs: Runs) -> None:
    require(bool(runs.all), lambda: f"{runs.reducer.name} does nothing inside the LLM, or answers nothing")
    for moment in runs.all:
        keep, count = moment.change.keep.tolist(), len(moment.before.group)
        require(
            keep == sorted(set(keep)),
            lambda: f"{moment}: keeps {moment.change.keep.tolist()[:9]}; sort them, each once",
        )
        require(set(keep) <= set(range(count)), lambda: f"{moment}: keeps others than 0 to {count - 1}")
        text = torch.equal(moment.after.hidden[~moment.after.visual], moment.before.hidden[~moment.before.visual])
        require(text, lambda: f"{moment}: text must go on as it is")
        if moment.change.hidden is None:
            own = moment.after.hidden[moment.after.visual][: len(keep)]
            require(
                torch.equal(own, moment.before.hidden[moment.before.visual][keep]),
                lambda: f"{moment}: kept tokens changed",
            )
        if moment.change.positions == "original":
            require(moment.after.next_position == moment.before.next_position, lambda: f"{moment}: positions moved")


def gone_on(moment: Moment) -> int:
    return len(moment.change.keep) + (0 if moment.change.extra is None else len(moment.change.extra))


def coming(moment: Moment) -> Left:
    before = moment.before
    return Left(len(before.group), tuple(torch.bincount(before.group).tolist()), int(moment.start.visual.sum()))


def left_is_left(runs: Runs) -> None:
    for moment in runs.all:
        said, real = left_by_step(moment.step, coming(moment)), gone_on(moment)
        require(
            said in (None, real),
            lambda: f"{moment}: left says {said}, {real} are left; count in one place",
        )


def fewest_is_tight(runs: Runs) -> None:
    nearest, bound = math.inf, 0
    for moment in runs.all:
        if left_by_step(moment.step, coming(moment)) is not None:
            continue
        least, real = fewest_by_step(moment.step, coming(moment)), gone_on(moment)
        require(
            least <= real,
            lambda: f"{moment}: fewest says {least}, {real} are left; lower it",
        )
        if hasattr(moment.step, "fewest"):
            nearest, bound = min(nearest, real / max(1, least)), max(bound, least)
    require(
        nearest < LOOSE or bound <= 1,
        lambda: f"{runs.reducer.name}: fewest is {nearest:.2f} times below every count tried, bound {LOOSE}; raise it",
    )


def most_is_most(runs: Runs) -> None:
    """Of steps of which `left` may know nothing, and that say what they leave at most: some tokens in one group are as many."""
    off: dict[Any, int] = {}
    for moment in runs.all:
        step: Any = moment.step
        if not hasattr(step, "most"):
            continue
        most, real = step.most(len(moment.before.group)), gone_on(moment)
        require(real <= most, lambda: f"{moment}: most says {most}, {real} are left; raise it")
        lefts = {count: left_by_step(step, Left(count, (count,), count)) for count in range(1, GROUPED)}
        off[step] = min((step.most(count) - left for count, left in lefts.items() if left is not None), default=0)
    for step, least in off.items():
        require(not least, lambda: f"{step}: most is at least {least} above what is left of tokens in one group; lower it")


def deterministic(runs: Runs) -> None:
    for moment in runs.all[:: max(1, len(runs.all) // 40)]:
        before = [x.clone() for x in (moment.before.hidden, moment.before.position, moment.before.group)]
        torch.rand(1)
        with torch.inference_mode():
            again = changed(moment.step(moment.before))
        require(
            same_tensors(again, moment.change) and again.flops == moment.change.flops,
            lambda: f"{moment}: two calls differ; draw with a seeded torch.Generator",
        )
        now = (moment.before.hidden, moment.before.position, moment.before.group)
        require(same_tensors(before, now), lambda: f"{moment}: writes into its input; work on a copy")


def question_read(runs: Runs) -> None:
    """Who has the question asked first, without having to for its caches, says something else for another one.

    And who has not says the same, were it asked.
    """
    differs: dict[tuple[str, int, bool], bool] = {}
    for moment in runs.all:
        if asks_first(moment.step) and earlier_caches(moment.step) != "cut":
            others = [other for other in runs.all if other.step == moment.step and other.prompt == moment.prompt]
            where, stay = (called(moment.step), *place_of(moment.step)), len(moment.change.keep)
            done = stay == 0 or (stay == len(moment.before.group) and bool(moment.before.carried))
            other_says = any(not same_tensors(other.change, moment.change) for other in others)
            differs[where] = differs.get(where, False) or done or other_says
        elif not asks_first(moment.step) and moment.step.full_layers != 0:
            _require_same_if_asked(moment)
    for (name, full, _), does in differs.items():
        require(
            does,
            lambda: f"{name} after {full} layers: has the question asked first and never reads it; say reads_question = False",
        )


def _require_same_if_asked(moment: Moment) -> None:
    if moment.before.carried or len(moment.before.group) != int(moment.start.visual.sum()):
        return  # a first step alone is asked again
    with torch.inference_mode():
        state = run_stages(moment.start, [Layers(0, moment.step.full_layers, False, look_of(moment.step))])
        for question in QUESTIONS[:2]:
            asked = run_stages(state, [Ask(question, None)])
            change = changed(moment.step(looked(asked, moment.step, small_decoder())[0]))
            require(
                torch.equal(change.keep, moment.change.keep),
                lambda: f"{moment}: does not read the question, it says, and keeps others for another; say reads_question = True",
            )


def caches(runs: Runs) -> None:
    """What the part is set to is what its steps do."""
    for reducer, *_ in runs.ends:
        for slot in runs.slots:
            part = getattr(reducer, slot)
            own = getattr(part, "earlier_caches", None)
            for step in reducer.steps(LAYERS) if len(runs.slots) == 1 else ():
                require(own in (None, earlier_caches(step)), lambda: f"{step}: its part says earlier_caches={own}")
    for moment in runs.all:
        lengths = [key.shape[2] for key, _ in moment.after.kv]
        before = [key.shape[2] for key, _ in moment.before.kv]
        wanted = (
            before
            if earlier_caches(moment.step) == "whole"
            else [len(moment.before.visual) - len(moment.before.group) + len(moment.change.keep)] * len(before)
        )
        require(
            lengths == wanted,
            lambda: f"{moment}: caches hold {lengths}, should {wanted}",
        )


def usage(runs: Runs) -> None:
    for reducer, prompt, _, end in runs.ends:
        seen = [int(layer.visual.sum()) for layer in end.seen]
        held = [key.shape[2] - int((~layer.visual).sum()) for (key, _), layer in zip(end.kv, end.seen, strict=True)]
        counted = list(end.usage.cached_tokens or ())
        require(
            counted == seen == held and len(end.usage.visual_tokens) == LAYERS,
            lambda: f"{reducer.name} on {prompt}: usage counts {counted} cached tokens, there are {held}",
        )
    for moment in runs.all:
        spent = moment.after.usage.reduction_flops - moment.before.usage.reduction_flops
        require(
            spent >= moment.change.flops >= 0 and isinstance(moment.change.flops, int),
            lambda: f"{moment}: FLOPs are whole and not below 0, got {moment.change.flops!r}",
        )


def flops(runs: Runs) -> None:
    """A step that makes tokens, or chooses by more than attention that the engine has counted already."""
    for moment in runs.all:
        made = moment.change.hidden is not None or (moment.change.extra is not None and len(moment.change.extra))
        fewer = len(moment.change.keep) < len(moment.before.group)
        compares = (fewer and "normed" in reads_of(moment.step)) or (fewer and look_of(moment.step) == "queries")
        nothing = len(moment.change.keep) == 0
        require(
            moment.change.flops > 0 or nothing or not ((made and fewer) or compares),
            lambda: f"{moment}: compares or makes tokens for {moment.change.flops} FLOPs; count them in Change.flops",
        )


def carried(runs: Runs) -> None:
    for moment in runs.all:
        there = all(moment.after.carried.get(key) == value for key, value in moment.change.carried.items())
        require(there, lambda: f"{moment}: what it carries does not arrive")


class _Counts(NamedTuple):
    """Tokens that a part's first step leaves by its knob."""

    prompt: Prompt
    gone_on: dict[Any, int]
    """Of those that came and new ones; where that is not known beforehand, what the last step leaves."""
    kept: dict[Any, int]
    """Of those that came."""
    known: bool


def _first_counts(runs: Runs, slot: str) -> Iterator[_Counts]:
    for prompt in PROMPTS[:2]:
        counts: dict[Any, int] = {}
        kept: dict[Any, int] = {}
        known = True
        for value, part in turned(runs.reducer, slot).items():
            mine = Runs(replace(runs.reducer, **{slot: part}), (slot,))
            with torch.inference_mode():
                mine._run(mine.reducer, prompt, QUESTIONS[0])
            if mine.moments and not mine.unanswered:
                known &= left_by_step(mine.moments[0].step, coming(mine.moments[0])) is not None
                fully = len(mine.moments[-1].after.group)
                counts[value] = gone_on(mine.moments[0]) if known else fully
                kept[value] = len(mine.moments[0].change.keep)
        yield _Counts(prompt, counts, kept, known)


def follows_knob(runs: Runs) -> None:
    for slot in runs.slots:
        name, part = knob_of(runs.reducer, slot), getattr(runs.reducer, slot)
        for prompt, counts, kept, known in _first_counts(runs, slot) if name else ():
            size = prompt.frames * prompt.patches
            who = f"{called(part)} on {prompt} by {name}"
            require_one_way(who, counts, 0 if known else 0.1 * size)
            if not known or len(counts) <= 2:
                continue
            if name.endswith("_ratio"):
                require_proportional(who, counts, size)
            elif name in bounds_of(part) and max(kept.values()) >= size - 1:
                highest = bounds_of(part)[name][1]  # of a scale: that of a share of 1, but for the token that always goes
                require_proportional(who, {value / highest: count for value, count in kept.items()}, size)


def keeps_all(runs: Runs) -> None:
    """At one end of a share that stays or goes."""
    for slot in runs.slots:
        part = getattr(runs.reducer, slot)
        for name in ("keep_ratio", "drop_ratio"):
            found: dict[str, Any] = {}
            if hasattr(part, name):
                add(found, name, part, {name: 1.0 if name == "keep_ratio" else bounds_of(part).get(name, (0.0, 1.0))[0]})
            if not found:
                continue
            mine = Runs(replace(runs.reducer, **{slot: found[name]}), (slot,))
            with torch.inference_mode():
                mine._run(mine.reducer, PROMPTS[0], QUESTIONS[0])
            size, most = PROMPTS[0].frames * PROMPTS[0].patches, max(map(gone_on, mine.moments), default=0)
            step = _step_of(next(counts.gone_on for counts in _first_counts(runs, slot)))
            require(
                size - step < most <= size,
                lambda: f"{called(part)}: {most} of {size} tokens stay with {name} at its end; keep all",
            )


def _step_of(counts: dict[Any, int]) -> int:
    """In which counts come: of DART a whole number for each pivot."""
    several = sorted(set(counts.values()))
    return math.gcd(*(other - one for one, other in pairwise(several))) or 1
