"""Ctrl-C in the middle of `tune`: the same command goes on, and says what it would have said."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from support import forks

ENDED_BY_CTRL_C = 130
TOLD = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def command(arguments: list[str], folder: Path, log: Path, shard: int) -> None:
    """Presses Ctrl-C when the store gets its shard of that number; 0: never."""
    from prunesweep.results import store as storing

    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in a shell's background
    storing.FLUSH_SECONDS = storing.FLUSH_SHARE = 0.0  # a shard after every video
    add, added = storing.Store.add, []

    def until_interrupted(store: Any, rows: Any) -> str:
        added.append(name := add(store, rows))
        if len(added) == shard:
            os.kill(os.getpid(), signal.SIGINT)
        return name

    storing.Store.add = until_interrupted  # type: ignore[method-assign]
    forks._type(arguments, folder, log, {**os.environ, **TOLD})


def run(arguments: list[str], folder: Path, shard: int = 0) -> tuple[int | None, str]:
    folder.mkdir(exist_ok=True)
    process = forks.CONTEXT.Process(target=command, args=(arguments, folder, folder / "log", shard))
    process.start()
    process.join(forks.PATIENCE)
    return process.exitcode, (folder / "log").read_text()


def test_ctrl_c_loses_no_video_that_was_finished_and_changes_no_statement(
    checkpoint: Path, benchmark_folder: Path, tmp_path: Path
) -> None:
    """Three processes of some seconds each: interrupted among the candidates, then the same command, and one left alone."""
    task = [f"model.checkpoint={checkpoint}", "model.frames=8", "benchmark=jsonl", f"benchmark.path={benchmark_folder}"]
    arguments = ["tune", "budget=0.5x", "margin=0.1", "methods=[random]", "rounds=2", *task, "trainer.progress=false"]
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    code, said = run(arguments, broken, 2)
    assert code == ENDED_BY_CTRL_C, said
    assert "confirming" not in said
    assert ": 0 records are kept" in said
    assert not list(broken.glob("tune/*/preset.yaml"))
    code, said = run(arguments, broken)
    assert code == 0, said
    assert ": 0 records are kept" not in said.partition("confirming")[0], "what was finished is used"
    assert "as was solved before" in said
    code, other = run(arguments, whole)
    assert code == 0, other
    (resumed,), (unbroken,) = (list(folder.glob("tune/*/preset.yaml")) for folder in (broken, whole))
    assert resumed.read_bytes() == unbroken.read_bytes()
    assert statement(said) == statement(other)
    assert statement(said) in " ".join(resumed.read_text().split())


def statement(said: str) -> str:
    """The last paragraph before the preset's place."""
    return " ".join(said.rpartition("\npreset ")[0].rpartition("\n\n")[2].split())
