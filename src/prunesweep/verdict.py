"""A sweep's statistics in words: what the terminal prints at its end, and the report at its top."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from prunesweep import statistics
from prunesweep.analysis import Summary, says_enough, scores_of
from prunesweep.counterparts import wanted
from prunesweep.effects import Ablation, Importance, ablations, importances
from prunesweep.outcomes import Outcomes
from prunesweep.plots import COST_NAMES
from prunesweep.sources import short
from prunesweep.statistics import CONFIDENCE, POWER, AgainstDense, Front
from prunesweep.tables import count as counted
from prunesweep.tables import naming_text, p_text, share_text, short_names

LEVEL = 1 - CONFIDENCE
MOST_LISTED = 3
COARSE = 0.1
"""A detectable difference above which being indistinguishable says next to nothing: published gaps are a tenth of that."""
UNSURE = 0.5
"""A trial on the front in fewer draws than this is there by luck as likely as not."""


WHY_UNTOLD = "its settings never varied alone, or a forest of them foresees held-out trials no better than their mean"


@dataclass(frozen=True)
class Verdict:
    """Everything that is said about the trials of one model and benchmark."""

    outcomes: Outcomes
    front: Front
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
        front=statistics.front(outcomes),
        against=statistics.against_dense(outcomes),
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
    """One sentence: how cheap can it be without a loss that shows?  None where nothing can be compared."""
    outcomes, against = found.outcomes, found.against
    others = 0 if against is None else len(_compared(against))
    if against is None or not others:
        return None
    dense = outcomes.table[against.dense]
    if not says_enough(dense):
        share = share_text(dense.unclear + dense.ambiguous)
        return f"Nothing can be compared with dense: {share} of its answers name no option, or several."
    equal = against.indistinguishable
    count = f"{len(equal)} of {others} trial{'s' if others > 1 else ''}"
    if not equal:
        losses = [(abs(m), i) for i, m in enumerate(against.difference.mean) if against.own[i] != i and not math.isnan(m)]
        if not losses:
            return None
        loss = min(losses)[1]
        cost = cost_text(outcomes.cost, outcomes.costs[loss])
        low, high = against.difference.low[loss], against.difference.high[loss]
        near = f"the closest, {_names(outcomes)[loss]} at {cost}, differs by {against.difference.mean[loss]:+.3f} "
        near += f"({_interval(low, high, '+')})"
        return f"{count} are indistinguishable from dense; {near}."
    cost = cost_text(outcomes.cost, outcomes.costs[equal[0]])
    unseen = f"a true difference {_unseen(against.detectable)} shows in less than {100 * POWER:.0f} % of such sets of questions"
    result = f"{count} {'is' if len(equal) == 1 else 'are'} indistinguishable from dense, the cheapest at {cost}"
    if math.isnan(against.detectable):
        return f"{result}."
    if against.detectable > COARSE:
        return f"Too few questions to tell: {unseen}; {result}."
    return f"{result}; {unseen}."


def text(found: Verdict) -> str:
    """The lines for a terminal."""
    return "\n".join(f"{key:<11} {words}" for key, words in lines(found))


def _names(outcomes: Outcomes) -> list[str]:
    return short_names(outcomes.table)[0]


def _trials(outcomes: Outcomes, answered: Sequence[Summary]) -> str:
    where = f"{outcomes.model} on {outcomes.benchmark}"
    count = counted(len(outcomes.table), "trial")
    if not answered:
        if not any(row.errors for row in outcomes.table):
            return f"{count} of {where}, whose answers are not scored here: prunesweep-judge grades free ones"
        return f"{count} of {where}, none of which has an answer: nothing can be said"
    fewest, most = (of(row.samples for row in answered) for of in (min, max))
    samples = counted(most, "question") if fewest == most else f"{fewest} to {most} questions"
    failed = len(outcomes.table) - len(answered)
    return (
        f"{count} of {where}, {samples} on {counted(outcomes.videos, 'video')}; videos are the units of every interval and test"
        + (f"; {failed} without any answer" if failed else "")
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


def _unseen(detectable: float) -> str:
    return "of any size" if detectable > 1 else f"below {100 * detectable:.1f} points"


def _interval(low: float, high: float, sign: str = "") -> str:
    return "no interval" if math.isnan(low) else f"{low:{sign}.3f} to {high:{sign}.3f}"


def _dense(found: Verdict, names: Sequence[str]) -> list[tuple[str, str]]:
    outcomes, against = found.outcomes, found.against
    if against is None:
        return [("dense", f"no trial without reduction: add {wanted(outcomes)} to compare with it")]
    difference = against.difference
    runs = sorted({int(d) for d in against.own if d >= 0}, key=lambda d: (d != against.dense, d))
    said = [("dense", _dense_run(outcomes.table[d]) + (f", {names[d]}" if len(runs) > 1 else "")) for d in runs]
    said += [
        ("dense", f"no dense trial to compare {counted(count, 'trial')} with: add {what}")
        for what, count in against.missing.items()
    ]
    others = len(_compared(against))
    if not others:
        return said
    test = f"(paired t test clustered by video, Holm-corrected over {others}, p > {LEVEL:.2f})"
    equal = against.indistinguishable
    many = f"{len(equal)} of {others} other trial{'s' if others > 1 else ''}"
    words = f"{many} {'is' if len(equal) == 1 else 'are'} indistinguishable from dense {test}"
    said.append(("like dense", words + (f"; the cheapest: {_cheapest(found, equal[0], names)}" if equal else "")))
    safe, margin = against.within_margin, f"{100 * against.margin:g} points"
    words = f"{len(safe)} of {others} lose less than {margin} by the lower end of their 95 % intervals (each trial on its own)"
    said.append(("near dense", words + (f"; the cheapest: {_cheapest(found, safe[0], names)}" if safe else "")))
    if not math.isnan(against.detectable):
        samples, videos = int(difference.samples[against.dense]), int(difference.videos[against.dense])
        needed = statistics.samples_needed(against.margin, against.error, samples, videos)
        words = (
            f"a true difference {_unseen(against.detectable)} shows in less than {100 * POWER:.0f} % of sets of {samples} such "
        )
        words += f"questions (the median trial's error, uncorrected); {margin} take about {needed:,} questions"
        said.append(("detectable", words))
    return said


def _compared(against: AgainstDense) -> list[int]:
    """Trials that have a dense one to be compared with and are none themselves."""
    return [i for i, samples in enumerate(against.difference.samples) if samples and against.own[i] != i]


def _dense_run(row: Summary) -> str:
    low, high = statistics.accuracy_interval(scores_of(row))
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
    words += f"{statistics.REPLICATES} draws of the videos"
    if missed:
        words += f", as {'is' if len(missed) == 1 else 'are'} {len(missed)} that missed it here"
    if not math.isnan(front.hypervolume):
        low, high = front.hypervolume_interval
        spread = "the same in all draws" if low == high else _interval(low, high)
        words += f"; hypervolume {front.hypervolume:.3f} ({spread}) up to "
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
