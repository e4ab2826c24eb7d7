"""The search space: which keys of the configuration vary, and over what."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Value = str | float | int | bool | None
RELATIVE_TOLERANCE = 1e-9
"""Of numbers that went through YAML and JSON."""
DIGITS = 12
"""Significant ones of multiples of a step."""
ROUNDING = 1e-15
"""Of a sum of two numbers, relative."""


def parse_space(space: Mapping[str, str], parser: OverridesParser) -> dict[str, BaseDistribution]:
    """Optuna's distribution of each key; raises ValueError for what is no interval, range or choice."""
    overrides = parser.parse_overrides([f"{key}={value}" for key, value in space.items()])
    return {override.get_key_element(): _distribution(override) for override in overrides}


def _distribution(override: Override) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    key, value = override.get_key_element(), override.value()
    log = "log" in getattr(value, "tags", ())
    try:
        if isinstance(value, IntervalSweep):
            start, end = cast(float, value.start), cast(float, value.end)
            whole = isinstance(start, int) and isinstance(end, int)  # after int(interval(...)); Hydra makes others real
            return IntDistribution(int(start), int(end), log=log) if whole else FloatDistribution(start, end, log=log)
        if isinstance(value, RangeSweep) and all(isinstance(edge, int) for edge in (value.start, value.stop, value.step)):
            start, stop, step = (int(cast(int, edge)) for edge in (value.start, value.stop, value.step))
            if step < 1 or stop <= start:
                raise ValueError(f"range({start},{stop},{step}) is empty; give start < stop and a step above 0")
            if log and step != 1:
                raise ValueError("a log scale has no steps; write tag(log, int(interval(...)))")
            return IntDistribution(start, start + (stop - 1 - start) // step * step, step=step, log=log)
        if isinstance(value, RangeSweep) and not log:
            return _steps(*(float(cast(float, edge)) for edge in (value.start, value.stop, value.step)))
        if isinstance(value, ChoiceSweep):
            pairs = zip(override.sweep_iterator(), override.sweep_string_iterator(), strict=True)
            return CategoricalDistribution([_plain(choice, text) for choice, text in pairs])
    except ValueError as error:  # low above high, a log scale from 0
        raise ValueError(f"hydra.sweeper.space.{key}: {error}") from error
    raise ValueError(f"hydra.sweeper.space.{key} must be interval(...), range(...) or choice(...), got {override.input_line}")


def _steps(start: float, stop: float, step: float) -> BaseDistribution:
    """Start, start + step and so on, below the stop."""
    from optuna.distributions import FloatDistribution

    if step <= 0 or stop <= start:
        raise ValueError(f"range({start:g},{stop:g},{step:g}) is empty; give start < stop and a step above 0")
    steps = math.ceil((stop - start) / step - RELATIVE_TOLERANCE) - 1
    return FloatDistribution(start, float(f"{start + steps * step:.{DIGITS}g}"), step=step)


def _plain(choice: Any, text: str) -> Value:
    """A choice as Optuna stores it: a plain value, or the text that Hydra reads it from (quoted strings, lists)."""
    return choice if choice is None or isinstance(choice, (bool, int, float)) else text


def written(value: Value) -> str:
    """As an override's value; a step's multiples without what the computer's rounding added."""
    if value is None:
        return "null"
    if isinstance(value, float):
        short = float(f"{value:.{DIGITS}g}")
        return str(short if math.isclose(short, value, rel_tol=ROUNDING) else value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def grid(distributions: Mapping[str, BaseDistribution], points: int) -> list[dict[str, Value]]:
    """All combinations of all values; of an interval, `points` evenly spaced ones (evenly by factor on a log scale)."""
    axes = [_values(distribution, points) for distribution in distributions.values()]
    return [dict(zip(distributions, values, strict=True)) for values in itertools.product(*axes)]


def _values(distribution: BaseDistribution, points: int) -> list[Value]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    numbers = cast(FloatDistribution, distribution)
    if numbers.step is not None:
        return [numbers.low + i * numbers.step for i in range(round((numbers.high - numbers.low) / numbers.step) + 1)]
    low, high = (math.log(edge) if numbers.log else edge for edge in (numbers.low, numbers.high))
    inner = [low + (high - low) * i / max(points - 1, 1) for i in range(1, points - 1)]
    return [numbers.low, *(math.exp(v) if numbers.log else v for v in inner), *([numbers.high] if points > 1 else [])]


def require_inside(settings: Mapping[str, Any], distributions: Mapping[str, BaseDistribution], what: str) -> dict[str, Value]:
    """The settings as parameters; raises ValueError if a key is not searched or its value lies outside."""
    for key, value in settings.items():
        if key not in distributions:
            raise ValueError(f"{what} has {key!r}, which is not in hydra.sweeper.space")
        if _param(value, distributions[key]) is _OUTSIDE:
            raise ValueError(f"{what} has {key}={written(value)}, which is not in hydra.sweeper.space: {distributions[key]}")
    return {key: _param(value, distributions[key]) for key, value in settings.items()}


def lies_in(settings: Mapping[str, Any], base: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> dict | None:
    """The parameters of an earlier trial if it differs from `base` in searched keys alone and they lie in the space.

    `settings` and `base` are nested; keys are dotted.
    """
    own, usual = _flat(without_places(settings)), _flat(without_places(base))
    if own.keys() != usual.keys() or not distributions.keys() <= own.keys():
        return None
    if not all(_same(own[key], usual[key]) for key in own if key not in distributions):
        return None
    found = {key: _param(own[key], distribution) for key, distribution in distributions.items()}
    return None if any(value is _OUTSIDE for value in found.values()) else found


def without_places(settings: Any) -> Any:
    """Settings whose classes are called by their own names: the modules that they lie in may change."""
    if isinstance(settings, Mapping):
        own = {key: value.rpartition(".")[2] for key, value in settings.items() if key == "_target_" and isinstance(value, str)}
        return {**{key: without_places(value) for key, value in settings.items()}, **own}
    return [without_places(item) for item in settings] if isinstance(settings, (list, tuple)) else settings


_OUTSIDE: Any = object()


def _param(value: Any, distribution: BaseDistribution) -> Any:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return next((choice for choice in distribution.choices if _same(_unquoted(choice), value)), _OUTSIDE)
    numbers: Any = distribution
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not numbers.low <= value <= numbers.high:
        return _OUTSIDE
    if isinstance(distribution, IntDistribution):
        return value if isinstance(value, int) and (value - numbers.low) % numbers.step == 0 else _OUTSIDE
    steps = (value - numbers.low) / numbers.step if numbers.step else 0
    return float(value) if math.isclose(steps, round(steps), abs_tol=RELATIVE_TOLERANCE) else _OUTSIDE


def _unquoted(choice: Any) -> Any:
    return choice[1:-1] if isinstance(choice, str) and len(choice) > 1 and choice[0] == choice[-1] in "'\"" else choice


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, bool) or isinstance(b, bool) or not all(isinstance(v, (int, float)) for v in (a, b)):
        return type(a) is type(b) and a == b
    return math.isclose(a, b, rel_tol=RELATIVE_TOLERANCE)


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat
