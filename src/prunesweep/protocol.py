"""How a question is put to the model and how its answer is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prunesweep.checks import require_at_least, require_choice
from prunesweep.types import Sample

Style = Literal["words", "letters"]
Answering = Literal["choose", "generate"]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
INSTRUCTION = "Answer with the option's letter from the given choices directly."
"""The wording of the common multiple-choice harnesses for LLaVA-OneVision."""


@dataclass(frozen=True)
class Protocol:
    """Style "words" asks the question alone and "letters" lists the options; the answer is scored or generated."""

    style: Style
    answering: Answering
    most_tokens: int = 16
    """Of a generated answer."""

    def __post_init__(self) -> None:
        require_choice("protocol.style", self.style, Style)
        require_choice("protocol.answering", self.answering, Answering)
        require_at_least("protocol.most_tokens", self.most_tokens, 1)


def question_text(sample: Sample, protocol: Protocol) -> str:
    """The user's turn.  Raises ValueError for more options than there are letters."""
    if protocol.style == "words":
        return sample.question
    if len(sample.choices) > len(LETTERS):
        raise ValueError(f"sample {sample.id} has {len(sample.choices)} options, at most {len(LETTERS)} can be lettered")
    options = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, sample.choices, strict=False)]
    return "\n".join([sample.question, *options, INSTRUCTION])


def option_texts(sample: Sample, protocol: Protocol) -> tuple[str, ...]:
    """What each option looks like as the model's answer."""
    return sample.choices if protocol.style == "words" else tuple(LETTERS[: len(sample.choices)])


def names_target(text: str, sample: Sample, protocol: Protocol) -> bool:
    """Whether a generated text begins with the right option, as words of its own, whatever the case."""
    wanted = option_texts(sample, protocol)[sample.target].casefold()
    said = text.strip().lstrip("(").casefold()
    return said.startswith(wanted) and not said[len(wanted) : len(wanted) + 1].isalnum()
