"""Commands in processes of their own, forked from one that has imported everything: a start costs no seconds.

So a test can kill twenty sweeps.  Nothing is computed before the fork: threads would not survive it.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import multiprocessing
import os
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "prunesweep.cli.run",
        "prunesweep.sweep.configs",
        "prunesweep.sweep.delivery",
        "prunesweep.sweep.evaluate",
        "prunesweep.models.llava_onevision",
        "prunesweep.benchmarks.jsonl",
        "prunesweep.report.plots",
        "prunesweep.search.loop",
        "prunesweep.search.report",
        "transformers.models.llava_onevision.modeling_llava_onevision",
        "transformers.models.llava_onevision.processing_llava_onevision",
        "transformers.models.qwen2.modeling_qwen2",
        "transformers.models.siglip.modeling_siglip",
        "optuna.samplers",
        "pytest",  # the main program, which every process imports
    ]
)

PATIENCE = 300
"""Seconds after which a process hangs; the machine may be busy."""


def start(arguments: Sequence[str], folder: Path, log: Path, before: Callable[[], None] | None = None):
    """The command in a folder, its output in a log, after `before` was called in its process."""
    process = CONTEXT.Process(target=_run, args=(list(arguments), folder, log, before))
    process.start()
    return process


def finish(arguments: Sequence[str], folder: Path, log: Path, before: Callable[[], None] | None = None) -> tuple[int | None, str]:
    """Exit code and output of the command."""
    process = start(arguments, folder, log, before)
    process.join(PATIENCE)
    assert process.exitcode is not None, f"it hangs; so far it said {log.read_text()}"
    return process.exitcode, log.read_text()


def _run(arguments: list[str], folder: Path, log: Path, before: Callable[[], None] | None) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    import torch

    from prunesweep.cli import run
    from prunesweep.results import store

    torch.set_num_threads(1)
    store.FLUSH_SECONDS = store.FLUSH_SHARE = 0.0  # a shard after every video, so that a short sweep has something to lose
    os.chdir(folder)
    sys.argv = ["prunesweep", *arguments]
    if before is not None:
        before()
    try:
        run.main()
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves them out; Ray ends its cluster there


# For shell scripts

TYPED = """#!{python} -SE
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    server.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode() + b"\\n")
    code, out = json.loads(server.makefile().read())
sys.stdout.write(out)
sys.exit(code)
"""


@contextlib.contextmanager
def typed(folder: Path) -> Iterator[Path]:
    """A folder of programs with a `prunesweep` whose commands run in forked processes; it says all on its standard output."""

    class Answer(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            arguments, place, environment = json.loads(self.rfile.readline())
            log = folder / f"{threading.get_ident()}.log"
            process = CONTEXT.Process(target=_type, args=(arguments, Path(place), log, environment))
            process.start()
            process.join(PATIENCE)
            code = 1 if process.exitcode is None else process.exitcode
            self.wfile.write(json.dumps([code, log.read_text(encoding="utf-8", errors="replace")]).encode())

    programs = folder / "bin"
    programs.mkdir()
    address = str(folder / "socket")
    with socketserver.ThreadingUnixStreamServer(address, Answer) as server:
        program = programs / "prunesweep"
        program.write_text(TYPED.format(python=sys.executable, address=address))
        program.chmod(0o755)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield programs
        finally:
            server.shutdown()


def _type(arguments: list[str], folder: Path, log: Path, environment: Mapping[str, str]) -> None:
    """What the installed `prunesweep` does with these words."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:0] = [place for place in environment.get("PYTHONPATH", "").split(os.pathsep) if place]
    import torch

    from prunesweep.cli import app

    torch.set_num_threads(1)
    sys.argv = ["prunesweep", *arguments]
    try:
        app.main()
    finally:
        sys.stdout.flush()
        atexit._run_exitfuncs()
