"""The interval of a front's area: against the steps' own area, and truths of simulated sweeps."""

from __future__ import annotations

import numpy as np
import pytest

from prunesweep.analysis.front import hypervolume, steps
from prunesweep.analysis.selection import area_interval, front_weights
from prunesweep.dev import calibration


def test_the_weights_of_a_fronts_trials_sum_to_its_area() -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        costs = np.sort(draw.integers(1, 8, 12) / 8)
        accuracy = draw.integers(0, 6, 12) / 6
        accuracy[draw.integers(1, 12)] = np.nan
        area = hypervolume(*steps(costs, accuracy), costs[-1])
        assert front_weights(costs, accuracy) @ np.nan_to_num(accuracy) == pytest.approx(float(area))


def test_the_interval_holds_the_true_area_however_many_trials_are_chosen_from() -> None:
    draw = np.random.default_rng(1)
    for trials in (10, 40, 100):
        found = [calibration.area_coverage(trials, np.full(40, 5), 30, draw) for _ in range(4)]
        assert np.mean([one.after for one in found]) >= 0.93
    assert np.mean([one.before for one in found]) < 0.87


def test_the_measured_area_is_within_and_luck_widens_the_interval_below() -> None:
    draw = np.random.default_rng(2)
    costs, sizes = np.linspace(0.1, 1, 60), np.full((60, 30), 4)
    right = draw.binomial(4, 0.7, (60, 30))
    low, high = area_interval(costs, right, sizes)
    measured = front_weights(costs, right.sum(1) / 120) @ (right.sum(1) / 120)
    assert low < measured < high
    assert measured - low > 1.5 * (high - measured)
    few = area_interval(costs[::59], right[::59], sizes[::59])
    assert few.low < front_weights(costs[::59], right[::59].sum(1) / 120) @ (right[::59].sum(1) / 120) < few.high


@pytest.mark.parametrize("costs", [[0.5, 0.5], [np.nan, 1.0], [0.0, 0.0]])
def test_where_there_is_no_area_there_is_no_interval(costs: list[float]) -> None:
    assert np.isnan(area_interval(np.array(costs), np.ones((2, 4)), np.ones((2, 4)))).all()
