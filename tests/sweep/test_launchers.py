"""Launchers that spread a batch over jobs: the records of one process, whichever way the jobs are run."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import stat
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from prunesweep.checks import EvaluationError
from prunesweep.cli import run as main
from prunesweep.results.records import read_trials
from prunesweep.results.store import Store
from prunesweep.sweep import remote
from prunesweep.sweep.batch import Finished
from prunesweep.sweep.configs import evaluate_configs
from prunesweep.sweep.executors import make_pool
from prunesweep.sweep.remote import Lost, spread, work_on
from support import forks
from support.places import CONF, ROOT

SWEEPS = {
    "grids": [
        "-m",
        "hydra/sweeper=grids",
        "hydra.sweeper.grids=[{reducer: prunevid, reducer.prune.layer: '2,4'}, {reducer: none}]",
    ],
    "search": [
        *("--config-dir", str(ROOT / "sweeps"), "--config-name", "search"),
        *("hydra.sweeper.trials=4", "hydra.sweeper.batch=2"),
    ],
}


@pytest.fixture(scope="module")
def settings(checkpoint: Path, benchmark_folder: Path) -> list[str]:
    plain = ["logger=none", "trainer.progress=false", "trainer.accelerator=cpu", "model.frames=4", "benchmark=jsonl"]
    return [f"model.checkpoint={checkpoint}", f"benchmark.path={benchmark_folder}", *plain]


# For real


def end_loky() -> None:
    """A forked process that ends waits for its children, before joblib hears of it and ends its own."""
    from joblib.externals.loky import get_reusable_executor

    atexit.register(lambda: get_reusable_executor().shutdown(kill_workers=True))


@dataclass(frozen=True)
class WithPath:
    """Puts a folder of programs first."""

    folder: Path

    def __call__(self) -> None:
        os.environ["PATH"] = f"{self.folder}:{os.environ['PATH']}"


def sweep(
    folder: Path, name: str, settings: Sequence[str], more: Sequence[str] = (), before: Callable[[], None] | None = None
) -> str:
    """The output of a sweep of SWEEPS in a folder, with the store beside it."""
    arguments = [*SWEEPS[name], *settings, *more, "hydra.sweep.dir=sweep", "store.folder=store"]
    code, out = forks.finish(arguments, folder, folder / "log", before)
    assert code == 0, out
    return out


@pytest.fixture(scope="module")
def here(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a sweep that is evaluated in one process."""

    @functools.cache
    def call(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        sweep(folder, name, settings)
        return folder / "sweep"

    return call


def assert_same_records(one: Path, other: Path) -> None:
    expected = read_trials(one)
    assert expected
    for trial in expected:
        assert (other / trial.folder.name / "records.parquet").read_bytes() == (trial.folder / "records.parquet").read_bytes()
    assert len(read_trials(other)) == len(expected)


@pytest.mark.parametrize(
    ("launcher", "name"),
    [("submitit_local", "grids"), ("ray", "grids"), ("joblib", "search")],
    ids=["submitit_local", "ray", "joblib"],
)
def test_jobs_give_the_records_of_one_process(
    launcher: str, name: str, settings: list[str], here: Callable[[str], Path], tmp_path: Path
) -> None:
    asked = [f"hydra/launcher={launcher}", "hydra.launcher.jobs=2"]
    out = sweep(tmp_path, name, settings, asked, end_loky if launcher == "joblib" else None)
    assert "sharing ran" in out
    assert_same_records(here(name), tmp_path / "sweep")
    assert Store.existing(tmp_path / "store").shards() == set(), "what jobs wrote is committed"
    folders = [path.name for path in (tmp_path / "sweep" / ".submitit").glob("*") if path.is_dir()]
    assert not folders, "a job that begins before its folder is made ends without a word"


SLURM = {
    "sbatch": """
import os, re, subprocess, sys
script = open(sys.argv[-1]).read()
last = int(re.search(r"#SBATCH --array=0-(\\d+)", script)[1])
open(os.path.join(os.path.dirname(__file__), "asked"), "w").write(script)
for number in range(last + 1):
    given = {"SLURM_JOB_ID": str(100 + number), "SLURM_ARRAY_JOB_ID": "42", "SLURM_ARRAY_TASK_ID": str(number)}
    given |= {"SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    command = script + os.linesep + f"touch {__file__}.{number}"  # submitit moves the file when this has returned
    subprocess.Popen(["bash", "-c", command], env=os.environ | given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print("Submitted batch job 42")
""",
    "srun": """
import os, sys
command = sys.argv[sys.argv.index("--error") + 2 :]
os.execv(command[0], command)
""",
    "sacct": """
import os
print("JobID|State|NodeList")
for number in range(2):
    ended = os.path.exists(os.path.join(os.path.dirname(__file__), f"sbatch.{number}"))
    print(f"42_{number}|{'COMPLETED' if ended else 'RUNNING'}|node")
""",
}
"""Stand-ins for Slurm's programs that run an array's jobs on this machine."""


def test_a_slurm_array_gives_the_records_of_one_process(settings: list[str], here: Callable[[str], Path], tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in SLURM.items():
        path = programs / name
        path.write_text(f"#!{sys.executable}\n{text}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    own = ["hydra.launcher.cpus=1", "hydra.launcher.gpus=1", "+hydra.launcher.parameters.partition=small"]
    sweep(tmp_path, "grids", settings, ["hydra/launcher=submitit_slurm", *own], WithPath(programs))
    assert_same_records(here("grids"), tmp_path / "sweep")
    script = (programs / "asked").read_text()
    for flag in ("array=0-1%", "partition=small", "gpus-per-node=1", "cpus-per-task=1", "time=240", "signal=USR2@"):
        assert f"#SBATCH --{flag}" in script


# What jobs are told and answer


@dataclass(frozen=True)
class Inline:
    """Runs jobs one after the other in this process, each task changed first; None loses the job."""

    jobs: int = 3
    threads: int | None = None
    change: Callable[[int, dict[str, Any]], dict[str, Any] | None] = lambda number, task: task

    def run(self, tasks: Sequence[str], allowed: Sequence[str]) -> list[str | Lost]:
        changed = [self.change(number, json.loads(task)) for number, task in enumerate(tasks, start=1)]
        return [Lost("it was ended") if task is None else work_on(json.dumps(task), allowed) for task in changed]


@pytest.fixture
def evaluate(settings: list[str], tmp_path: Path):
    """Evaluates some reducers with a pool, or here."""

    def call(pool: Inline | None, *overrides: str, reducers: Sequence[str] = ("none", "prunevid")) -> list[Finished]:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            own = [[f"reducer={name}"] for name in reducers]
            store = f"store.folder={tmp_path / 'store'}"
            configs = [compose("eval", [*settings, store, *overrides, *one]) for one in own]
        return evaluate_configs(configs, own, functools.partial(spread, pool) if pool else None)

    assert main.run, "importing the command has registered the resolver of packaged data"
    return call


def test_every_job_has_all_trials_and_videos_of_its_own(evaluate) -> None:
    shares: list[tuple[list[str], set[str]]] = []

    def note(_: int, task: dict[str, Any]) -> dict[str, Any]:
        shares.append(([trial["name"] for trial in task["trials"]], set(task["samples"])))
        return task

    spread_out = evaluate(Inline(jobs=3, change=note))
    assert [names for names, _ in shares] == [["none", "prunevid"]] * 3
    assert sum(len(samples) for _, samples in shares) == len(set.union(*(samples for _, samples in shares))) == 20
    here = evaluate(None, "store.folder=null")
    for one, other in zip(spread_out, here, strict=True):
        assert one.records.equals(other.records)
        assert one.info == other.info
    assert (spread_out[0].timing.run, spread_out[0].timing.evaluated) == (here[0].timing.run, 40), (
        "jobs share as one process does"
    )


def test_a_setting_that_was_solved_for_a_cost_reaches_the_jobs(evaluate) -> None:
    arguments = ("reducer.match={flops: 0.3}", "benchmark.limit=4")
    (there,) = evaluate(Inline(), *arguments, reducers=["random"])
    (here,) = evaluate(None, *arguments, "store.folder=null", reducers=["random"])
    assert there.records.equals(here.records)
    assert there.info.settings["matched"]


OWN = """
from dataclasses import dataclass
from prunesweep.reducers.stride import Stride

@dataclass(frozen=True)
class Mine(Stride):
    pass

@dataclass(frozen=True)
class Other(Stride):
    pass
"""


def test_code_of_the_users_own_reaches_the_jobs_and_no_text_can_ask_for_more(
    evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_reducer.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    mine = ("reducer.merge._target_=own_reducer.Mine", "benchmark.limit=4")
    (there,) = evaluate(Inline(), *mine, reducers=["stride"])
    (here,) = evaluate(None, *mine, "store.folder=null", reducers=["stride"])
    assert there.records.equals(here.records)

    def other(_: int, task: dict[str, Any]) -> dict[str, Any]:
        return json.loads(json.dumps(task).replace("own_reducer.Mine", "own_reducer.Other"))

    with pytest.raises(EvaluationError, match=r"the job's text asks for the reducer 'own_reducer\.Other'"):
        evaluate(Inline(change=other), *mine, "video.frames=2", reducers=["stride"])


def test_a_job_that_dies_is_named_after_the_others_have_ended_and_only_its_share_is_left(evaluate) -> None:
    kept = "what was finished is in the store, and the same command goes on from there"
    with pytest.raises(EvaluationError, match=f"1 of 3 jobs failed: job 2: it was ended; {kept}"):
        evaluate(Inline(change=lambda number, task: None if number == 2 else task))
    left: list[int] = []

    def note(_: int, task: dict[str, Any]) -> dict[str, Any]:
        left.append(len(task["samples"]))
        return task

    resumed = evaluate(Inline(change=note))
    lost = sum(left)
    assert 0 < lost < 20
    assert (resumed[0].timing.evaluated, resumed[0].timing.reused) == (2 * lost, 40 - 2 * lost)
    for one, other in zip(resumed, evaluate(None, "store.folder=null"), strict=True):
        assert one.records.equals(other.records)


def test_a_job_refuses_weights_videos_and_devices_other_than_the_commands(
    evaluate, checkpoint: Path, benchmark_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    shutil.copytree(checkpoint, other / "checkpoint")
    shutil.copytree(benchmark_folder, other / "benchmark")
    weights = (other / "checkpoint" / "model.safetensors").read_bytes()
    (other / "checkpoint" / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    for video in (other / "benchmark").glob("*.mp4"):
        video.write_bytes(video.read_bytes() + b"x")

    def with_other(**settings: Any) -> Inline:
        return Inline(jobs=1, change=lambda _, task: task | {key: task[key] | value for key, value in settings.items()})

    with pytest.raises(EvaluationError, match="trial 'none' has another model in this job than where the command runs"):
        evaluate(with_other(model={"checkpoint": str(other / "checkpoint")}))
    with pytest.raises(EvaluationError, match="20 samples, '.*' among them, are not in this job what they are where the command"):
        evaluate(with_other(benchmark={"path": str(other / "benchmark")}))
    monkeypatch.setattr(remote, "device_kind", lambda _: "cuda")
    with pytest.raises(
        EvaluationError, match="this job runs on cuda, the command takes it for cpu; set trainer.accelerator=cuda"
    ):
        evaluate(Inline(jobs=1))


def test_what_every_job_refuses_is_said_once_and_the_others_run(evaluate) -> None:
    unfit, found = evaluate(Inline(), "reducer.prune.layer=9", reducers=["prunevid"])[0], evaluate(Inline(), reducers=["none"])[0]
    assert unfit.reason.startswith("reducer.prune.layer must be in [1, 7] for")
    assert len(found.records) == 20


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("race.rounds=3", "race.rounds must be 1 with this launcher, or use hydra/launcher=shared"),
        ("engine.measure=true", "engine.measure must be false with this launcher"),
        ("store.folder=null", "set store.folder with this launcher"),
    ],
)
def test_what_only_the_shared_launcher_can_do_is_refused(evaluate, override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(Inline(), override)


def test_pools_check_their_settings() -> None:
    with pytest.raises(ValueError, match="hydra.launcher.jobs must be at least 1, got 0"):
        make_pool("joblib", {"jobs": 0, "threads": None})
    with pytest.raises(ValueError, match="hydra.launcher.cpus must be a whole number, got 0.5"):
        make_pool("ray", {"jobs": 1, "cpus": 0.5, "gpus": 0, "address": None, "retries": 0})
    assert make_pool("joblib", {"jobs": 10_000, "threads": None}).threads == 1


def test_without_slurm_its_launcher_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    settings = {"jobs": 1, "folder": str(tmp_path), "gpus": 0, "cpus": 1, "minutes": 1, "restarts": 0, "name": "x"}
    with pytest.raises(ValueError, match="no Slurm on this machine: srun is not there; try hydra/launcher=submitit_local"):
        make_pool("submitit_slurm", settings).run(["{}"], ())


@pytest.mark.parametrize(
    ("variables", "program"),
    [
        ({"LOCAL_RANK": "0", "WORLD_SIZE": "2"}, "torchrun"),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}, "srun"),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}, "mpirun"),
        ({"PMI_SIZE": "2", "PMI_RANK": "1"}, "mpiexec"),
    ],
    ids=["torchrun", "srun", "mpirun", "mpiexec"],
)
def test_ranks_that_another_program_starts_are_refused(
    variables: dict[str, str], program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=f"prunesweep: {program} has started this command once per process.*trainer.devices=N"):
        main.main()


def test_one_task_of_slurm_is_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("WORLD_SIZE", "8")  # as some clusters set for every program
    main.require_one_process()
