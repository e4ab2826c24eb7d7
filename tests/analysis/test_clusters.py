"""Errors, intervals and tests of means over videos: against leaving videos out by hand, scipy, and simulated truths."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from prunesweep.analysis import ablation, clusters, significance
from prunesweep.analysis.accuracy import Accuracy, accuracies_of
from prunesweep.dev import calibration

SIZES = np.array([1, 2, 2, 5, 9, 1, 4], dtype=float)


def answers(seed: int = 0, rows: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).binomial(SIZES.astype(int), 0.6, (rows, len(SIZES))).astype(float)


def test_the_error_is_the_jackknifes_over_videos() -> None:
    right = answers()
    found = clusters.share_means(right, SIZES[None])
    for row, mean, error in zip(right, found.mean, found.error, strict=True):
        without = np.array([np.delete(row, g).sum() / np.delete(SIZES, g).sum() for g in range(len(SIZES))])
        assert error == pytest.approx(math.sqrt((len(SIZES) - 1) / len(SIZES) * ((without - mean) ** 2).sum()))


def test_videos_of_one_size_have_the_usual_error_and_freedom() -> None:
    sums = np.random.default_rng(1).integers(0, 5, (4, 12)).astype(float)
    found = clusters.share_means(sums, np.full((1, 12), 4.0))
    np.testing.assert_allclose(found.error, (sums / 4).std(1, ddof=1) / math.sqrt(12))
    np.testing.assert_allclose(found.freedom, 11)


def test_a_row_with_gaps_is_as_if_the_videos_without_answers_were_not_there() -> None:
    gaps = SIZES * [1, 0, 1, 1, 0, 1, 1]
    right = np.minimum(answers(), gaps)
    found = clusters.share_means(right, np.stack([gaps, SIZES, gaps]))
    alone = clusters.share_means(right[:, gaps > 0], gaps[None, gaps > 0])
    for ours, theirs in zip(found, alone, strict=True):
        np.testing.assert_allclose(ours[[0, 2]], np.broadcast_to(theirs, 3)[[0, 2]])


@pytest.mark.parametrize("alike", [0.0, 0.4, 1.0])
def test_degrees_of_freedom_are_those_of_the_variances_spread(alike: float) -> None:
    draw = np.random.default_rng(2)
    sums = draw.normal(0, np.sqrt(SIZES * (1 + (SIZES - 1) * alike)), (200_000, len(SIZES)))
    variance = clusters.errors(sums - sums.sum(1, keepdims=True) / SIZES.sum() * SIZES, SIZES[None]) ** 2
    expected = 2 * variance.mean() ** 2 / variance.var()
    assert clusters.freedom(SIZES[None], np.array([alike]))[0] == pytest.approx(expected, rel=0.03)


def test_fewer_than_two_videos_tell_of_no_error() -> None:
    for sizes in (np.array([[4.0]]), np.array([[0.0, 3.0]]), np.zeros((1, 2)), np.zeros((1, 0))):
        found = clusters.share_means(sizes / 2, sizes)
        assert np.isnan([found.error, found.freedom]).all()
    assert significance.accuracy_interval(accuracies_of(np.array([[2.0]]), np.array([[4.0]]))[0]) == pytest.approx(
        (math.nan, math.nan), nan_ok=True
    )


def test_one_question_a_video_has_the_exact_binomial_interval() -> None:
    right = np.repeat([1.0, 0.0], [37, 3])[None]
    (scores,) = accuracies_of(right, np.ones((1, 40)))
    exact = stats.binomtest(37, 40).proportion_ci(method="exact")
    assert scores.effective == pytest.approx(40)
    assert significance.accuracy_interval(scores) == pytest.approx((exact.low, exact.high))


def test_videos_that_answer_alike_count_as_one_question_each() -> None:
    right = np.where(np.arange(30) < 24, 5.0, 0.0)[None]
    (scores,) = accuracies_of(right, np.full((1, 30), 5.0))
    assert 25 < scores.effective <= 30
    assert scores.effective < accuracies_of(np.full((1, 30), 4.0), np.full((1, 30), 5.0))[0].effective


def test_scores_that_say_no_more_than_their_error_have_an_interval_too() -> None:
    low, high = significance.accuracy_interval(Accuracy(0.8, 0.04, 400, 50))
    assert (low, high) == pytest.approx((0.8 - 2 * 0.04, 0.8 + 2 * 0.04), abs=0.02)
    assert np.isnan(significance.accuracy_interval(Accuracy(0.8, math.nan, 4, 1))).all()


@pytest.mark.parametrize("sizes", calibration.SIZES)
def test_intervals_of_accuracies_hold_the_truth(sizes: str) -> None:
    draw = np.random.default_rng(3)
    for videos, accuracy, alike in product((10, 50, 200), (0.5, 0.9, 0.98), (0.0, 0.3, 1.0)):
        found = calibration.coverage(accuracy, alike, calibration.SIZES[sizes](videos), 800, draw)
        assert found.after >= 0.93, (videos, accuracy, alike)


@pytest.mark.parametrize("sizes", calibration.SIZES)
def test_paired_tests_seldom_tell_equals_apart(sizes: str) -> None:
    draw = np.random.default_rng(4)
    rates = [
        calibration.false_alarms(flipped, alike, calibration.SIZES[sizes](videos), 1500, draw).after
        for videos, flipped, alike in product((10, 50, 200), calibration.FLIPPED, calibration.FLIPPING)
    ]
    assert max(rates) < 0.07, "6 % and the error of 1500 draws"
    assert np.mean(rates) < 0.055


@pytest.mark.parametrize(("videos", "rank"), [(10, 1), (10, 4), (10, 8), (45, 8), (45, 16), (200, 16)])
def test_joint_tests_reject_a_true_null_as_often_as_they_say(videos: int, rank: int) -> None:
    found = calibration.effect_alarms(rank, np.full(videos, 5), 800, np.random.default_rng(5))
    assert found.after == pytest.approx(0.05, abs=0.02), "4 to 6 % and the error of 800 draws"
    assert rank < 8 or found.before > found.after + 0.03


def test_joint_tests_of_videos_of_several_sizes_do_not_reject_more() -> None:
    for rank in (1, 8):
        sizes = calibration.SIZES["1 to 8 questions"](45)
        assert calibration.effect_alarms(rank, sizes, 400, np.random.default_rng(6)).after < 0.07


def test_a_joint_test_is_hotellings() -> None:
    right = (np.random.default_rng(7).random((4, 30)) < 0.7).astype(float)
    contrasts = np.eye(3, 4) - np.eye(3, 4, 1)
    values = contrasts @ right
    squared = 30 * values.mean(1) @ np.linalg.solve(np.cov(values), values.mean(1))
    expected = stats.f.sf(squared * (30 - 3) / (3 * (30 - 1)), 3, 30 - 3)
    assert ablation.wald(contrasts, ablation.Answers(right, np.arange(30), np.ones(30))) == pytest.approx(expected)


def test_as_many_settings_as_videos_cannot_be_tested() -> None:
    right = (np.random.default_rng(8).random((6, 5)) < 0.5).astype(float)
    few = ablation.Answers(right, np.arange(5), np.ones(5))
    assert math.isnan(ablation.wald(np.eye(5, 6) - np.eye(5, 6, 1), few))
    assert not math.isnan(ablation.wald(np.eye(4, 6) - np.eye(4, 6, 1), few))
