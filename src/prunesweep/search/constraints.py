"""Constraints and bounds as a user writes them: `accuracy >= dense - 0.01`, `llm_flops_ratio <= 0.25`.

    constraint = metric ("<=" | ">=") sum
    sum        = term (("+" | "-") term)*
    term       = number | [number "*"] baseline

A baseline's name stands for its value of the metric on the left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"
NAME = r"[a-z_]\w*"
TERM = re.compile(
    rf"(?P<sign>[+-]?)(?:(?P<factor>{NUMBER})\*)?(?:(?P<number>{NUMBER})|(?P<name>{NAME}))(?=[+-]|$)", re.IGNORECASE
)
RELATION = re.compile(r"(?P<metric>[^<>=]+)(?P<relation><=|>=)(?P<bound>[^<>=]+)")


@dataclass(frozen=True)
class Bound:
    """A sum of numbers and multiples of baselines."""

    constant: float
    factors: tuple[tuple[str, float], ...] = ()
    """By baseline."""

    def value(self, baselines: Mapping[str, float]) -> float:
        return self.constant + sum(factor * baselines[name] for name, factor in self.factors)


@dataclass(frozen=True)
class Constraint:
    """What a trial must fulfil."""

    text: str
    metric: str
    least: bool
    """The metric must be at least the bound, or else at most."""
    bound: Bound

    def violation(self, values: Mapping[str, float], baselines: Mapping[str, Mapping[str, float]]) -> float:
        """By how much the values miss the bound; 0 or less where they keep it."""
        bound = self.bound.value({name: baselines[name][self.metric] for name, _ in self.bound.factors})
        return bound - values[self.metric] if self.least else values[self.metric] - bound


def parse_bound(text: str, baselines: Sequence[str]) -> Bound:
    """Raises ValueError unless the text is a sum of numbers and multiples of known baselines."""
    squeezed = re.sub(r"\s*([+*-])\s*", r"\1", text.strip())
    constant, place = 0.0, 0
    factors: dict[str, float] = {}
    while place < len(squeezed):
        term = TERM.match(squeezed, place)
        if term is None or (place and not term["sign"]) or (term["factor"] and term["number"]):
            raise ValueError(f"cannot read {text!r}; write a sum such as 0.25, dense - 0.01 or 0.97 * dense")
        sign = -1.0 if term["sign"] == "-" else 1.0
        if term["name"]:
            if term["name"] not in baselines:
                raise ValueError(f"unknown baseline {term['name']!r} in {text!r}; known: {', '.join(baselines) or 'none'}")
            factors[term["name"]] = factors.get(term["name"], 0.0) + sign * float(term["factor"] or 1)
        else:
            constant += sign * float(term["number"])
        place = term.end()
    if not place:
        raise ValueError("a bound is empty; write a sum such as 0.25, dense - 0.01 or 0.97 * dense")
    return Bound(constant, tuple(factors.items()))


def parse_constraint(text: str, baselines: Sequence[str]) -> Constraint:
    """Raises ValueError for anything but one metric, <= or >=, and a bound."""
    found = RELATION.fullmatch(text)
    if found is None:
        raise ValueError(
            f"cannot read constraint {text!r}; write accuracy >= dense - 0.01 or llm_flops_ratio <= 0.25, for example"
        )
    return Constraint(text, found["metric"].strip(), found["relation"] == ">=", parse_bound(found["bound"], baselines))
