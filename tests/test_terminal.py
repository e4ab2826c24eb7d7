"""What a terminal shows is no wider than it, and a pipe gets everything."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from prunesweep.cli import app
from prunesweep.results.records import write_trial
from prunesweep.terminal import fitted, say, table
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


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(
    "given",
    [
        "show sweep",
        "show sweep --all",
        "show sweep --table against",
        "compare sweep 1 dense",
        "sweep",
        "cost model=llava_onevision_7b reducer=fastv",
        "store list --store store",
    ],
)
def test_no_verb_is_wider_than_a_terminal(
    given: str, width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {"static_threshold": 0.8123456789, "cluster_ratio": 0.25, "segment_ratio": 0.5}
    name = " ".join(f"{key}={value}" for key, value in settings.items())
    trials = [made("none", "++++++++"), made(f"prunevid {name}", "++++----", visual=(8, 1), merge=settings)]
    for index, one in enumerate(trials):
        write_trial(Path("sweep") / str(index), one.info, one.records)
    store_of(Path("store"), trials)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "argv", ["prunesweep", *given.split()])
    app.main()
    out = capsys.readouterr().out
    assert out
    assert [line for line in out.splitlines() if len(line) > width] == []
