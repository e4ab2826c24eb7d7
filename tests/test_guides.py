"""What README and guides tell a reader to type works: their blocks run in order, in an empty folder, with fewer questions."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from support import forks
from support.places import ROOT

PAGES = [ROOT / "README.md", ROOT / "docs" / "get_started.md", *sorted(ROOT.glob("docs/guides/*.md"))]
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<language>\w+)(?: title=\"(?P<title>.+?)\")?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
RUN = ("sh", "python")
FEWER = ((r"limit=\d+", "limit=2"), (r"trials=\d+", "trials=3"))
"""Questions and trials of a command, so that all of them take seconds."""


class Block(NamedTuple):
    """What stands between two fences."""

    language: str
    title: str
    """The file that it is to be written to, if any."""
    text: str
    reason: str
    """Why it is not run, if it is not."""


def blocks(page: str) -> Iterator[Block]:
    for found in BLOCK.finditer(page):
        yield Block(found["language"], found["title"] or "", found["text"], found["reason"] or "")


def script(found: list[Block], folder: Path) -> str:
    """A shell script that does what a reader would; files that blocks are named after are written into the folder."""
    lines = ["set -eu"]
    for number, block in enumerate(found):
        if block.title:
            lines += [f"mkdir -p {shlex.quote(str(Path(block.title).parent))}", f"cp block{number} {shlex.quote(block.title)}"]
            (folder / f"block{number}").write_text(block.text, encoding="utf-8")
        elif block.language in RUN and not block.reason:
            text = block.text
            for pattern, less in FEWER:
                text = re.sub(pattern, less, text)
            (folder / f"block{number}.py").write_text(text, encoding="utf-8")
            lines += [f"echo 'block {number}' >&2", text if block.language == "sh" else f"python block{number}.py"]
    return "\n".join(lines)


def test_blocks_are_found_with_what_is_said_of_them() -> None:
    page = 'a\n\n<!-- not run: why -->\n```sh\nrm x\n```\n\n```python title="a.py"\nx = 1\n```\n\n```text\nb\n```\n'
    first, second, third = blocks(page)
    assert first == Block("sh", "", "rm x\n", "why")
    assert second == Block("python", "a.py", "x = 1\n", "")
    assert third == Block("text", "", "b\n", "")


def test_a_command_that_fails_fails(tmp_path: Path) -> None:
    found = [Block("sh", "", "true\n", ""), Block("sh", "", "false\n", ""), Block("sh", "", "touch after\n", "")]
    assert subprocess.run(["bash", "-c", script(found, tmp_path)], cwd=tmp_path, check=False).returncode
    assert not (tmp_path / "after").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_tells_to_type_works(page: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    found = list(blocks(page.read_text(encoding="utf-8")))
    assert not [block for block in found if block.language in ("bash", "shell", "console")], "sh is what is run"
    if not [block for block in found if block.language in RUN and not block.title and not block.reason]:
        pytest.skip("nothing on it can be run here, and it says why")
    own = {"WANDB_MODE": "disabled", "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    with forks.typed(tmp_path_factory.mktemp("typed")) as programs:
        own["PATH"] = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
        command = ["bash", "-c", script(found, tmp_path)]
        done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **own}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
