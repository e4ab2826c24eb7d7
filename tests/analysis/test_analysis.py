import math
import random
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from prunesweep.analysis.accuracy import accuracy, clustered_error, task_accuracies
from prunesweep.analysis.failures import Failure, failures
from prunesweep.analysis.front import pareto_front
from prunesweep.analysis.outcomes import COLUMNS
from prunesweep.analysis.table import summarize, sweep_table
from prunesweep.cost import (
    CONVENTIONS,
    decode_flops,
    head_flops,
    layer_flops,
    ledger,
    prefill_flops,
    published_prefill,
)
from prunesweep.results.records import Trial, read_trial, read_trials, to_frame, write_trial
from support.records import SHAPE, record, trial


def test_accuracy_counts_answered_samples_only() -> None:
    found = accuracy(to_frame([record("1", True), record("2", False, "b"), record("3", None, "c", error="gone")]))
    assert (found.mean, found.samples) == (0.5, 2)


def test_with_one_question_per_video_the_error_is_the_usual_one() -> None:
    frame = to_frame([record(str(i), i < 3, video=str(i)) for i in range(10)])
    assert accuracy(frame).error == pytest.approx(math.sqrt(0.3 * 0.7 / 9))


def test_questions_that_agree_within_videos_widen_the_error() -> None:
    # Two videos of two questions, one all right, one all wrong: residual sums +1 and -1, so sqrt(2 * (1 + 1)) / 4.
    frame = to_frame([record("1", True, "a"), record("2", True, "a"), record("3", False, "b"), record("4", False, "b")])
    assert accuracy(frame).error == pytest.approx(0.5)
    assert clustered_error([1.0, -1.0], 4) == pytest.approx(0.5)


def test_answers_that_are_all_alike_give_no_error() -> None:
    found = accuracy(to_frame([record("1", True, "a"), record("2", True, "b")]))
    assert found.mean == 1
    assert math.isnan(found.error)


def test_each_model_and_benchmark_has_its_own_front() -> None:
    small = trial(record("1", True, visual=(2, 1)), name="small")
    large = Trial(replace(small.info, name="large", model="large"), trial(record("1", True, visual=(8, 8))).records, None)
    assert [row.pareto for row in sweep_table([small, large])] == [True, True]


def test_one_video_gives_no_error_and_no_sample_no_accuracy() -> None:
    assert math.isnan(accuracy(to_frame([record("1", True)])).error)
    empty = accuracy(to_frame([record("1", None, error="gone")]))
    assert math.isnan(empty.mean)
    assert empty.samples == 0


def test_the_front_is_what_nothing_beats() -> None:
    points = [(1.0, 0.9), (0.5, 0.9), (0.5, 0.8), (0.2, 0.5), (0.2, 0.5), (0.3, 0.4), (math.nan, 1.0), (0.1, math.nan)]
    assert pareto_front(points) == [False, True, False, True, True, False, False, False]


def test_a_summary_counts_costs_from_the_recorded_tokens() -> None:
    row = summarize(trial(record("1", True), record("2", False, "b", visual=(8, 8))))
    dense = prefill_flops(SHAPE, [8, 8], 5)
    assert row.llm_flops == (prefill_flops(SHAPE, [4, 2], 5) + dense) / 2
    assert row.llm_flops_ratio == pytest.approx(row.llm_flops / dense)
    assert row.entrance_ratio == pytest.approx((4 / 8 + 1) / 2)
    assert row.final_ratio == pytest.approx((2 / 8 + 1) / 2)
    assert (row.samples, row.errors) == (2, 0)


def test_a_trial_without_answers_is_summed_up_and_never_on_the_front() -> None:
    failed = trial(record("1", None, error="gone"), name="failed")
    good = trial(record("1", True), name="good")
    table = sweep_table([failed, good])
    assert [(row.trial, row.pareto) for row in table] == [("good", True), ("failed", False)]
    assert table[1].errors == 1
    assert failures([failed, good]) == [Failure("gone", 1, ("1",), ("failed",), 1)]


def test_errors_of_one_kind_differ_in_numbers_at_most() -> None:
    rows = [record(str(i), None, error=f"IndexError: index {i} is out of bounds") for i in range(3)]
    found = failures([trial(*rows, name="a"), trial(*rows, record("4", None, error="gone"), name="b")])
    first = Failure("IndexError: index 0 is out of bounds", 3, ("0", "1", "2"), ("a", "b"), 6)
    assert found == [first, Failure("gone", 1, ("4",), ("b",), 1)]


def test_an_unknown_cost_axis_is_refused() -> None:
    with pytest.raises(ValueError, match="^cost must be one of llm_flops_ratio, .*, got 'seconds'"):
        sweep_table([trial(record("1", True))], cost="seconds")


def test_accuracy_by_task() -> None:
    assert task_accuracies(to_frame([record("1", True), record("2", False, "b")]))["count"].mean == 0.5


def test_trials_are_read_back_as_written(tmp_path: object) -> None:
    for index in (10, 2):
        one = trial(record("1", True), name=f"trial {index}")
        write_trial(tmp_path / str(index), one.info, one.records)
    back = read_trials(tmp_path)
    assert [b.info.name for b in back] == ["trial 2", "trial 10"]
    assert back[0].info.shape == SHAPE
    assert back[0].records.equals(one.records)
    assert not list(tmp_path.glob("*/.*partial"))


def test_records_of_format_1_are_read_back(tmp_path: Path) -> None:
    """One number of cached tokens for all layers; a trial may have records without, which have what the last layer sees."""
    one = trial(record("1", True), record("2", True))
    old = one.records.with_columns(cached_tokens=pl.Series([3, None], dtype=pl.Int64))
    write_trial(tmp_path / "1", one.info, old)
    for columns in (None, COLUMNS, ("sample_id", "cached_tokens")):
        assert read_trial(tmp_path / "1", columns).records["cached_tokens"].to_list() == [[3, 3], None]
    found = summarize(read_trial(tmp_path / "1"))
    assert found.kv_ratio == (3 + 2) / 2 / 8
    assert found.kv_bytes == 2 * 2 * 2 * SHAPE.kv_heads * SHAPE.head_size * (5 + 5 + 3 + 2) / 2


def test_costs_of_many_records_equal_the_ledger_of_each() -> None:
    draw, caches = random.Random(0), random.Random(1)
    rows, usages = [], []
    for index in range(40):
        entering, leaving, layer = draw.randint(5, 8), draw.randint(1, 4), draw.randint(1, 3)
        one = record(str(index), True, visual=(entering,) * layer + (leaving,) * (4 - layer))
        usages.append(
            replace(one.usage, text_tokens=draw.randint(3, 9), generated_tokens=draw.randint(0, 5), reduction_flops=2**60 + index)
        )
        if index % 3:  # some say nothing
            usages[-1] = replace(usages[-1], cached_tokens=tuple(caches.randint(0, 8) for _ in range(4)))
        rows.append(replace(one, usage=usages[-1]))
    found = summarize(Trial(replace(trial().info, shape=replace(SHAPE, layers=4)), to_frame(rows), None))
    shape = replace(SHAPE, layers=4)
    each = [ledger(shape, usage) for usage in usages]
    dense = [ledger(shape, usage.dense()) for usage in usages]
    assert found.llm_flops == sum(e.prefill for e in each) / 40
    assert found.total_flops == sum(e.total for e in each) / 40  # beyond 64 bits in sum, and exact
    assert found.kv_bytes == sum(e.kv_bytes for e in each) / 40
    assert found.llm_flops_ratio == sum(e.prefill for e in each) / sum(d.prefill for d in dense)
    assert found.kv_ratio == pytest.approx(sum(e.kv_ratio for e in each) / 40, rel=1e-12)
    assert found.layer_ratio == pytest.approx(sum(e.layer_ratio for e in each) / 40, rel=1e-12)
    few, many = (
        sum(published_prefill(CONVENTIONS["fastv"], shape, t) for t in side)
        for side in ([usage.visual_tokens for usage in usages], [[8] * 4] * 40)
    )
    assert found.fastv_flops_ratio == few / many


def test_decoding_costs_the_sum_of_its_steps() -> None:
    for generated in range(6):
        steps = range(1, max(generated, 1))
        expected = sum(SHAPE.layers * layer_flops(SHAPE, 1, 9 + step) + head_flops(SHAPE) for step in steps)
        assert decode_flops(SHAPE, [9] * SHAPE.layers, generated) == expected
