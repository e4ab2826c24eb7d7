"""Names that somebody else wrote are text: no view of a folder or a store hands them to a terminal, a page or a formula."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import polars as pl
import pytest

from prunesweep.cli import app
from prunesweep.console.terminal import BOLD, CYAN, DIM, GREEN
from prunesweep.results.infeasible import INFEASIBLE
from prunesweep.results.store import Store

HOSTILE = "\x1b[2J\x1b[35mred\x1b[m\x1b]0;owned\x07\r\x9b31m\u202e</script><img src=x onerror=alert(1)> $\\frac{x $ [red]|&_#%"
OBEYED = ("\x1b", "\x07", "\r", "\x9b", "\u202e")
OURS = re.compile(rf"\x1b\[(?:(?:{'|'.join((BOLD, DIM, GREEN, CYAN))})(?:;\d)*m)(?P<said>[^\x1b\n]*)\x1b\[m")
"""A line, or a part of one, in styles of this project's."""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def swept(run, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a sweep and its store, in which every text that was written by its maker is HOSTILE."""
    if (kept / "sweep").exists():
        shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    else:
        _sweep_and_spoil(run)
        shutil.copytree(tmp_path, kept, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _sweep_and_spoil(run) -> None:
    arguments = ("-m", "reducer=none,random,fastv", "reducer.prune.layer=9", "benchmark.limit=4", "hydra.sweep.dir=sweep")
    grids = "hydra.sweeper.grids=[{reducer: none}, {reducer: random}, {reducer: fastv, reducer.prune.layer: '2,9'}]"
    assert run("-m", "hydra/sweeper=grids", grids, *arguments[3:])[0] == 0
    for path in Path("sweep").glob("*/trial.json"):
        told = json.loads(path.read_text())
        told |= {name: f"{told[name]} {HOSTILE}" for name in ("name", "model", "benchmark")}
        told["reducer"] += HOSTILE
        told["overrides"] = [*told["overrides"], f"reducer.{HOSTILE}={HOSTILE}{path.parent.name}"]
        told["settings"]["reducer"][HOSTILE] = f"{HOSTILE}{path.parent.name}"
        path.write_text(json.dumps(told))
        _spoil(path.with_name("records.parquet"))
    for path in Path("sweep").glob(f"*/{INFEASIBLE}"):
        told = json.loads(path.read_text())
        told = {name: [HOSTILE] if isinstance(value, list) else f"{value} {HOSTILE}" for name, value in told.items()}
        path.write_text(json.dumps(told))
    for path in Path("store").glob("trials/*/trial.json"):
        told = json.loads(path.read_text())
        told["about"] |= {name: f"{told['about'][name]} {HOSTILE}" for name in ("reducer", "model", "benchmark")}
        told["about"]["settings"]["reducer"][HOSTILE] = f"{HOSTILE}{path.parent.name}"
        path.write_text(json.dumps(told))


def _spoil(records: Path) -> None:
    frame = pl.read_parquet(records)
    some = pl.int_range(pl.len()) == 0
    frame = frame.with_columns(
        *(pl.col(name) + HOSTILE for name in ("sample_id", "task", "video_id")),
        error=pl.when(some).then(pl.lit(HOSTILE)).otherwise("error"),
        correct=pl.when(some).then(None).otherwise("correct"),
    )
    frame.write_parquet(records)


VIEWS = (
    *("show sweep", "show sweep --all", "show store", "show store --all", "show sweep --samples 50"),
    *(f"show sweep --table {table}" for table in ("against", "methods", "components", "tasks", "effects")),
    *(f"show sweep --table tasks --format {form}" for form in ("markdown", "latex", "csv")),
    *("show sweep --table methods --tasks", "compare sweep/0 sweep/1", "compare sweep none zzz", "compare sweep/3 sweep/0"),
    *("methods sweep", "report sweep", "report sweep/0", "tokens sweep/0", "judge sweep/0 --url http://localhost:1 --model x"),
    *("store list", "store verify", "store prune --outdated", "store prune --reducer x", "store merge store --store other"),
    *("store migrate", "replay race sweep --rounds 2", "replay savings sweep sweep", "wandb sweep"),
)


@pytest.mark.parametrize("width", [None, 100], ids=["a pipe", "a terminal"])
def test_no_view_hands_on_what_a_terminal_obeys(
    width: int | None, swept: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    capfd.readouterr()
    seen, obeyed = 0, {}
    for view in VIEWS:
        monkeypatch.setattr(sys, "argv", ["prunesweep", *view.split(" ")])
        if width:
            monkeypatch.setenv("TERM", "xterm")
            monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        code: object = 0
        try:
            app.main()
        except SystemExit as stop:
            code = stop.code
        said = OURS.sub(r"\g<said>", "".join([*capfd.readouterr(), str(code)]))
        assert "Traceback" not in said, said
        assert "unexpected" not in said, (view, said)
        seen += "owned" in said
        if found := [character for character in OBEYED if character in said]:
            obeyed[view] = (found, said)
    assert not obeyed, {view: found for view, (found, _) in obeyed.items()}
    assert seen > len(VIEWS) // 2, "the views do show the names"


def test_a_page_of_hostile_names_holds_no_markup_of_theirs(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["prunesweep", "report", "sweep"])
    app.main()
    page = (swept / "sweep" / "report.html").read_text()
    assert "<img src=x" not in page
    assert page.count("</script>") == page.count("<script")


def test_names_of_a_store_are_text_from_python_too(swept: Path) -> None:
    from prunesweep.results.read import read_source

    names = [trial.info.name for trial in read_source(Store.existing(Path("store")).folder)]
    assert names
    assert not [name for name in names for character in OBEYED if character in name]
