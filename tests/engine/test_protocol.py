from dataclasses import replace
from pathlib import Path

import pytest

from prunesweep.engine.protocol import (
    INSTRUCTION,
    Protocol,
    chosen_option,
    named_options,
    names_target,
    option_texts,
    question_text,
)
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


@pytest.mark.parametrize(
    ("text", "right"), [("B", True), ("(b) blue", True), ("B. blue", True), ("A", False), ("Blue", True), ("green", False)]
)
def test_generated_letters(text: str, right: bool) -> None:
    assert names_target(text, SAMPLE, LETTERS) is right


def test_more_options_than_letters_are_refused() -> None:
    many = Sample("1", Path("a.mp4"), "?", tuple(map(str, range(27))), 0, "t", "a")
    with pytest.raises(ValueError, match="sample 1 has 27 options, at most 26"):
        question_text(many, LETTERS)


MVBENCH = Protocol(
    "letters",
    "generate",
    template="Question: {question}\nOptions:\n{options} \nOnly give the best option.",
    option="({letter}) {text}",
    prefix="Best option:(",
    parser="lenient",
)


def test_a_template_lays_the_question_out() -> None:
    expected = "Question: what color?\nOptions:\n(A) red\n(B) blue \nOnly give the best option."
    assert question_text(SAMPLE, MVBENCH) == expected
    braces = replace(SAMPLE, question="is {x} red?")
    assert "is {x} red?" in question_text(braces, MVBENCH)
    for broken in ({"template": "{questions}"}, {"option": "{0}"}, {"template": "{"}):
        with pytest.raises(ValueError, match=r"may hold \{"):
            replace(MVBENCH, **broken)


@pytest.mark.parametrize(
    ("text", "right"),
    [("B", True), ("B) blue", True), ("b", True), ("(B) blue", True), ("A) red", False), ("", False), (")", False), ("x", False)],
)
def test_the_lenient_parser_compares_first_words(text: str, right: bool) -> None:
    assert names_target(text, SAMPLE, MVBENCH) is right


def test_the_parsers_differ_where_the_released_one_is_lenient() -> None:
    unprefixed = replace(MVBENCH, prefix="")
    for text, lenient, strict in (("(b)(a)", 1, None), ("(A)(B)", 0, None), ("Blue", None, 1), ("(", None, None), ("x(b)", 1, 1)):
        assert chosen_option(text, SAMPLE, unprefixed) == lenient, text
        assert chosen_option(text, SAMPLE, replace(unprefixed, parser="strict")) == strict, text


@pytest.mark.parametrize("protocol", [WORDS, LETTERS, MVBENCH, replace(MVBENCH, prefix="")])
@pytest.mark.parametrize("text", ["B", "(A)(B)", "b)(a)", "A blue thing", "red and blue", "Blue.", "", "!!!!", "I do not know"])
def test_an_answer_is_right_for_the_option_that_is_chosen_and_for_no_other(text: str, protocol: Protocol) -> None:
    chosen = chosen_option(text, SAMPLE, protocol)
    assert [i for i in (0, 1) if names_target(text, replace(SAMPLE, target=i), protocol)] == ([] if chosen is None else [chosen])
    assert chosen is None or chosen in named_options(text, SAMPLE, protocol)


def test_free_answers_have_no_options() -> None:
    free = replace(SAMPLE, choices=(), target=None, answer="it is blue")
    assert (option_texts(free, WORDS), names_target("blue", free, WORDS), chosen_option("blue", free, WORDS)) == ((), False, None)
    assert free.reference == "it is blue"
