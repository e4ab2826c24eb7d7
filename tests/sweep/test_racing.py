"""Racing: what is stopped is worse, what is on the front is kept, and whoever stops early says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from prunesweep.analysis.front import nondominated
from prunesweep.analysis.table import sweep_table
from prunesweep.cost import Shape, VisionShape
from prunesweep.report import overview
from prunesweep.report.plots import pareto_points
from prunesweep.results.records import Trial, TrialInfo, read_trial, schema, write_trial
from prunesweep.sweep.racing import Interval, Race, Raced, Rival, bet, interval, money, run_race
from prunesweep.types import Sample

SHAPE = Shape(2, 8, 2, 1, 4, 16, 100, VisionShape(1, 8, 16, 4, 12))
SAMPLES = [Sample(f"s{i}", Path("v.mp4"), "?", ("a", "b"), 0, "task", f"v{i % 70}") for i in range(300)]


def records(name: str, correct: Sequence[bool], tokens: int) -> pl.DataFrame:
    rows = [
        {
            "trial": name,
            "sample_id": sample.id,
            "video_id": sample.video_id,
            "task": sample.task,
            "correct": bool(right),
            "visual_tokens": [tokens, tokens],
            "text_tokens": 5,
            "dense_tokens": 100,
            "frames": 4,
            "generated_tokens": 0,
            "reduction_flops": 0,
            "option_rows": 0,
            "option_pairs": 0,
        }
        for sample, right in zip(SAMPLES, correct, strict=True)
    ]
    return pl.DataFrame(rows, schema=schema())


def pool(accuracies: Mapping[str, float], seed: int = 0) -> dict[str, pl.DataFrame]:
    """Trials of the given accuracies, the later the more expensive; an easy sample is easy for all."""
    hardness = np.random.default_rng(seed).random(len(SAMPLES))
    noise = np.random.default_rng(seed + 1)
    answers = {name: hardness + noise.normal(0, 0.1, len(SAMPLES)) for name in accuracies}
    return {
        name: records(name, np.argsort(np.argsort(answers[name])) < round(share * len(SAMPLES)), 10 + 10 * index)
        for index, (name, share) in enumerate(accuracies.items())
    }


def raced(trials: Mapping[str, pl.DataFrame], race: Race, rivals: Sequence[Rival] = ()) -> dict[str, Raced]:
    def evaluate(some: Sequence[Sample], names: Sequence[str]) -> dict[str, pl.DataFrame]:
        return {name: trials[name].filter(pl.col("sample_id").is_in([s.id for s in some])) for name in names}

    return run_race(race, SAMPLES, SHAPE, list(trials), rivals, evaluate)


def test_one_round_is_no_race() -> None:
    trials = pool({"cheap": 0.9, "dear": 0.3})
    for name, result in raced(trials, Race(rounds=1)).items():
        assert result.stopped is None
        assert result.records.equals(trials[name])


def test_a_hopeless_trial_is_stopped_early_and_its_record_says_how_early() -> None:
    trials = pool({"cheap": 0.9, "dear": 0.5})
    result = raced(trials, Race(rounds=10))["dear"]
    assert result.stopped is not None
    assert result.stopped.rival == "cheap"
    assert len(result.records) == result.stopped.samples <= 120 < result.stopped.planned == 300
    assert result.stopped.difference_low <= -0.4 <= result.stopped.difference_high < 0
    assert result.stopped.accuracy_low <= 0.5 <= result.stopped.accuracy_high
    assert result.stopped.difference == pytest.approx(
        result.records["correct"].mean() - trials["cheap"].join(result.records, on="sample_id", how="semi")["correct"].mean()
    )


def test_a_trial_that_costs_less_is_never_stopped_however_bad() -> None:
    results = raced(pool({"cheap": 0.1, "dear": 0.9}), Race(rounds=10))
    assert all(result.stopped is None for result in results.values())


def test_complete_trials_of_earlier_batches_are_rivals() -> None:
    everything = pool({"earlier": 0.9, "late": 0.5})
    rivals = [Rival("earlier", everything.pop("earlier"))]
    assert raced(everything, Race(rounds=10))["late"].stopped is None
    assert raced(everything, Race(rounds=10), rivals)["late"].stopped is not None


def test_a_trial_of_the_final_front_is_stopped_with_a_chance_of_at_most_alpha() -> None:
    """Ten orders of the samples; trials in small steps, so that the race is close."""
    shares = {f"t{i}": 0.5 + 0.05 * (i % 4) for i in range(8)}
    stopped_of_front = front_size = stopped = 0
    for seed in range(10):
        trials = pool(shares, seed)
        results = raced(trials, Race(rounds=4, alpha=0.2, seed=seed))
        full = {name: trial["correct"].mean() for name, trial in trials.items()}
        on = nondominated([(-index, full[name]) for index, name in enumerate(trials)])
        front = {name for name, is_on in zip(trials, on, strict=True) if is_on}
        gone = {name for name, result in results.items() if result.stopped}
        front_size, stopped = front_size + len(front), stopped + len(gone)
        stopped_of_front += len(front & gone)
    assert stopped > 10  # or the claim would be empty
    assert stopped_of_front <= 0.2 * front_size


def test_fair_bets_never_promise_more_than_chance_allows() -> None:
    """A total of exactly 0: the money reaches 20 in at most a twentieth of all orders, at whatever time one looks."""
    values = np.array([1.0] * 30 + [-1.0] * 30 + [0.0] * 140)
    generator = np.random.default_rng(0)
    orders = [generator.permutation(values) for _ in range(400)]
    reached = sum(any(money(bet(order[:n], 200)) >= 20 for n in range(20, 200, 20)) for order in orders)
    assert reached <= 0.05 * len(orders)


def test_bets_on_samples_after_a_start_count_what_came_before() -> None:
    values = np.array([-1.0, 0, -1, -1, 0, 1, -1, -1])
    whole = bet(values, 20)
    np.testing.assert_allclose(whole, bet(values[:5], 20) + bet(values, 20, start=5))
    assert (whole[-1] > 0).all()
    assert money(bet(np.array([-1.0, -1, -1]), 4)) == np.inf  # one more sample cannot make up for three


def test_intervals_hold_the_mean_at_the_time_of_stopping() -> None:
    values = np.array([1.0] * 120 + [0.0] * 80)
    generator = np.random.default_rng(1)
    missed = 0
    for _ in range(40):
        order = generator.permutation(values)
        narrow = [interval(order[:n], 200, 0.1, floor=0) for n in (40, 100, 160)]
        missed += not all(low <= 0.6 <= high for low, high in narrow)
        assert narrow[2].high - narrow[2].low < narrow[0].high - narrow[0].low
    assert missed <= 4
    assert interval(np.array([np.nan, np.nan]), 200, 0.1, floor=0) == Interval(0, 1)


def test_a_margin_stops_what_is_hardly_better_and_loses_no_more_than_itself() -> None:
    everything = pool({"known": 0.80, "hardly": 0.81, "better": 0.97})
    rivals = [Rival("known", everything.pop("known"))]
    strict, loose = (raced(everything, Race(rounds=10, margin=margin), rivals) for margin in (0.0, 0.1))
    assert [r.stopped is None for r in strict.values()] == [True, True]
    assert [r.stopped is None for r in loose.values()] == [False, True]


def test_stopped_trials_are_read_back_marked_and_on_no_front(tmp_path: Path) -> None:
    trials = pool({"cheap": 0.9, "dear": 0.5, "dearest": 0.95})
    for name, result in raced(trials, Race(rounds=10)).items():
        info = TrialInfo(name, "test", "model", "benchmark", (), {}, SHAPE, stopped=result.stopped)
        write_trial(tmp_path / name, info, result.records)
    back = [read_trial(tmp_path / name) for name in trials]
    assert back[1].info.stopped is not None
    table = sweep_table(back)
    assert {row.trial: (row.stopped, row.pareto) for row in table} == {
        "cheap": (False, True),
        "dear": (True, False),
        "dearest": (False, True),
    }
    (line,) = [line for line in overview.sweep(table, "llm_flops_ratio").splitlines() if line.split()[1:2] == ["dear"]]
    stopped = back[1].info.stopped
    interval = f"[{stopped.accuracy_low:.3f},", f"{stopped.accuracy_high:.3f}]"
    assert line.split()[2:6] == ["stopped", f"{table[1].accuracy:.3f}", *interval]
    assert f"(n={table[1].samples})" in line
    assert [point.stopped for point in pareto_points(table, "llm_flops_ratio").points] == [False, True, False]


def test_a_stopped_trial_beats_nobody() -> None:
    info = TrialInfo("x", "test", "model", "benchmark", (), {}, SHAPE)
    trials = pool({"cheap": 0.9, "dear": 0.5})
    result = raced(trials, Race(rounds=10))["dear"]
    lucky = result.records.with_columns(correct=pl.lit(True))
    table = sweep_table(
        [
            Trial(replace(info, name="cheap"), trials["cheap"], Path()),
            Trial(replace(info, name="dear", stopped=result.stopped), lucky, Path()),
        ]
    )
    assert [(row.trial, row.pareto) for row in table] == [("cheap", True), ("dear", False)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rounds": 0}, "race.rounds must be at least 1, got 0"),
        ({"alpha": 1.0}, "race.alpha must be in (0, 1), got 1"),
        ({"margin": -0.1}, "race.margin must be in [0, 1), got -0.1"),
        ({"rounds": 2, "costs": ("joules",)}, "got 'joules'"),
    ],
)
def test_races_out_of_bounds_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match="race") as caught:
        Race(**settings)
    assert message in str(caught.value)
