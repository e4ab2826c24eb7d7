"""Slips of a user's: one line says what was meant, and how to write it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.places import ROOT

SLIPS_OF_NAMES = {
    "a slip": (
        ("--config-dir", "sweeps", "--config-name", "demoo"),
        r"unknown sweep 'demoo'; did you mean demo\? known: .*demo,",
    ),
    "without its folder": (("--config-name", "demo"), r"a named sweep is run with prunesweep sweep demo$"),
    "a slip without its folder": (("--config-name", "demoo"), r"prunesweep sweep demo$"),
    "a path": (("--config-name", "sweeps/demo.yaml"), r"prunesweep sweep demo$"),
    "no sweep": (("--config-name", "zork"), r"prunesweep sweep NAME, of components, demo,"),
    "of a search's sampler": (
        ("--config-dir", "sweeps", "--config-name", "search", "sampler=tpee"),
        r"unknown sampler 'tpee'; did you mean tpe\?",
    ),
}


@pytest.mark.parametrize("arguments", SLIPS_OF_NAMES)
def test_the_name_of_a_sweep_that_is_not_found_says_where_it_is(run, arguments: str, tmp_path: Path) -> None:
    (tmp_path / "sweeps").symlink_to(ROOT / "sweeps")
    given, message = SLIPS_OF_NAMES[arguments]
    code, _, _ = run(*given, defaults=False)
    assert re.match(r"prunesweep: .*" + message, str(code)), code


def test_the_name_of_a_sweep_says_the_way_where_there_is_no_folder_of_sweeps(run) -> None:
    assert str(run("--config-name", "demo", defaults=False)[0]).endswith("prunesweep sweep demo")


COMMAS = {
    "a folder": (["benchmark=jsonl", "benchmark.path={tmp}/a,b"], "benchmark.path", "{tmp}/a,b"),
    "a folder that is not there": (["benchmark.path=/no/such,path"], "benchmark.path", "/no/such,path"),
    "of a multirun": (["-m", "benchmark=jsonl", "benchmark.path={tmp}/a,b"], "benchmark.path", "{tmp}/a,b"),
    "a store": (["store.folder=x,y"], "store.folder", "x,y"),
    "a multirun's store": (["-m", "store.folder=x,y"], "store.folder", "x,y"),
    "a run's folder": (["hydra.run.dir=x,y"], "hydra.run.dir", "x,y"),
    "a sweep's folder": (["-m", "hydra.sweep.dir=x,y"], "hydra.sweep.dir", "x,y"),
    "of a grid": (
        ["-m", "hydra/sweeper=grids", "hydra.sweeper.grids=[{{model.checkpoint: '{tmp}/a,b'}}]"],
        "model.checkpoint",
        "{tmp}/a,b",
    ),
}


@pytest.mark.parametrize("case", COMMAS)
def test_a_comma_in_a_path_says_to_quote_it(run, case: str, tmp_path: Path) -> None:
    (tmp_path / "a,b").mkdir()
    given, key, path = COMMAS[case]
    code, _, _ = run(*(one.format(tmp=tmp_path) for one in given), "logger=none", defaults=False)
    assert str(code).startswith("prunesweep: ")
    assert "\n" not in str(code)
    assert f"""'{key}="{path.format(tmp=tmp_path)}"'""" in str(code)
    assert not list(tmp_path.rglob("trial.json"))


def test_a_quoted_comma_is_part_of_the_path(run, benchmark_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a,b").symlink_to(benchmark_folder)
    code, _, _ = run("-m", f'benchmark.path="{tmp_path}/a,b"', "benchmark.limit=1", "reducer=none", 'store.folder="x,y"')
    assert code == 0
    assert (tmp_path / "x,y").is_dir()


@pytest.mark.parametrize("override", ["reducer=none,prunevid", "reducer.prune.layer=2,4"])
def test_several_values_without_a_multirun_say_how_to_run_them(run, override: str) -> None:
    code, _, _ = run(override, defaults=False)
    assert code == f"prunesweep: '{override}' has several values; to run one after the other: -m {override}"
