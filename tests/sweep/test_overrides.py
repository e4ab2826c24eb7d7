"""Python's values as overrides: Hydra reads back what was given."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from prunesweep.sweep.overrides import override, written


def read_back(value: object) -> object:
    parsed = OverridesParser.create().parse_override(override("key", value))
    assert not parsed.is_sweep_override()
    return plain(parsed.value())


def plain(value: object) -> object:
    """Without Hydra's marks of quotes."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "value",
    [
        *(0.2, 1, -3, 1e-05, 1e300, math.inf, None, True, False, [], [1, "a,b", None], {"flops": 0.23}, {"a": {"b": [1.5]}}),
        *("original", "a,b", "a'b", 'a"b', "'q'", "x\\", "x\\'", "", " a ", "null", "1", "true", "1e5", "[a]", "{a: 1}", "a=b"),
        *("choice(1,2)", "~/films", "C:\\films\\", "é", "a b", "#", "/a/b-c_d.mp4", "a:b"),
    ],
    ids=repr,
)
def test_a_value_is_read_back_as_it_was(value: object) -> None:
    back = read_back(value)
    assert back == value
    assert type(back) is type(value)


def test_so_is_any_text_wherever_it_stands() -> None:
    dice = random.Random(0)
    for _ in range(500):
        one, other = ("".join(dice.choices("ab1'\"\\,=[]{}()$ ~:é.-/", k=dice.randrange(6))) for _ in range(2))
        assert read_back({"list": [one, {"name": other}]}) == {"list": [one, {"name": other}]}


def test_plain_values_are_written_as_one_types_them() -> None:
    assert override("prune.keep_ratio", 0.2, "reducer") == "reducer.prune.keep_ratio=0.2"
    assert override("+prune.more", "text", "reducer") == "+reducer.prune.more=text"
    assert override("hydra/launcher", "joblib") == "hydra/launcher=joblib"
    assert written([1, 2.5, "a"]) == "[1,2.5,a]"
    assert written(math.nan) == "nan"
    assert written(Path("/data/films")) == "/data/films"


def test_numbers_of_numpy_are_numbers() -> None:
    assert written(np.float64(0.2)) == "0.2"
    assert written(np.arange(3)) == "[0,1,2]"
    assert written(np.bool_(True)) == "true"


@pytest.mark.parametrize("key", ["a=1", "a b", "", "a,b", "a..b", ".a", "~a", "a[0]", "a=b,c", 3])
def test_a_key_is_a_name(key: object) -> None:
    with pytest.raises(ValueError, match="no key .*; keys are names with dots between them"):
        override(key, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", {"a b": 1}, {1: 2}, "two\nlines", [object()], lambda: 1])
def test_what_no_configuration_can_hold_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"^model\.x must (be|have) "):
        override("x", value, "model")
