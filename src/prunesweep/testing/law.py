"""A law: a claim about a method, and the check of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Law:
    """Called, it raises AssertionError where the claim does not hold: value, bound and way out in one line."""

    name: str
    """What is claimed; with the number of `tests/laws` where it is one of these."""
    holds: Callable[[], None]

    def __call__(self) -> None:
        try:
            self.holds()
        except AssertionError:
            raise
        except Exception as error:  # whatever a method raises where it should answer
            raise AssertionError(f"{self.name}: {type(error).__name__}: {error}") from error

    def __str__(self) -> str:
        return self.name


def require(holds: bool, words: Callable[[], str]) -> None:
    """Raises AssertionError with these words unless it holds; also where Python leaves out assertions."""
    if not holds:
        raise AssertionError(words())
