"""The paper's figures on `scenes`: every claim is about settings that the named sweep has."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from prunesweep.dev.scenes_figures import FIGURES, LAYER, PAPER, Figure, page_of
from support.places import ROOT

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
