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

from prunesweep.cli import app, former, sweep
from prunesweep.cli.shared import MODELS, READ, RUN, UPKEEP
from prunesweep.results.read import number, read_infos
from prunesweep.results.records import write_trial
from support.places import ROOT
from support.records import made, store_of

HEAVY = ("hydra", "lightning", "matplotlib", "numpy", "omegaconf", "optuna", "polars", "scipy", "torch", "transformers", "wandb")


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
    assert "<bool>" not in out, "a flag takes no value"
    assert "third" not in out, "of compare, which is hidden"


def test_help_shows_four_panels_and_the_named_sweeps(typed) -> None:
    _, out, _ = typed("--help")
    places = [out.index(f" {panel} ") for panel in (RUN, READ, MODELS, UPKEEP)]
    assert places == sorted(places)
    for name, command in typer.main.get_command(app.app).commands.items():
        assert command.rich_help_panel in (RUN, READ, MODELS, UPKEEP), name
    _, out, _ = typed("sweep", "--help")
    for name in sweep.names():
        assert name in out


def test_help_imports_nothing_heavy() -> None:
    """Of any verb, all in one fresh process."""
    code = f"""
import json, sys
from prunesweep.cli.app import main
for verb in {[(), *VERBS]}:
    sys.argv = ["prunesweep", *verb, "--help"]
    main()
print(json.dumps([m for m in {HEAVY} if m in sys.modules]))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.count("Usage:") == 1 + len(VERBS)
    assert json.loads(out.splitlines()[-1]) == []


@pytest.mark.parametrize("before", [(), ("show",), ("run", "-m"), ("reducer=none",), ("-m", "reducer=none"), ("cost",)])
def test_the_version_is_ours_wherever_it_is_asked_for(before: tuple[str, ...], typed) -> None:
    from importlib.metadata import version

    assert typed(*before, "--version") == (0, f"prunesweep {version('prunesweep')}\n", "")


def test_a_verb_without_its_part_shows_its_help(typed) -> None:
    code, out, err = typed("store")
    assert (code, err) == (2, "")
    assert "Usage: prunesweep store" in out


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("swep", "demo"), "no verb 'swep'; did you mean sweep? prunesweep --help shows"),
        (("demo",), "no verb 'demo'; did you mean sweep demo?"),
        (("xyzzy",), "no verb 'xyzzy'; there are run, sweep"),
        (("help",), "no verb 'help'; did you mean --help? prunesweep --help shows"),
        (("merge",), "no verb 'merge'; did you mean store merge?"),
        (("store", "lst"), "store has no verb 'lst'; did you mean list? prunesweep store --help shows"),
        (("replay", "xyzzy"), "replay has no verb 'xyzzy'; it has search, hypervolume, race, savings; prunesweep replay --help"),
        (("compare", "a"), "Missing argument"),
        (("report", "a", "--cots", "b"), "report has no option --cots; did you mean --cost?"),
        (("compare", "1", "2", "--cost", "x"), "compare has no option --cost, which is one of show, report, wandb, "),
        (("report", "a", "--table", "x"), "report has no option --table, which is one of show; prunesweep report --help"),
        (("replay", "race", "a", "--sedes", "2"), "replay race has no option --sedes; did you mean --seeds?"),
        (("compare", "1", "2", "--xyzzy"), "compare has no option --xyzzy; it has --exact, --help"),
        (("sweep", "-m", "demo"), "the sweep comes first: prunesweep sweep NAME -m"),
        (("--confg-name", "demo"), "no option --confg-name; did you mean --config-name?"),
        *(
            ((*verb, slip), f"{' '.join(verb[:1])} {says}".strip())
            for verb in (("run",), ("sweep", "demo"), ("search",), ("search", "search_race"), ("cost",))
            for slip, says in (
                ("--hlp", "has no option --hlp; did you mean --help?"),
                ("--cgf", "has no option --cgf; did you mean --cfg?"),
                ("--modle=tiny", "has no option --modle; did you mean model=...?"),
                ("--xyzzy", "has no option --xyzzy; a setting is KEY=VALUE; --hydra-help lists those of Hydra"),
            )
        ),
        (("ask", "a.mp4", "what ?", "--modle=tiny"), "ask has no option --modle; it has --help; prunesweep ask --help shows"),
        (("tune", "--bugdet=0.3x"), "tune has no option --bugdet; it has --help; prunesweep tune --help shows"),
        (("data", "check", "--decrod"), "data check has no option --decrod; did you mean --decord? prunesweep data check --help"),
        (("-m", "--cfg"), "argument --cfg/-c: expected one argument"),
        (("--cfg", "jb"), "invalid choice: 'jb'"),
        (
            ("show", ".", "--table", "agianst"),
            "--table must be one of against, methods, components, tasks, effects, got 'agianst'; did you mean against?",
        ),
        (("tokens", "a", "--flips", "0"), "--flips must be greater than or equal to 1, got '0'; prunesweep tokens --help shows"),
        (("show", ".", "knee"), "show does not take 'knee'; prunesweep show --help shows"),
        (("judge", "a", "--url"), "prunesweep judge --help shows"),
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
        (("sweep", "dmo"), "unknown sweep 'dmo'; did you mean demo?"),
        (("sweep", "nowhere.yaml"), "nowhere.yaml does not exist"),
        (("search", "serch"), "unknown sweep 'serch'; did you mean search?"),
        (("show", "nowhere"), "nowhere does not exist; name the folder of a sweep"),
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


@pytest.mark.parametrize(
    ("words", "goes_on"),
    [
        ("prunesweep sh", ["show"]),
        ("prunesweep sweep keep", ["keep_by_layer"]),
        ("prunesweep show x --format m", ["markdown"]),
        ("prunesweep reducer=", []),
    ],
)
def test_a_shell_that_completes_is_answered_and_runs_nothing(words: str, goes_on: list[str], tmp_path: Path) -> None:
    """It calls the command without arguments, which otherwise evaluates the defaults."""
    asked = {"_PRUNESWEEP_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    code = "import sys; sys.argv = ['prunesweep']\nfrom prunesweep.cli.app import main\nmain()"
    environment = {**os.environ, **asked}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=60)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, goes_on, "")
    assert not list(tmp_path.iterdir())


def test_a_path_that_is_nearly_one_of_a_sweep_is_told_apart_from_a_name(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("defaults: [eval]\n")
    (tmp_path / "other.yml").write_text("defaults: [eval]\n")
    assert sweep.located(str(tmp_path / "mine.yaml")) == tmp_path / "mine.yaml"
    with pytest.raises(ValueError, match=f"named by its file: {tmp_path}/mine.yaml"):
        sweep.located(str(tmp_path / "mine"))
    with pytest.raises(ValueError, match="Hydra reads files that end in .yaml; give .*other.yml such a name"):
        sweep.located(str(tmp_path / "other.yml"))


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
    ("name", "given", "code"),
    [
        ("prunesweep-cost", "model=llava_onevision_7b reducer=fastv frames=32", 0),
        ("prunesweep-cost", "model=llava_onevision_7b reducer=fsatv", 1),
        ("prunesweep-store", "verify --store nowhere", 1),
        ("prunesweep-stats", "nowhere --table agianst", 2),
    ],
)
def test_a_former_script_says_what_its_verb_says(name: str, given: str, code: int) -> None:
    verb = prunesweep(*former.today(name, given.split()))
    script = f"import sys; sys.argv = ['/somewhere/{name}', *{given.split()}]\nfrom prunesweep.cli.former import main\nmain()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "COLUMNS": "100"})
    assert (done.returncode, done.stdout) == (code, verb.stdout)
    assert verb.returncode == code
    assert done.stderr.partition("\n")[2] == verb.stderr
    assert bool(verb.stdout) == (code == 0)


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
    for index, one in enumerate([made("none", "++++"), made("random", "+-+-")]):
        write_trial(sweep_folder / str(index), one.info, one.records)
    (tmp_path / "multirun" / "latest").symlink_to(sweep_folder)
    (sweep_folder.parent / "latest").symlink_to("12-00-00/1")  # as of a run: a trial in the folder of its day
    (tmp_path / "tests").mkdir()
    monkeypatch.chdir(tmp_path)
    said = typed("compare", str(sweep_folder / "1"), str(sweep_folder / "0"))
    assert said[0] == 0
    assert "-0.500" in said[1]
    numbers = (("1", "dense"), ("latest/1", "none"), ("multirun/latest", "random", "best"), ("latest", "1", "0"), ("#1", "#0"))
    for names in (*numbers, ("multirun/2030-01-31/latest", "dense")):
        assert typed("compare", *names) == said, names
    assert "12-00-00 is a sweep; name one of its trials, such as" in str(typed("compare", "latest", "1")[0])
    code, _, _ = typed("compare", "7", "dense")
    assert str(code).startswith("prunesweep: no trial '7' in ")
    assert typed("show", "latest")[0] == 0
    for slip in ("latst", "latest_", "latets"):
        assert typed("show", slip)[0] == f"prunesweep: {slip} does not exist; did you mean latest?"
    assert typed("compare", "1", "1")[0] == "prunesweep: " + (
        f"{sweep_folder / '1'} would be compared with itself; name another trial to compare it with"
    )


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep and a store of the same trials."""
    monkeypatch.chdir(tmp_path)
    trials = [made("none", "++++"), made("random", "+-+-", merge={"keep_ratio": 0.5})]
    for index, one in enumerate(trials):
        write_trial(Path("sweep") / str(index), one.info, one.records)
    store_of(Path("store"), trials)


def test_two_trials_of_a_store_are_compared_as_those_of_a_sweep(typed, both: None) -> None:
    by_number = [line.split("#")[0].split("  ")[0] for line in typed("compare", "sweep/1", "dense")[1].splitlines()]
    keys = {info.reducer: folder for folder, info in read_infos(Path("store"))}
    random, none = keys["random"], keys["none"]
    for names in (
        ("store", "random", "dense"),
        ("store/random", "none"),
        (f"store/{random.name}", number(none)),
        (str(random), str(none)),
        ("store/random", "sweep/dense"),
    ):
        code, out, _ = typed("compare", *names)
        assert code == 0, names
        assert [line.split("#")[0].split("  ")[0] for line in out.splitlines()] == by_number
        assert f"#{number(random)} random" in out
    wanted = f"prunesweep: store is a store; name one of its trials, such as store/{number(none)}"
    assert typed("compare", "store", "dense")[0] == wanted
    assert typed("compare", "sweep", "dense")[0] == "prunesweep: sweep is a sweep; name one of its trials, such as sweep/0"


@pytest.mark.parametrize(
    "call",
    [
        *(("tokens", "store"), ("tokens", "store/dense"), ("tokens", "sweep/1", "store/dense")),
        *(("replay", "race", "store"), ("replay", "search", "store"), ("replay", "savings", "store", "sweep")),
        *(("replay", "hypervolume", "store"), ("judge", "store/dense", "--url", "http://x", "--model", "y")),
    ],
    ids=" ".join,
)
def test_what_a_store_does_not_keep_is_asked_of_a_sweep(typed, both: None, call: tuple[str, ...]) -> None:
    assert typed(*call)[0] == (
        "prunesweep: store is a store, which keeps records alone; name the folder of a sweep, such as "
        "multirun/DATE/TIME, or its trial"
    )


@pytest.mark.parametrize("verb", ["show", "report"])
def test_a_store_is_read_like_a_sweep(typed, both: None, verb: str) -> None:
    assert typed(verb, "store")[0] == 0
