"""Pictures of statistics: what is computed for them is right, and they can be drawn of little and of much."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from prunesweep.analysis import ablation as effects
from prunesweep.analysis import resampling, significance
from prunesweep.analysis.outcomes import collect
from prunesweep.report import figures, plots
from support.records import drawn, made


def grid(seed: int = 0) -> list:
    """The dense model, random dropping, and three settings of PruneVid."""
    draw = np.random.default_rng(seed)
    answers = ["".join(draw.choice(["+", "-"], 40, p=[0.7, 0.3])) for _ in range(20)]
    videos = [str(i // 2) for i in range(40)]
    trials = [made("none", "+" * 39 + "-", videos), made("random", answers[0], videos, (3, 3), keep=0.4)]
    for index, (tau, beta, layer) in enumerate(product((0.8, 0.95, None), (0.25, 1.0), (2, 4))):
        settings = {"merge": {"static_threshold": tau, "cluster_ratio": beta}, "prune": {"layer": layer}}
        trials.append(made(f"prunevid {index}", answers[index + 1], videos, (1 + index % 6, 1 + index % 3), **settings))
    return trials


def test_every_figure_is_drawn(tmp_path: Path) -> None:
    from PIL import Image

    (found,) = collect(grid())
    (ablation,) = effects.ablations(found)
    drawings = {
        "front": figures.front_figure(found, resampling.front(found)),
        "effects": figures.effects_figure(ablation),
        "interactions": figures.interactions_figure(ablation.interactions, "costs $5"),
        "importance": figures.importance_figure(effects.importances(found)),
        "parallel": figures.parallel_figure(figures.parallel_coordinates(found)[0]),
        "pareto": plots.pareto_figure({"tiny": plots.pareto_points(found.table, found.cost)}),
    }
    for name, figure in drawings.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert Image.open(tmp_path / f"{name}.png").size[0] > 300
        for axes in figure.axes:
            assert axes.get_xlabel() or axes.get_ylabel() or axes.get_title() or axes.get_title("left"), (
                f"{name} has axes without any words"
            )


@pytest.mark.parametrize("answers", [["+-+-"], ["++++", "++++"], ["+-+-", "????"]])
def test_fronts_of_little_are_drawn(answers: list[str], tmp_path: Path) -> None:
    (found,) = collect([made("none" if i == 0 else f"random {i}", a) for i, a in enumerate(answers)])
    figures.front_figure(found, resampling.front(found)).savefig(tmp_path / "front.png")
    assert (tmp_path / "front.png").stat().st_size > 5000


def test_parallel_coordinates_put_values_where_they_belong() -> None:
    (found,) = collect(grid())
    (one,) = figures.parallel_coordinates(found)  # none and random have nothing that varies
    names = [axis.name for axis in one.axes]
    assert (one.reducer, names) == (
        "prunevid",
        ["static_threshold", "cluster_ratio", "layer", "LLM prefill FLOPs", "accuracy"],
    )
    assert dict(one.axes[0].ticks) == {0.0: "0.8", 0.5: "0.95", 1.0: "off"}
    assert dict(one.axes[1].ticks) == {0.0: "0.25", 1.0: "1"}
    index = one.names.index("prunevid 9")  # off, 0.25, layer 4
    assert one.lines[index, :3].tolist() == [1.0, 0.0, 1.0]
    assert one.lines[:, 4].min() == 0
    assert one.lines[:, 4].max() == 1
    (row,) = (row for row in found.table if row.trial == "prunevid 9")
    assert one.accuracy[index] == row.accuracy


def test_a_searchs_hypervolume_grows_as_worked_out_by_hand() -> None:
    table = pl.DataFrame(
        {
            "#": ["baseline-paper", "1", "2", "3"],
            "outcome": ["complete", "not started", "complete", "complete"],
            "accuracy": [0.5, None, 0.4, 0.8],
            "llm_flops_ratio": [0.5, None, 1.0, 0.75],
        }
    )
    history = figures.search_history(table)
    assert history.proposal.tolist() == [0, 2, 3]
    assert history.hypervolume.tolist() == pytest.approx([0.25, 0.25, 0.5 * 0.25 + 0.8 * 0.25])
    assert figures.history_figure(history).axes
    with pytest.raises(ValueError, match="kv_bytes was no objective of this search"):
        figures.search_history(table, "kv_bytes")
    with pytest.raises(ValueError, match="no proposal of this search is complete"):
        figures.search_history(table.filter(pl.col("outcome") != "complete"))


def test_a_budget_buys_the_best_trial_and_names_those_like_it() -> None:
    (found,) = collect(
        [
            made("none", "++++++++++++", visual=(8, 8)),
            made("random a", "+++++++++++-", visual=(4, 4)),
            made("random b", "++++++++++--", visual=(2, 2)),
            made("random c", "------------", visual=(1, 1)),
        ]
    )
    names = found.names
    cost = dict(zip(names, found.costs, strict=True))
    bought = significance.under_budget(found, cost["random a"])
    assert names[bought.best] == "random a"
    assert [names[i] for i in bought.may_be_best] == ["random b"]
    assert names[significance.under_budget(found, 1.0).best] == "none"
    assert significance.under_budget(found, cost["random c"] / 2) is None
    (many,) = collect(drawn())
    assert many.costs[significance.under_budget(many, float(np.median(many.costs))).best] <= np.median(many.costs)


def test_a_level_that_is_always_right_is_not_sure_to_be() -> None:
    trials = [made(f"random {keep}", answers, visual=(4, 4), keep=keep) for keep, answers in ((0.2, "+-+-+--+"), (0.8, "+" * 8))]
    (found,) = collect(trials)
    (ablation,) = effects.ablations(found)
    low, high = (level.accuracy for level in ablation.main[0].levels)
    assert (high.value, high.high) == (1.0, 1.0)
    assert np.isnan(high.error)
    assert high.low == pytest.approx(0.025 ** (1 / 8))  # Clopper and Pearson, eight videos
    assert 0 <= low.low < 0.5 < low.high <= 1
