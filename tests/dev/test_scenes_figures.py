"""The paper's figures on `scenes`: every claim is about settings that the named sweep has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from prunesweep.dev.scenes_figures import EQUAL, FIGURES, LAYER, PAPER, Figure, page_of
from prunesweep.results.records import write_trial
from support.places import ROOT
from support.records import made

LAYERS = {1: 2, 2: 5, 3: 8, 4: 10, 6: 15}
"""Of the tiny model's 8: those of the paper's 32."""


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.sweep)
def test_the_sweep_of_a_figure_has_the_settings_of_its_claims(figure: Figure) -> None:
    grids = OmegaConf.to_container(OmegaConf.load(ROOT / "sweeps" / f"{figure.sweep}.yaml"), resolve=False)
    grid = next(one for one in grids["hydra"]["sweeper"]["grids"] if "prunevid_official" in one["reducer"])
    assert set(grid) == {"reducer", figure.rows, figure.columns}
    for claim in figure.claims:
        for side in (claim.better, claim.worse):
            for name, value in {**{key: PAPER[key] for key in (figure.rows, figure.columns)}, **side}.items():
                wanted = f"${{paper_layer:{LAYERS[int(value)]}}}" if name == LAYER else f"{value:g}"
                assert wanted in grid[name].split(","), (claim.said, name)


def test_a_page_of_no_sweeps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds none of the sweeps scenes_equal"):
        list(page_of(tmp_path))


def written(folder: Path, reducer: str, answers: dict[str, tuple[dict[str, float], str]]) -> None:
    """A sweep's folders: each trial's changes of the paper's settings, and its answers."""
    for number, (name, (changed, letters)) in enumerate(answers.items()):
        parts: dict[str, dict[str, float]] = {"merge": {}, "prune": {}}
        for key, value in {**PAPER, **changed}.items():
            _, part, setting = key.split(".")
            parts[part][setting] = value
        trial = made(f"{reducer} {name}", letters, **parts)
        info = replace(trial.info, overrides=("benchmark.limit=40",))
        write_trial(folder / str(number), info, trial.records)


def test_the_page_has_what_was_run_and_says_what_was_not(tmp_path: Path) -> None:
    figure = FIGURES[2]
    better, worse = "+" * 30 + "-" * 10, "-" * 30 + "+" * 10
    sides = [side for claim in figure.claims for side in (claim.better, claim.worse)]
    values = {str(side): (dict(side), better if all(PAPER[k] == v for k, v in side.items()) else worse) for side in sides}
    grid = {(row, column) for row in (0.8, 0.9) for column in (0.25, 0.5, 1)}
    values |= {f"{pair}": ({figure.rows: pair[0], figure.columns: pair[1]}, worse) for pair in grid if pair[0] == 0.9}
    written(tmp_path / figure.sweep, "prunevid_official", values)
    written(tmp_path / EQUAL, "prunevid", {"layer=4": ({}, better), "layer=1": ({LAYER: 1}, worse)})
    page = "\n".join(page_of(tmp_path))
    assert "from 40 test questions on 40 videos (`benchmark.limit=40` besides the sweep's name)." in page
    assert "Not run yet: 3 a: keep ratio by layer; 3 b: static threshold by segment ratio." in page
    assert "| 3 c | a cluster ratio of 0.5 is better than 0.25 | +50.0 ± " in page
    assert "Of the 1 differences 1 is significant" in page
    assert "| layer=1 | 0.250 ± " in page
