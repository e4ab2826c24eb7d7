"""What a terminal shows is no wider than it, and a pipe gets everything."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TextIO

import pytest

from prunesweep.cli import app
from prunesweep.console.terminal import BOLD, CODES, CYAN, GREEN, fitted, say, table
from prunesweep.results.records import write_trial
from support.records import made, store_of

VERDICT = "cannot tell 28 of 28 trials; the cheapest: #17 prunevid static_threshold=0.95 cluster_ratio=0.25 layer=2"


def test_a_sentence_is_wrapped_behind_its_label() -> None:
    assert fitted(f"short\n{VERDICT}", 50, labels=True).splitlines() == [
        "short",
        "cannot tell 28 of 28 trials; the cheapest: #17",
        "            prunevid static_threshold=0.95",
        "            cluster_ratio=0.25 layer=2",
    ]
    assert fitted("0.800 ± 0.125 (n=20)  #7 prunevid layer=2 keep_ratio=0.4 on blocks, tiny", 60).splitlines() == [
        "0.800 ± 0.125 (n=20)  #7 prunevid layer=2 keep_ratio=0.4 on",
        "                      blocks, tiny",
    ]
    assert fitted("a sentence without a label goes on two columns in", 45).splitlines()[1] == "  columns in"


@pytest.mark.parametrize("width", [50, 80, 200])
def test_every_word_is_still_there_and_no_line_is_wider(width: int) -> None:
    text = f"{VERDICT}\n\n            {VERDICT}"
    lines = fitted(text, width, labels=True).splitlines()
    assert all(len(line) <= width for line in lines)
    assert " ".join(lines).split() == text.split()


def test_a_pipe_gets_lines_whole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    say(VERDICT, labels=True)
    assert capsys.readouterr().out == f"{VERDICT}\n"
    rows = [("a", "1", "x" * 30 + " " + "y" * 30)]
    assert table(("key", "n", "settings"), rows).splitlines()[-1] == f"a    1  {rows[0][2]}"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert [line.strip() for line in table(("key", "n", "settings"), rows).splitlines()[-2:]] == [f"a    1  {'x' * 30}", "y" * 30]


TABLES = (
    "show sweep",
    "show sweep --all",
    "show sweep --table against",
    "show sweep --table methods",
    "compare sweep 1 dense",
    "sweep",
    "cost model=llava_onevision_7b reducer=fastv",
    "store list --store store",
)
"""Verbs that show tables or a verdict."""
SURROUNDINGS = {
    "narrow": {"COLUMNS": "40"},
    "usual": {"COLUMNS": "80"},
    "wide": {"COLUMNS": "200"},
    "no colour": {"COLUMNS": "80", "NO_COLOR": "1"},
    "dumb": {"COLUMNS": "80", "TERM": "dumb"},
}


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep and a store of two trials, one with a long name, where the command runs."""
    monkeypatch.chdir(tmp_path)
    settings = {"static_threshold": 0.8123456789, "cluster_ratio": 0.25, "segment_ratio": 0.5}
    name = " ".join(f"{key}={value}" for key, value in settings.items())
    trials = [made("none", "++++++++"), made(f"prunevid {name}", "++++----", visual=(8, 1), merge=settings)]
    for index, one in enumerate(trials):
        write_trial(Path("sweep") / str(index), one.info, one.records)
    store_of(Path("store"), trials)


def printed(given: str, monkeypatch: pytest.MonkeyPatch, out: TextIO) -> None:
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "argv", ["prunesweep", *given.split()])
    app.main()
    out.flush()


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
@pytest.mark.parametrize("given", TABLES)
def test_a_verb_fits_its_terminal_and_paints_only_where_it_may(
    given: str, surroundings: str, folders: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"TERM": "xterm", **SURROUNDINGS[surroundings]}
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    printed(given, monkeypatch, screen := Screen())
    lines = screen.getvalue().splitlines()
    assert lines
    assert [line for line in lines if len(CODES.sub("", line)) > int(own["COLUMNS"])] == []
    if "NO_COLOR" in own or own["TERM"] == "dumb":
        assert "\x1b" not in screen.getvalue()
    elif "show" in given or "list" in given:
        assert CODES.search(screen.getvalue())


@pytest.mark.parametrize("given", TABLES)
def test_a_pipe_of_ascii_gets_every_verb_without_colours(given: str, folders: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    pipe = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    printed(given, monkeypatch, pipe)
    text = pipe.buffer.getvalue()  # type: ignore[attr-defined]
    assert text.isascii()
    assert b"\x1b" not in text
    assert max(map(len, text.splitlines())) > 40


def test_the_front_and_what_it_is_held_against_come_first_and_are_painted(folders: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("NO_COLOR", raising=False)
    printed("show sweep --all", monkeypatch, screen := Screen())
    header, _, *rows = screen.getvalue().splitlines()
    assert header.startswith(f"\x1b[{BOLD}m#")
    assert [row.split("m")[0].removeprefix("\x1b[") for row in rows[:2]] == [GREEN, CYAN]
