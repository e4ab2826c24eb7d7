"""`prunesweep store`: what it shows, checks, merges, removes and hands on."""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prunesweep.cli import app
from prunesweep.paths import DATA
from prunesweep.results.keys.code import code_of
from prunesweep.results.keys.fingerprint import RECORD_FORMAT, Files, digest, of_model, unplaced, versions
from prunesweep.results.keys.former import LAST_CODE, FormerCode, last_code
from prunesweep.results.store import Store, StoredTrial, to_rows
from prunesweep.types import Record
from support import places

RECORDS = 3


def trial(number: int, reducer: str = "random", **about: str) -> StoredTrial:
    roots = ("prunesweep.reducers.random.Drop",)
    made = {"format": RECORD_FORMAT, "trial": {"frames": number}, "versions": versions(), "code": code_of(roots).digest}
    names = {"reducer": reducer, "model": "tiny", "benchmark": "blocks"}
    return StoredTrial(digest(made), made, {**names, "parts": {"roots": list(roots)}, **about})


def fill(store: Store, one: StoredTrial, first: int = 0, commit: bool = True) -> None:
    store.describe(one)
    records = [
        Record(
            "t",
            f"q{n}",
            "v",
            "all",
            ("a", "b"),
            "a",
            None if n == 1 else "a",
            None if n == 1 else True,
            (0.5, 0.25),
            error="=1+1" if n == 1 else None,
        )
        for n in range(first, first + RECORDS)
    ]
    store.add(to_rows((one.key, record.sample_id, record) for record in records))
    if commit:
        store.commit([one.key])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.open(tmp_path / "store")
    fill(store, trial(4))
    fill(store, trial(8, reducer="none"))
    return store


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path):
    def call(*arguments: object) -> tuple[object, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["prunesweep", "store", *map(str, arguments)])
        code: object = 0
        try:
            app.main()
        except SystemExit as stop:
            code = stop.code
        return code, capsys.readouterr().out

    return call


def test_list_shows_trials_with_their_records_and_errors(run, store: Store) -> None:
    code, out = run("list")
    assert code == 0
    line = next(line for line in out.splitlines() if "none" in line)
    assert line.split()[:6] == [trial(8, reducer="none").key[:12], "none", "tiny", "blocks", "3", "1"]
    assert "2 trials, 6 records (2 errors)" in out
    assert "1 trials, 3 records" in run("list", "--reducer", "none")[1]
    assert "0 trials" in run("list", "--model", "other")[1]


def test_names_from_other_peoples_stores_cannot_steer_the_terminal(run, store: Store) -> None:
    fill(store, trial(16, reducer="\x1b[2Jgone"))
    assert "\x1b" not in run("list")[1]


def test_verify_names_every_file_that_is_not_as_it_should_be(run, store: Store) -> None:
    assert run("verify")[0] == 0
    committed = sorted((store.folder / "trials").glob("*/*.parquet"))
    committed[0].write_bytes(committed[0].read_bytes()[:-9])
    committed[1].rename(committed[0].parent / committed[1].name)
    (store.folder / "shards" / "holiday.jpg").write_bytes(b"x")
    (store.folder / "shards" / ".a.parquet.1234.partial").write_bytes(b"x")
    (store.folder / "trials" / trial(4).key / "trial.json").write_text("{}")
    code, out = run("verify")
    assert code == 1
    for name, reason in {
        committed[0].name: "truncated, changed or foreign",
        committed[1].name: "records of another trial than its folder's",
        "holiday.jpg": "foreign: no file of a store",
        ".partial": "unfinished",
        "trial.json": "not the description",
    }.items():
        assert any(name in line and reason in line for line in out.splitlines()), name


def test_merging_takes_what_is_missing_and_names_what_is_damaged(run, store: Store, tmp_path: Path) -> None:
    other = Store.open(tmp_path / "other")
    fill(other, trial(4), first=2)
    fill(other, trial(16))
    before = sorted(path.name for path in other.folder.rglob("*"))
    assert run("merge", "other")[0] == 0
    assert sorted(path.name for path in other.folder.rglob("*")) == before
    assert sorted(store.records([trial(4).key])["sample_id"]) == ["q0", "q1", "q2", "q3", "q4"]
    assert store.records([trial(16).key]).height == RECORDS
    files = sorted(path.name for path in store.folder.rglob("*"))
    assert run("merge", "other")[0] == 0
    assert sorted(path.name for path in store.folder.rglob("*")) == files, "merging twice is merging once"
    for path in other.folder.rglob("*.parquet"):
        path.write_bytes(b"garbage")
    code, out = run("merge", "other")
    assert code == 1
    assert out.count("not merged, not the bytes") == 2
    assert run("verify")[0] == 0


def test_pruning_says_what_it_would_do_and_does_it_on_demand(run, store: Store) -> None:
    fill(store, trial(8, reducer="none"), first=7, commit=False)
    code, out = run("prune", "--reducer", "none")
    assert code == 0
    assert "would remove trial" in out
    assert len(store.trials()) == 2
    assert run("prune", "--reducer", "none", "--yes")[0] == 0
    assert [t.about["reducer"] for t in store.trials()] == ["random"]
    assert store.records([trial(8).key]).height == 0, "also what was in a shard"
    assert store.records([trial(4).key]).height == RECORDS
    assert "say what to prune" in str(run("prune")[0])


def test_pruning_outdated_trials_and_damaged_files(run, store: Store) -> None:
    made = {**trial(4).made_of, "versions": {"torch": "0.4"}}
    fill(store, StoredTrial(digest(made), made, trial(4).about))
    elsewhere = {**trial(5).made_of, "code": "0" * 32}
    fill(store, StoredTrial(digest(elsewhere), elsewhere, {**trial(5).about, "parts": {"roots": ["not_installed_here.Mine"]}}))
    assert run("prune", "--outdated", "--yes")[1].count("removed trial") == 1
    assert len(store.trials()) == 3, "also the one whose method is not installed here: nobody can tell"
    young, old = (store.folder / "shards" / f".{name}.partial" for name in ("young", "old"))
    for path in (young, old):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    assert run("prune", "--damaged", "--yes")[0] == 0
    assert young.exists()
    assert not old.exists()


def test_export_writes_all_records_with_their_trials_settings(run, store: Store) -> None:
    assert run("export", "all.csv")[0] == 0
    assert run("export", "all.parquet")[0] == 0
    parquet, csv = pl.read_parquet("all.parquet"), pl.read_csv("all.csv")
    assert len(parquet) == len(csv) == 2 * RECORDS
    assert csv.columns == parquet.columns
    assert json.loads(csv["choice_scores"][0]) == parquet["choice_scores"][0].to_list() == [0.5, 0.25]
    assert set(parquet["reducer"]) == {"none", "random"}
    assert "must end in .csv or .parquet" in str(run("export", "all.xlsx")[0])


def test_what_is_no_store_is_said_in_one_line(run, tmp_path: Path) -> None:
    for command in ("list", "verify"):
        assert run(command, "--store", "nowhere")[0] == "prunesweep: nowhere is no store: it has no store.json"
    assert run("merge", "nowhere")[0] == "prunesweep: nowhere is no store: it has no store.json"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("prune", "--reducer", "prunvid", "--yes"), "no trial of store fits --reducer prunvid"),
        (("export", "--model", "foo", "all.csv"), "no trial of store fits --model foo"),
        (("export", "nodir/all.csv"), "folder nodir does not exist"),
        (("merge", "store"), "store cannot be merged into itself"),
    ],
)
def test_what_would_do_nothing_is_an_error(run, store: Store, arguments: tuple[str, ...], message: str) -> None:
    assert message in str(run(*arguments)[0])
    assert len(store.trials()) == 2


# Stores of format 1: written by the commands of the version before, on the embedded model and benchmark

FORMER = places.DATA / "format1" / "store"


@pytest.fixture
def former_store(tmp_path: Path) -> Store:
    shutil.copytree(FORMER, tmp_path / "former")
    return Store.existing(tmp_path / "former")


def all_records(store: Store) -> pl.DataFrame:
    found = store.records([trial.key for trial in store.trials()])
    about = {trial.key: trial.about["reducer"] for trial in store.trials()}
    return found.with_columns(reducer=pl.col("key").replace(about)).drop("key", "trial").sort("reducer", "sample_id")


def test_a_store_of_the_format_before_is_read_and_carried_over_once(run, former_store: Store) -> None:
    before, reducers = all_records(former_store), ["fastv", "lookm", "none", "prunevid"]
    assert sorted(trial.about["reducer"] for trial in former_store.trials()) == reducers
    code, out = run("migrate", "--store", "former")
    assert code == 0
    assert out.count("carried over: trial") == 4
    assert "4 of 4 trials of the earlier format carried over" in out
    assert all_records(former_store).equals(before)
    assert {trial.made_of["format"] for trial in former_store.trials()} == {2}
    assert run("verify", "--store", "former")[0] == 0
    assert "0 of 0 trials" in run("migrate", "--store", "former")[1]
    assert all_records(former_store).equals(before)


def test_a_trial_is_carried_over_to_the_key_that_its_code_and_weights_have_today(run, former_store: Store) -> None:
    """Of the code that made it, which need not be the installed one: then its records are not used again."""
    old = next(trial for trial in former_store.trials() if trial.about["reducer"] == "fastv")
    run("migrate", "--store", "former")
    (new,) = [trial for trial in former_store.trials() if trial.about["former_key"] == old.key]
    reducer, protocol = old.made_of["trial"]["reducer"], old.made_of["trial"]["protocol"]
    assert new.made_of["code"] == last_code().today(old.made_of).digest
    assert new.made_of["trial"] == {"frames": 12, "reducer": unplaced(reducer), "protocol": unplaced(protocol)}
    assert new.made_of["model"] == of_model({**old.made_of["model"], "checkpoint": str(DATA / "tiny")}, Files())
    assert {name: new.made_of[name] for name in ("benchmark", "device", "versions")} == {
        name: old.made_of[name] for name in ("benchmark", "device", "versions")
    }
    assert new.key == digest(new.made_of)


def changed(store: Store, change: Callable[[dict[str, Any]], Any]) -> None:
    """Another trial of format 1, like the first one but for a change."""
    one = store.trials()[0]
    made = json.loads(json.dumps(one.made_of))
    change(made)
    store.describe(StoredTrial(digest(made), made, one.about))


REFUSED = {
    "made by code that is not at hand": lambda made: made.update(code="0" * 32),
    "made with a checkpoint that is not at hand": lambda made: made["model"].update(checkpoint="0" * 32),
    "made with a checkpoint that is not at hand; --checkpoint": lambda made: made["model"].update(checkpoint="a-lab/a-model"),
    "not that of a trial of format 1": lambda made: made.pop("versions"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_verified_is_left_with_a_reason(run, former_store: Store, reason: str) -> None:
    changed(former_store, REFUSED[reason])
    code, out = run("migrate", "--store", "former")
    assert code == 0
    assert out.count("left as it is: trial") == 1
    assert reason in out
    assert "4 of 5 trials" in out
    assert len(former_store.trials()) == 5
    assert run("list", "--store", "former")[0] == 0


def test_the_sources_and_the_checkpoint_of_another_version_can_be_named(run, former_store: Store, tmp_path: Path) -> None:
    source, checkpoint = tmp_path / "src", tmp_path / "checkpoint"
    with zipfile.ZipFile(LAST_CODE) as archive:
        archive.extractall(source)
    shutil.copytree(DATA / "tiny", checkpoint)
    (checkpoint / "NOTES.txt").write_text("there when the records were made")
    (source / "prunesweep" / "stages.py").write_text((source / "prunesweep" / "stages.py").read_text() + "# edited\n")

    def as_made_there(made: dict[str, Any]) -> None:
        made["code"] = FormerCode(source).then(made)
        made["model"]["checkpoint"] = Files()(checkpoint)

    changed(former_store, as_made_there)
    arguments = ("migrate", "--store", "former", "--code", source, "--checkpoint", checkpoint)
    assert "5 of 5 trials" in run(*arguments)[1]
    assert len(former_store.trials()) == 4, "a comment and a note make no other trial"
