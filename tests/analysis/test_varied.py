"""A column for each setting that tells the trials of a sweep apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from prunesweep.analysis.table import sweep_table, table_frame
from prunesweep.analysis.varied import series, varied
from prunesweep.results.infeasible import Infeasible
from prunesweep.results.records import Trial
from support.records import made


def swept(*trials: tuple[str, dict, tuple[str, ...]]) -> list[Trial]:
    found = []
    for index, (name, reducer, overrides) in enumerate(trials):
        one = made(name, "+-+-", **reducer)
        found.append(one._replace(info=replace(one.info, overrides=overrides), folder=Path(f"sweep/{index}")))
    return found


def frame(trials: list[Trial], failed: list[tuple[Path, Infeasible]] | None = None) -> pl.DataFrame:
    settings = varied([(trial.folder, trial.info) for trial in trials], failed or [])
    return table_frame(sweep_table(trials), settings).sort("#")


def test_settings_in_which_trials_of_a_reducer_differ_have_columns() -> None:
    table = frame(
        swept(
            ("none", {}, ("reducer=none",)),
            ("prunevid tau=0.8", {"merge": {"tau": 0.8, "k": 7}, "prune": {"layer": 2}}, ("reducer=prunevid",)),
            ("prunevid tau=null", {"merge": {"tau": None, "k": 7}, "prune": {"layer": 4}}, ("reducer=prunevid",)),
        )
    )
    assert table.columns[:6] == ["#", "reducer", "merge.tau", "prune.layer", "accuracy", "accuracy_error"]
    assert table.columns[6:9] == ["samples", "llm_flops_ratio", "pareto"]
    assert table.columns[-2:] == ["trial", "relative_to"]
    assert table["#"].to_list() == ["0", "1", "2"]
    assert table["merge.tau"].to_list() == [None, 0.8, None]
    assert table["prune.layer"].to_list() == [None, 2, 4]
    assert table["prune.layer"].dtype == pl.Int64
    assert "merge.k" not in table.columns, "alike in all"


def test_what_was_given_for_some_trials_has_a_column_though_each_reducer_has_one_trial() -> None:
    table = frame(
        swept(
            (
                "random keep_ratio=0.5",
                {"merge": {"keep_ratio": 0.5}},
                ("reducer=random", "reducer.merge.keep_ratio=0.5", "x=1"),
            ),
            (
                "fastv keep_ratio=0.4",
                {"prune": {"keep_ratio": 0.4}},
                ("reducer=fastv", "reducer.prune.keep_ratio=0.4", "x=1"),
            ),
        )
    )
    assert table["merge.keep_ratio"].to_list() == [0.5, None]
    assert table["prune.keep_ratio"].to_list() == [None, 0.4]


def test_a_setting_called_like_another_column_keeps_its_whole_key() -> None:
    table = frame(
        swept(("a", {"samples": 1, "accuracy": 0.5, "#": "x"}, ()), ("a", {"samples": 2, "accuracy": 0.6, "#": "y"}, ())),
    )
    assert table["reducer.samples"].to_list() == [1, 2]
    assert table["samples"].to_list() == [4, 4]
    assert table["reducer.accuracy"].to_list() == [0.5, 0.6]
    assert table["reducer.#"].to_list() == ["x", "y"]
    one = swept(("a", {"video.frames": 1}, ()), ("a", {"video.frames": 2}, ()))
    for index, trial in enumerate(one):
        trial.info.settings["video"] = {"frames": 8 + index}
    assert frame(one).columns[2:4] == ["reducer.video.frames", "video.frames"]


def test_models_and_benchmarks_are_columns_where_there_are_several() -> None:
    trials = swept(("none", {}, ()), ("none", {}, ()))
    trials[1] = trials[1]._replace(info=replace(trials[1].info, model="other"))
    assert frame(trials)["model"].to_list() == ["tiny", "other"]
    assert "benchmark" not in frame(trials).columns


def test_what_could_not_be_run_shows_what_was_given() -> None:
    failed = Infeasible("a layer=9", "a", "tiny", "blocks", ("reducer=a", "reducer.prune.layer=9"), "8 layers")
    trials = swept(("a layer=2", {"prune": {"layer": 2}}, ("reducer=a", "reducer.prune.layer=2")))
    settings = varied([(trial.folder, trial.info) for trial in trials], [(Path("sweep/7"), failed)])
    assert settings == {"0": {"prune.layer": 2}, "7": {"prune.layer": 9}}


def test_columns_hold_numbers_where_all_are_and_words_otherwise() -> None:
    assert series("a", [1, 2.5, None]).to_list() == [1.0, 2.5, None]
    assert series("a", [True, None]).dtype == pl.Boolean
    assert series("a", [1, "grid", None, True, [1, 2], {"flops": 0.2}]).to_list() == [
        "1", "grid", None, "true", "[1, 2]", '{"flops": 0.2}'
    ]  # fmt: skip
    assert series("a", [None, None]).to_list() == [None, None]


def test_a_sweep_of_one_kind_has_no_column_of_settings() -> None:
    assert frame(swept(("none", {}, ("reducer=none",)))).columns[:3] == ["#", "reducer", "accuracy"]
    assert table_frame([]).is_empty()
