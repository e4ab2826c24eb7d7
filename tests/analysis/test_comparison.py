import math
import sys
from pathlib import Path

import pytest

from prunesweep.analysis.accuracy import clustered_error
from prunesweep.analysis.comparison import paired
from prunesweep.analysis.significance import holm, mcnemar
from prunesweep.analysis.wording import p_text
from prunesweep.cli import app
from prunesweep.results.records import to_frame, write_trial
from support.records import record, trial


def records(answers: str, videos):
    """One sample per letter: `+` right, `-` wrong, `?` without an answer."""
    truth = {"+": True, "-": False, "?": None}
    return to_frame([record(str(i), truth[a], v) for i, (a, v) in enumerate(zip(answers, videos, strict=True))])


def test_a_paired_difference_counts_flips_on_common_samples() -> None:
    difference = paired(records("++-+?", "aabbc"), records("+--++", "aabbc"))
    assert (difference.gained, difference.lost, difference.samples) == (1, 0, 4)
    assert difference.mean == pytest.approx(0.25)
    # Changes 0 1 0 0 in videos a a b b: residual sums +0.5 and -0.5.
    assert difference.error == pytest.approx(clustered_error([0.5, -0.5], 4))
    assert difference.low < difference.mean < difference.high


def test_pairing_is_by_sample_not_by_row() -> None:
    one, two = records("+-+-", "abcd"), records("-++-", "abcd")
    assert paired(one, two) == paired(one.reverse(), two)
    assert paired(one, two).mean == -paired(two, one).mean


def test_few_videos_widen_the_interval_as_students_t_does() -> None:
    two = paired(records("+" * 30 + "-" * 10, "a" * 20 + "b" * 20), records("+" * 20 + "-" * 20, "a" * 20 + "b" * 20))
    # With one degree of freedom t is a Cauchy variable: its 97.5 % quantile is tan(0.475 pi), its tails are arctangents.
    assert two.p_value == pytest.approx(1 - 2 * math.atan(two.mean / two.error) / math.pi)
    assert two.high == pytest.approx(min(1, two.mean + math.tan(0.475 * math.pi) * two.error))


def test_answers_that_never_differ_still_have_an_interval() -> None:
    same = paired(records("+-" * 20, [str(i) for i in range(40)]), records("+-" * 20, [str(i) for i in range(40)]))
    assert (same.mean, same.p_value) == (0, 1)
    assert same.high == -same.low == pytest.approx(1 - 0.025 ** (1 / 40))


def test_no_common_answer_is_an_error() -> None:
    with pytest.raises(ValueError, match="no answered sample in common"):
        paired(records("?", "a"), records("+", "a"))


@pytest.mark.parametrize(("gained", "lost", "expected"), [(0, 0, 1), (5, 0, 2 / 32), (0, 5, 2 / 32), (6, 2, 74 / 256), (3, 3, 1)])
def test_mcnemar_is_the_two_sided_binomial_test(gained: int, lost: int, expected: float) -> None:
    assert mcnemar(gained, lost) == pytest.approx(expected)


def test_holm_multiplies_by_what_is_left_and_never_decreases() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]).tolist() == [1, 1]
    assert holm([]).tolist() == []


def test_p_values_keep_two_digits() -> None:
    assert [p_text(p) for p in (0.0312, 1.0, 1e-20)] == ["p = 0.031", "p = 1", "p < 1e-12"]


def test_the_command_compares_two_trial_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for name, right in (("pruned", False), ("dense", True)):
        finished = trial(record("1", True, "a"), record("2", right, "b"), name=name)
        write_trial(tmp_path / name, finished.info, finished.records)
    monkeypatch.setattr(sys, "argv", ["prunesweep", "compare", str(tmp_path / "pruned"), str(tmp_path / "dense")])
    app.main()
    out = capsys.readouterr().out
    assert "0.500 ± 0.500 (n=2)  #pruned pruned" in out
    assert "-0.500 ± 0.500 (n=2)" in out
    assert "gained 0, lost 1" in out
    monkeypatch.setattr(sys, "argv", ["prunesweep", "compare", str(tmp_path), str(tmp_path / "dense")])
    with pytest.raises(SystemExit, match="is a sweep; name one of its trials, such as "):
        app.main()
