"""Methods at equal cost: entries, differences and their tests from a sweep's records."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate

from prunesweep.analysis import significance
from prunesweep.analysis.equal_cost import (
    compared,
    entries,
    gap,
    references,
    shown,
)
from prunesweep.analysis.outcomes import Outcomes, collect
from prunesweep.cli import app
from prunesweep.report.equal_cost import overview, table
from prunesweep.results.records import Trial
from support.places import CONF, ROOT
from support.records import made

VIDEOS = ["a", "a", "b", "b", "c", "d", "e", "e"]


def matched(
    name: str,
    answers: str,
    target: float = 0.2,
    knob: str = "merge.keep_ratio",
    value: object = 0.25,
    cost: str = "flops",
    frames: int | None = None,
    **reducer: object,
) -> Trial:
    trial = made(name, answers, VIDEOS, **reducer)
    solution = {"target": target, "knob": knob, "value": value, "reached": target, "cost": cost, "videos": ("a",)}
    settings = {**trial.info.settings, "matched": solution, **({"video": {"frames": frames}} if frames else {})}
    return trial._replace(info=replace(trial.info, settings=settings))


def sweep() -> Outcomes:
    (outcomes,) = collect(
        [
            made("none", "++++++++", VIDEOS),
            matched("random positions=original seed=0 match={flops:0.2}", "+-+-+-+-"),
            matched("random positions=original seed=1 match={flops:0.2}", "++--+--+"),
            matched("random positions=renumbered seed=0 match={flops:0.2}", "+-------"),
            matched("random positions=renumbered seed=1 match={flops:0.2}", "--+-----"),
            matched("prunevid layer=2 match={flops:0.2}", "++++++-+", knob="merge.cluster_ratio", value=0.123456),
            matched("prunevid match={flops:0.2}", "+++-++-+", knob="merge.cluster_ratio"),
            matched("prunevid layer=2 match={flops:0.4}", "++++++++", 0.4, knob="merge.cluster_ratio"),
            matched("pooling match={flops:0.4}", "++++++++", 0.4, knob="merge", value="rows=3 columns=4"),
        ]
    )
    return outcomes


def test_seeds_are_one_method_and_its_correctness_is_their_mean() -> None:
    found = {(e.target, e.name): e for e in entries(sweep())}
    random = found[0.2, "random positions=original"]
    assert (random.seeds, random.solved, random.scores.mean, random.scores.samples) == (2, "keep_ratio=0.25", 0.5, 8)
    assert random.right.tolist() == [1, 0.5, 0.5, 0, 1, 0, 0.5, 0.5]
    assert found[0.2, "prunevid layer=2"].solved == "cluster_ratio=0.123"
    assert found[0.4, "pooling"].solved == "rows=3 columns=4"
    assert [e.target for e in entries(sweep())] == sorted(e.target for e in found.values())


def test_a_difference_is_the_paired_clustered_one() -> None:
    outcomes = sweep()
    found = {(e.target, e.name): e for e in entries(outcomes)}
    one, other = found[0.2, "prunevid"], found[0.2, "prunevid layer=2"]
    expected = significance.paired_with(outcomes, outcomes.names.index("prunevid layer=2 match={flops:0.2}"))
    index = outcomes.names.index("prunevid match={flops:0.2}")
    assert gap(one, other, outcomes.video) == pytest.approx(
        (expected.mean[index], expected.low[index], expected.high[index], expected.p_value[index])
    )
    same = gap(found[0.4, "pooling"], found[0.4, "prunevid layer=2"], outcomes.video)
    assert (same.mean, same.p_value) == (0, 1)
    assert same.high == -same.low == pytest.approx(significance.exact_interval(0, 5).high)


def test_every_comparison_is_corrected_for_and_rivals_show_their_best() -> None:
    outcomes = sweep()
    every = entries(outcomes)
    chosen = references(every, ["layer=2"])
    rows = compared(every, chosen, outcomes.video)
    assert sum(row.gap is None for row in rows) == len(chosen) == 2
    p = [row.gap.p_value for row in rows if row.gap]
    np.testing.assert_allclose([row.holm for row in rows if row.gap], significance.holm(p))
    assert [row.entry.name for row in shown(rows) if row.entry.reducer == "random"] == ["random positions=original"]
    text = table(outcomes, rows, chosen)
    assert "**0.2x of the dense prefill**; differences to prunevid layer=2" in text
    assert "| random positions=original (2 seeds) | keep_ratio=0.25 |" in text
    assert "renumbered" not in text
    assert "the dense model has 1.000 [" in text
    worse = sum(row.holm < 0.05 and row.gap.mean < 0 for row in rows if row.gap and row.entry.target == 0.2)
    assert f"Of 3 other settings {worse} are less accurate and 0 more (p < 0.05, Holm)." in text


def test_an_overview_has_the_best_of_every_method_and_marks_what_is_sure() -> None:
    answers = "".join("+-"[i % 7 == 0] for i in range(400))
    fewer = "".join("+-"[i % 3 == 0] for i in range(400))
    videos = [str(i) for i in range(400)]

    def trial(name: str, own: str, target: float) -> Trial:
        solution = {"target": target, "knob": "merge.keep_ratio", "value": 0.2, "reached": target, "cost": "kv", "videos": ("a",)}
        made_one = made(name, own, videos, visual=(8, 2))
        return made_one._replace(info=replace(made_one.info, settings={**made_one.info.settings, "matched": solution}))

    (outcomes,) = collect(
        [
            made("none", "+" * 400, videos),
            trial("prunevid layer=2 match={kv:0.25}", answers, 0.25),
            trial("prunevid layer=2 match={kv:0.5}", answers, 0.5),
            trial("random seed=0 match={kv:0.25}", fewer, 0.25),
            trial("random seed=0 positions=original match={kv:0.25}", answers, 0.25),
            trial("fastv match={kv:0.5}", fewer, 0.5),
        ]
    )
    found = entries(outcomes)
    chosen = references(found, [])
    lines = overview(compared(found, chosen, outcomes.video), chosen)
    assert lines[0].startswith(
        "Accuracy ± SE on 400 questions at shares of the dense model's visual tokens in the KV caches. Marks ↓ and ↑"
    )
    assert lines[2] == "| method, its best setting | 0.25x | 0.5x |"
    own = " ± ".join(f"{x:.3f}" for x in found[0].scores[:2])
    assert lines[4] == f"| prunevid | {own} | {own} (0.250x) |"
    assert lines[5] == f"| random | {own} | – |"
    assert lines[6].startswith("| fastv | – | 0.6")
    assert lines[6].endswith(" ↓ (0.250x) |")


def test_a_reference_must_be_one_trial_a_budget() -> None:
    every = entries(sweep())
    with pytest.raises(ValueError, match="at 0.2x several trials of prunevid match --reference: layer=2; "):
        references(every, [])
    with pytest.raises(ValueError, match="--reference layer=3: no trial of prunevid has layer=3; they have layer=2$"):
        references(every, ["layer=3"])
    with pytest.raises(ValueError, match=r"unknown setting of prunevid 'lair'; did you mean layer\? known: "):
        references(every, ["lair=2"])
    with pytest.raises(ValueError, match=r"--reference prunvid: no trial of prunvid has .*; did you mean prunevid\? those of "):
        references(every, ["prunvid"])
    (unmatched,) = collect([made("none", "++")])
    with pytest.raises(ValueError, match=r"no trial of the sweep has a reducer.match; run prunesweep sweep matched"):
        entries(unmatched)


def test_budgets_of_other_costs_and_frames_are_other_tables() -> None:
    names = "random match={flops:0.2}", "random match={entrance:0.2}", "random frames=4 match={flops:0.2}"
    one, other, few = (
        matched(name, "++++----", cost=cost, frames=n)
        for name, cost, n in zip(names, ("flops", "entrance", "flops"), (12, 12, 4), strict=True)
    )
    (outcomes,) = collect([one, other, few])
    found = entries(outcomes)
    assert [(e.budget.cost, e.budget.asked, e.seeds) for e in found] == [
        ("entrance", "video.frames=12", 1),
        ("flops", "video.frames=12", 1),
        ("flops", "video.frames=4", 1),
    ]
    text = table(outcomes, compared(found, {}, outcomes.video), {})
    assert "**0.2x of the dense model's visual tokens entering the LLM with video.frames=12**" in text
    assert "**0.2x of the dense prefill with video.frames=4**" in text


def test_a_sweep_without_prunevid_has_no_differences_or_those_to_another_method() -> None:
    trials = [matched("random match={flops:0.2}", "+-+-+-+-"), matched("fastv layer=2 match={flops:0.2}", "++++++-+")]
    (outcomes,) = collect(trials)
    found = entries(outcomes)
    assert references(found, []) == {}
    assert "--reference names another method" in table(outcomes, compared(found, {}, outcomes.video), {})
    (chosen,) = references(found, ["fastv", "layer=2"]).values()
    assert chosen.reducer == "fastv"
    with pytest.raises(ValueError, match=r"--reference fastv layer=3: no trial of fastv has layer=3; they have layer=2$"):
        references(found, ["fastv", "layer=3"])
    with pytest.raises(ValueError, match="--reference nosuch: no trial of nosuch has a .*; those of fastv, random have$"):
        references(found, ["nosuch"])


def test_a_reference_may_name_settings_that_all_trials_share() -> None:
    shared = {"merge": {"static_threshold": None}, "prune": {"layer": 2}}
    name = "prunevid static_threshold=null layer=2"
    by_name = [matched(f"{name} match={{flops:{target}}}", "++++++-+", target, **shared) for target in (0.2, 0.4)]
    in_the_file = [matched(f"prunevid match={{flops:{target}}}", "++++++-+", target, **shared) for target in (0.2, 0.4)]
    for trials in (by_name, in_the_file):
        found = entries(collect(trials)[0])
        assert [b.target for b in references(found, ["static_threshold=null", "layer=2"])] == [0.2, 0.4]


def test_the_command_writes_table_list_and_picture(run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    match = "reducer.match={flops:0.11,videos:2,tolerance:0.5}"
    code, _, err = run("-m", "reducer=prunevid,frames", match, "benchmark.limit=4", "hydra.sweep.dir=sweep")
    assert code == 0, err
    monkeypatch.setattr(sys, "argv", ["prunesweep", "methods", "sweep", "--out", "table"])
    app.main()
    assert "the dense model was not evaluated" in capfd.readouterr().out
    rows = list(csv.DictReader(Path("table/methods.csv").read_text().splitlines()))
    assert {row["reducer"] for row in rows} == {"prunevid", "frames"}
    assert all(abs(float(row["llm_flops_ratio"]) - 0.11) < 0.06 for row in rows)
    assert Path("table/methods.png").stat().st_size > 10_000


def test_the_grids_of_the_matched_sweep_compose() -> None:
    grids = yaml.safe_load((ROOT / "sweeps" / "matched.yaml").read_text())["hydra"]["sweeper"]["grids"]
    parser = OverridesParser.create()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for grid in grids:
            given = [f"{key}={'null' if value is None else value}" for key, value in grid.items()]
            (jobs,) = BasicSweeper.split_arguments(parser.parse_overrides(given), None)
            reducer = instantiate(compose("eval", jobs[0]).reducer)

            assert reducer.name == "none" or 0.1 <= reducer.match.target <= 0.4
