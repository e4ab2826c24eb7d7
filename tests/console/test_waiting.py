"""A terminal is never silent for long, and what it shows meanwhile is gone at the next word."""

from __future__ import annotations

import io
import sys
import threading
import time

import pytest

from prunesweep.console import waiting
from prunesweep.console.waiting import Status, Watched, doing, watched


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A terminal on which silence is noticed soon, as stdout and stderr."""
    one = Screen()
    monkeypatch.setattr(waiting, "SILENCE", 0.02)
    monkeypatch.setattr(waiting, "BEAT", 0.01)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys, "stdout", one)
    monkeypatch.setattr(sys, "stderr", one)
    return one


def until(screen: Screen, text: str) -> None:
    deadline = time.monotonic() + 10
    while text not in screen.getvalue():
        assert time.monotonic() < deadline, screen.getvalue()
        time.sleep(0.01)


def seen(text: str) -> str:
    """What is left on the screen when carriage returns have been obeyed."""
    lines = []
    for line in text.split("\n"):
        cells: list[str] = []
        for part in line.split("\r"):
            cells[: len(part)] = part
        lines.append("".join(cells).rstrip())
    return "\n".join(lines)


def test_silence_shows_the_step_and_nothing_of_it_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = shown(monkeypatch)
    with watched("prunesweep report"):
        until(screen, "prunesweep report ... 0 s")
        with doing("drawing " + "a long name " * 9):
            until(screen, "drawing a long name")
        print("the result")
        until(screen, "the result")
    assert sys.stderr is screen
    assert sys.stdout is screen
    assert seen(screen.getvalue()) == "the result\n"
    assert all(len(part) < 40 for part in screen.getvalue().replace("\n", "\r").split("\r"))


class Slow(Screen):
    """A terminal on which somebody else gets a word in while the line is being shown, if let."""

    def __init__(self, word: str):
        super().__init__()
        self.word, self.other = word, threading.Thread(target=self._interrupt)
        self.status = Status(self, "waiting")

    def _interrupt(self) -> None:
        Watched(self, self.status).write(self.word)

    def write(self, text: str) -> int:
        if "waiting" in text and self.other.ident is None:
            self.other.start()
            self.other.join(0.2)
        return super().write(text)


def test_a_word_does_not_come_between_the_line_and_its_being_cleared() -> None:
    screen = Slow("the result\n")
    screen.status.heard_at -= 2 * waiting.SILENCE
    screen.status.beat()
    screen.other.join(10)
    assert "waiting ... " in screen.getvalue()
    assert seen(screen.getvalue()) == "the result\n"


def test_an_open_line_is_progress_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = shown(monkeypatch)
    with watched("evaluating"), doing("videos"):
        sys.stderr.write("Evaluating videos:  10 %")
        time.sleep(0.1)
        assert screen.getvalue().endswith("10 %")
        sys.stderr.write("\r\n")
        until(screen, "videos ... 0 s")


@pytest.mark.parametrize("name", ["pipe", "dumb"])
def test_a_pipe_and_a_dumb_terminal_get_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = shown(monkeypatch)
    if name == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    else:
        monkeypatch.setattr(screen, "isatty", lambda: False)
    with watched("evaluating"), doing("videos"):
        assert sys.stderr is screen
    assert screen.getvalue() == ""


def test_other_processes_show_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = shown(monkeypatch)
    with watched("evaluating"):
        until(screen, "evaluating")
        with doing(""):
            before = len(screen.getvalue())
            time.sleep(0.1)
            assert len(screen.getvalue()) <= before + len("evaluating ... 0 s") + 1  # a look that had begun
