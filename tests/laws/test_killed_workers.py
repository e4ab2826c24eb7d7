"""One of several processes is killed: of an evaluation's ranks, of a search's workers."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from prunesweep.benchmarks import by_video
from prunesweep.checks import EvaluationError
from prunesweep.engine.candidate import Candidate
from prunesweep.engine.protocol import Protocol
from prunesweep.models.llava_onevision import LlavaOnevision, load
from prunesweep.reducers import Reducer
from prunesweep.results import store as storing
from prunesweep.results.records import read_trials
from prunesweep.results.store import Store
from prunesweep.sweep.evaluate import evaluate
from prunesweep.sweep.work import Addresses
from prunesweep.types import Sample
from support import forks
from support.places import ROOT

KEPT = "what was finished is in the store, and the same command goes on from there"


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
    two_videos = sum(sorted(map(len, by_video(samples)))[:2])  # wherever the evaluation began
    assert resumed.timing.reused >= two_videos * len(trials)
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
    budget = ["hydra.sweeper.trials=6", "hydra.sweeper.batch=2", "hydra.sweep.dir=sweep"]
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
    assert [trial.state for trial in own] == [TrialState.COMPLETE] * 6
    settings_tried = [json.dumps(trial.params, sort_keys=True) for trial in own]
    assert len(set(settings_tried)) == 6, "no proposal was made twice"
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
