"""~/ is the home folder wherever a path is typed or written, and nothing is ever put into a folder of that name."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from prunesweep.paths import PACKAGE, expand_home, is_there, typed, user_path
from prunesweep.search.study import open_storage
from prunesweep.sweep.schema import require_whole_paths
from support.places import CONF


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    GlobalHydra.instance().clear()
    return tmp_path / "home"


SETTINGS = (
    "store.folder",
    "engine.cache",
    "benchmark.path",
    "model.checkpoint",
    "hydra.run.dir",
    "hydra.sweep.dir",
)


def test_every_setting_takes_it_quoted_or_from_a_file(home: Path) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        given = [f"{key}='~/{key}'" for key in SETTINGS]
        config = compose(
            "eval",
            ["benchmark=jsonl", "hydra/launcher=submitit_local", *given, "hydra.launcher.folder='~/jobs'"],
            return_hydra_config=True,
        )
    expand_home(config)
    for key in SETTINGS:
        assert OmegaConf.select(config, key) == f"{home}/{key}"
    assert config.hydra.launcher.folder == f"{home}/jobs"
    assert config.model.load.checkpoint == f"{home}/model.checkpoint", "and what refers to it"
    sections = [config[key] for key in config if key not in ("hydra", "protocol") and OmegaConf.is_config(config[key])]
    assert "~" not in str([OmegaConf.to_container(section, resolve=True) for section in sections])


def test_lists_nested_values_and_grids_are_expanded_and_texts_are_not(home: Path) -> None:
    raw: dict[str, Any] = {
        "hydra": {
            "sweeper": {"warm_start": ["~/a", "b~/c"], "grids": [{"model.checkpoint": "~/a,~/b"}]},
            "overrides": {"task": ["~/x"]},
        },
        "protocol": {"prefix": "~/ as it is"},
        "reducer": {"name": "~", "x": "a ~/b", "y": None, "z": "~user/b"},
    }
    config = OmegaConf.create(raw)
    OmegaConf.set_struct(config, True)
    OmegaConf.set_readonly(config, True)
    expand_home(config)
    assert config.hydra.sweeper.warm_start == [f"{home}/a", "b~/c"]
    assert config.hydra.sweeper.grids[0]["model.checkpoint"] == f"{home}/a,{home}/b"
    assert config.hydra.overrides.task == ["~/x"]
    assert config.protocol.prefix == "~/ as it is"
    assert config.reducer == {"name": str(home), "x": "a ~/b", "y": None, "z": "~user/b"}


def test_arguments_are_expanded_where_neither_the_shell_nor_hydra_does(home: Path) -> None:
    given = ["store.folder=~/s", "x='~/s'", "+a.b=[~/s,~/t]", "--config-dir=~/c", "~/d", "~reducer.merge", "k=a~/b", "-m"]
    assert typed(given) == [
        f"store.folder={home}/s",
        f"x='{home}/s'",
        f"+a.b=[{home}/s,{home}/t]",
        f"--config-dir={home}/c",
        f"{home}/d",
        "~reducer.merge",
        "k=a~/b",
        "-m",
    ]


PATHS = re.compile(r"Annotated\[\s*(?:list\[)?Path\b.*?\),?\s*\]", re.DOTALL)


def test_no_command_reads_a_path_without_expanding_it() -> None:
    """Every path of a verb is parsed by `user_path`, and so is argparse's in `dev`."""
    assert user_path("~/x") == Path.home() / "x"
    found = 0
    for file in (PACKAGE / "cli").glob("*.py"):
        for given in PATHS.findall(file.read_text(encoding="utf-8")):
            found += 1
            assert re.search(r"parser=((user|sweep|trial)_path|(sweep|trial)_folder)|_folder\(", given), (file, given)
    assert found > 10
    for file in PACKAGE.rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(call, ast.keyword) and call.arg == "type":
                assert not (isinstance(call.value, ast.Name) and call.value.id == "Path"), file


def test_a_database_of_a_search_may_lie_there(home: Path, tmp_path: Path) -> None:
    open_storage("sqlite:///~/study.db", tmp_path)
    assert (home / "study.db").is_file()


@pytest.mark.parametrize("mode", [[], ["-m"]], ids=["run", "multirun"])
def test_nothing_is_written_into_a_folder_of_that_name(run, home: Path, tmp_path: Path, mode: list[str]) -> None:
    key = "hydra.sweep.dir" if mode else "hydra.run.dir"
    code, _, _ = run(
        *mode, "reducer=none", "benchmark.limit=2", "store.folder=~/store", f"{key}='~/out'", "engine.cache='~/cache'"
    )
    assert code == 0
    assert {path.name for path in home.iterdir()} >= {"store", "out", "cache"}
    assert not (tmp_path / "~").exists()


def test_a_folder_that_hydra_takes_for_a_number_is_to_be_quoted(run) -> None:
    for key in ("store.folder", "benchmark.path"):
        code, _, _ = run("benchmark=jsonl", f"{key}=2024")
        assert f"{key} must be text, got 2024; quote it" in str(code)
    assert "model.checkpoint must be text, got ['a']" in str(run("model.checkpoint=[a]")[0])


@pytest.mark.parametrize(
    ("text", "there"),
    [("", False), ("0.1," * 2000, False), ("~nobody-of-that-name/x,y", False), ("nul\0,", False), (".", True), ("~", True)],
)
def test_whatever_is_typed_may_be_asked_for_as_a_path(text: str, there: bool) -> None:
    assert is_there(text) == there
    require_whole_paths([f"reducer.merge.tau={text}"])
