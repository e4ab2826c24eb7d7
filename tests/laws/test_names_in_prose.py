"""What prose names is there: modules, verbs, files.  Prose is the docs, comments, docstrings and headers of YAML files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from prunesweep.cli import app
from prunesweep.console.layout import prose
from prunesweep.dev import reference
from prunesweep.targets import MOVED
from support.places import ROOT

SRC = ROOT / "src"
FOLDERS = ("src", "conf", "tests", "sweeps", "docs", "notebooks")
PAGES = sorted(
    path
    for pattern in (
        "*.md",
        "docs/**/*.md",
        "src/**/*.md",
        "tests/**/*.md",
        "pyproject.toml",
        "Makefile",
        "conf/**/*.yaml",
        "sweeps/*",
    )
    for path in ROOT.glob(pattern)
    if ".venv" not in path.parts
)
CODE = sorted(path for path in SRC.glob("**/*.py") if path.name not in ("targets.py", "former.py"))
"""Without those that name what there was."""
DOTTED = re.compile(r"(?<![\w.:/@-])prunesweep((?:\.[A-Za-z_]\w*)+)")
MADE_UP = (
    "log",
    "reducers.mine.Mine",
    "reducers.torch.hub.load",
    "src/prunesweep/reducers/mine.py",
    "conf/reducer/mine.yaml",
    "conf/benchmark/quiz.yaml",
    "conf/protocol/quiz.yaml",
    "conf/reducer/checkerboard.yaml",
    "tests/reducers/test_reference_mine.py",
)
"""A file's name, a reader's own method, and what somebody who means harm may write."""
SCRIPT = re.compile(r"(?<![\w/.])prunesweep-[a-z-]+")
OF_BEFORE = ("CHANGELOG.md", "src/prunesweep/data/tiny/README.md")
"""What changed; and a file of the checkpoint that stores of the first format know by its bytes."""
COMMAND = re.compile(r"(?:^|`|\$ |[;:,(] |# )prunesweep ([a-z]+)(?: ([a-z]+))?(?![\w=./])", re.MULTILINE)
PLACE = re.compile(rf"(?<![\w/.~-])(?:\.\./)*((?:{'|'.join(FOLDERS)})/[\w./-]*\w)")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
SPAN = re.compile(r"`([a-z_]+)\.[A-Za-z_.]+`")
HERE = {path.stem for path in (*SRC.glob("**/*"), *(ROOT / "conf").glob("*"))}
FORMER = {name.rpartition(".")[2] for name in MOVED} - HERE


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def is_written(page: Path) -> bool:
    """Whether a build of the site writes it."""
    return page.resolve() in [ROOT / "docs" / name for name in reference.PAGES]


def is_there(parts: list[str]) -> bool:
    """Whether a dotted name leads to a module, or to something that a module's text has."""
    place = SRC / "prunesweep"
    for index, part in enumerate(parts):
        if (place / part).is_dir():
            place = place / part
            continue
        file = place / f"{part}.py"
        rest = parts[index + 1 :] if file.is_file() else parts[index:]
        text = (file if file.is_file() else place / "__init__.py").read_text(encoding="utf-8")
        return all(re.search(rf"\b{name}\b", text) for name in rest)
    return True


@pytest.mark.parametrize("path", [*PAGES, *CODE], ids=name_of)
def test_modules_that_are_named_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = [own.strip(".").split(".") for own in DOTTED.findall(text)]
    assert [".".join(parts) for parts in named if ".".join(parts) not in MADE_UP and not is_there(parts)] == []
    assert [whole for whole in SPAN.findall(text) if whole in FORMER] == []


def verbs() -> dict[str, set[str]]:
    commands = typer.main.get_command(app.app).commands  # type: ignore[attr-defined]
    return {name: set(getattr(command, "commands", ())) for name, command in commands.items()}


@pytest.mark.parametrize("path", [path for path in [*PAGES, *CODE] if path.name != "CHANGELOG.md"], ids=name_of)
def test_verbs_that_are_named_exist(path: Path) -> None:
    known = verbs()
    for verb, part in COMMAND.findall(path.read_text(encoding="utf-8")):
        assert verb in known, verb
        if part and known[verb]:
            assert part in known[verb], (verb, part)


@pytest.mark.parametrize("path", [*PAGES, *CODE], ids=name_of)
def test_files_that_are_named_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = [place for place in PLACE.findall(text) if not re.search(r"[A-Z]{4,}", place)]
    links = [link for link in LINK.findall(text) if path.suffix == ".md" and not link.startswith("http")]
    assert [place for place in named if place not in MADE_UP and not (ROOT / place).exists()] == []
    assert [link for link in links if not (path.parent / link).exists() and not is_written(path.parent / link)] == []


@pytest.mark.parametrize("path", [path for path in [*PAGES, *CODE] if name_of(path) not in OF_BEFORE], ids=name_of)
def test_scripts_of_before_are_named_where_they_are_kept_only(path: Path) -> None:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "prunesweep.cli.former:main" not in line]
    assert [name for line in lines for name in SCRIPT.findall(line)] == []


def test_what_is_not_there_is_found() -> None:
    assert not is_there(["analysis", "statistics"])
    assert not is_there(["calibration"])
    assert is_there(["dev", "calibration"])
    assert is_there(["analysis", "accuracy", "Accuracy"])
    assert COMMAND.findall("`prunesweep stats SWEEP`") == [("stats", "")]
    assert "statistics" in FORMER


@pytest.mark.parametrize("path", [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")], ids=name_of)
def test_prose_fits_a_screen(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert prose(page) == page


def test_long_prose_is_wrapped_and_all_else_left_alone() -> None:
    words = " ".join(["word"] * 60)
    lines = prose(f"- {words}\n\n| {words} |\n\n```text\n{words}\n```\n# {words}").split("\n")
    assert max(map(len, lines[:3])) <= 130
    assert lines[1].startswith("  word")
    assert [line for line in lines if len(line) > 160] == [f"| {words} |", words, f"# {words}"]
    assert " ".join(line.strip() for line in lines[:3]) == f"- {words}"
