"""Several workers on one study, of whom some die."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from prunesweep.results.records import read_trial
from prunesweep.search import study as proposals
from prunesweep.search.loop import Job
from prunesweep.search.study import open_storage
from prunesweep.search.workers import Worker
from support.searches import (
    BASELINE_FOLDERS,
    BASELINES,
    Formula,
    plan,
    search,
)


def work(task: Path, folder: Path, storage: str | None, trials: int, dies_at: int | None = None) -> None:
    """One worker, in a process of its own; it may drop dead before it evaluates a certain trial.

    The others leave it some: however late it comes, they wait for its death half-way.
    """
    host, dead = Formula(task, folder), folder / "dead"

    def before(jobs: Sequence[Job]) -> None:
        time.sleep(0.05)
        latest = max((int(job.folder) for job in jobs if job.folder.isdigit()), default=-1)
        if dies_at is not None and latest >= dies_at:
            dead.touch()
            os._exit(9)
        while latest >= trials // 2 and not dead.exists():
            time.sleep(0.01)

    host.before_launch = before
    search(task, folder, plan(trials, batch=2, storage=storage, baselines=BASELINES), host)


@pytest.mark.parametrize("storage", [None, "sqlite:///{}/study.db"])
def test_workers_of_one_study_lose_and_double_nothing_even_if_one_of_them_dies(
    storage: str | None, task: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    url = storage and storage.format(tmp_path)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # imports once for all workers
    workers = [context.Process(target=work, args=(task, folder, url, 10, dies)) for dies in (None, None, 3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0, 9]
    study = optuna.load_study(study_name="prunesweep", storage=open_storage(url, folder))
    own = [t for t in study.trials if proposals.is_own(t)]
    assert [t.state for t in own] == [TrialState.COMPLETE] * 10
    evaluated = (folder / "evaluated.txt").read_text().split()
    assert sorted(evaluated) == sorted([*BASELINE_FOLDERS, *(str(t.number) for t in own)])
    assert all(t.values[0] == pytest.approx(read_trial(folder / str(t.number)).records["correct"].mean()) for t in own)
    _, host = search(task, folder, plan(10, batch=2, storage=url, baselines=BASELINES))
    assert host.evaluated == []


def test_a_worker_is_dead_when_its_process_is_and_not_before(tmp_path: Path) -> None:
    script = "from pathlib import Path; import sys, time; from prunesweep.search.workers import Worker\n"
    script += "with Worker(Path(sys.argv[1])) as worker: print(worker.name, flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with Worker(tmp_path) as here:
        name = process.stdout.readline().strip()
        with here.alone():
            assert here.is_alive(name)
            process.kill()
            process.wait()
            assert not here.is_alive(name)
            assert here.is_alive(here.name)
            assert not here.is_alive("")


def test_a_study_belongs_to_one_folder_and_no_password_is_written_down(task: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    search(task, tmp_path / "one", plan(2, storage=url))
    with pytest.raises(ValueError, match=r"belongs to another folder"):
        search(task, tmp_path / "two", plan(2, storage=url))
    with pytest.raises(ValueError, match=r"cannot open hydra.sweeper.storage \(postgresql\)") as caught:
        open_storage("postgresql://me:hush@127.0.0.1:1/none", tmp_path)
    assert "hush" not in str(caught.value)
    with pytest.raises(ValueError, match=r"it is no database URL"):
        open_storage("study.db", tmp_path)


def test_a_journal_with_half_a_last_line_is_read(task: Path, tmp_path: Path) -> None:
    search(task, tmp_path / "s", plan(3))
    with (tmp_path / "s" / "study.journal").open("a") as journal:
        journal.write('{"op_code": 4, "trial')
    more, _ = search(task, tmp_path / "s", plan(5))
    assert len(more) == 5
