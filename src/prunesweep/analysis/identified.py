"""What the trials of a sweep can tell apart: whose effect is its own, and whether settings foresee accuracy at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float

TOLERANCE = 1e-9
"""Of singular values, relative to the largest: below it a direction is one of rounding."""
FOLDS = 10
"""Of the held-out fit; the usual choice (Kohavi, 1995)."""
LEVEL = 0.05
"""Chance to tell importances of settings that foresee nothing, at most."""


class Identified(NamedTuple):
    """Contrasts of the settings that an additive model of all settings tells apart, and all the others together."""

    blocks: dict[str, Float[np.ndarray, "trials columns"]]
    """By setting."""
    rest: Float[np.ndarray, "trials columns"]
    """An orthonormal basis of what the other settings span beside the mean, to adjust for."""


def identified(blocks: Mapping[str, Float[np.ndarray, "trials columns"]]) -> Identified:
    """A setting is told apart if its contrasts lie outside of what all other settings and the mean span.

    So the order of the settings decides nothing, and a value that was tried once each, as in a search, explains its trial.
    """
    trials = len(next(iter(blocks.values())))
    own = {name: block - block.mean(0) for name, block in blocks.items()}
    bases = {name: _basis(block) for name, block in own.items()}
    kept: dict[str, np.ndarray] = {}
    for name in blocks:
        others = [basis for other, basis in bases.items() if other != name]
        if max((basis.shape[1] for basis in others), default=0) == trials - 1:
            continue  # one of them explains every trial
        span = _basis(np.hstack([np.zeros((trials, 1)), *others]))
        left = own[name] - span @ (span.T @ own[name])
        if _rank(left, np.linalg.norm(own[name], 2)) == blocks[name].shape[1]:
            kept[name] = blocks[name]
    unknown = [bases[name] for name in blocks if name not in kept]
    return Identified(kept, _basis(np.hstack([np.zeros((trials, 1)), *unknown])))


def _basis(columns: Float[np.ndarray, "trials columns"]) -> Float[np.ndarray, "trials rank"]:
    left, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return left[:, sizes > TOLERANCE * max(float(sizes[0]), TOLERANCE)]


def _rank(columns: Float[np.ndarray, "trials columns"], scale: np.floating) -> int:
    return int((np.linalg.svd(columns, compute_uv=False) > TOLERANCE * scale).sum())


def move_together(values: Mapping[str, Float[np.ndarray, " trials"]]) -> set[str]:
    """Settings that never varied alone: another one has other values wherever they have, and the same wherever the same.

    Where every trial has a value of its own, as in a search, two settings move together if they are in the same order or in
    the opposite one.
    """
    coded = {name: np.unique(own, return_inverse=True)[1] for name, own in values.items()}
    return {one for one, own in coded.items() for other, its in coded.items() if one != other and _same_partition(own, its)}


def _same_partition(one: np.ndarray, other: np.ndarray) -> bool:
    groups = len(np.unique(np.stack([one, other]), axis=1).T)
    if not groups == one.max() + 1 == other.max() + 1:
        return False
    return groups < len(one) or bool((one == other).all() or (one == other.max() - other).all())


def foreseen(features: Float[np.ndarray, "trials features"], values: Float[np.ndarray, " trials"], trees: int, seed: int) -> bool:
    """Whether a forest of the settings foresees held-out trials better than their mean does.

    Held-out predictions must have a smaller squared error than the mean of the trials that are not held out, and correlate
    with the values beyond chance (one-sided t test of the correlation at LEVEL).
    """
    from scipy.special import stdtr
    from sklearn.ensemble import RandomForestRegressor

    trials = len(values)
    fold = np.random.default_rng(seed).permutation(trials) % min(FOLDS, trials)
    predicted, mean = np.zeros(trials), np.zeros(trials)
    for one in range(min(FOLDS, trials)):
        out = fold == one
        forest = RandomForestRegressor(n_estimators=trees, random_state=seed).fit(features[~out], values[~out])
        predicted[out], mean[out] = forest.predict(features[out]), values[~out].mean()
    if ((predicted - values) ** 2).sum() >= ((mean - values) ** 2).sum() or not np.ptp(predicted):
        return False
    correlation = float(np.corrcoef(predicted, values)[0, 1])
    if correlation >= 1:
        return True
    statistic = correlation * math.sqrt((trials - 2) / (1 - correlation**2))
    return bool(stdtr(trials - 2, statistic) > 1 - LEVEL)
