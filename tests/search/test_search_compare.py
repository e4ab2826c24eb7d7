"""What searching and racing gained, worked out by hand."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from omegaconf import OmegaConf

from prunesweep.cli import app
from prunesweep.cost import Shape, VisionShape
from prunesweep.results.latest import link_latest
from prunesweep.results.records import Stopped, TrialInfo, schema, write_trial
from prunesweep.search import replay
from prunesweep.search.curves import read_curve

SHAPE = Shape(2, 8, 2, 1, 4, 16, 100, VisionShape(1, 8, 16, 4, 12))
COST = "entrance_ratio"


def write(
    folder: Path, name: str, tokens: int, right: Sequence[bool], planned: int, settings: Mapping[str, Any] | None = None
) -> None:
    """A trial with that share of 100 visual tokens; one that answered fewer samples than planned was stopped."""
    row = {"task": "t", "text_tokens": 5, "dense_tokens": 100, "frames": 4, "generated_tokens": 1, "reduction_flops": 0}
    row |= {"option_rows": 0, "option_pairs": 0, "visual_tokens": [tokens, tokens]}
    rows = [{**row, "sample_id": f"s{i}", "video_id": f"v{i}", "correct": bool(one)} for i, one in enumerate(right)]
    stopped = Stopped("x", len(right), planned, -0.1, -0.2, 0, 0, 1, 0.95) if len(right) < planned else None
    info = TrialInfo(name, "test", "m", "b", (), dict(settings or {"name": name}), SHAPE, stopped=stopped)
    write_trial(folder / name, info, pl.DataFrame(rows, schema=schema()))


def write_search(folder: Path, sampler: str | None, points: Sequence[tuple[float | None, float | None]]) -> Path:
    """Of (accuracy, cost) trial by trial; the first line of the table is a baseline's, the last was not started."""
    folder.mkdir(parents=True)
    own = [{"#": str(i + 1), "outcome": "complete", "from": None, "accuracy": a, COST: c} for i, (a, c) in enumerate(points)]
    told = {"#": "baseline-dense", "outcome": "complete", "from": "baseline-dense", "accuracy": 1.0, COST: 0.0}
    unstarted = {"#": "99", "outcome": "not started", "from": None, "accuracy": None, COST: None}
    pl.DataFrame([told, *own, unstarted], infer_schema_length=None).write_parquet(folder / "search.parquet")
    target = {"_target_": f"optuna.samplers.{sampler}"} if sampler else None
    OmegaConf.save({"hydra": {"sweeper": {"sampler": target, "seed": 0, "objectives": {}}}}, folder / "multirun.yaml")
    return folder


def test_the_hypervolume_grows_by_what_a_trial_adds_and_stopped_trials_add_nothing(tmp_path: Path) -> None:
    folder = write_search(tmp_path / "a", None, [(0.5, 0.5), (None, None), (0.4, 0.6), (0.8, 0.75)])
    curve = read_curve(folder, COST, 1.0)
    assert curve.sampler == "TPE"
    assert curve.volumes == pytest.approx([0.25, 0.25, 0.25, 0.5 * 0.25 + 0.8 * 0.25])
    assert read_curve(folder, COST, 0.6).volumes[-1] == pytest.approx(0.5 * 0.1 / 0.6)


def test_searches_are_compared_by_sampler_and_with_the_whole_grid(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folders = [
        write_search(tmp_path / "t0", "TPESampler", [(0.5, 0.5), (0.8, 0.25)]),
        write_search(tmp_path / "t1", "TPESampler", [(0.8, 0.25), (0.5, 0.5), (0.9, 0.9)]),
        write_search(tmp_path / "r0", "RandomSampler", [(0.2, 0.5), (0.4, 0.5)]),
    ]
    write(tmp_path / "grid", "best", 25, [True] * 8 + [False] * 2, 10)
    picture = tmp_path / "p.png"
    run("hypervolume", *map(str, folders), "--grid", str(tmp_path / "grid"), "--cost", COST, "--picture", str(picture))
    tpe, random = (line for line in capsys.readouterr().out.splitlines() if line.startswith(("TPE", "Random")))
    assert tpe.split()[1] == "2"
    assert "0.4250 (0.2500 to 0.6000)" in tpe
    assert "0.6000 (0.6000 to 0.6000)" in tpe
    assert tpe.endswith("1, 2")
    assert random.endswith("-")
    assert picture.stat().st_size > 10_000


def run(*arguments: str) -> None:
    before, sys.argv = sys.argv, ["prunesweep", "replay", *arguments]
    try:
        app.main()
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


def test_replayed_races_stop_what_real_ones_would(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    generator = np.random.default_rng(0)
    for name, tokens, share in (("cheap", 10, 0.9), ("worse", 20, 0.3), ("bad", 30, 0.2), ("best", 40, 0.97)):
        write(tmp_path, name, tokens, (generator.random(300) < share).tolist(), 300)
    run("race", str(tmp_path), "--cost", COST, "--seeds", "2")
    out = capsys.readouterr().out
    assert "4 trials on 300 samples, 10 rounds, alpha 0.05" in out
    lines = [line.split("  ") for line in out.splitlines() if line.startswith(("0 ", "1 "))]
    assert len(lines) == 2
    for line in lines:
        cells = [cell.strip() for cell in line if cell.strip()]
        assert cells[3:] == ["2 of 4", "0 of 2", "0"]
        evaluations = int(cells[1].split()[0].replace(",", ""))
        assert 600 < evaluations < 900
        assert cells[2] == f"{1200 / evaluations:.2f}x"


def test_a_sweep_may_be_called_latest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="^prunesweep: there is no multirun/latest: nothing has been run from here"):
        run("race", "latest")
    folder = Path("multirun/2030-01-31/12-00-00")
    write_grid(folder)
    link_latest(Path("multirun"), folder)
    write_search(tmp_path / "found", "TPESampler", [(0.5, 0.5)])
    for arguments in (("race", "latest"), ("search", "latest", "--samplers", "grid", "--trials", "6", "--seeds", "1")):
        run(*arguments, "--cost", COST)
    run("hypervolume", "found", "--grid", "latest", "--cost", COST)
    run("savings", "latest", "multirun/latest", "--cost", COST)
    out = capsys.readouterr().out
    assert "12 trials on 100 samples" in out
    assert "12 settings: 4 tokens x 3 kind" in out
    assert out.count("all settings of the grid: ") == 2
    assert "1200 instead of 1200" in out.replace(",", "")


def write_grid(folder: Path) -> None:
    """Accuracy grows with tokens and is best with the third of three kinds."""
    for tokens in (10, 20, 40, 80):
        for kind in ("x", "y", "z"):
            right = 10 + tokens + 5 * "xyz".index(kind)
            answers, own = [i < right for i in range(100)], {"tokens": tokens, "kind": kind, "same": 1}
            write(folder, f"{tokens}{kind}", tokens, answers, 100, own)


def test_replayed_searches_try_what_the_grid_has_and_find_its_front(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_grid(tmp_path)
    whole = replay.read_grid(tmp_path, COST)
    assert whole.values == {"tokens": (10, 20, 40, 80), "kind": ("x", "y", "z")}
    assert whole.found[40, "y"] == (pytest.approx(0.55), pytest.approx(0.4))
    assert whole.coarse(4) == [(10, "x"), (10, "z"), (80, "x"), (80, "z")]
    assert [len(whole.coarse(trials)) for trials in (1, 3, 6, 7, 8, 12)] == [1, 3, 6, 6, 8, 12]
    for sampler in ("tpe", "nsga2", "random", "qmc"):
        one, again, other = (replay.replay(whole, sampler, seed, 6, 2, 1.0) for seed in (0, 0, 1))
        assert one.volumes.tolist() == again.volumes.tolist() != other.volumes.tolist()
        assert (np.diff(one.volumes) >= 0).all()
    best = 0.1 * 0.3 + 0.2 * 0.4 + 0.4 * 0.6 + 0.2 * 1.0  # 0.1 to 0.2, to 0.4, to 0.8, to 1
    assert replay.replay(whole, "grid", 0, 12, 4, 1.0).volumes[-1] == pytest.approx(best)
    run("search", str(tmp_path), "--cost", COST, "--trials", "6", "--seeds", "2", "--samplers", "random,grid")
    out = capsys.readouterr().out
    assert "12 settings: 4 tokens x 3 kind; a coarse grid has 6 of them" in out
    assert f"all settings of the grid: {best:.4f}" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("hypervolume", "nothing"), "holds no search.parquet"),
        (("hypervolume", "search", "--cost", "kv_bytes"), "did not search for kv_bytes"),
        (("hypervolume", "search", "--cost", COST, "--grid", "nothing"), "nothing does not exist; name the folder of a sweep"),
        (("race", "nothing"), "nothing does not exist; name the folder of a sweep"),
        (("race", "raced", "--rounds", "1"), "--rounds must be at least 2, got 1"),
        (("search", "nothing"), "nothing does not exist; name the folder of a sweep"),
        (("search", "odd"), "holds 3 settings and not all combinations of a, b"),
        (("search", "raced", "--trials", "0"), "--trials must be at least 1, got 0"),
        (("search", "even", "--samplers", "best"), "unknown sampler 'best'; known: gp, grid, nsga2"),
        (("savings", "nothing", "nothing"), "nothing does not exist; name the folder of a sweep"),
        (("savings", "raced", "other"), "no complete trial with the settings of 'a'"),
    ],
)
def test_folders_of_something_else_are_refused(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_search(tmp_path / "search", "TPESampler", [(0.5, 0.5)])
    write(tmp_path / "raced", "a", 10, [True], 1)
    write(tmp_path / "other", "b", 10, [True], 1)
    for name, a, b in (("0", 1, 1), ("1", 2, 2), ("2", 1, 2)):
        write(tmp_path / "odd", name, 10, [True], 1, {"a": a, "b": b})
        write(tmp_path / "even", name, 10, [True], 1, {"a": name})
    with pytest.raises(SystemExit, match=f"^prunesweep: .*{re.escape(message)}"):
        run(*arguments)
