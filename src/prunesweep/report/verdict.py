"""A sweep's statistics in words: what the terminal prints at its end, and the report at its top."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from prunesweep.analysis import resampling, significance
from prunesweep.analysis.ablation import Ablation, Importance, ablations, importances
from prunesweep.analysis.counterparts import wanted
from prunesweep.analysis.margins import MOST_QUESTIONS
from prunesweep.analysis.outcomes import Outcomes
from prunesweep.analysis.resampling import ResampledFront
from prunesweep.analysis.significance import CONFIDENCE, POWER, AgainstDense
from prunesweep.analysis.summary import Summary, says_enough, scores_of
from prunesweep.analysis.wording import numbered, p_text
from prunesweep.console.layout import count as counted
from prunesweep.console.layout import share_text, visible
from prunesweep.report.plots import COST_NAMES
from prunesweep.report.text import naming_text, short_names
from prunesweep.results.read import short

LEVEL = 1 - CONFIDENCE
MOST_LISTED = 3
UNSURE = 0.5
"""A trial on the front in fewer draws than this is there by luck as likely as not."""


WHY_UNTOLD = "its settings never varied alone, or a forest of them foresees held-out trials no better than their mean"


@dataclass(frozen=True)
class Verdict:
    """Everything that is said about the trials of one model and benchmark."""

    outcomes: Outcomes
    front: ResampledFront
    against: AgainstDense | None
    ablations: tuple[Ablation, ...]
    importances: tuple[Importance, ...]
    untold: tuple[str, ...] = ()
    """Reducers with several settings whose importance cannot be told."""


def verdict(outcomes: Outcomes, with_importance: bool = True) -> Verdict:
    """Importance takes seconds (forests), the rest far less."""
    effects = ablations(outcomes)
    told = importances(outcomes) if with_importance else []
    several = [a.reducer for a in effects if len(a.main) + len(a.confounded) + len(a.continuous) > 1]
    return Verdict(
        outcomes=outcomes,
        front=resampling.front(outcomes),
        against=significance.against_dense(outcomes),
        ablations=tuple(effects),
        importances=tuple(told),
        untold=tuple(r for r in several if r not in {one.reducer for one in told}) if with_importance else (),
    )


def lines(found: Verdict) -> list[tuple[str, str]]:
    """Pairs of a keyword and what there is to say, for any renderer; nothing in it is marked up."""
    outcomes = found.outcomes
    answered = [row for row in outcomes.table if row.samples]
    said = [("trials", _trials(outcomes, answered))]
    if not answered:
        return said
    names = _names(outcomes)
    said += _answers(outcomes, names)
    said += _dense(found, names)
    if outcomes.cost.endswith("ratio"):
        said.append(("costs", f"x: of {outcomes.relative_to}"))
    said += _front(found, names)
    said += [("settings", _settings(ablation)) for ablation in found.ablations]
    said += [("importance", _importance(importance)) for importance in found.importances]
    if found.untold:
        said.append(("importance", f"not told of {', '.join(found.untold)}: {WHY_UNTOLD}"))
    return said


def headline(found: Verdict) -> str | None:
    """One sentence: how cheap can it be without losing more than the margin?  None where nothing can be compared."""
    outcomes, against = found.outcomes, found.against
    others = 0 if against is None else len(_compared(against))
    if against is None or not others:
        return None
    dense = outcomes.table[against.dense]
    if not says_enough(dense):
        share = share_text(dense.unclear + dense.ambiguous)
        return f"Nothing can be compared with dense: {share} of its answers name no option, or several."
    names = _names(outcomes)
    if against.within_margin:
        safe = against.within_margin
        cheapest = f"{'it' if others == 1 else 'the cheapest'} at {cost_text(outcomes.cost, outcomes.costs[safe[0]])}"
        return (
            f"{_of(safe, others)} {_loses(safe)} less than {points(against.margin)} against dense, {cheapest}: {names[safe[0]]}."
        )
    said = [f"No trial is shown to lose less than {points(against.margin)} against dense"]
    if against.worse:
        said.append(f"{_of(against.worse, others)} {'is' if len(against.worse) == 1 else 'are'} worse")
    if against.unclear:
        first = against.unclear[0]
        where = f"{names[first]} at {cost_text(outcomes.cost, outcomes.costs[first])}"
        said.append(f"of {len(against.unclear)} these questions cannot tell, and the cheapest, {where}, {_needs(against, first)}")
    return "; ".join(said) + "."


class Answer(NamedTuple):
    """One of the three things that most people want to know."""

    question: str
    trial: int | None
    """By index; None where there is none."""
    said: str
    """What it is, or why there is none."""


def answers(found: Verdict) -> tuple[Answer, Answer, Answer]:
    """The cheapest trial within the margin, the knee, and dense."""
    outcomes, against, front = found.outcomes, found.against, found.front
    within = f"Best within {points(outcomes.margin)}"
    if against is None:
        best = Answer(within, None, "Needs a dense trial to compare with.")
    elif against.within_margin:
        said = f"The cheapest trial shown to lose less than {points(against.margin)} against dense."
        best = Answer(within, against.within_margin[0], said)
    else:
        best = Answer(within, None, _none_within(found))
    turns = "Where the front turns"
    sure = f": so in {100 * front.knee_probability:.0f} % of the draws of the videos." if front.knee is not None else ""
    knee = Answer("Knee", front.knee, turns + sure if front.knee is not None else "A front of fewer than three trials has none.")
    whole = Answer("Dense", None, f"Not in this sweep: add {wanted(outcomes)}.")
    if against is not None:
        whole = Answer("Dense", against.dense, "The model without reduction.")
    return best, knee, whole


def _none_within(found: Verdict) -> str:
    """Why no trial is shown to be within the margin, and what would show one."""
    against = found.against
    assert against is not None
    said = f"No trial is shown to lose less than {points(against.margin)} against dense."
    told = against.unclear or against.worse
    if not told:
        return said
    d = against.difference
    nearest = max(told, key=lambda i: d.mean[i])
    loses = f"{d.mean[nearest]:+.3f} ({_interval(d.low[nearest], d.high[nearest], '+')}, n={d.samples[nearest]})"
    more = f": it {_needs(against, nearest)}" if against.unclear else ""
    return f"{said} Nearest is {_names(found.outcomes)[nearest]} with {loses}{more}."


WITHIN, WORSE, UNCLEAR = "within the margin", "worse", "cannot tell"


def standing(found: Verdict) -> dict[int, str]:
    """What is shown of each trial against dense; of incomplete ones nothing."""
    against = found.against
    if against is None:
        return {}
    groups = ((WITHIN, against.within_margin), (WORSE, against.worse), (UNCLEAR, against.unclear))
    return {i: name for name, own in groups for i in own}


def points(margin: float) -> str:
    """`1 point`, `0.5 points`."""
    return f"{100 * margin:g} point{'' if round(100 * margin, 9) == 1 else 's'}"


def _of(chosen: Sequence[int], others: int) -> str:
    return f"{len(chosen)} of {others} trial{'s' if others > 1 else ''}"


def _loses(chosen: Sequence[int]) -> str:
    return f"{'is' if len(chosen) == 1 else 'are'} shown to lose"


def _needs(against: AgainstDense, trial: int) -> str:
    """By the trial's own estimate and error."""
    more = int(against.needed[trial]) - int(against.difference.samples[trial])
    if against.needed[trial] == 0:
        return "needs questions on more than one video"
    if against.needed[trial] >= MOST_QUESTIONS:
        return "is on the edge, which no number of questions tells"
    return f"needs about {max(more, 1):,} more questions"


def text(found: Verdict) -> str:
    """The lines for a terminal."""
    return "\n".join(f"{key:<11} {visible(words)}" for key, words in lines(found))


def _names(outcomes: Outcomes) -> list[str]:
    return [numbered(row.number, name) for row, name in zip(outcomes.table, short_names(outcomes.table)[0], strict=True)]


def _trials(outcomes: Outcomes, answered: Sequence[Summary]) -> str:
    where = f"{outcomes.model} on {outcomes.benchmark}"
    count = counted(len(outcomes.table), "trial")
    if not answered:
        if not any(row.errors for row in outcomes.table):
            return f"{count} of {where}, whose answers are not scored here: prunesweep judge grades free ones"
        return f"{count} of {where}, none of which has an answer: nothing can be said"
    fewest, most = (of(row.samples for row in answered) for of in (min, max))
    samples = counted(most, "question") if fewest == most else f"{fewest} to {most} questions"
    failed = len(outcomes.table) - len(answered)
    videos = counted(outcomes.answered_videos, "video")
    return f"{count} of {where}, {samples} on {videos}; videos are the units of every interval and test" + (
        f"; {failed} without any answer" if failed else ""
    )


def _answers(outcomes: Outcomes, names: Sequence[str]) -> list[tuple[str, str]]:
    """What generated answers name, and which trials' answers say too little to be compared."""
    known = [i for i, row in enumerate(outcomes.table) if not math.isnan(row.unclear)]
    if not known:
        return []
    most = max(known, key=lambda i: outcomes.table[i].unclear + outcomes.table[i].ambiguous)
    said = f"{naming_text(outcomes.table[most])}" + (f" in {names[most]}, the most of all trials" if len(known) > 1 else "")
    silent = [names[i] for i in known if not says_enough(outcomes.table[i])]
    if silent:
        more = f" and {len(silent) - MOST_LISTED} more" if len(silent) > MOST_LISTED else ""
        said += f"; in most answers of {', '.join(silent[:MOST_LISTED])}{more} no one option is named: like no other trial"
    return [("answers", said)]


def _interval(low: float, high: float, sign: str = "") -> str:
    return "no interval" if math.isnan(low) else f"{low:{sign}.3f} to {high:{sign}.3f}"


def _dense(found: Verdict, names: Sequence[str]) -> list[tuple[str, str]]:
    outcomes, against = found.outcomes, found.against
    if against is None:
        return [("dense", f"no trial without reduction: add {wanted(outcomes)} to compare with it")]
    runs = sorted({int(d) for d in against.own if d >= 0}, key=lambda d: (d != against.dense, d))
    said = [("dense", _dense_run(outcomes.table[d]) + (f", {names[d]}" if len(runs) > 1 else "")) for d in runs]
    said += [
        ("dense", f"no dense trial to compare {counted(count, 'trial')} with: add {what}")
        for what, count in against.missing.items()
    ]
    others = len(_compared(against))
    if not others:
        return said
    return said + _classes(found, names, others)


def _classes(found: Verdict, names: Sequence[str], others: int) -> list[tuple[str, str]]:
    """Who is shown to be safe, who to be worse, and of whom nothing is shown, in this order."""
    against = found.against
    assert against is not None
    safe, worse, unclear = against.within_margin, against.worse, against.unclear
    words = f"{_of(safe, others)} {_loses(safe)} less than {points(against.margin)}"
    words += f" (paired score test clustered by video, one-sided {100 * LEVEL / 2:g} %, Holm-corrected)"
    said = [("in margin", words + (f"; the cheapest: {_cheapest(found, safe[0], names)}" if safe else ""))]
    if worse:
        words = f"{_of(worse, others)} {'is' if len(worse) == 1 else 'are'} less accurate than dense"
        said.append(("worse", f"{words} (paired t test clustered by video, {100 * LEVEL:g} %, Holm-corrected)"))
    if unclear:
        words = f"{_of(unclear, others)}; the cheapest: {_cheapest(found, unclear[0], names)}"
        words += f": {_needs(against, unclear[0])} like these to tell, if that is the true difference (power {100 * POWER:.0f} %)"
        said.append(("cannot tell", words))
    left = others - len(safe) - len(worse) - len(unclear)
    if left:
        said.append(
            (
                "incomplete",
                f"{left} of {others} answered fewer questions than dense, or name no option: nothing is claimed of them",
            )
        )
    return said


def _compared(against: AgainstDense) -> list[int]:
    """Trials that have a dense one to be compared with and are none themselves."""
    return [i for i, samples in enumerate(against.difference.samples) if samples and against.own[i] != i]


def _dense_run(row: Summary) -> str:
    low, high = significance.accuracy_interval(scores_of(row))
    return f"{row.accuracy:.3f}, 95 % interval {_interval(low, high)} (n={row.samples})"


def _cheapest(found: Verdict, index: int, names: Sequence[str]) -> str:
    against, row = found.against, found.outcomes.table[index]
    assert against is not None
    d = against.difference
    return (
        f"{names[index]} at {cost_text(found.outcomes.cost, getattr(row, found.outcomes.cost))}, {d.mean[index]:+.3f} "
        f"({_interval(d.low[index], d.high[index], '+')}), gained {d.gained[index]}, lost {d.lost[index]}"
    )


def cost_text(cost: str, value: float) -> str:
    """`0.210x LLM prefill FLOPs`: relative to the dense model, or `4.1e+12 FLOPs in all`."""
    return f"{value:.3f}x {COST_NAMES[cost]}" if cost.endswith("ratio") else f"{value:.3g} {COST_NAMES[cost]}"


def _front(found: Verdict, names: Sequence[str]) -> list[tuple[str, str]]:
    outcomes, front = found.outcomes, found.front
    members = [i for i, row in enumerate(outcomes.table) if row.pareto]
    unsure = [i for i in members if front.probability[i] < UNSURE]
    missed = [i for i, p in enumerate(front.probability) if p >= UNSURE and i not in members]
    if len(outcomes.table) < 2:
        return []
    words = f"{len(members)} of {len(outcomes.table)} trials; {len(members) - len(unsure)} of them in at least half of "
    words += f"{resampling.REPLICATES} draws of the videos"
    if missed:
        words += f", as {'is' if len(missed) == 1 else 'are'} {len(missed)} that missed it here"
    if not math.isnan(front.hypervolume):
        low, high = front.hypervolume_interval
        interval = f"the true one's 95 % interval, luck of choosing included: {_interval(low, high)}"
        words += f"; hypervolume {front.hypervolume:.3f} ({interval}) up to "
        words += cost_text(outcomes.cost, front.reference_cost)
    said = [("front", words)]
    if front.knee is not None:
        row = outcomes.table[front.knee]
        where = cost_text(outcomes.cost, getattr(row, outcomes.cost))
        said.append(("knee", f"{names[front.knee]} at {where} (so in {100 * front.knee_probability:.0f} % of the draws)"))
    return said


def _settings(ablation: Ablation) -> str:
    short_of = short([effect.factor for effect in ablation.main])
    ranked = sorted(ablation.main, key=lambda effect: -effect.range)
    sure = [e for e in ranked if e.adjusted <= LEVEL]
    parts = [f"{short_of[e.factor]} moves accuracy by {100 * e.range:.1f} points ({p_text(e.adjusted)})" for e in sure]
    quiet = [short_of[e.factor] for e in ranked if e.adjusted > LEVEL]
    if quiet:
        parts.append(f"no significant effect of {', '.join(quiet)}")
    unknown = [short_of[e.factor] for e in ranked if math.isnan(e.adjusted)]
    if unknown:
        parts.append(f"no test possible for {', '.join(unknown)}: as many degrees of freedom as videos, or more")
    joint = sorted((i for i in ablation.interactions if i.adjusted <= LEVEL), key=lambda i: i.adjusted)
    tested = sum(not math.isnan(i.adjusted) for i in ablation.interactions)
    if joint:
        named = [f"{' x '.join(short_of.get(f, f) for f in i.factors)} ({p_text(i.adjusted)})" for i in joint[:MOST_LISTED]]
        more = f" and {len(joint) - MOST_LISTED} more" if len(joint) > MOST_LISTED else ""
        parts.append(f"interactions: {', '.join(named)}{more}")
    elif tested:
        parts.append(f"none of {tested} interaction{'s' if tested > 1 else ''} significant")
    if ablation.continuous:
        names = short(ablation.continuous)
        parts.append(f"hardly a value tried twice of {', '.join(names.values())}")
    if ablation.confounded:
        names = short([*short_of, *ablation.confounded])
        parts.append(f"not told apart by these trials: {', '.join(names[name] for name in ablation.confounded)}")
    return f"{ablation.reducer}, {ablation.trials} trials, Holm-corrected: {'; '.join(parts)}"


def _importance(importance: Importance) -> str:
    names = short(list(importance.shares))
    shares = ", ".join(f"{names[name]} {100 * share:.0f} %" for name, share in importance.shares.items())
    share = "share of accuracy's variance that each explains alone (fANOVA)"
    return f"{importance.reducer}, {importance.trials} trials, {share}: {shares}"
