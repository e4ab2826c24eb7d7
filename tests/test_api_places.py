"""Python's results in folders of any name, and its figures in notebooks that know nothing of figures."""

from __future__ import annotations

from pathlib import Path

import nbformat
import numpy as np
import polars as pl
import pytest
from nbclient import NotebookClient

import prunesweep as ps
from prunesweep.results.records import write_trial
from support.records import drawn

ODD = "odd, [x] é 'q' = (1)"


def test_folders_of_any_name_are_written_and_read(
    checkpoint: Path, benchmark_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model, data = (
        ps.load_model("tiny", checkpoint=checkpoint, frames=8),
        ps.load_benchmark("jsonl", path=benchmark_folder, limit=2),
    )
    sweep = ps.evaluate(model, data, ["none", "random"], folder=ODD, store=f"{ODD} too", progress=False)
    assert sweep.folder == tmp_path / ODD
    assert len(ps.read(ODD).table) == len(ps.read(f"{ODD} too").table) == 2
    assert sweep.compare("none", "random").difference.samples == 2
    assert sweep.report().read_text()
    pl.DataFrame({"trial": [0]}).write_parquet(Path(ODD) / "search.parquet")
    assert sweep.proposals.height == 1


def test_a_folder_that_refers_to_nothing_is_refused_on_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="Interpolation key 'nothing' not found") as error:
        ps.evaluate("tiny", "blocks", ["none"], folder="multirun/${nothing}", progress=False)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["a_file/below", "/proc/nothing"])
def test_a_place_where_nothing_can_be_written_is_refused_on_one_line(
    place: str, checkpoint: Path, benchmark_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a_file").write_text("")
    asked = (
        ps.load_model("tiny", checkpoint=checkpoint, frames=8),
        ps.load_benchmark("jsonl", path=benchmark_folder, limit=2),
        ["none"],
    )
    with pytest.raises(ValueError, match=r"cannot be written: .*; name a place that can be") as error:
        ps.evaluate(*asked, folder="results", store=place, progress=False)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"cannot be written: .*; name a place that can be"):
        ps.evaluate(*asked, folder=place, store=None, progress=False)
    sweep = ps.evaluate(*asked, folder="results", store=None, progress=False)
    for page in (f"{place}/report.html", "results"):
        with pytest.raises(ValueError, match=rf"{page} cannot be written: .*; name a place that can be"):
            sweep.report(page)


def test_a_grid_takes_arrays() -> None:
    own = {"prune.keep_ratio": np.array([0.25, 0.5]), "prune.layer": np.arange(2, 4)}
    lists = {"prune.keep_ratio": [0.25, 0.5], "prune.layer": [2, 3]}
    assert ps.grid("prunevid", own) == ps.grid("prunevid", lists)
    with pytest.raises(ValueError, match="takes a list of values, got array"):
        ps.grid("prunevid", {"prune.keep_ratio": np.array(0.25)})


def test_a_notebook_draws_figures_without_being_told_how(tmp_path: Path) -> None:
    for number, one in enumerate(drawn()):
        write_trial(tmp_path / "sweep" / str(number), one.info, one.records)
    cells = [
        "import prunesweep as ps; ps.read('sweep').plot()",
        "%config InlineBackend.figure_formats = ['svg']",
        "%matplotlib inline\nps.read('sweep').front('llm_flops').plot()",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    kinds = [{kind for output in cell.outputs for kind in output.get("data", {})} for cell in notebook.cells]
    assert "image/png" in kinds[0]
    assert "image/svg+xml" in kinds[2]
    assert "image/png" not in kinds[2], "what a notebook was told stays"
