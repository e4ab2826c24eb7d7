"""Free answers: exact to the end, F1 of words, both with errors clustered by video."""

from __future__ import annotations

import math
from pathlib import Path

import polars as pl
import pytest

from prunesweep.analysis.free import free_answers, is_exact, scored_exactly, token_f1
from prunesweep.engine.protocol import Protocol, chosen_option
from prunesweep.types import Sample


@pytest.mark.parametrize(
    ("said", "meant", "exact", "f1"),
    [
        ("red then green", "red then green", True, 1.0),
        ("The red, then green.", "red then green", True, 1.0),
        ("red then green", "red", False, 0.5),
        ("red", "red then green", False, 0.5),
        ("green then red", "red then green", False, 1.0),
        ("blue", "red then green", False, 0.0),
        ("", "red", False, 0.0),
    ],
)
def test_answers_are_compared_to_the_end(said: str, meant: str, exact: bool, f1: float) -> None:
    assert is_exact(said, meant) is exact
    assert token_f1(said, meant) == f1


def test_the_parser_takes_more_than_the_right_answer_for_it() -> None:
    """Which is why free answers need another comparison; its verdict stays what it was."""
    sample = Sample("q", Path("v.mp4"), "what?", ("northwest first", "southeast second"), 0, "t", "v")
    assert chosen_option("northwest first second", sample, Protocol("words", "generate")) == 0
    assert not is_exact("northwest first second", sample.reference)


def records(*rows: tuple[str, str, str, int, bool | None]) -> pl.DataFrame:
    names = ("video_id", "prediction", "target", "generated_tokens", "correct")
    frame = pl.DataFrame(rows, schema=names, orient="row")
    return frame.with_columns(task=pl.lit("t"))


def test_scored_options_keep_their_verdicts() -> None:
    frame = records(("a", "red then green", "red", 3, True), ("a", "red", "blue", 0, True), ("b", "x", "y", 2, None))
    assert scored_exactly(frame)["correct"].to_list() == [False, True, None]


def test_numbers_are_of_generated_answers_alone_and_clustered_by_video() -> None:
    frame = records(
        *[("a", "red then green", "red then green", 3, True)] * 2,
        *[("b", "red", "red then green", 1, True)] * 2,
        ("c", "red", "red", 0, True),
    )
    found = free_answers(frame)
    assert (found.exact_match, found.token_f1) == (0.5, 0.75)
    assert found.exact_error == pytest.approx(0.5)  # two videos that differ by one
    assert found.token_f1_error == pytest.approx(0.25)


def test_without_generated_answers_there_is_no_number() -> None:
    assert all(map(math.isnan, free_answers(records(("c", "red", "red", 0, True)))))
