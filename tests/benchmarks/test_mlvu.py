"""MLVU in the layout in which it is downloaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunesweep.benchmarks import mlvu
from prunesweep.types import Sample
from support import trees


@pytest.fixture(scope="module")
def video(samples: list[Sample]) -> Path:
    return samples[0].path


def test_mlvu_has_seven_tasks_and_leaves_out_free_answers(tmp_path: Path, video: Path) -> None:
    root = trees.mlvu(tmp_path, video)
    asked = mlvu.load(str(root))
    assert [sample.task for sample in asked] == list(mlvu.TASKS)
    assert mlvu.load(str(root / "MLVU")) == asked
    assert {sample.target for sample in asked} == {1}
    assert (asked[1].id, asked[1].video_id) == ("needle-000", "2_needle/needle_0.mp4")
    with pytest.raises(
        ValueError, match=r"task 'summary' in benchmark.tasks has free answers, which a judge grades; known: plotQA"
    ):
        mlvu.load(str(root), tasks=["summary"])
    with pytest.raises(ValueError, match="unknown task 'plot' in benchmark.tasks; known: plotQA"):
        mlvu.load(str(root), tasks=["plot"])
    (root / "MLVU" / "json" / "4_count.json").unlink()
    assert len(mlvu.load(str(root), tasks=["ego", "order"])) == 2
    with pytest.raises(ValueError, match=r"4_count.json does not exist; docs/benchmarks.md has the layout"):
        mlvu.load(str(root))


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"answer": "it flies"}, "answer 'it flies' is not among the candidates"),
        ({"answer": None}, "no 'answer'"),
        ({"candidates": None}, "'candidates' must be at least two different texts"),
        ({"video": "/etc/passwd"}, "lies outside the benchmark's folder"),
    ],
)
def test_an_item_of_mlvu_that_cannot_be_asked_is_a_problem(wrong: dict, problem: str, tmp_path: Path, video: Path) -> None:
    root = trees.mlvu(tmp_path, video)
    trees.change(root / "MLVU" / "json" / "3_ego.json", wrong)
    fine, broken = mlvu.load(str(root), tasks=["ego"])
    assert fine.problem is None
    assert problem in str(broken.problem)
