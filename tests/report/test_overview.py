"""A sweep's table: in full for a pipe, as wide as it is for a terminal, escaped for a notebook."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from prunesweep.analysis.summary import Summary, not_run
from prunesweep.report import overview
from prunesweep.report.overview import FEW, as_html, on_terminal, shown, sweep
from support.records import COST

ROW = Summary("prunevid", "prunevid", 0.5, 0.1, 20, 0, **COST)
COST_AXIS = "llm_flops_ratio"
SWEEP = Path("multirun/of mine")


def swept(trials: int) -> tuple[list[Summary], dict]:
    """A front of two, two baselines, and others."""
    table = [replace(ROW, number="0", trial="none", reducer="none", dense=True, llm_flops_ratio=1.0)]
    table += [replace(ROW, number="1", trial="random keep_ratio=0.1", reducer="random")]
    table += [
        replace(ROW, number=str(i), trial=f"prunevid layer={i} keep_ratio=0.2 name=a_long_text_{i}", pareto=i in (4, 6))
        for i in range(2, trials)
    ]
    settings: dict = {"0": {}, "1": {"merge.keep_ratio": 0.1}}
    settings |= {
        str(i): {"prune.layer": i, "prune.keep_ratio": 0.123456789, "merge.tau": None, "merge.name": f"a_long_text_{i}"}
        for i in range(2, trials)
    }
    return table, settings


def test_a_terminal_has_a_column_for_each_setting_that_varies() -> None:
    header, *rows = on_terminal(overview.overview(*swept(8), COST_AXIS), 400, SWEEP).splitlines()
    assert header.split()[:7] == ["#", "reducer", "merge.keep_ratio", "layer", "prune.keep_ratio", "tau", "name"]
    assert [row.split()[0] for row in rows[1:9]] == ["0", "1", "4", "6", "2", "3", "5", "7"], "front and baselines first"
    four = rows[3].split()
    assert four[:7] == ["4", "prunevid", "4", "0.123", "off", "a_long_text_4", "*"], "long numbers are cut"


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160, 200])
def test_a_table_is_no_wider_than_its_terminal(width: int) -> None:
    table, settings = swept(8)
    text = on_terminal(overview.overview(table, settings, COST_AXIS), width, SWEEP)
    lines = text.splitlines()
    assert all(len(line) <= width for line in lines)
    assert "accuracy ± SE" in lines[0]
    assert "of dense" in lines[0]
    left_out = [line for line in lines if line.startswith("for want of width without ")]
    assert bool(left_out) == (width < 200)
    if left_out:
        named = left_out[0].removeprefix("for want of width without ").partition(":")[0].split(", ")
        assert all(name not in lines[0].split("  ") for name in named)


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160, 200])
def test_trials_are_told_apart_however_narrow_the_terminal(width: int) -> None:
    table, settings = swept(8)
    text = on_terminal(overview.overview(table, settings, COST_AXIS), width, SWEEP).partition("\nall prunevid")[0]
    for row in table:
        line = re.search(rf"^{row.number} .*(?:\n  .*)*", text, re.MULTILINE)
        assert line, row
        values = [str(settings[row.number][key]) for key in ("prune.layer", "merge.keep_ratio") if key in settings[row.number]]
        assert all(value in line[0] for value in values), "each has its own layer"
        assert "0.500 ± 0.100 (n=20)" in line[0]


def test_a_narrow_table_says_what_its_shares_are_of_and_how_to_see_the_rest() -> None:
    table, settings = swept(FEW + 5)
    table = [replace(row, relative_to="the dense run none") for row in table]
    found = overview.overview(table, settings, COST_AXIS)
    narrow = " ".join(on_terminal(found, 80, SWEEP).split())
    assert "of dense: LLM prefill, of the dense run none" in narrow
    assert "prunesweep show 'multirun/of mine' --all" in narrow
    assert "of dense: of the dense run none" in on_terminal(found, 400, SWEEP)


def test_of_many_trials_the_front_and_the_baselines_are_shown_unless_all_are_asked_for() -> None:
    found = overview.overview(*swept(FEW + 1), COST_AXIS)
    few = on_terminal(found, 400, SWEEP)
    assert f"\n{FEW + 1 - 4} more trials, neither on the front nor a baseline: " in few
    assert [line.split()[0] for line in few.splitlines()[2:6]] == ["0", "1", "4", "6"]
    assert on_terminal(found, 400, SWEEP, everything=True).count("\n") > few.count("\n") + FEW - 5
    assert "more trial" not in on_terminal(overview.overview(*swept(FEW), COST_AXIS), 400, SWEEP)


def test_a_pipe_gets_every_trial_by_name_whatever_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    table, settings = swept(FEW + 5)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    texts = set()
    for width in ("40", "400"):
        monkeypatch.setenv("COLUMNS", width)
        texts.add(shown(table, settings, COST_AXIS, SWEEP))
    assert texts == {sweep(table, COST_AXIS)}
    (text,) = texts
    assert [line.split()[0] for line in text.splitlines()[2 : 2 + len(table)]] == [row.number for row in table]
    assert "prunevid layer=5 name=a_long_text_5" in text
    assert "\033" not in text


def test_a_terminal_is_asked_for_its_width(monkeypatch: pytest.MonkeyPatch) -> None:
    table, settings = swept(8)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "90")
    assert shown(table, settings, COST_AXIS, SWEEP) == on_terminal(overview.overview(table, settings, COST_AXIS), 90, SWEEP)


def test_an_unusual_axis_has_a_column() -> None:
    table, settings = swept(4)
    found = overview.overview([replace(row, kv_bytes=12345.6) for row in table], settings, "kv_bytes")
    assert found.header[-1] == "bytes of KV caches"
    assert found.rows[0][-1] == "1.235e+04"


def test_what_could_not_be_run_is_a_line_too() -> None:
    row = not_run("fastv layer=9", "fastv", "8 layers", "7")
    found = overview.overview([ROW, row], {"7": {"prune.layer": 9}}, COST_AXIS)
    assert found.rows[1][:5] == ("7", "fastv", "9", "infeasible", "not run")


def test_a_notebook_gets_escaped_texts() -> None:
    table, settings = swept(3)
    settings["2"]["merge.name"] = "<img src=x onerror=alert(1)>"
    html = as_html(overview.overview([*table, replace(ROW, reducer="<b>&", number='"9"')], settings, "llm_flops_ratio"))
    assert "<img" not in html
    assert "<b>" not in html
    assert "&lt;b&gt;&amp;" in html
    assert html.count("<tr>") == 5
