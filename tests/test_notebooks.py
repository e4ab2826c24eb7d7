"""Notebooks run, with fewer questions, and are committed as they ran."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from support import notebooks
from support.places import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IN_KERNEL = ROOT / "notebooks" / "03_where_tokens_go.ipynb"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    code = notebooks.cells(path)
    fewer = notebooks.with_less(code)
    assert fewer != code, "its questions are no longer found, so that it would run all of them"
    (folder := tmp_path / path.stem).mkdir()
    exit_code, said = notebooks.execute(fewer, folder)
    assert exit_code == 0, said[-3000:]


def test_a_notebook_runs_in_a_kernel_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one with most pictures, by the protocol that a browser speaks."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(IN_KERNEL, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell, source in zip(code, notebooks.with_less(notebooks.cells(IN_KERNEL)), strict=True):
        cell.source, cell.outputs = source, []
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert any("image/jpeg" in output.get("data", {}) for cell in code for output in cell.outputs)


def test_a_cell_that_fails_fails(tmp_path: Path) -> None:
    (folder := tmp_path / "failing").mkdir()
    exit_code, said = notebooks.execute(["1 / 0", "open('after', 'w')"], folder)
    assert exit_code == 1
    assert "ZeroDivisionError" in said
    assert not (folder / "after").exists()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_with_their_outputs(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    assert any(cell.outputs for cell in cells)
    assert path.stat().st_size < 300_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_say_nothing_of_the_machine_they_ran_on(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    said = "".join(str(output) for cell in cells for output in cell.outputs)
    assert "site-packages" not in said
    assert not re.search(r"['\" ]/(home|mnt|opt|root|tmp|Users|work)/", said)
    assert not [output for cell in cells for output in cell.outputs if output.get("name") == "stderr"]
