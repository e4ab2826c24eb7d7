"""Where the command runs: variables that others left behind, terminals that take ASCII only, settings that need quotes."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from prunesweep import errors
from prunesweep.cli import run as main
from prunesweep.results.records import read_trial
from prunesweep.sweep.ranks import FOREIGN, OwnRanks, own_environment
from support import forks

LEFT_BEHIND = {
    "NODE_RANK": "1",
    "GROUP_RANK": "3",
    "MASTER_ADDR": "192.0.2.1",  # nobody answers there
    "MASTER_PORT": "9",
    "RANK": "5",
    "WORLD_SIZE": "16",
    "LOCAL_WORLD_SIZE": "8",
    "SLURM_JOB_ID": "7",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "3",
    "TORCHELASTIC_RUN_ID": "x",
    "GLOO_SOCKET_IFNAME": "ib99",
    "TP_SOCKET_IFNAME": "ib99",
    "NCCL_SOCKET_IFNAME": "ib99",
}


def leave_behind() -> None:
    os.environ.update(LEFT_BEHIND)


def test_two_ranks_run_whatever_ranks_the_environment_tells_of(checkpoint: Path, benchmark_folder: Path, tmp_path: Path) -> None:
    arguments = [f"model.checkpoint={checkpoint}", "benchmark=jsonl", f"benchmark.path={benchmark_folder}", "model.frames=2"]
    arguments += ["trainer.devices=2", "trainer.accelerator=cpu", "trainer.progress=false", "logger=none", "hydra.run.dir=out"]
    code, out = forks.finish([*arguments, "benchmark.limit=10"], tmp_path, tmp_path / "log", leave_behind)
    assert code == 0, out
    assert read_trial(tmp_path / "out").records["error"].null_count() == 10


def test_ranks_are_of_this_machine_and_the_environment_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*FOREIGN, "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "7")
    before = dict(os.environ)
    ranks = OwnRanks()
    assert (ranks.main_address, ranks.node_rank(), ranks.global_rank()) == ("127.0.0.1", 0, 0)
    assert not ranks.creates_processes_externally
    assert ranks.main_port != 7
    with own_environment():
        assert not FOREIGN & set(os.environ)
        assert "TORCHELASTIC_RUN_ID" not in os.environ
    assert dict(os.environ) == before


STEP = {"SLURM_JOB_ID": "1", "SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "0"}
PTY = {**STEP, "SLURM_PTY_PORT": "40001"}
STARTS = {
    "a terminal": ({}, None),
    "WORLD_SIZE alone": ({"WORLD_SIZE": "8"}, None),
    "LOCAL_RANK alone": ({"LOCAL_RANK": "1"}, None),
    "a shell of srun --pty": (PTY, None),
    "a shell of srun --pty with MPI's variables": ({**PTY, "PMI_SIZE": "8", "PMI_RANK": "0"}, None),
    "another task of srun --pty": ({**PTY, "SLURM_PROCID": "3"}, "srun"),
    "srun": (STEP, "srun"),
    "srun of one task": ({**STEP, "SLURM_STEP_NUM_TASKS": "1"}, None),
    "mpirun in a shell of srun --pty": ({**PTY, "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"}, "mpirun"),
    "mpiexec in a shell of srun --pty": ({**PTY, "PMI_SIZE": "4", "PMI_RANK": "0"}, "mpiexec"),
    "torchrun": ({"WORLD_SIZE": "8", "LOCAL_RANK": "1"}, "torchrun"),
}


@pytest.mark.parametrize("how", STARTS)
def test_only_a_command_that_was_started_several_times_is_refused(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variables, program = STARTS[how]
    for name in [name for pair in main.STARTED_RANKS.values() for name in pair] + ["SLURM_PTY_PORT"]:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if program is None:
        main.require_one_process()
        return
    with pytest.raises(ValueError, match=f"{program} has started this command once per process.*unset "):
        main.require_one_process()


@pytest.mark.parametrize(
    ("override", "advice"),
    [
        ("model.checkpoint=/ckpt/epoch=3-step=5", "'model.checkpoint=\"/ckpt/epoch=3-step=5\"'"),
        ("benchmark.path=/data/[new]/x", "'benchmark.path=\"/data/[new]/x\"'"),
        ("benchmark.path=/data/größe", "'benchmark.path=\"/data/größe\"'"),
        ("benchmark.path=videos(1).jsonl", "'benchmark.path=\"videos(1).jsonl\"'"),
        ("store.folder={a}b", "'store.folder=\"{a}b\"'"),
        ("store.folder=f(1)", "'store.folder=\"f(1)\"'"),
        ("reducer", "a setting is KEY=VALUE"),
    ],
)
@pytest.mark.parametrize("mode", [[], ["-m"]], ids=["run", "multirun"])
def test_what_hydra_cannot_read_is_to_be_quoted(run, override: str, advice: str, mode: list[str]) -> None:
    code, _, _ = run(*mode, "benchmark=jsonl", override, defaults=False)
    assert str(code).startswith(f"prunesweep: cannot read {override!r}")
    assert advice in str(code)


def test_what_is_quoted_as_advised_is_taken_as_it_stands(run, tmp_path: Path) -> None:
    code, _, _ = run('model.checkpoint="/ckpt/epoch=3-[größe](1)"')
    assert "checkpoint folder '/ckpt/epoch=3-[größe](1)' does not exist" in str(code)


def test_results_are_written_to_a_stream_that_takes_ascii_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    with errors.reported():
        print("0.5 ± 0.1, 2 × 3 → 6 …, café, 日")
        print("±", file=sys.stderr)
    sys.stdout.flush()
    assert sys.stdout.buffer.getvalue() == b"0.5 +- 0.1, 2 x 3 -> 6 ..., cafe, \\u65e5\n"


def test_a_stream_that_takes_everything_gets_it_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    with errors.reported():
        print("0.5 ± 0.1")
    assert sys.stdout.buffer.getvalue() == "0.5 ± 0.1\n".encode()


def test_every_command_writes_anywhere() -> None:
    """Each main calls `reported`, `run_hydra` or `write_anywhere` itself; one that does not would end with a codec's error."""
    import importlib
    import inspect
    import tomllib

    from prunesweep.paths import PACKAGE
    from support.places import ROOT

    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    modules = [f"prunesweep.dev.{file.stem}" for file in (PACKAGE / "dev").glob("*.py") if "def main()" in file.read_text()]
    for target in [*scripts.values(), *(f"{module}:main" for module in modules)]:
        module, _, name = target.partition(":")
        source = inspect.getsource(getattr(importlib.import_module(module), name))
        hands_on = ("reported(", "run_hydra(", "write_anywhere(", "_hydra(", "command()")
        assert any(call in source for call in hands_on), target
