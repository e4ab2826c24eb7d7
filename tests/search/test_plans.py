"""What a user writes of a search: spaces, bounds and plans, as written or refused."""

from __future__ import annotations

from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from prunesweep.search.constraints import parse_bound, parse_constraint
from prunesweep.search.space import grid, lies_in, parse_space, written
from support.searches import (
    LAYER,
    plan,
)


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("interval(0, 1)", FloatDistribution(0, 1)),
        ("tag(log, interval(0.001, 1))", FloatDistribution(0.001, 1, log=True)),
        ("int(interval(2, 9))", IntDistribution(2, 9)),
        ("tag(log, int(interval(1, 64)))", IntDistribution(1, 64, log=True)),
        ("range(1, 7)", IntDistribution(1, 6)),
        ("range(1, 8, 3)", IntDistribution(1, 7, step=3)),
        ("range(0.1, 0.9, 0.2)", FloatDistribution(0.1, 0.7, step=0.2)),
        ("choice(original, renumbered)", CategoricalDistribution(["original", "renumbered"])),
        ("null,0.8,true", CategoricalDistribution([None, 0.8, True])),
    ],
)
def test_a_space_is_written_as_hydra_writes_sweeps(text: str, distribution: Any) -> None:
    assert parse_space({"a.b": text}, OverridesParser.create()) == {"a.b": distribution}


@pytest.mark.parametrize("text", ["5", "range(6, 1)", "range(0.5, 0.1, 0.1)", "interval(2, 1)", "tag(log, interval(0, 1))"])
def test_what_is_no_space_is_refused_by_its_key(text: str) -> None:
    with pytest.raises(ValueError, match=r"hydra.sweeper.space.a.b"):
        parse_space({"a.b": text}, OverridesParser.create())


def test_values_are_written_so_that_hydra_reads_the_same() -> None:
    assert [written(v) for v in (None, True, 0.1 + 0.2, 1.0, 1e-13, 3, "x")] == ["null", "true", "0.3", "1.0", "1e-13", "3", "x"]


def test_a_grid_has_all_combinations_and_evenly_spaced_values() -> None:
    space = {"a": "range(1, 3)", "b": "tag(log, interval(0.01, 1))", "c": "range(0.1, 0.4, 0.1)", "d": "choice(x, y)"}
    settings = grid(parse_space(space, OverridesParser.create()), points=3)
    assert len(settings) == 2 * 3 * 3 * 2
    assert sorted({s["b"] for s in settings}) == pytest.approx([0.01, 0.1, 1])
    assert sorted({s["c"] for s in settings}) == pytest.approx([0.1, 0.2, 0.3])


def test_an_earlier_trial_lies_in_the_space_if_nothing_else_differs() -> None:
    distributions = parse_space({"r.layer": "range(1, 7, 2)", "r.keep": "range(0.1, 1, 0.2)"}, OverridesParser.create())
    usual = {"r": {"layer": 3, "keep": 0.5, "rows": "last"}}
    inside = {"r": {"layer": 5, "keep": 0.1 + 0.2, "rows": "last"}}
    assert lies_in(inside, usual, distributions) == {"r.layer": 5, "r.keep": pytest.approx(0.3)}
    for other in ({"layer": 4}, {"keep": 0.4}, {"keep": 0.95}, {"rows": "question"}, {"layer": True}, {"more": 1}):
        assert lies_in({"r": {**inside["r"], **other}}, usual, distributions) is None


def test_bounds_are_sums_of_numbers_and_baselines() -> None:
    known = {"dense": 0.9, "paper": 0.5}
    values = {"0.25": 0.25, "dense - 0.01": 0.89, "0.97*dense": 0.873, "paper + 2 * dense": 2.3, "-1e-2 + dense": 0.89}
    for text, value in values.items():
        assert parse_bound(text, list(known)).value(known) == pytest.approx(value)
    constraint = parse_constraint("accuracy >= dense - 0.01", ["dense"])
    of = {"dense": {"accuracy": 0.9}}
    assert constraint.violation({"accuracy": 0.87}, of) == pytest.approx(0.02)
    assert constraint.violation({"accuracy": 0.9}, of) < 0
    for text in ("accuracy > 1", "accuracy", "accuracy >= dense dense", "accuracy >= 2 * 3", "accuracy >= rival", "accuracy >= "):
        with pytest.raises(ValueError, match=r"accuracy|rival|read|empty|dense"):
            parse_constraint(text, ["dense"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objectives": {"speed": "maximize"}}, "unknown objective 'speed'"),
        ({"objectives": {"accuracy": "up"}}, "must be one of maximize, minimize, got 'up'"),
        ({"objectives": {}}, "objectives is empty"),
        ({"constraints": ["speed <= 1"]}, "unknown objective 'speed'"),
        ({"constraints": ["accuracy >= sparse"]}, "unknown baseline 'sparse'"),
        ({"ceiling": "dense + x"}, "unknown baseline"),
        ({"first": [{"reducer.prune.lair": 1}]}, "which is not in hydra.sweeper.space"),
        ({"first": [{LAYER: 9}]}, "which is not in hydra.sweeper.space"),
        ({"trials": 0}, "hydra.sweeper.trials must be at least 1, got 0"),
        ({"batch": 0}, "hydra.sweeper.batch must be at least 1, got 0"),
        ({"sampler": lambda seed: None, "baselines": {"my dense": {}}}, "needs a name of letters"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_before_anything_runs(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as caught:
        plan(**settings)
    assert message in str(caught.value)
