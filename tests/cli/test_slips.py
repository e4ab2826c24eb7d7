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


WITHOUT_THE_SETTING = {
    "of two": (["reducer=fastv,prumerge"], "[{reducer: prumerge}, {reducer: fastv, reducer.prune.layer: VALUE}]"),
    "of four": (
        ["reducer=none,fastv,prumerge,dart"],
        "[{reducer: none}, {reducer: prumerge}, {reducer: fastv, reducer.prune.layer: VALUE}, "
        "{reducer: dart, reducer.prune.layer: VALUE}]",
    ),
    "of a grid": (
        ["hydra/sweeper=grids", "hydra.sweeper.grids=[{reducer: 'fastv,prumerge'}]"],
        "[{reducer: prumerge}, {reducer: fastv, reducer.prune.layer: VALUE}]",
    ),
    "none has it": (["reducer=prumerge"], "[{reducer: prumerge}, {reducer: prunevid, reducer.prune.layer: VALUE}]"),
}


@pytest.mark.parametrize("case", WITHOUT_THE_SETTING)
def test_a_setting_that_some_methods_lack_proposes_grids_of_those_that_were_typed(run, case: str) -> None:
    typed, grids = WITHOUT_THE_SETTING[case]
    code, _, _ = run("-m", *typed, "reducer.prune.layer=2", defaults=False)
    assert str(code).endswith(f"hydra/sweeper=grids 'hydra.sweeper.grids={grids}'"), code


SLIPS = {
    "reducer.match.flops=0.3": r"reducer\.match is null or a mapping, .*: reducer\.match=\{flops:0\.3\}$",
    "-m reducer=fastv reducer.match.flops=0.3": r": reducer\.match=\{flops:0\.3\}$",
    "~benchmark.limit": r"benchmark\.limit is null, there is nothing to take away; benchmark\.limit=VALUE sets it$",
    "~benchmark.limt": r"no key 'benchmark\.limt' .*did you mean benchmark\.limit\?$",
    "~foo": r"no key 'foo' .*--cfg job shows all keys$",
    "~reducer": r"~reducer leaves no reducer, .*: reducer=NAME chooses another of aim, ",
    "~video.frames": r"~video\.frames takes away what is read; video\.frames=VALUE sets it",
    "-m ~video.frames": r"~video\.frames takes away what is read; video\.frames=VALUE sets it",
    "~engine.share": r"engine\.share=VALUE sets it",
    "~model.name": r"model\.name=VALUE sets it",
    "-m hydra.job.chdir=abc": r"hydra\.job\.chdir must be true or false, got 'abc'$",
    "+reducer.prune.layer=2": r"reducer\.prune\.layer is there already, .*; reducer\.prune\.layer=VALUE sets it$",
    "reducer+=fastv": r"there is no \+=; reducer=fastv sets it; with -m several one after the other: reducer=fastv,\.\.\.$",
    "reducer.prune.layer+=2": r"there is no \+=; reducer\.prune\.layer=2 sets it; \+reducer\.prune\.layer=2 adds a key$",
    'benchmark.path="abc': r"""a quote is not closed; .*: 'benchmark\.path="abc"'$""",
    "benchmark.path='abc": r"""a quote is not closed; .*: 'benchmark\.path="abc"'$""",
    "=fastv": r"a setting is KEY=VALUE$",
    "reducerr=fastv": r"did you mean reducer\?$",
}
INTERNAL = re.compile(r"\w+(?:Exception|Error|Conf)\b|full_key|object_type|Traceback|struct|No match")


@pytest.mark.parametrize("typed", SLIPS)
def test_a_slip_gets_one_line_that_says_what_to_type(run, typed: str) -> None:
    code, _, _ = run(*typed.split(" "), defaults=False)
    assert re.match(r"prunesweep: [^\n]*" + SLIPS[typed], str(code)), code
    assert not INTERNAL.search(str(code)), code


def test_blanks_around_a_setting_are_named(run) -> None:
    assert str(run("reducer = none", defaults=False)[0]).endswith("there are no blanks around a key or its =: reducer=none")


SEARCHES = {
    "hydra.sweeper.trials=abc": "hydra.sweeper.trials must be a whole number, got 'abc'",
    "hydra.sweeper.objectives=3": "hydra.sweeper.objectives must be a mapping, {NAME: VALUE}, got int",
    "hydra.sweeper.constraints=3": "hydra.sweeper.constraints must be a list, [VALUE, VALUE], got int",
    "~hydra.sweeper.trials": "hydra.sweeper.trials cannot be taken away; hydra.sweeper.trials=VALUE sets it",
}


@pytest.mark.parametrize("typed", SEARCHES)
def test_a_value_of_another_kind_says_what_it_must_be(run, typed: str) -> None:
    code, _, _ = run("-m", "hydra/sweeper=search", typed, defaults=False)
    assert code == f"prunesweep: {SEARCHES[typed]}"
