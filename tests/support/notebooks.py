"""A notebook's cells in IPython without a kernel, forked from what has imported everything: a start costs no seconds."""

from __future__ import annotations

import atexit
import os
import re
from collections.abc import Sequence
from pathlib import Path

import nbformat

from support.forks import CONTEXT, PATIENCE

FEWER = ((r"limit=\d+", "limit=12"), (r"trials=\d+", "trials=4"), (r"\[:8\]", "[:2]"))
"""Questions and trials of a cell; with twelve a method still loses an answer that can be looked at."""


def cells(path: Path) -> list[str]:
    """The code of a notebook, as it is committed."""
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def with_less(code: Sequence[str]) -> list[str]:
    """The same with fewer questions and trials."""
    for pattern, less in FEWER:
        code = [re.sub(pattern, less, cell) for cell in code]
    return list(code)


def execute(code: Sequence[str], folder: Path) -> tuple[int | None, str]:
    """Exit code and output of the cells, one after the other in an empty folder."""
    log = folder.with_suffix(".log")
    process = CONTEXT.Process(target=_execute, args=(list(code), folder, log))
    process.start()
    process.join(2 * PATIENCE)  # for all of its cells
    process.kill()  # nothing to one that has ended
    return process.exitcode, log.read_text(encoding="utf-8", errors="replace")


def _execute(code: Sequence[str], folder: Path, log: Path) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.chdir(folder)
    os.environ["IPYTHONDIR"] = str(folder / ".ipython")
    import torch
    from IPython.core.interactiveshell import InteractiveShell

    class Shell(InteractiveShell):
        """There is no window whose loop it would have to run."""

        def enable_gui(self, gui: str | None = None) -> None:
            pass

    torch.set_num_threads(1)
    shell = Shell.instance()
    try:
        for cell in code:
            shell.run_cell(cell).raise_error()
    finally:
        atexit._run_exitfuncs()
