"""Faults: whatever ends a sweep, what it had finished is kept, and the same command goes on to the same records.

Sweeps run in forked processes (see forks.py), write a shard after every video, and are killed without warning.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prunesweep.benchmarks import jsonl
from prunesweep.checks import EvaluationError
from prunesweep.engine.candidate import Candidate
from prunesweep.engine.protocol import Protocol
from prunesweep.models.llava_onevision import LlavaOnevision, load
from prunesweep.reducers import Reducer
from prunesweep.results import store as storing
from prunesweep.results.records import read_trials
from prunesweep.results.store import Store, StoredTrial, read_file, to_rows
from prunesweep.sweep.evaluate import evaluate
from prunesweep.sweep.upkeep import problems
from prunesweep.sweep.work import Addresses
from prunesweep.types import Record, Sample
from support import forks
from support.mutants import KINDS, UNREADABLE, write_mutants
from support.places import ROOT

KILLS = 20
TRIALS = 5
GRIDS = (
    "hydra.sweeper.grids=[{reducer: prunevid, reducer.prune.layer: '2,4', reducer.prune.keep_ratio: '0.2,0.4'}, {reducer: none}]"
)
KEPT = "what was finished is in the store, and the same command goes on from there"


@pytest.fixture(scope="module")
def settings(checkpoint: Path, benchmark_folder: Path) -> list[str]:
    plain = ["logger=none", "trainer.progress=false", "trainer.accelerator=cpu", "model.frames=4", "benchmark=jsonl"]
    return [f"model.checkpoint={checkpoint}", f"benchmark.path={benchmark_folder}", *plain]


@dataclass(frozen=True)
class Unbroken:
    """A sweep that nothing happened to."""

    arguments: list[str]
    records: dict[str, bytes]
    """Of each trial's folder."""
    seconds: float


@pytest.fixture(scope="module")
def unbroken(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    folder = tmp_path_factory.mktemp("unbroken")
    arguments = ["-m", "hydra/sweeper=grids", GRIDS, *settings, "hydra.sweep.dir=sweep"]
    code, out = forks.finish(arguments, folder, folder / "first.log")  # the first one pays for imports
    assert code == 0, out
    again = folder / "again"
    again.mkdir()
    begin = time.monotonic()
    assert forks.finish(arguments, again, again / "log")[0] == 0
    found = records_in(again / "sweep")
    assert len(found) == TRIALS
    assert found == records_in(folder / "sweep")
    return Unbroken(arguments, found, time.monotonic() - begin)


def records_in(sweep: Path) -> dict[str, bytes]:
    return {trial.folder.name: (trial.folder / "records.parquet").read_bytes() for trial in read_trials(sweep)}


def rows_in(store: Store) -> list[tuple[str, str]]:
    """The addresses of all rows in all files, as often as they are there."""
    return [row for path in store.folder.rglob("*.parquet") for row in read_file(path).select("key", "sample_key").iter_rows()]


def assert_whole(folder: Path, unbroken: Unbroken) -> None:
    """All records are there once, and are those of the unbroken sweep but for their times."""
    assert records_in(folder / "sweep") == unbroken.records
    store = Store.existing(folder / "store")
    assert store.shards() == set()
    rows = rows_in(store)
    assert len(rows) == len(set(rows)) == TRIALS * 20
    left_behind = {problem.reason for problem in problems(store)}
    assert all("unfinished" in reason for reason in left_behind)


# Killed processes


def test_a_sweep_killed_at_20_random_moments_goes_on_to_the_same_records(unbroken: Unbroken, tmp_path: Path) -> None:
    dice = random.Random(0)
    killed = Counter[str]()
    whole = 0
    while killed.total() < KILLS:
        folder = tmp_path / str(whole)
        folder.mkdir(exist_ok=True)
        shards = len(shards_in(folder))
        process = forks.start(unbroken.arguments, folder, folder / "log")
        if killed.total() % 2:  # every other kill comes soon after a record, however busy the machine is
            while process.exitcode is None and len(shards_in(folder)) <= shards:
                time.sleep(0.01)
            process.join(dice.uniform(0.0, 0.1) * unbroken.seconds)
        else:
            process.join(dice.uniform(0.05, 1.0) * unbroken.seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            killed[progress_of(folder)] += 1
        else:
            assert process.exitcode == 0, (folder / "log").read_text()
            assert_whole(folder, unbroken)
            whole += 1
    code, out = forks.finish(unbroken.arguments, tmp_path / str(whole), tmp_path / "last.log")
    assert code == 0, out
    assert_whole(tmp_path / str(whole), unbroken)
    print(f"{KILLS} kills: {dict(killed)}; {whole + 1} sweeps ended whole")
    assert killed["while evaluating"] >= 3, killed


def shards_in(folder: Path) -> list[Path]:
    return list((folder / "store" / "shards").glob("*.parquet"))


def progress_of(folder: Path) -> str:
    if not (folder / "store" / "store.json").exists():
        return "before the store was opened"
    rows = len(set(rows_in(Store.existing(folder / "store"))))
    return "before the first record" if rows == 0 else "while evaluating" if rows < TRIALS * 20 else "after the last record"


def record(sample: str, error: str | None = None) -> Record:
    answer = {"prediction": None, "correct": None} if error else {"prediction": "red", "correct": True}
    return Record("trial", sample, "v", "t", ("red", "blue"), "red", **answer, error=error)


def work_on_store(folder: Path, acknowledged: Path | None = None) -> None:
    """Three shards of two trials, each committed in between; notes each shard that is safely written."""
    store = Store.open(folder)
    for number in range(3):
        samples = [record(f"s{number}"), record(f"t{number}")]
        for key in ("k", "l"):
            store.describe(StoredTrial(key, {}, {}))
        store.add(to_rows((key, one.sample_id, one) for key in ("k", "l") for one in samples))
        if acknowledged:
            acknowledged.write_text(str(number + 1))
        if number:
            store.commit(["k"])
    store.commit(["k", "l"])


STEPS = (
    ("os.fsync", os, "fsync"),
    ("Path.replace", Path, "replace"),
    ("Path.unlink", Path, "unlink"),
    ("Path.mkdir", Path, "mkdir"),
)
"""What a store asks of the file system."""


def at_step(step: int, act: Callable[[], None], patch: Callable[[Any, str, Any], None]) -> list[int]:
    """Acts before the file system's step of that number; returns a list whose length counts the steps."""
    taken: list[int] = []

    def wrapped(original: Callable) -> Callable:
        @functools.wraps(original)
        def call(*arguments: Any, **keywords: Any) -> Any:
            taken.append(len(taken))
            if len(taken) == step:
                act()
            return original(*arguments, **keywords)

        return call

    for _, owner, name in STEPS:
        patch(owner, name, wrapped(getattr(owner, name)))
    return taken


def kill_at_every_step(folder: Path) -> None:
    """One process after the other, each killed before another step, until one is done before its step comes."""
    status, step = -1, 0
    while status:
        step += 1
        (folder / str(step)).mkdir()
        child = os.fork()
        if not child:
            at_step(step, lambda: os.kill(os.getpid(), signal.SIGKILL), setattr)
            work_on_store(folder / str(step) / "store", folder / str(step) / "acknowledged")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        (folder / str(step) / "status").write_text(str(os.waitstatus_to_exitcode(status)))


def assert_kept(folder: Path, acknowledged: int) -> None:
    """What was acknowledged is there, and doing all of it again gives all of it."""
    store = Store.open(folder)
    expected = {f"{name}{number}" for number in range(acknowledged) for name in "st"}
    for key in ("k", "l"):
        assert expected <= set(store.records([key])["sample_id"])
    work_on_store(folder)
    for key in ("k", "l"):
        assert store.records([key])["sample_id"].to_list() == ["s0", "s1", "s2", "t0", "t1", "t2"]
    assert store.shards() == set()
    assert len(rows_in(store)) == 12


def test_a_kill_before_any_step_of_writing_loses_nothing_that_was_written(tmp_path: Path) -> None:
    process = forks.CONTEXT.Process(target=kill_at_every_step, args=(tmp_path,))
    process.start()
    process.join(forks.PATIENCE)
    statuses = []
    for folder in sorted(tmp_path.iterdir(), key=lambda folder: int(folder.name)):
        noted = folder / "acknowledged"
        assert_kept(folder / "store", int(noted.read_text()) if noted.exists() else 0)
        statuses.append(int((folder / "status").read_text()))
    print(f"killed before each of {len(statuses) - 1} steps")
    assert statuses == [-signal.SIGKILL] * (len(statuses) - 1) + [0]
    assert len(statuses) > 20


class NoSpaceError(OSError):
    """Told from any other error."""


def test_a_full_disk_at_any_step_of_writing_loses_nothing_that_was_written(tmp_path: Path) -> None:
    def full() -> None:
        raise NoSpaceError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for step in range(1, 1000):
        folder, noted = tmp_path / str(step), tmp_path / f"{step}.acknowledged"
        with pytest.MonkeyPatch.context() as patch:
            taken = at_step(step, full, patch.setattr)
            with suppress(NoSpaceError):
                work_on_store(folder, noted)
        assert_kept(folder, int(noted.read_text()) if noted.exists() else 0)
        if len(taken) < step:
            break
    assert step > 20


def dying_load(checkpoint: str, name: str = "small") -> LlavaOnevision:
    """A model whose second process is killed when it encodes its third video."""
    import torch.distributed

    storing.FLUSH_SECONDS = storing.FLUSH_SHARE = 0.0  # every video is written at once, however long the start took
    model = load(name, checkpoint)
    if torch.distributed.get_rank() == 1:
        encode, calls = model.encode, []

        def until_killed(*arguments: Any) -> Any:
            calls.append(1)
            if len(calls) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return encode(*arguments)

        model.encode = until_killed
    return model


def test_a_rank_that_is_killed_ends_the_evaluation_with_its_reason_and_a_store_to_resume(
    samples: list[Sample], model: LlavaOnevision, checkpoint: Path, tmp_path: Path
) -> None:
    trials = [Candidate(name, Reducer(name), 4, Protocol("words", "choose")) for name in ("one", "other")]
    where = Addresses({trial.name: trial.name for trial in trials}, {sample.id: sample.id for sample in samples})
    run = functools.partial(
        evaluate,
        samples=samples,
        trials=trials,
        accelerator="cpu",
        progress=False,
        addresses=where,
        store=Store.open(tmp_path / "s"),
    )
    begin = time.monotonic()
    with pytest.raises(EvaluationError, match=f"process 2 of 2 was ended by SIGKILL .out of memory.*; {KEPT}"):
        run(functools.partial(dying_load, str(checkpoint)), devices=2)
    assert time.monotonic() - begin < forks.PATIENCE, "the other process ends as well"
    resumed = run(lambda: model)
    assert resumed.timing.reused >= 2 * 2 * 2, "two videos of two questions by two trials"
    assert resumed.timing.evaluated > 0
    fresh = evaluate(lambda: model, samples, trials, accelerator="cpu", progress=False)
    for name, expected in fresh.records.items():
        assert resumed.records[name].equals(expected)


# Several workers on one study


@dataclass(frozen=True)
class Hang:
    """The first batch of proposals is never evaluated: its worker waits until it is killed."""

    mark: Path

    def __call__(self) -> None:
        from prunesweep.sweep import configs as sweep

        evaluate_configs = sweep.evaluate_configs

        def hang(configs: Any, *others: Any) -> Any:
            if str(configs[0].hydra.sweep.subdir).isdigit():
                self.mark.touch()
                time.sleep(600)
            return evaluate_configs(configs, *others)

        sweep.evaluate_configs = hang


POSTGRESQL = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The URL of a database on a server of its own, in a temporary folder, on loopback."""
    programs = POSTGRESQL[-1] if POSTGRESQL else None
    if programs is None or not (programs / "initdb").exists():
        pytest.skip("no PostgreSQL server under /usr/lib/postgresql (Debian: apt-get install postgresql)")
    pytest.importorskip("psycopg")
    import socket
    import tempfile

    with tempfile.TemporaryDirectory() as name, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        folder = Path(name)
        own = {}
        if os.getuid() == 0:  # the server refuses to run as root
            shutil.chown(folder, "postgres", "postgres")
            own = {"user": "postgres", "group": "postgres", "cwd": name}
        call = functools.partial(subprocess.run, check=True, capture_output=True, timeout=120, **own)
        data = folder / "data"
        call([programs / "initdb", "-D", data, "-U", "tester", "--auth=trust", "--no-sync", "-E", "UTF8"])
        options = f"-c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        call([programs / "pg_ctl", "-D", data, "-o", options, "-l", folder / "log", "-w", "start"])
        try:
            yield f"postgresql+psycopg://tester:secret@127.0.0.1:{port}/postgres"
        finally:
            call([programs / "pg_ctl", "-D", data, "-m", "immediate", "stop"])


SEARCH = ["--config-dir", str(ROOT / "sweeps"), "--config-name", "search"]


@pytest.mark.parametrize("storage", ["journal", "postgresql"])
def test_a_killed_worker_of_three_loses_and_doubles_no_trial(
    storage: str, settings: list[str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    from optuna import load_study
    from optuna.trial import TrialState

    from prunesweep.search.study import is_own, open_storage

    url = None if storage == "journal" else request.getfixturevalue("postgresql")
    budget = ["hydra.sweeper.trials=9", "hydra.sweeper.batch=2", "hydra.sweep.dir=sweep"]
    arguments = [*SEARCH, *settings, *budget, *([f"hydra.sweeper.storage={url}"] if url else [])]
    mark = tmp_path / "hanging"
    victim = forks.start(arguments, tmp_path, tmp_path / "victim.log", Hang(mark))
    until(mark.exists, victim, tmp_path / "victim.log")
    others = [forks.start(arguments, tmp_path, tmp_path / f"{number}.log") for number in range(2)]
    time.sleep(1)
    victim.kill()
    for number, other in enumerate(others):
        other.join(forks.PATIENCE)
        assert other.exitcode == 0, (tmp_path / f"{number}.log").read_text()
    study = load_study(study_name="prunesweep", storage=open_storage(url, tmp_path / "sweep"))
    own = [trial for trial in study.trials if is_own(trial)]
    assert [trial.state for trial in own] == [TrialState.COMPLETE] * 9
    settings_tried = [json.dumps(trial.params, sort_keys=True) for trial in own]
    assert len(set(settings_tried)) == 9, "no proposal was made twice"
    folders = sorted(trial.folder.name for trial in read_trials(tmp_path / "sweep") if trial.folder.name.isdigit())
    assert folders == sorted(str(trial.number) for trial in own)
    workers = {trial.user_attrs["worker"] for trial in own}
    assert 1 <= len(workers) <= 2, "the killed one has none: its trials were taken over"
    for path in (tmp_path / "sweep").rglob("*"):
        assert not path.is_file() or b"secret" not in path.read_bytes(), f"{path} has the password"


def until(there: Callable[[], bool], process: Any, log: Path) -> None:
    for _ in range(10 * forks.PATIENCE):
        if there():
            return
        assert process.exitcode is None, log.read_text()
        time.sleep(0.1)
    pytest.fail(log.read_text())


# Disks


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system with some options; skipped where that is not permitted."""
    folder = tmp_path / "mounted"
    folder.mkdir()

    def call(options: str) -> Path:
        if os.getuid() != 0:
            pytest.skip("mounting a small file system takes root")
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
        return folder

    yield call
    subprocess.run(["umount", folder], capture_output=True)


def test_a_full_disk_ends_the_sweep_in_a_line_and_it_goes_on_when_there_is_space(
    unbroken: Unbroken, mount: Callable[[str], Path], tmp_path: Path
) -> None:
    disk = mount("size=4m")
    filler = disk / "filler"
    filler.write_bytes(bytes(4 * 2**20 - 96 * 2**10))
    code, out = forks.finish(unbroken.arguments, disk, tmp_path / "log")
    assert code == 1
    line = out.strip().splitlines()[-1]
    assert line.startswith("prunesweep: cannot write")
    assert "No space left on device" in line
    assert "free some space and run the same command again" in line
    store = Store.existing(disk / "store")
    before = set(rows_in(store))
    assert 0 < len(before) < TRIALS * 20
    filler.unlink()
    code, out = forks.finish(unbroken.arguments, disk, tmp_path / "log")
    assert code == 0, out
    assert f"{len(before)} of {TRIALS * 20} records were in store" in out
    assert_whole(disk, unbroken)


def test_a_read_only_output_folder_is_named(unbroken: Unbroken, mount: Callable[[str], Path], tmp_path: Path) -> None:
    disk = mount("ro,size=1m")
    code, out = forks.finish(unbroken.arguments, disk, tmp_path / "log")
    assert code == 1
    (line,) = out.strip().splitlines()
    assert "prunesweep: cannot write" in line
    assert "Read-only file system" in line
    assert "choose a folder that can be written with hydra.run.dir, hydra.sweep.dir and store.folder" in line


# The store


def test_two_sweeps_at_once_on_one_store(unbroken: Unbroken, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        folder.mkdir()
    arguments = [*unbroken.arguments, f"store.folder={tmp_path / 'store'}"]
    both = [forks.start(arguments, folder, folder / "log") for folder in folders]
    for process, folder in zip(both, folders, strict=True):
        process.join(forks.PATIENCE)
        assert process.exitcode == 0, (folder / "log").read_text()
        assert records_in(folder / "sweep") == unbroken.records
    store = Store.existing(tmp_path / "store")
    assert len(set(rows_in(store))) == TRIALS * 20
    assert problems(store) == []


def test_damaged_files_are_named_by_verify_and_their_records_made_again(unbroken: Unbroken, tmp_path: Path) -> None:
    assert forks.finish(unbroken.arguments, tmp_path, tmp_path / "log")[0] == 0
    store = Store.existing(tmp_path / "store")
    truncated, garbage, foreign = sorted(store.folder.glob("trials/*/*.parquet"))[:3]
    truncated.write_bytes(truncated.read_bytes()[:-100])
    garbage.write_bytes(random.Random(0).randbytes(5000))
    pl.DataFrame({"another": ["table"]}).write_parquet(foreign)
    (store.folder / "shards" / "notes.txt").write_text("from another program")
    shutil.rmtree(tmp_path / "sweep")
    code, out = forks.finish(unbroken.arguments, tmp_path, tmp_path / "log")
    assert code == 0, out
    assert f"{(TRIALS - 3) * 20} of {TRIALS * 20} records were in store" in out
    assert records_in(tmp_path / "sweep") == unbroken.records
    named = {problem.path.name for problem in problems(store)}
    assert named == {truncated.name, garbage.name, foreign.name, "notes.txt"}


# Videos

MUTANTS = 300


def test_300_damaged_videos_give_an_error_record_each_and_leave_the_others_alone(
    samples: list[Sample], model: LlavaOnevision, tmp_path: Path
) -> None:
    paths = write_mutants(tmp_path, MUTANTS)
    good = sorted(tmp_path.glob("good*.mp4"))
    question = {"question": "what moves ?", "choices": ["red", "blue"], "answer": "red"}
    lines = [json.dumps({"video": path.name, "task": path.stem.partition("_")[2], **question}) for path in [*good, *paths, *good]]
    (tmp_path / "questions.jsonl").write_text("\n".join(lines))
    trials = [Candidate("dense", Reducer("none"), 2, Protocol("words", "choose"))]
    begin = time.monotonic()
    records = evaluate(lambda: model, jsonl.load(str(tmp_path)), trials, progress=False).records["dense"]
    seconds = time.monotonic() - begin
    assert len(records) == MUTANTS + 4
    failed = records["error"].is_not_null()
    assert (records["prediction"].is_null() == failed).all(), "an answer or an error, never both"
    healthy = records.filter(pl.col("video_id").str.starts_with("good"))
    assert healthy["error"].null_count() == 4
    errors = dict(records.filter(failed).group_by("task").len().iter_rows())
    print(f"{MUTANTS} damaged videos in {seconds:.0f} s, {sum(errors.values())} error records: {errors}")
    for kind in KINDS:
        count = sum(path.stem.endswith(f"_{kind}") for path in paths)
        assert errors.get(kind, 0) == count if kind in UNREADABLE else errors.get(kind, 0) <= count
