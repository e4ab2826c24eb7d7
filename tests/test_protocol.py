from pathlib import Path

import pytest

from prunesweep.protocol import INSTRUCTION, Protocol, names_target, option_texts, question_text
from prunesweep.types import Sample

SAMPLE = Sample("1", Path("a.mp4"), "what color?", ("red", "blue"), 1, "color", "a")
WORDS, LETTERS = Protocol("words", "generate"), Protocol("letters", "generate")


def test_words_ask_the_question_alone_and_letters_list_the_options() -> None:
    assert question_text(SAMPLE, WORDS) == "what color?"
    assert question_text(SAMPLE, LETTERS) == f"what color?\nA. red\nB. blue\n{INSTRUCTION}"
    assert option_texts(SAMPLE, WORDS) == ("red", "blue")
    assert option_texts(SAMPLE, LETTERS) == ("A", "B")


@pytest.mark.parametrize(
    ("text", "right"),
    [("blue", True), (" Blue.", True), ("blue block", True), ("bluest", False), ("red or blue", False), ("", False)],
)
def test_generated_words(text: str, right: bool) -> None:
    assert names_target(text, SAMPLE, WORDS) is right


@pytest.mark.parametrize(("text", "right"), [("B", True), ("(b) blue", True), ("B. blue", True), ("A", False), ("Blue", False)])
def test_generated_letters(text: str, right: bool) -> None:
    assert names_target(text, SAMPLE, LETTERS) is right


def test_more_options_than_letters_are_refused() -> None:
    many = Sample("1", Path("a.mp4"), "?", tuple(map(str, range(27))), 0, "t", "a")
    with pytest.raises(ValueError, match="sample 1 has 27 options, at most 26"):
        question_text(many, LETTERS)
