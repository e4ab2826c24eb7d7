"""One axis of costs per model and benchmark, and pairs with the dense trial on the same frames and prompts."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from prunesweep.analysis import significance
from prunesweep.analysis.axis import kept, relative
from prunesweep.analysis.comparison import paired
from prunesweep.analysis.costs import ABSOLUTE, COSTS, counted
from prunesweep.analysis.counterparts import counterparts
from prunesweep.analysis.outcomes import collect
from prunesweep.analysis.summary import Summary
from prunesweep.analysis.table import rows_of, summarize, sweep_table
from prunesweep.cost import Usage
from prunesweep.report import tables
from prunesweep.report.verdict import lines, verdict
from prunesweep.results.records import Trial, TrialInfo, to_frame
from prunesweep.sweep.racing import Race, Track
from support.records import SHAPE, record

PER_FRAME = 4
"""Patches and visual tokens."""


def made(
    reducer: str = "none",
    frames: int = 2,
    kept: float = 1.0,
    answers: str = "++++----",
    text: int = 5,
    protocol: str = "choose",
    patches: int | None = None,
    cached: float | None = None,
    model: str = "tiny",
    overrides: tuple[str, ...] | None = None,
    **info,
) -> Trial:
    """A trial that keeps a share of the visual tokens in every layer; a question per video."""
    tokens = frames * PER_FRAME
    rows = [
        replace(
            record(f"q{i}", one == "+", str(i), reducer),
            usage=Usage(
                visual_tokens=(round(kept * tokens),) * 2,
                text_tokens=text,
                frames=frames,
                dense_tokens=tokens,
                cached_tokens=None if cached is None else (round(cached * tokens),) * 2,
                vision_patches=patches,
            ),
        )
        for i, one in enumerate(answers)
    ]
    settings = {"reducer": {"name": reducer}, "video": {"frames": frames}, "protocol": {"style": protocol}}
    given = (f"video.frames={frames}", f"protocol={protocol}") if overrides is None else overrides
    about = TrialInfo(f"{reducer} frames={frames} {protocol} {kept:g}", reducer, model, "blocks", given, settings, SHAPE)
    return Trial(replace(about, **info), to_frame(rows), None)


MIXED = {
    "frames": [made(r, f, k) for f, (r, k) in product((2, 6), (("none", 1.0), ("prunevid", 0.5), ("prunevid", 0.25)))],
    "prompts": [
        made(r, 2, k, text=t, protocol=p) for (t, p), (r, k) in product(((5, "a"), (90, "b")), (("none", 1), ("x", 0.5)))
    ],
    "scales": [made("none"), made("downsample", kept=0.25, patches=1), made("downsample", 6, 0.25, patches=1), made("none", 6)],
    "no dense run": [made("prunevid", f, k) for f, k in product((2, 6), (0.5, 0.25))],
    "dense on few frames only": [made("none", 2), made("prunevid", 6, 0.5), made("prunevid", 2, 0.5)],
    "caches": [made("lookm", cached=0.5), made("none"), made("lookm", 6, cached=0.25)],
}


def ordered(table: list[Summary], cost: str) -> bool:
    """Whether the shares order the trials as what they are shares of."""
    return all(
        (getattr(a, cost) < getattr(b, cost)) == (getattr(a, ABSOLUTE[cost]) < getattr(b, ABSOLUTE[cost]))
        for a, b in product(table, table)
    )


@pytest.mark.parametrize("mixed", MIXED)
@pytest.mark.parametrize("cost", ABSOLUTE)
def test_shares_order_trials_as_absolute_costs_do(mixed: str, cost: str) -> None:
    table = sweep_table(MIXED[mixed], cost)
    assert ordered(table, cost)
    assert [row.trial for row in table if row.pareto] == [
        row.trial for row in sweep_table(MIXED[mixed], ABSOLUTE[cost]) if row.pareto
    ]
    (outcomes,) = collect(MIXED[mixed], cost)
    assert {row.trial: getattr(row, cost) for row in outcomes.table} == {row.trial: getattr(row, cost) for row in table}


def test_all_shares_are_of_the_dearest_dense_run_by_its_name() -> None:
    rows = rows_of(MIXED["frames"])
    dearest = next(row for row in rows if row.trial == "none frames=6 choose 1")
    assert {row.relative_to for row in rows} == {"the dense run none frames=6 choose 1 (6 frames)"}
    for row, cost in product(rows, ABSOLUTE):
        assert getattr(row, cost) == getattr(row, ABSOLUTE[cost]) / getattr(dearest, ABSOLUTE[cost])
    assert next(row.entrance_ratio for row in rows if row.trial == "none frames=2 choose 1") == pytest.approx(1 / 3)


def test_without_a_dense_run_the_dearest_setting_is_counted_and_said_to_be() -> None:
    rows, run = rows_of(MIXED["no dense run"]), summarize(made("none", 6))
    assert {row.relative_to for row in rows} == {"the dense model at 6 frames, counted without a run"}
    assert rows[0].llm_flops_ratio == pytest.approx(rows[0].llm_flops / run.llm_flops)
    assert rows[0].kv_ratio == pytest.approx(rows[0].kv_tokens / run.kv_tokens)


def test_every_model_and_benchmark_has_its_own_axis() -> None:
    small = [made("none", 6), made("prunevid", 6, 0.5)]
    large = [made("none", 2, model="large"), made("prunevid", 2, 0.5, model="large")]
    table = sweep_table([*small, *large])
    assert [row.llm_flops_ratio for row in table if row.dense] == [1, 1]
    assert len({row.relative_to for row in table}) == 2
    assert [row.relative_to for row in table[:2]] == [table[0].relative_to] * 2, "those of one axis stand together"


def test_a_trial_alone_is_relative_to_its_own_dense_model() -> None:
    row = summarize(made("prunevid", 6, 0.5))
    assert (row.entrance_ratio, row.relative_to) == (0.5, "the dense model at 6 frames, counted without a run")
    assert row.llm_flops_ratio == row.llm_flops / row.dense_llm_flops


@pytest.mark.parametrize(
    ("trial", "dense"),
    [
        (made(), True),
        (made("all", kept=1.0), True),
        (made(patches=PER_FRAME), True),
        (made("x", kept=0.5), False),
        (made("lookm", cached=0.5), False),
        (made("small", patches=1), False),
    ],
)
def test_a_dense_trial_leaves_nothing_out_anywhere(trial: Trial, dense: bool) -> None:
    assert summarize(trial).dense is dense


def test_a_stopped_or_failed_dense_run_is_no_denominator() -> None:
    whole = made("none", 2)
    gone = made("none", 6)
    failed = gone._replace(records=gone.records.with_columns(error=pl.lit("gone"), correct=pl.lit(None, pl.Boolean)))
    rows = rows_of([whole, failed])
    assert rows[0].llm_flops_ratio == 1
    assert math.isnan(rows[1].llm_flops_ratio)


def test_trials_are_paired_with_the_dense_trial_on_their_own_frames_and_prompts() -> None:
    trials = [
        *(made(r, f, k, a) for f, (r, k, a) in product((2, 6), (("none", 1.0, "+++++---"), ("prunevid", 0.5, "++++-+--")))),
        made("none", 2, 1.0, "--------", text=90, protocol="long"),
        made("prunevid", 2, 0.5, "+-------", text=90, protocol="long"),
    ]
    (outcomes,) = collect(trials)
    against = significance.against_dense(outcomes)
    assert against is not None
    assert against.own.tolist() == [0, 0, 2, 2, 4, 4]
    assert against.missing == {}
    for index, of in ((1, 0), (3, 2), (5, 4)):
        expected = paired(trials[index].records, trials[of].records)
        assert against.difference.mean[index] == pytest.approx(expected.mean)
        assert (against.difference.gained[index], against.difference.lost[index]) == (expected.gained, expected.lost)
    assert np.isnan(against.holm[[0, 2, 4]]).all()


def test_a_missing_dense_trial_is_named_and_its_trials_are_compared_with_no_other() -> None:
    trials = [made("none", 2), made("prunevid", 2, 0.5), made("prunevid", 6, 0.5), made("prunevid", 6, 0.25)]
    (outcomes,) = collect(trials)
    against = significance.against_dense(outcomes)
    assert against is not None
    assert against.own.tolist() == [0, 0, -1, -1]
    assert against.missing == {"reducer=none video.frames=6": 2}
    assert np.isnan(against.difference.mean[2:]).all()
    said = [words for _, words in lines(verdict(outcomes, with_importance=False))]
    assert "no dense trial to compare 2 trials with: add reducer=none video.frames=6" in said
    assert "no dense trial for 2 trials: add reducer=none video.frames=6" in tables.against_table(outcomes).notes


def test_a_sweep_without_any_dense_trial_names_all_that_are_missing() -> None:
    (outcomes,) = collect(MIXED["no dense run"])
    said = dict(lines(verdict(outcomes, with_importance=False)))["dense"]
    assert said.endswith("add reducer=none video.frames=2 and reducer=none video.frames=6 to compare with it")
    with pytest.raises(ValueError, match="reducer=none video.frames=2 and reducer=none video.frames=6"):
        tables.against_table(outcomes)


def test_other_weights_and_other_subtitles_are_no_counterpart_and_fewer_questions_are() -> None:
    trials = [
        made("none", model_key="a", overrides=("benchmark.subtitles=all",)),
        made("x", kept=0.5, model_key="b", overrides=("benchmark.subtitles=all",)),
        made("x", kept=0.5, model_key="a", overrides=("benchmark.subtitles=frames",)),
        made("x", kept=0.5, model_key="a", overrides=("benchmark.subtitles=all", "benchmark.limit=4"), answers="++--"),
        made("x", kept=0.5, overrides=("benchmark.subtitles=all",)),
    ]
    (outcomes,) = collect(trials)
    assert counterparts(outcomes).dense == (0, None, None, 0, 0)


def test_a_race_holds_trials_against_those_that_really_cost_no_more() -> None:
    """Half of 6 frames is dearer than all of 2, though a smaller share of its own dense model."""
    dear, cheap = made("prunevid", 6, 0.5, "+" * 8), made("none", 2, 1.0, "-" * 8)
    samples = [type("S", (), {"id": f"q{i}"})() for i in range(8)]
    track = Track(Race(2), samples, SHAPE, [], ["dear", "cheap"])
    track.look({"dear": dear.records[:4], "cheap": cheap.records[:4]}, 4)
    assert track.held_against == {"dear": "cheap"}


def test_every_relative_cost_has_an_absolute_one_that_can_be_the_axis() -> None:
    assert {cost for cost in COSTS if cost.endswith("ratio")} == set(ABSOLUTE)
    assert set(ABSOLUTE.values()) <= set(COSTS)


def test_a_sweeper_that_takes_trials_one_by_one_is_told_shares_of_the_first_ones_dense_model(tmp_path: Path) -> None:
    rows = [summarize(trial) for trial in (made("prunevid", 2, 0.5), made("prunevid", 6, 0.5))]
    told = [relative(row, kept(tmp_path / "axis.json", counted(vars(row), f"own {row.trial}"))) for row in rows]
    assert [row.llm_flops_ratio for row in told] == [row.llm_flops / rows[0].dense_llm_flops for row in rows]
    assert told[1].llm_flops_ratio > 1
    assert {row.relative_to for row in told} == {"own prunevid frames=2 choose 0.5"}
