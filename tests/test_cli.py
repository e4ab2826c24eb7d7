"""The command: its verbs, what their help costs, what is meant by a word that is none, and the scripts of before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

from conftest import ROOT
from prunesweep.cli import app, former, sweep
from prunesweep.cli.shared import MODELS, READ, RUN, UPKEEP
from prunesweep.results.records import write_trial
from test_statistics import made

HEAVY = ("hydra", "lightning", "matplotlib", "numpy", "omegaconf", "optuna", "polars", "scipy", "torch", "transformers", "wandb")
LOADED = "import json, sys; print(json.dumps([m for m in sys.argv[1:] if m in sys.modules]))"


def verbs() -> list[tuple[str, ...]]:
    """Every verb, and every part of one that has parts."""
    found: list[tuple[str, ...]] = []
    for name, command in typer.main.get_command(app.app).commands.items():
        found.append((name,))
        found += [(name, part) for part in getattr(command, "commands", ())]
    return found


VERBS = verbs()


def prunesweep(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prunesweep", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "100", **environment})


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The command in this process: exit code, stdout, stderr."""

    def call(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["prunesweep", *arguments])
        code: object = 0
        try:
            app.main()
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return call


@pytest.mark.parametrize("verb", [(), *VERBS], ids=" ".join)
def test_help_has_an_example_and_an_end(verb: tuple[str, ...], typed) -> None:
    code, out, err = typed(*verb, "--help")
    assert (code, err) == (0, "")
    assert f"prunesweep {' '.join(verb)}".strip() in out.partition("Example")[2]


def test_help_shows_four_panels_and_the_named_sweeps(typed) -> None:
    _, out, _ = typed("--help")
    places = [out.index(f" {panel} ") for panel in (RUN, READ, MODELS, UPKEEP)]
    assert places == sorted(places)
    _, out, _ = typed("sweep", "--help")
    for name in sweep.names():
        assert name in out


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; sys.argv = ['prunesweep', '--help']\nfrom prunesweep.cli.app import main\nmain()\n" + LOADED
    out = subprocess.run([sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, check=True).stdout
    assert json.loads(out.splitlines()[-1]) == []


def test_the_version_is_ours(typed) -> None:
    from importlib.metadata import version

    assert typed("--version") == (0, f"prunesweep {version('prunesweep')}\n", "")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("swep", "demo"), "no verb 'swep'; did you mean sweep?"),
        (("xyzzy",), "no verb 'xyzzy'; there are run, sweep"),
        (("store", "lst"), "No such command 'lst'. Did you mean 'list'?"),
        (("compare", "a"), "Missing argument"),
        (("report", "a", "--cots", "b"), "No such option: --cots"),
        (("show", "a", "--table", "agianst"), "is not one of"),
        (("show", "a", "--tasks"), "--tasks adds columns to --table methods"),
    ],
)
def test_what_is_wrong_is_said_on_one_line(given: tuple[str, ...], says: str, typed) -> None:
    code, out, err = typed(*given)
    assert (code, out) == (2, "")
    assert says in err
    assert err.startswith("prunesweep: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("sweep", "dmo"), "no sweep 'dmo'; did you mean demo?"),
        (("sweep", "nowhere.yaml"), "nowhere.yaml does not exist"),
        (("search", "serch"), "no sweep 'serch'; did you mean search?"),
        (("show", "nowhere"), "nowhere is not a folder"),
    ],
)
def test_a_sweep_or_folder_that_is_not_there(given: tuple[str, ...], says: str, typed) -> None:
    code, _, _ = typed(*given)
    assert says in str(code)
    assert "\n" not in str(code)


def test_hydras_own_arguments_are_left_to_hydra() -> None:
    for arguments in ([], ["reducer=none"], ["-m", "reducer=none"], ["--cfg", "job"], ["~race"], ["+a=1"], ["--hydra-help"]):
        assert app.is_hydras(arguments), arguments
    for arguments in (["--help"], ["--version"], ["show"], ["nonsense"]):
        assert not app.is_hydras(arguments), arguments


def test_every_sweep_says_what_it_runs_and_composes(typed) -> None:
    _, out, _ = typed("sweep")
    for name, path in sweep.names().items():
        assert len(sweep.says(path)) > 20, name
        assert f"{name} " in out


def test_a_sweep_by_name_is_the_sweep_by_hydras_options(tmp_path: Path) -> None:
    named, options = (["sweep", "demo"], ["--config-dir", str(ROOT / "sweeps"), "--config-name", "demo"])
    one, other = (prunesweep(*words, "--cfg", "job", "benchmark.limit=7") for words in (named, options))
    assert one.returncode == 0, one.stderr
    assert one.stdout == other.stdout
    own = tmp_path / "mine.yaml"
    own.write_text("defaults: [eval]\nbenchmark: {limit: 3}\n")
    mine = prunesweep("sweep", str(own), "--cfg", "job")
    assert mine.returncode == 0, mine.stderr
    assert "limit: 3" in mine.stdout


# Scripts of version 0.1


def scripts() -> dict[str, str]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def test_every_former_script_is_still_there_and_has_a_name_of_today() -> None:
    assert {name for name, target in scripts().items() if "former" in target} == {*former.VERBS, *former.MODULES}
    for name, verb in former.VERBS.items():
        assert verb in VERBS, name


@pytest.mark.parametrize("name", [*former.VERBS, *former.MODULES])
def test_a_former_script_warns_and_does_the_same(name: str) -> None:
    code = f"import sys; sys.argv = ['/somewhere/{name}', '--help']\nfrom prunesweep.cli.former import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"{name} is {former.now(name, former.today(name, []))}")
    assert done.stdout.strip()


@pytest.mark.parametrize(
    ("name", "given", "now"),
    [
        ("prunesweep-convert", "check pllava A", "model check pllava A"),
        ("prunesweep-convert", "stllm A B --variant qa", "model convert stllm A B --variant qa"),
        ("prunesweep-search", "replay G --samplers tpe random --seeds 2", "replay search G --samplers tpe,random --seeds 2"),
        ("prunesweep-search", "race S", "replay race S"),
        ("prunesweep-stats", "S --table tasks", "show S --table tasks"),
    ],
)
def test_former_arguments_are_those_of_today(name: str, given: str, now: str) -> None:
    assert former.today(name, given.split()) == now.split()


def test_several_values_become_one() -> None:
    given = ["S", "--reference", "fastv", "layer=2", "--out", "docs"]
    assert former.today("prunesweep-methods", given) == ["methods", "S", "--reference", "fastv layer=2", "--out", "docs"]


def test_trials_are_named_by_number_and_role(typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep_folder = tmp_path / "multirun" / "2030-01-31" / "12-00-00"
    for number, one in enumerate([made("none", "++++"), made("random", "+-+-")]):
        write_trial(sweep_folder / str(number), one.info, one.records)
    (tmp_path / "multirun" / "latest").symlink_to(sweep_folder)
    monkeypatch.chdir(tmp_path)
    said = typed("compare", str(sweep_folder / "1"), str(sweep_folder / "0"))
    assert said[0] == 0
    assert "-0.500" in said[1]
    for names in (("1", "dense"), ("latest/1", "none"), ("multirun/latest", "random", "best"), ("latest", "1", "0")):
        assert typed("compare", *names) == said, names
    code, _, _ = typed("compare", "7", "dense")
    assert str(code).startswith("prunesweep: no trial '7' in ")
    assert typed("show", "latest")[0] == 0
