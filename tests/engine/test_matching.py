"""Methods at equal cost: the solved setting costs what was asked for, on every sample that is evaluated with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from prunesweep.checks import InfeasibleError
from prunesweep.cost import ledger
from prunesweep.engine.budget import Calibration, solve
from prunesweep.engine.plan import plan
from prunesweep.engine.prefix_tree import Clock, Job, evaluate_jobs
from prunesweep.engine.protocol import Protocol
from prunesweep.models.llava_onevision import LlavaOnevision
from prunesweep.reducers import Match, Reducer
from prunesweep.types import Sample
from support.facts import RUNNABLE
from support.trials import FRAMES, reducer_of

CHOOSE = Protocol(style="words", answering="choose")


MERGE_WHAT_STANDS_STILL = ("prunevid", "holitom", "sttm", "scissor")
"""Most of a drawn clip, whatever the knob."""
OUT_OF_REACH = ("none", "lookm", "tome")
"""LOOK-M's prompt is the dense one; the small tower is so shallow that ToMe leaves more patches than there are visual tokens."""


@pytest.fixture(scope="module")
def calibration(samples: list[Sample], model: LlavaOnevision) -> Calibration:
    return Calibration(model, samples)


def matched(name: str, calibration: Calibration, match: Match, **changes: object) -> tuple[Reducer, object]:
    return solve(replace(reducer_of(name, **changes), match=match), calibration, FRAMES, CHOOSE)


@pytest.mark.parametrize("name", [name for name in RUNNABLE if name not in OUT_OF_REACH])
@pytest.mark.parametrize("cost", ["flops", "layer_average", "entrance"])
def test_what_a_solved_reducer_costs_is_what_the_solution_says(
    samples: list[Sample], model: LlavaOnevision, calibration: Calibration, name: str, cost: str
) -> None:
    """On the very videos it was solved on, evaluated for real and read from the ledger."""
    if cost == "entrance" and reducer_of(name).merge is None and reducer_of(name).input is None:
        pytest.skip("nothing happens at the entrance of the LLM")
    match = Match(**{cost: 0.12 if name.startswith(MERGE_WHAT_STANDS_STILL) else 0.45}, videos=2, tolerance=0.5)
    reducer, solution = matched(name, calibration, match)
    chosen = [questions[0] for questions in calibration.chosen(2)]
    outcomes = evaluate_jobs(model, [Job(s.id, plan(s, FRAMES, reducer, CHOOSE, model)) for s in chosen], Clock())
    own = [ledger(model.shape, replace(a.usage, cached_tokens=None)) for _, a, _ in outcomes]
    dense = [ledger(model.shape, a.usage.dense()) for _, a, _ in outcomes]
    reached = {
        "flops": sum(c.prefill for c in own) / sum(c.prefill for c in dense),
        "layer_average": sum(c.layer_ratio for c in own) / 2,
        "entrance": sum(c.entrance_ratio for c in own) / 2,
    }[cost]
    assert reached == pytest.approx(solution.reached)
    assert abs(solution.reached - solution.target) <= match.tolerance * solution.target
    assert solution.videos == tuple(s.video_id for s in chosen)


def test_what_is_out_of_reach_is_refused_with_what_is_not(calibration: Calibration) -> None:
    with pytest.raises(InfeasibleError, match=r"tome comes no closer to flops=0.4 than [\d.]+ with input.keep_ratio="):
        matched("tome", calibration, Match(flops=0.4, videos=2))


def test_a_share_is_solved_to_the_nearest_token(calibration: Calibration) -> None:
    reducer, solution = matched("random", calibration, Match(entrance=0.23, videos=3))
    assert abs(solution.reached - 0.23) <= 0.5 / (36 * FRAMES)
    assert reducer.merge.keep_ratio == solution.value


def test_a_grid_is_the_nearest_of_those_not_too_elongated(calibration: Calibration) -> None:
    reducer, solution = matched("stride", calibration, Match(entrance=0.23))
    assert (solution.value, solution.reached) == ("rows=2 columns=4", pytest.approx(8 / 36))
    assert (reducer.merge.rows, reducer.merge.columns) == (2, 4)


def test_caches_are_matched_where_the_prompt_costs_the_same(calibration: Calibration) -> None:
    reducer, solution = matched("lookm", calibration, Match(kv=0.3))
    assert solution.reached == pytest.approx(0.3, abs=0.01)
    assert reducer.evict.heavy_ratio == solution.value
    with pytest.raises(ValueError, match=r"comes no closer to flops=0.3 than 1.0000"):
        matched("lookm", calibration, Match(flops=0.3))


def test_caches_that_stay_whole_count_in_full(samples: list[Sample], model: LlavaOnevision, calibration: Calibration) -> None:
    """FastV with two of eight layers whole: a quarter of the caches stays whatever it keeps."""
    reducer, solution = matched("fastv", calibration, Match(kv=0.4))
    assert solution.reached == pytest.approx((2 + 6 * reducer.prune.keep_ratio) / 8, abs=1e-3)
    with pytest.raises(ValueError, match=r"comes no closer to kv=0.2 than 0.25\d+"):
        matched("fastv", calibration, Match(kv=0.2))
    (outcome,) = evaluate_jobs(model, [Job("it", plan(samples[0], FRAMES, reducer, CHOOSE, model))], Clock())
    a = outcome.result
    cost = ledger(model.shape, a.usage)
    assert cost.kv_ratio == pytest.approx(solution.reached)
    cut, _ = matched("fastv", calibration, Match(kv=0.2), prune__earlier_caches="cut")
    assert cut.prune.keep_ratio == pytest.approx(0.2, abs=0.01)


def test_another_knob_can_be_named(calibration: Calibration) -> None:
    reducer, solution = matched("prunevid", calibration, Match(flops=0.45), knob="prune.layer", merge=None)
    assert reducer.prune.layer == solution.value == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"knob": "merge.color"}, "Drop has no setting 'color'"),
        ({"knob": "prune.keep_ratio"}, "must begin with a part that random has"),
        ({"knob": "merge.positions"}, "must be a number, but merge.positions is 'renumbered'"),
        ({"knob": "merge.seed"}, "merge.seed is a whole number; Drop must give its bounds"),
        ({"knob": "merge"}, "must name a setting of merge"),
    ],
)
def test_a_knob_that_cannot_be_solved_is_named(calibration: Calibration, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        matched("random", calibration, Match(flops=0.3), **change)


def test_a_cost_out_of_reach_is_refused_with_the_nearest(calibration: Calibration) -> None:
    with pytest.raises(ValueError, match=r"fastv comes no closer to flops=0.05 than 0.2\d+ with prune.keep_ratio="):
        matched("fastv", calibration, Match(flops=0.05))


def test_videos_that_cannot_be_read_are_passed_over(samples: list[Sample], model: LlavaOnevision) -> None:
    gone = replace(samples[0], id="gone", path=Path("gone.mp4"), video_id="gone")
    _, solution = solve(
        replace(reducer_of("random"), match=Match(flops=0.3)), Calibration(model, [gone, samples[0]]), FRAMES, CHOOSE
    )
    assert solution.videos == (samples[0].video_id,)
    with pytest.raises(ValueError, match="none of the 8 videos to match random on .*: gone.mp4: no such file"):
        solve(replace(reducer_of("random"), match=Match(flops=0.3)), Calibration(model, [gone]), FRAMES, CHOOSE)


def test_questions_that_cannot_be_asked_are_passed_over(samples: list[Sample], model: LlavaOnevision) -> None:
    """The next question on the video is counted, as long as one can be asked."""
    mute = replace(samples[0], id="mute", problem="no text in 'question'")
    asked = replace(reducer_of("random"), match=Match(flops=0.3))
    _, solution = solve(asked, Calibration(model, [mute, samples[0]]), FRAMES, CHOOSE)
    assert solution == solve(asked, Calibration(model, [samples[0]]), FRAMES, CHOOSE)[1]
    with pytest.raises(ValueError, match="can be read and asked about: no text in 'question'"):
        solve(asked, Calibration(model, [mute]), FRAMES, CHOOSE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "exactly one of flops, layer_average, entrance, kv, attended, got none"),
        ({"flops": 0.2, "kv": 0.2}, "got flops, kv"),
        ({"flops": 1.2}, r"reducer.match.flops must be in \(0, 1\], got 1.2"),
        ({"flop": 0.2}, "reducer.match has no 'flop'; known: flops"),
        ({"flops": 0.2, "videos": 0}, "reducer.match.videos must be at least 1"),
    ],
)
def test_a_match_that_means_nothing_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Reducer("random", match=settings, knob="merge.keep_ratio")
