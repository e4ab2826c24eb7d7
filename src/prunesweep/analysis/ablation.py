"""Which setting matters?  Main effects and interactions of an ablation, and the importance of parameters.

Every effect is a linear combination of the trials' accuracies on the samples that all of them answered, so its error
follows from the same combination of answers within each video: paired, and clustered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prunesweep.analysis.accuracy import Accuracy
from prunesweep.analysis.clusters import CONFIDENCE, difference_means, effective_samples, influences, quantile, share_means
from prunesweep.analysis.identified import foreseen, identified, move_together
from prunesweep.analysis.outcomes import RIGHT, Outcomes
from prunesweep.analysis.significance import accuracy_interval, holm
from prunesweep.results.read import IGNORED, settings

if TYPE_CHECKING:
    from jaxtyping import Float

RANK_TOLERANCE = 1e-9
"""Of the smallest eigenvalue of a design's products, relative to the largest."""
ROUNDED = 12
"""Digits: sums of weights are not exactly one."""
FEW_LEVELS = 3
"""A factor of so few values is a factor, however few trials there are; one of many that hardly repeat is continuous."""
TREES, FEWER_TREES, FEW = 64, 16, 100
"""Of the forest, and of one over more than FEW trials, which takes longer; with other seeds shares move by about a point."""
MOST_FOR_IMPORTANCE = 500
"""fANOVA's time grows faster than the trials; of more than these a drawn subset is looked at, and the report says how many."""


class Factor(NamedTuple):
    """A setting that varies among trials."""

    name: str
    levels: tuple[Any, ...]
    """Its values in order: numbers ascending, then words, then None."""
    value: np.ndarray
    """Index of each trial's level."""


def _rank(value: Any) -> tuple[int, Any]:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (2, "") if value is None else (0, value) if number else (1, str(value))


REST = "not told apart"
"""The block of all settings without an effect of their own."""
SOLVED = ("reducer.match.", "matched.")
"""What a setting was solved for, and how well: not settings themselves."""


def factors(outcomes: Outcomes) -> list[Factor]:
    """The settings that vary among the trials, in the order of the configuration; None where a trial has no such setting."""
    flat = [settings(info) for info in outcomes.infos]
    names = dict.fromkeys(n for own in flat for n in own if not n.endswith(IGNORED) and not n.startswith(SOLVED))
    found = []
    for name in names:
        values = [_hashable(own.get(name)) for own in flat]
        levels = tuple(sorted(set(values), key=_rank))
        if len(levels) > 1:
            found.append(Factor(name, levels, np.array([levels.index(value) for value in values])))
    return found


def _hashable(value: Any) -> Any:
    return value if value is None or isinstance(value, (int, float, str, bool)) else str(value)


def by_reducer(outcomes: Outcomes) -> dict[str, Outcomes]:
    """The answered trials of each reducer, apart: different methods have different settings."""
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(outcomes.table):
        if row.samples:
            groups.setdefault(row.reducer, []).append(index)
    return {name: outcomes.trials(chosen) for name, chosen in groups.items()}


class Estimate(NamedTuple):
    """A linear combination of accuracies with its interval at CONFIDENCE."""

    value: float
    error: float
    low: float
    high: float


@dataclass(frozen=True)
class Level:
    """One value of a factor: its adjusted mean accuracy over the other factors' values."""

    value: Any
    trials: int
    accuracy: Estimate
    effect: Estimate
    """Against the mean of the factor's levels, paired: what of the accuracy this value is good for."""


@dataclass(frozen=True)
class MainEffect:
    factor: str
    levels: tuple[Level, ...]
    p_value: float
    """Clustered Wald test that all levels are alike; NaN where the videos are too few for it: see `wald`."""
    adjusted: float = math.nan
    """Holm-corrected over the factors."""

    @property
    def range(self) -> float:
        """Between the best and the worst level."""
        values = [level.effect.value for level in self.levels]
        return max(values) - min(values)


@dataclass(frozen=True)
class Cell:
    first: Any
    second: Any
    trials: int
    accuracy: Estimate


@dataclass(frozen=True)
class Interaction:
    """Two factors together: mean accuracies of their cells, and whether one's effect depends on the other."""

    factors: tuple[str, str]
    cells: tuple[Cell, ...]
    p_value: float
    """Clustered Wald test that the effects add up; NaN where it cannot be estimated."""
    adjusted: float = math.nan


@dataclass(frozen=True)
class Ablation:
    """What the trials of one reducer say about its settings."""

    reducer: str
    trials: int
    samples: int
    """That all these trials answered."""
    videos: int
    main: tuple[MainEffect, ...]
    interactions: tuple[Interaction, ...]
    confounded: tuple[str, ...]
    """Factors whose effects these trials cannot tell from others'."""
    continuous: tuple[str, ...] = ()
    """The same of factors whose values hardly ever repeat, as in a search: importance may tell about them."""


class Answers(NamedTuple):
    """The samples that all trials answered, sorted by video."""

    right: Float[np.ndarray, "trials samples"]
    starts: np.ndarray
    """First sample of each video."""
    asked: Float[np.ndarray, " videos"]

    @property
    def videos(self) -> int:
        return len(self.asked)

    def by_video(self, values: Float[np.ndarray, "rows samples"]) -> Float[np.ndarray, "rows videos"]:
        return np.add.reduceat(values, self.starts, axis=1) if self.videos else np.zeros((len(values), 0))


def ablation(outcomes: Outcomes, reducer: str) -> Ablation | None:
    """Of trials of one reducer; None with fewer than two trials or no factor.

    Main effects come from the additive model of all factors (least squares, effects that sum to zero), so they are adjusted
    for the others where the grid is unbalanced; an interaction adds one pair's products to it.  Factors that the trials cannot
    tell apart, and what they alone would show, have no effect here: they are named.
    """
    varying = factors(outcomes)
    if len(outcomes.table) < 2 or not varying:
        return None
    most = max(FEW_LEVELS, len(outcomes.table) // 2)
    answers = _common(outcomes)
    kept, rest = identified({factor.name: _contrasts(factor) for factor in varying})
    found = [factor for factor in varying if factor.name in kept]
    unknown = [factor for factor in varying if factor.name not in kept]
    model = {**kept, REST: rest} if rest.shape[1] else kept
    main = [_main_effect(factor, model, answers) for factor in found]
    pairs = [_interaction(one, other, model, answers) for one, other in combinations(found, 2)]
    interactions = [pair for pair in pairs if pair and not (unknown and math.isnan(pair.p_value))]
    return Ablation(
        reducer=reducer,
        trials=len(outcomes.table),
        samples=int(answers.asked.sum()),
        videos=answers.videos,
        main=tuple(_corrected(main)),
        interactions=tuple(_corrected(interactions)),
        confounded=tuple(factor.name for factor in unknown if len(factor.levels) <= most),
        continuous=tuple(factor.name for factor in unknown if len(factor.levels) > most),
    )


def _corrected(effects: Sequence[Any]) -> list[Any]:
    adjusted = holm([effect.p_value for effect in effects])
    return [replace(effect, adjusted=float(p)) for effect, p in zip(effects, adjusted, strict=True)]


def _common(outcomes: Outcomes) -> Answers:
    both: np.ndarray = np.all(outcomes.answered, axis=0)
    _, starts, asked = np.unique(outcomes.video[both], return_index=True, return_counts=True)
    return Answers((outcomes.correct[:, both] == RIGHT).astype(float), starts, asked.astype(float))


def _contrasts(factor: Factor) -> Float[np.ndarray, "trials columns"]:
    """Effects that sum to zero over the levels: one column per level but the last, which is minus one in all."""
    one_hot = np.eye(len(factor.levels))[factor.value]
    return one_hot[:, :-1] - one_hot[:, -1:]


def _design(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """A column of ones for the mean, then the blocks' columns."""
    return np.hstack([np.ones((len(blocks[0]), 1)), *blocks])


def _independent(design: np.ndarray) -> bool:
    eigenvalues = np.linalg.eigvalsh(design.T @ design)
    return bool(eigenvalues[0] > RANK_TOLERANCE * eigenvalues[-1])


def _weights(blocks: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, slice]]:
    """Rows that turn accuracies into coefficients, and where each block's are; the first is the mean."""
    design = _design(list(blocks.values()))
    inverse = np.linalg.solve(design.T @ design, design.T)
    edges = np.cumsum([1, *(block.shape[1] for block in blocks.values())])
    return inverse, {name: slice(a, b) for name, a, b in zip(blocks, edges, edges[1:], strict=False)}


def _estimates(rows: Float[np.ndarray, "rows trials"], answers: Answers) -> list[Estimate]:
    """Differences of accuracies, with Student's intervals clustered by video."""
    values = rows @ answers.right
    found = difference_means(answers.by_video(values), answers.by_video(values**2), answers.asked[None])
    margin = quantile((1 + CONFIDENCE) / 2, found.freedom) * found.error
    columns = (found.mean, found.error, found.mean - margin, found.mean + margin)
    return [Estimate(*(float(x) for x in row)) for row in zip(*columns, strict=True)]


def _accuracies(rows: Float[np.ndarray, "rows trials"], answers: Answers) -> list[Estimate]:
    """Combinations that are means of accuracies: intervals within [0, 1], exact where all answers are alike."""
    means = share_means(answers.by_video(rows @ answers.right), answers.asked[None])
    found = []
    for mean, error, effective in zip(means.mean, means.error, effective_samples(means), strict=True):
        value = round(float(mean), ROUNDED)
        scores = Accuracy(value, float(error), int(answers.asked.sum()), answers.videos, float(effective))
        low, high = accuracy_interval(scores)
        alike = value in (0.0, 1.0)  # an adjusted mean may leave [0, 1]
        found.append(Estimate(value, math.nan if alike else scores.error, min(low, value), max(high, value)))
    return found


def wald(rows: Float[np.ndarray, "rows trials"], answers: Answers) -> float:
    """P-value of all q combinations being zero, in Hotelling's form: W (f - q + 1) / (q f) is F with q and f - q + 1.

    f are the degrees of freedom of the errors, G - 1 with G videos of one size, fewer otherwise (Pustejovsky and Tipton,
    2018).  NaN where there are no more videos than combinations, or so few of unequal size: then it cannot be tested.
    """
    from scipy.special import fdtrc

    values = rows @ answers.right
    sums, rank = answers.by_video(values), len(rows)
    found = difference_means(sums, answers.by_video(values**2), answers.asked[None])
    left = float(found.freedom.mean()) - rank + 1
    if answers.videos <= rank or np.isnan(found.mean).any() or not left > 0:
        return math.nan
    if not found.mean.round(ROUNDED).any():
        return 1.0
    moved = influences(sums - found.mean[:, None] * answers.asked, answers.asked[None])
    covariance = moved @ moved.T
    if np.linalg.matrix_rank(covariance) < rank:
        return math.nan
    statistic = found.mean @ np.linalg.solve(covariance, found.mean) / rank
    return float(fdtrc(rank, left, statistic * left / (left + rank - 1)))


def _main_effect(factor: Factor, blocks: dict[str, np.ndarray], answers: Answers) -> MainEffect:
    inverse, place = _weights(blocks)
    own = inverse[place[factor.name]]
    effects = np.vstack([own, -own.sum(0, keepdims=True)])
    accuracy, effect = _accuracies(inverse[:1] + effects, answers), _estimates(effects, answers)
    counts = np.bincount(factor.value, minlength=len(factor.levels))
    levels = [Level(*row) for row in zip(factor.levels, counts.tolist(), accuracy, effect, strict=True)]
    return MainEffect(factor.name, tuple(levels), wald(own, answers))


def _interaction(one: Factor, other: Factor, blocks: dict[str, np.ndarray], answers: Answers) -> Interaction | None:
    """None if one of the factors cannot be told from others, or no two values of each were tried together."""
    if one.name not in blocks or other.name not in blocks:
        return None
    cells = {
        (a, b): np.flatnonzero((one.value == a) & (other.value == b))
        for a in range(len(one.levels))
        for b in range(len(other.levels))
    }
    tried = {cell: trials for cell, trials in cells.items() if len(trials)}
    if len({a for a, _ in tried}) < 2 or len(tried) < len(one.levels) + len(other.levels):
        return None
    rows = np.zeros((len(tried), len(one.value)))
    for row, trials in zip(rows, tried.values(), strict=True):
        row[trials] = 1 / len(trials)
    means = _accuracies(rows, answers)
    found = [
        Cell(one.levels[a], other.levels[b], len(trials), mean)
        for ((a, b), trials), mean in zip(tried.items(), means, strict=True)
    ]
    return Interaction((one.name, other.name), tuple(found), _interaction_p(one, other, blocks, answers))


def _interaction_p(one: Factor, other: Factor, blocks: dict[str, np.ndarray], answers: Answers) -> float:
    first, second = blocks[one.name], blocks[other.name]
    product = (first[:, :, None] * second[:, None, :]).reshape(len(first), -1)
    design = {**blocks, "product": product}
    if not _independent(_design(list(design.values()))):
        return math.nan
    inverse, place = _weights(design)
    return wald(inverse[place["product"]], answers)


def ablations(outcomes: Outcomes) -> list[Ablation]:
    """Of every reducer that has something to say."""
    found = (ablation(own, reducer) for reducer, own in by_reducer(outcomes).items())
    return [one for one in found if one]


# Importance


class Importance(NamedTuple):
    """Of the parameters of one reducer for one number: what each explains alone; what they explain jointly is left to one."""

    reducer: str
    target: str
    shares: dict[str, float]
    """Largest first."""
    trials: int


def importance(outcomes: Outcomes, reducer: str, target: str = "accuracy", seed: int = 0) -> Importance | None:
    """Optuna's fANOVA: the share of the number's variance over the space of settings that each parameter explains alone.

    (Hutter, Hoos and Leyton-Brown, 2014: of a random forest's prediction, so an estimate.)  Of one reducer's trials, in
    whatever order; None where it would be made up: with fewer than four trials, if nothing varies, or if a forest of the
    settings foresees held-out trials no better than their mean (`identified.foreseen`).  Settings that never varied alone
    have no share.
    """
    import optuna

    found = factors(outcomes)
    values = np.array([getattr(row, target) for row in outcomes.table], dtype=float)
    chosen = np.flatnonzero(~np.isnan(values))
    order = np.lexsort([values[chosen], *(factor.value[chosen] for factor in found)])  # forests depend on it
    chosen = chosen[order]
    if len(chosen) > MOST_FOR_IMPORTANCE:
        chosen = np.sort(np.random.default_rng(seed).choice(chosen, MOST_FOR_IMPORTANCE, replace=False))
    if len(chosen) < FEWEST_FOR_IMPORTANCE or not found or not np.ptp(values[chosen]):
        return None
    trees = TREES if len(chosen) <= FEW else FEWER_TREES
    if not foreseen(np.hstack([_features(factor)[chosen] for factor in found]), values[chosen], trees, seed):
        return None
    together = move_together({factor.name: factor.value[chosen] for factor in found})
    distributions = {factor.name: _distribution(factor) for factor in found}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(study_name=reducer)
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={factor.name: distributions[factor.name].encode(factor.levels[factor.value[i]]) for factor in found},
                distributions={name: one.distribution for name, one in distributions.items()},
                value=float(values[i]),
            )
            for i in chosen
        ]
    )
    shares = optuna.importance.FanovaImportanceEvaluator(n_trees=trees, seed=seed).evaluate(study)  # not made to sum to one
    told = {name: float(share) for name, share in shares.items() if name not in together}
    return Importance(reducer, target, told, len(chosen)) if told else None


FEWEST_FOR_IMPORTANCE = 4
"""A forest over fewer trials explains nothing."""


def _features(factor: Factor) -> Float[np.ndarray, "trials columns"]:
    """Numbers as they are, anything else a column per level."""
    if _is_number(factor):
        return np.array(factor.levels, dtype=float)[factor.value][:, None]
    return np.eye(len(factor.levels))[factor.value]


def _is_number(factor: Factor) -> bool:
    return all(isinstance(level, (int, float)) and not isinstance(level, bool) for level in factor.levels)


class _Encoded(NamedTuple):
    distribution: Any
    encode: Callable[[Any], Any]


def _distribution(factor: Factor) -> _Encoded:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if _is_number(factor):
        return _Encoded(FloatDistribution(float(factor.levels[0]), float(factor.levels[-1])), float)
    return _Encoded(CategoricalDistribution([str(level) for level in factor.levels]), str)


def importances(outcomes: Outcomes, target: str = "accuracy") -> list[Importance]:
    """Of every reducer with enough trials."""
    found = (importance(own, reducer, target) for reducer, own in by_reducer(outcomes).items())
    return [one for one in found if one]
