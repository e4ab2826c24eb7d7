"""How often a statement of tune is wrong, on records made up so that the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from prunesweep.dev.tune_errors import errors_of, table
from prunesweep.results.records import Trial
from support.records import made

VIDEOS, EACH = 200, 2


def trials(loss: float, seed: int = 0) -> list[Trial]:
    """A dense one that is right nine times of ten, and three that lose so much of it, at less cost."""
    dice = np.random.default_rng(seed)
    videos = [str(n // EACH) for n in range(VIDEOS * EACH)]
    dense = dice.random(len(videos)) < 0.9
    out = [made("none", letters(dense), videos)]
    for index in range(3):
        keeps = dense & (dice.random(len(videos)) >= loss / 0.9)
        out.append(made(f"prunevid {index}", letters(keeps), videos, (4, 2)))
    return out


def letters(right: np.ndarray) -> str:
    return "".join("+" if one else "-" for one in right)


def test_a_loss_within_the_margin_is_said_and_a_larger_one_is_not() -> None:
    none = errors_of(trials(0.0), margin=0.05, seeds=20)
    assert (none.within, none.false_within, none.covered) == (20, 0, 20)
    large = errors_of(trials(0.2), margin=0.05, seeds=20)
    assert (large.within, large.losing) == (0, 20)


def test_at_the_margin_few_statements_are_false() -> None:
    found = [errors_of(trials(0.05, seed), margin=0.05, seeds=5) for seed in range(12)]
    assert sum(one.false_within for one in found) <= 0.1 * sum(one.seeds for one in found)
    assert sum(one.covered for one in found) >= 0.9 * sum(one.seeds for one in found)


def test_a_sweep_without_a_dense_trial_says_so() -> None:
    with pytest.raises(ValueError, match="no dense trial"):
        errors_of(trials(0.1)[1:], 0.01, 2)


def test_a_table_has_a_row_for_each_and_their_sum() -> None:
    head, _, *rows = table(trials(0.0), [0.8, 1.0], [0.05], seeds=4)
    assert head.startswith("| budget | margin | loses | seeds | lose the margin | said to be within | of these false |")
    assert rows[0].startswith("| 0.8x | 5 points | 0.0 points | 4 | 0 | 4 | 0 |")
    assert rows[-1].startswith("| all |  |  | 8 | 0 | 8 | 0 |")
    assert len(rows) == 3
