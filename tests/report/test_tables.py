import math
from dataclasses import replace

from prunesweep.analysis.costs import COSTS
from prunesweep.analysis.failures import Failure
from prunesweep.analysis.summary import Summary
from prunesweep.analysis.wording import accuracy_text
from prunesweep.report import overview
from prunesweep.report import text as tables
from prunesweep.report.plots import COST_LABELS
from support.records import COST

ROW = Summary("prunevid layer=2 keep_ratio=0.4", "prunevid", 0.5, 0.1, 20, 0, **COST, pareto=True)


def test_an_accuracy_has_its_error_and_count() -> None:
    assert accuracy_text(0.8123, 0.0141, 200) == "0.812 ± 0.014 (n=200)"
    assert accuracy_text(0.5, math.nan, 2) == "0.500 ± n/a (n=2)"
    assert accuracy_text(1.0, math.nan, 100, 100) == "1.000 [0.964, 1.000] (n=100)"
    assert accuracy_text(math.nan, math.nan, 0) == "not scored (n=0)"


def test_flops_have_si_prefixes() -> None:
    assert [tables.flops_text(f) for f in (4.08e13, 1.33e9, 9.5e7, 12)] == ["40.8 TFLOPs", "1.33 GFLOPs", "95 MFLOPs", "12 FLOPs"]


def test_what_all_trials_of_a_reducer_share_is_said_once() -> None:
    other = replace(ROW, trial="prunevid layer=2 keep_ratio=0.8", pareto=False)
    alone = replace(ROW, trial="random layer=2", reducer="random")
    text = overview.sweep([ROW, other, alone], "llm_flops_ratio")
    assert "prunevid keep_ratio=0.4" in text
    assert "all prunevid trials: layer=2" in text
    assert "random layer=2" in text
    starred = [line for line in text.splitlines() if " * " in line]
    assert len(starred) == 2


def test_a_repeated_trial_keeps_its_name() -> None:
    assert tables.short_names([replace(ROW, trial="none", reducer="none")] * 2)[0] == ["none", "none"]


def test_times_name_what_is_left_over() -> None:
    entries = [{"seconds": {"LLM": 3.0, "decode": 1.0, "load": 4.5, "store": 0.01}, "run": 1500, "alone": 3000}]
    assert (
        tables.time_line(entries, 10.0)
        == "time        10.0 s: load 4.5 s, decode 1.0 s, LLM 3.0 s, other 1.5 s; sharing ran 1,500 stages instead of 3,000"
    )


def test_failures_name_a_few_samples_and_the_trials_that_they_are_of() -> None:
    samples = tuple(str(i) for i in range(7))
    index = Failure("IndexError: 3", 2, ("0",), ("a", "b"), 2)
    gone = Failure("VideoError: gone", 1, samples, ("a",), 7)
    assert tables.failure_lines([gone], 1) == [
        "7 samples without an answer:",
        "  0, 1, 2, 3, 4 and 2 more: VideoError: gone",
    ]
    assert tables.failure_lines([gone, index], 2)[1:] == [
        "  0, 1, 2, 3, 4 and 2 more: VideoError: gone (7 answers of 1 trial: a)",
        "  0: IndexError: 3 (2 such messages, 2 answers of all 2 trials)",
    ]
    many = Failure("IndexError: 3", 1, ("0",), tuple("abcdefg"), 7)
    assert tables.failure_lines([many], 9)[1:] == ["  0: IndexError: 3 (7 answers of 7 trials: a, b, c, d, e and 2 more)"]


def test_every_cost_can_label_an_axis() -> None:
    assert set(COST_LABELS) == set(COSTS)
