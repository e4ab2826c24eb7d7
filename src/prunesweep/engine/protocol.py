"""How a question is put to the model and how its answer is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prunesweep.checks import require_at_least, require_choice
from prunesweep.engine.answers import LETTERS, named_leniently, named_strictly
from prunesweep.types import Sample, Sampling

Style = Literal["words", "letters"]
"""Options are answered with their words, or listed and answered with their letters."""
Answering = Literal["choose", "generate"]
Parser = Literal["strict", "lenient"]
"""Strict: the answer names exactly one option, by its letter or its words.  Lenient: as the released code of PLLaVA and
PruneVid compares, which takes the first words of answer and option for equal if one is part of the other; of several options
that fit the one mentioned first counts."""
INSTRUCTION = "Answer with the option's letter from the given choices directly."
"""The wording of the common multiple-choice harnesses for LLaVA-OneVision."""


@dataclass(frozen=True)
class Protocol:
    """Style "words" asks the question alone and "letters" lists the options; the answer is scored or generated."""

    style: Style
    answering: Answering
    most_tokens: int = 16
    """Of a generated answer."""
    template: str | None = None
    """Of the user's turn, with {question}, {options} and {subtitles}; None is the style's own."""
    encoder_template: str | None = None
    """Of what a vision tower reads that reads the question (ST-LLM); None is the user's turn."""
    option: str = "{letter}. {text}"
    """Of one line of {options}."""
    system: str = ""
    """System prompt; empty is the model's own."""
    prefix: str = ""
    """How the answer begins: part of the prompt."""
    parser: Parser = "strict"
    sampling: Sampling = "even"
    """Which frames of the video."""

    @property
    def reads_subtitles(self) -> bool:
        return "{subtitles}" in f"{self.template}{self.encoder_template}"

    def __post_init__(self) -> None:
        require_choice("protocol.style", self.style, Style)
        require_choice("protocol.answering", self.answering, Answering)
        require_at_least("protocol.most_tokens", self.most_tokens, 1)
        require_choice("protocol.parser", self.parser, Parser)
        require_choice("protocol.sampling", self.sampling, Sampling)
        for name, text, fields in (
            ("template", self.template or "", ("question", "options", "subtitles")),
            ("encoder_template", self.encoder_template or "", ("question", "options", "subtitles")),
            ("option", self.option, ("letter", "text")),
        ):
            try:
                text.format(**dict.fromkeys(fields, ""))
            except (KeyError, IndexError, ValueError) as error:
                raise ValueError(f"protocol.{name} may hold {', '.join(f'{{{f}}}' for f in fields)}, got {text!r}") from error


def question_text(sample: Sample, protocol: Protocol) -> str:
    """The user's turn.  Raises ValueError for more options than there are letters."""
    return _laid_out(sample, protocol, protocol.template)


def encoder_text(sample: Sample, protocol: Protocol) -> str:
    """What a vision tower reads that reads the question."""
    return _laid_out(sample, protocol, protocol.encoder_template or protocol.template)


def _laid_out(sample: Sample, protocol: Protocol, template: str | None) -> str:
    if protocol.style == "words":
        return (template or "{question}").format(question=sample.question, options="", subtitles=sample.subtitles)
    if len(sample.choices) > len(LETTERS):
        raise ValueError(f"sample {sample.id} has {len(sample.choices)} options, at most {len(LETTERS)} can be lettered")
    pairs = zip(LETTERS, sample.choices, strict=False)
    options = "\n".join(protocol.option.format(letter=letter, text=choice) for letter, choice in pairs)
    template = template or "{question}\n{options}\n" + INSTRUCTION
    return template.format(question=sample.question, options=options, subtitles=sample.subtitles)


def option_texts(sample: Sample, protocol: Protocol) -> tuple[str, ...]:
    """What each option looks like as the model's answer."""
    return sample.choices if protocol.style == "words" else tuple(LETTERS[: len(sample.choices)])


def named_options(text: str, sample: Sample, protocol: Protocol) -> tuple[int, ...]:
    """Indices of all options that a generated text names to the protocol's parser; empty for a question without options."""
    if protocol.parser == "lenient" and protocol.style == "letters":
        return named_leniently(text, sample.choices, protocol.prefix)
    return named_strictly(text, sample.choices, lettered=protocol.style == "letters")


def chosen_of(named: tuple[int, ...], protocol: Protocol) -> int | None:
    """The option that counts as the answer: the only one named; to the lenient parser the one named first."""
    return named[0] if len(named) == 1 or (named and protocol.parser == "lenient") else None


def chosen_option(text: str, sample: Sample, protocol: Protocol) -> int | None:
    """The option that a generated text is; None if it is none, or may be several."""
    return chosen_of(named_options(text, sample, protocol), protocol)


def names_target(text: str, sample: Sample, protocol: Protocol) -> bool:
    """Whether the option that a generated text is, is the right one."""
    return sample.target is not None and chosen_option(text, sample, protocol) == sample.target
