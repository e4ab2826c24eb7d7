"""Every command that reads results meets a sweep with nothing, one, or nothing good in it: a sentence, never a traceback."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from prunesweep.cli import app
from prunesweep.report import words
from prunesweep.results.infeasible import Infeasible, write_infeasible
from prunesweep.results.pending import Pending
from prunesweep.results.records import write_trial
from prunesweep.results.store import Store
from support.records import drawn, made, store_of

SWEEP_COMMANDS = ("show", "report", "wandb")


def nothing(folder: Path) -> None:
    """Not even the folder."""


def empty(folder: Path) -> None:
    folder.mkdir()


def empty_store(folder: Path) -> None:
    Store.open(folder)


def other_store(folder: Path) -> None:
    folder.mkdir()
    (folder / "store.json").write_text('{"format": 99}')


def a_file(folder: Path) -> None:
    folder.write_text("hello")


def missing_columns(folder: Path) -> None:
    one = made("none", "+-")
    write_trial(folder / "0", one.info, one.records.drop("visual_tokens", "frames"))


def older_description(folder: Path) -> None:
    """Of a version whose models had no vision part."""
    one = made("none", "+-")
    write_trial(folder / "0", one.info, one.records)
    described = json.loads((folder / "0" / "trial.json").read_text())
    del described["shape"]["vision"]
    (folder / "0" / "trial.json").write_text(json.dumps(described))


def newer_description(folder: Path) -> None:
    one = made("none", "+-")
    write_trial(folder / "0", one.info, one.records)
    described = json.loads((folder / "0" / "trial.json").read_text())
    (folder / "0" / "trial.json").write_text(json.dumps({**described, "mood": "good"}))


def not_json(folder: Path) -> None:
    one = made("none", "+-")
    write_trial(folder / "0", one.info, one.records)
    (folder / "0" / "trial.json").write_bytes(b"\xff\x00")


def no_description(folder: Path) -> None:
    one = made("none", "+-")
    write_trial(folder / "0", one.info, one.records)
    (folder / "0" / "trial.json").unlink()


def damaged(folder: Path) -> None:
    one = made("none", "+-")
    write_trial(folder / "0", one.info, one.records)
    path = folder / "0" / "records.parquet"
    path.write_bytes(path.read_bytes()[:-40])


HOPELESS = {
    nothing: "does not exist; name the folder of a sweep",
    a_file: "is not a folder; name the folder of a sweep",
    empty: "holds no finished trial; name the folder of a sweep",
    empty_store: "holds no finished trial; name the folder of a sweep",
    other_store: "has store format 99, this version reads",
    missing_columns: "0 cannot be read as a trial .*written by another version, or damaged",
    older_description: "0 cannot be read as a trial .*'vision'.*written by another version, or damaged",
    newer_description: "0 cannot be read as a trial .*'mood'.*written by another version, or damaged",
    not_json: "0 cannot be read as a trial .*written by another version, or damaged",
    no_description: "0 cannot be read as a trial .*written by another version, or damaged",
    damaged: "0 cannot be read as a trial .*written by another version, or damaged",
}


def call(verb: str, *arguments: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["prunesweep", verb, *map(str, arguments)])
        app.main()


@pytest.mark.parametrize("make", HOPELESS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", SWEEP_COMMANDS)
def test_where_nothing_can_be_done_a_command_says_why(name: str, make: Callable, tmp_path: Path) -> None:
    make(tmp_path / "sweep")
    with pytest.raises(SystemExit) as stop:
        call(name, tmp_path / "sweep")
    assert re.match(rf"prunesweep: .*{HOPELESS[make]}", str(stop.value.code)), stop.value.code
    assert "\n" not in str(stop.value.code)
    assert not list(tmp_path.rglob("*.html"))
    assert not list(tmp_path.rglob("*.wandb"))


def running(folder: Path) -> None:
    pending_since(folder, psutil.Process().create_time())


def killed(folder: Path) -> None:
    pending_since(folder, 0.0)


def pending_since(folder: Path, began: float) -> None:
    store = Store.open(folder.parent / "store")
    here = {"host": platform.node(), "process": os.getpid(), "began": began}
    note = Pending(trials={"none": "k", "random": "l"}, samples=("s",), store=str(store.folder), **here)
    folder.mkdir()
    (folder / "pending-x.json").write_text(json.dumps(asdict(note)))


def searched(folder: Path) -> None:
    """Before its first batch."""
    folder.mkdir()
    here = {"host": platform.node(), "process": os.getpid(), "began": psutil.Process().create_time()}
    (folder / "searching-x.json").write_text(json.dumps({"trials": 40, **here}))


def infeasible(folder: Path) -> None:
    for number in range(5):
        write_infeasible(folder / str(number), Infeasible("fastv", "fastv", "tiny", "blocks", (), "too few layers"))


ENDED = "not running: the same command goes on from there"
UNFINISHED = {
    running: r"sweep has 2 trials and none is finished \(running\): prunesweep show .*sweep shows what is there$",
    killed: rf"sweep has 2 trials and none is finished \({ENDED}\): prunesweep show .*sweep shows what is there$",
    searched: r"sweep is a search for 40 trials and none is finished \(running\)$",
    infeasible: r"no trial of .*sweep could be run: fastv: too few layers; .*; and 2 more$",
}
READERS: dict[str, tuple[str, ...]] = {
    "report": ("",),
    "methods": ("",),
    "wandb": ("",),
    "show": ("", "--table", "against"),
    "compare": ("3", "4"),
    "tokens": ("3",),
}


@pytest.mark.parametrize("make", UNFINISHED, ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", READERS)
def test_a_sweep_without_a_finished_trial_says_what_is_there(
    name: str, make: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "sweep")
    arguments = READERS[name]
    single = name in ("compare", "tokens")
    with pytest.raises(SystemExit) as stop:
        call(name, *(f"sweep/{one}" if single else one or "sweep" for one in arguments))
    wanted = r"sweep/3 is a trial that could not be run: too few layers$" if single and make is infeasible else UNFINISHED[make]
    assert re.match(rf"prunesweep: .*{wanted}", str(stop.value.code)), stop.value.code
    assert "\n" not in str(stop.value.code)
    by_table = name == "show" and make is not infeasible
    assert ("--table against takes finished trials" in str(stop.value.code)) == by_table


def test_a_table_of_a_sweep_that_goes_on_is_the_table_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    running(tmp_path / "sweep")
    for number, one in enumerate([made("none", "+-"), made("random", "+-")]):
        write_trial(tmp_path / "sweep" / str(number), one.info, one.records)
    call("show", tmp_path / "sweep", "--table", "methods", "--format", "csv")
    said = capsys.readouterr()
    assert said.out.startswith("#,method,")
    assert said.err.startswith("0 of 2 records, running")


def test_a_sweep_in_the_place_of_a_trial_says_which_there_are(tmp_path: Path) -> None:
    one = made("none", "+-")
    write_trial(tmp_path / "sweep" / "0", one.info, one.records)
    with pytest.raises(SystemExit, match="is a sweep; name one of its trials, such as .*sweep/0$"):
        call("tokens", tmp_path / "sweep")


@pytest.mark.parametrize("name", ["compare", "tokens"])
@pytest.mark.parametrize("make", [nothing, a_file, empty, missing_columns, older_description, not_json, damaged])
def test_commands_of_single_trials_say_why(name: str, make: Callable, tmp_path: Path) -> None:
    if make is missing_columns and name == "compare":
        pytest.skip("needs none of the columns that are missing")
    make(tmp_path / "sweep")
    with pytest.raises(SystemExit) as stop:
        call(name, tmp_path / "sweep" / "0", tmp_path / "sweep" / "0")
    assert str(stop.value.code).startswith("prunesweep: ")
    assert "\n" not in str(stop.value.code)


@pytest.mark.parametrize("in_store", [False, True], ids=["sweep", "store"])
@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (["+-+-"], "1 trial of tiny on blocks, 4 questions on 4 videos"),
        (["????"], "1 trial of tiny on blocks, none of which has an answer: nothing can be said"),
        (["????", "????"], "2 trials of tiny on blocks, none of which has an answer: nothing can be said"),
        (["++++", "????"], "1 without any answer"),
        (["++++", "++++"], "0 of 1 trial are shown to lose less than 1 point"),
        (["+"], "1 trial of tiny on blocks, 1 question on 1 video"),
    ],
)
def test_little_is_enough_for_a_sentence(
    answers: list[str], said: str, in_store: bool, tmp_path: Path, capsys: pytest.CaptureFixture, recwarn
) -> None:
    trials = [
        made("none" if i == 0 else f"random {i}", a, visual=(8, 8) if i == 0 else (4, 4), seed=i) for i, a in enumerate(answers)
    ]
    folder = tmp_path / "sweep"
    if in_store:
        store_of(folder, trials)
    for index, one in enumerate(trials if not in_store else ()):
        write_trial(folder / str(index), one.info, one.records)
    call("show", folder)
    assert said in capsys.readouterr().out
    for table in words.TABLES:
        if table == "against" and "nothing can be said" in said:
            with pytest.raises(SystemExit, match="no trial has an answer, so there is nothing to compare"):
                call("show", folder, "--table", table)
            continue
        call("show", folder, "--table", table)
        assert capsys.readouterr().out.strip()
    call("report", folder, "--out", tmp_path / "report.html")
    assert said.split(",")[0] in (tmp_path / "report.html").read_text()
    assert [str(w.message) for w in recwarn if w.category is RuntimeWarning] == []


def test_a_sweep_without_answers_is_published_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    one = made("none", "????")
    write_trial(tmp_path / "sweep" / "0", one.info, one.records)
    call("wandb", tmp_path / "sweep")
    assert len(list(tmp_path.glob("sweep/wandb/offline-run-*"))) == 2


def test_a_reader_that_has_read_enough_hears_no_complaint(tmp_path: Path) -> None:
    for index, one in enumerate(drawn(3)):
        write_trial(tmp_path / str(index), one.info, one.records)
    run = [sys.executable, "-m", "prunesweep", "show", str(tmp_path)]
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_measured_cost_that_nobody_measured_is_a_sentence(tmp_path: Path) -> None:
    for index, one in enumerate(drawn(3)):
        write_trial(tmp_path / str(index), one.info, one.records)
    for name in SWEEP_COMMANDS:
        with pytest.raises(SystemExit, match="no trial has first_token_seconds; .*engine.measure=true"):
            call(name, tmp_path, "--cost", "first_token_seconds")
    with pytest.raises(SystemExit, match="must be one of llm_flops_ratio.*, got 'dollars'"):
        call("show", tmp_path, "--cost", "dollars")
