"""`prunesweep show`: words, tables, trials, and what it says to a folder that it cannot read."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import polars as pl
import pytest

from prunesweep.analysis.outcomes import read_outcomes
from prunesweep.cli import app
from prunesweep.report.formats import FORMATS
from prunesweep.report.overview import FEW
from prunesweep.results.infeasible import Infeasible, write_infeasible
from prunesweep.results.records import write_trial
from support.records import drawn, grid_trials, made


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    def call(*arguments: str) -> tuple[object, str]:
        monkeypatch.setattr("sys.argv", ["prunesweep", "show", *arguments])
        code: object = 0
        try:
            app.main()
        except SystemExit as stop:
            code = stop.code
        return code, capsys.readouterr().out

    return call


def test_the_command_prints_words_and_tables(command, tmp_path: Path) -> None:
    for index, one in enumerate(drawn()):
        write_trial(tmp_path / str(index), one.info, one.records)
    code, out = command(str(tmp_path), "--samples", "4000")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()][:2] == ["trials", "dense"]
    assert "4,000 questions like these, on videos in proportion, would tell" in out
    assert command(str(tmp_path), "--tasks")[0] == 2
    assert command(str(tmp_path), "--format", "csv")[0] == 2
    for table, form in product(("against", "methods", "components", "tasks", "effects"), FORMATS):
        assert command(str(tmp_path), "--table", table, "--format", form)[0] == 0


def test_the_command_says_what_is_wrong_with_a_folder(command, tmp_path: Path) -> None:
    assert command(str(tmp_path / "none"))[0] == (
        f"prunesweep: {tmp_path / 'none'} does not exist; name the folder of a sweep, such as multirun/DATE/TIME, or a store"
    )
    assert "holds no finished trial" in command(str(tmp_path))[0]
    one = made("none", "+-")
    write_trial(tmp_path / "0", one.info, one.records.drop("frames"))
    assert "0 cannot be read as a trial (" in command(str(tmp_path))[0]
    write_trial(tmp_path / "0", one.info, one.records)
    assert "prunesweep: cost must be one of" in command(str(tmp_path), "--cost", "dollars")[0]
    (tmp_path / "0" / "records.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(ValueError, match="0 cannot be read as a trial"):
        read_outcomes(tmp_path)


TRIALS = ("against", "methods", "components", "tasks")
"""Tables with a row for each trial."""


@pytest.mark.parametrize("table", TRIALS)
@pytest.mark.parametrize("form", ["text", "markdown", "csv"])
def test_every_table_of_trials_has_the_number_that_the_next_command_takes(command, tmp_path: Path, table: str, form: str) -> None:
    trials = drawn()
    names = {str(index): one.info.name for index, one in enumerate(trials)}
    for index, one in enumerate(trials):
        write_trial(tmp_path / str(index), one.info, one.records)
    out = command(str(tmp_path), "--table", table, "--format", form)[1]
    lines = [[cell.strip() for cell in re.split(r"\s{2,}|,|\|", line.strip(" |\\"))] for line in out.splitlines()]
    numbers = {cells[0]: cells[1] for cells in lines if cells[0] in names}
    assert any(cells[0].lstrip("\\") == "#" for cells in lines)
    assert numbers == names


@pytest.mark.parametrize("table", [*TRIALS, "effects"])
@pytest.mark.parametrize("width", [60, 80, 100, 140, 400])
def test_a_table_is_no_wider_than_its_terminal_and_whole_in_a_pipe(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, width: int
) -> None:
    levels = {"keep_ratio": [0.1, 0.2, 0.4], "layer_of_pruning": [2, 4]}
    for index, one in enumerate([made("none", "+" * 200), *grid_trials(levels, lambda keep, _: keep + 0.5)]):
        tasks = pl.Series([f"a_task_of_long_name_{i % 5}" for i in range(200)])
        write_trial(tmp_path / str(index), one.info, one.records.with_columns(task=tasks))
    arguments = (str(tmp_path), "--table", table, "--tasks") if table == "methods" else (str(tmp_path), "--table", table)
    pipe = command(*arguments)[1]
    monkeypatch.setenv("COLUMNS", str(width))
    assert command(*arguments)[1] == pipe
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    shown = command(*arguments)[1]
    assert max(map(len, shown.splitlines())) <= width
    whole, kept = (next(line.split() for line in text.splitlines()[2:] if line) for text in (pipe, shown))
    assert ("for want of width without " in shown) == (kept != whole)
    if table != "effects":
        words = [line.split() for line in shown.splitlines() if line]
        assert any(own[0] == "#" for own in words)
        assert {str(i) for i in range(7)} <= {own[0] for own in words}


def many(folder: Path) -> list[str]:
    """The numbers of more trials than a terminal shows unasked; one was not run."""
    trials = [made("none", "+" * 20), *(made(f"prunevid layer={i}", "+-" * 10, prune={"layer": i}) for i in range(1, FEW + 5))]
    for number, one in enumerate(trials):
        write_trial(folder / str(number), one.info, one.records)
    write_infeasible(folder / "99", Infeasible("fastv layer=9", "fastv", "tiny", "blocks", (), "8 layers"))
    return [*map(str, range(len(trials))), "99"]


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])
def test_all_trials_are_a_line_each(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    numbers = many(tmp_path)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    code, out = command(str(tmp_path), "--all")
    assert code == 0
    header, _, *lines = out.splitlines()
    assert header.split()[:2] == ["#", "reducer" if terminal else "trial"]
    assert sorted(line.split()[0] for line in lines[: len(numbers)]) == sorted(numbers)
    assert "more trial" not in out
    assert all(len(line) <= 100 for line in (header, *lines[: len(numbers)])) == terminal


def test_all_trials_of_another_axis_have_its_front(command, tmp_path: Path) -> None:
    many(tmp_path)
    assert "accuracy against kv_bytes" in command(str(tmp_path), "--all", "--cost", "kv_bytes")[1]


@pytest.mark.parametrize("other", [("--table", "against"), ("--samples", "50")], ids=" ".join)
def test_all_trials_or_something_else(command, tmp_path: Path, other: tuple[str, str]) -> None:
    assert command(str(tmp_path), "--all", *other)[0] == 2
