"""What searching and racing gained, worked out by hand."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
from omegaconf import OmegaConf

from prunesweep.cost import Shape, VisionShape
from prunesweep.records import Stopped, TrialInfo, schema, write_trial
from prunesweep.search import compare

SHAPE = Shape(2, 8, 2, 1, 4, 16, 100, VisionShape(1, 8, 16, 4, 12))
COST = "entrance_ratio"


def write(folder: Path, name: str, tokens: int, right: Sequence[bool], planned: int) -> None:
    """A trial with that share of 100 visual tokens; one that answered fewer samples than planned was stopped."""
    row = {"task": "t", "text_tokens": 5, "dense_tokens": 100, "frames": 4, "generated_tokens": 1, "reduction_flops": 0}
    row |= {"option_rows": 0, "option_pairs": 0, "visual_tokens": [tokens, tokens]}
    rows = [{**row, "sample_id": f"s{i}", "video_id": f"v{i}", "correct": bool(one)} for i, one in enumerate(right)]
    stopped = Stopped("x", len(right), planned, -0.1, -0.2, 0, 0, 1, 0.95) if len(right) < planned else None
    info = TrialInfo(name, "test", "m", "b", (), {"name": name}, SHAPE, stopped=stopped)
    write_trial(folder / name, info, pl.DataFrame(rows, schema=schema()))


def write_search(folder: Path, sampler: str | None, points: Sequence[tuple[float | None, float | None]]) -> Path:
    """Of (accuracy, cost) trial by trial; the first line of the table is a baseline's, the last was not started."""
    folder.mkdir(parents=True)
    own = [{"trial": i + 1, "outcome": "complete", "from": None, "accuracy": a, COST: c} for i, (a, c) in enumerate(points)]
    told = {"trial": 0, "outcome": "complete", "from": "baseline dense", "accuracy": 1.0, COST: 0.0}
    unstarted = {"trial": 99, "outcome": "not started", "from": None, "accuracy": None, COST: None}
    pl.DataFrame([told, *own, unstarted], infer_schema_length=None).write_parquet(folder / "search.parquet")
    target = {"_target_": f"optuna.samplers.{sampler}"} if sampler else None
    OmegaConf.save({"hydra": {"sweeper": {"sampler": target, "seed": 0, "objectives": {}}}}, folder / "multirun.yaml")
    return folder


def test_the_hypervolume_grows_by_what_a_trial_adds_and_stopped_trials_add_nothing(tmp_path: Path) -> None:
    folder = write_search(tmp_path / "a", None, [(0.5, 0.5), (None, None), (0.4, 0.6), (0.8, 0.75)])
    curve = compare.read_curve(folder, COST, 1.0)
    assert curve.sampler == "TPE"
    assert curve.volumes == pytest.approx([0.25, 0.25, 0.25, 0.5 * 0.25 + 0.8 * 0.25])
    assert compare.read_curve(folder, COST, 0.6).volumes[-1] == pytest.approx(0.5 * 0.1 / 0.6)


def test_searches_are_compared_by_sampler_and_with_the_whole_pool(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folders = [
        write_search(tmp_path / "t0", "TPESampler", [(0.5, 0.5), (0.8, 0.25)]),
        write_search(tmp_path / "t1", "TPESampler", [(0.8, 0.25), (0.5, 0.5), (0.9, 0.9)]),
        write_search(tmp_path / "r0", "RandomSampler", [(0.2, 0.5), (0.4, 0.5)]),
    ]
    write(tmp_path / "pool", "best", 25, [True] * 8 + [False] * 2, 10)
    picture = tmp_path / "p.png"
    run("hypervolume", *map(str, folders), "--pool", str(tmp_path / "pool"), "--cost", COST, "--picture", str(picture))
    tpe, random = (line for line in capsys.readouterr().out.splitlines() if line.startswith(("TPE", "Random")))
    assert tpe.split()[1] == "2"
    assert "0.4250 (0.2500 to 0.6000)" in tpe
    assert "0.6000 (0.6000 to 0.6000)" in tpe
    assert tpe.endswith("1, 2")
    assert random.endswith("-")
    assert picture.stat().st_size > 10_000


def run(*arguments: str) -> None:
    before, sys.argv = sys.argv, ["prunesweep-search", *arguments]
    try:
        compare.main()
    finally:
        sys.argv = before


def test_savings_count_evaluations_and_say_what_became_of_the_front(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for index, (name, right, seen) in enumerate([("a", 50, 100), ("b", 90, 100), ("c", 70, 30), ("d", 91, 30), ("e", 100, 30)]):
        answers = [i < right for i in range(100)]
        write(tmp_path / "full", name, 10 + 10 * index, answers, 100)
        write(tmp_path / "raced", name, 10 + 10 * index, answers[:seen], 100)
    run("savings", str(tmp_path / "raced"), str(tmp_path / "full"), "--cost", COST)
    out = capsys.readouterr().out
    assert "290 instead of 500 sample evaluations: 1.72x fewer; 3 of 5 trials stopped" in out
    lines = {line[0]: line for line in out.splitlines() if line[0].isalpha() and line[1] == " "}
    assert lines.keys() == {"a", "b", "d", "e"}  # c is not on the front
    assert lines["a"].endswith("itself")
    assert "-0.010 (-0.030 to +0.010, n=100) by b" in lines["d"]  # one question of a hundred: 1.98 standard errors of 0.01
    assert "-0.100" in lines["e"]
    assert "3 of 4 front members finished" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("hypervolume", "nothing"), "holds no search.parquet"),
        (("hypervolume", "search", "--cost", "kv_bytes"), "did not search for kv_bytes"),
        (("hypervolume", "search", "--cost", COST, "--pool", "nothing"), "holds no complete trials"),
        (("savings", "nothing", "nothing"), "a folder holds no trials"),
        (("savings", "raced", "other"), "no complete trial with the settings of 'a'"),
    ],
)
def test_folders_of_something_else_are_refused(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    write_search(tmp_path / "search", "TPESampler", [(0.5, 0.5)])
    write(tmp_path / "raced", "a", 10, [True], 1)
    write(tmp_path / "other", "b", 10, [True], 1)
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
