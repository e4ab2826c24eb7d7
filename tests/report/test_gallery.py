"""The gallery's pictures are small, and its page names each of them with the command that draws it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from prunesweep.dev.gallery import MOST_BYTES, shrink

MOST = 8_000
KINDS = [
    "report",
    "pareto",
    "front",
    "effects",
    "interactions",
    "importance",
    "parallel",
    "search",
    "tokens",
    "overlap",
    "methods",
]
DOCS = Path(__file__).parents[2] / "docs"


def test_a_picture_that_cannot_be_squeezed_is_made_smaller(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8))
    noise.save(tmp_path / "large.png")
    shrink((tmp_path / "large.png").read_bytes(), tmp_path / "small.png", MOST)
    assert (tmp_path / "large.png").stat().st_size > MOST
    assert (tmp_path / "small.png").stat().st_size <= MOST
    width, height = Image.open(tmp_path / "small.png").size
    assert abs(width / height - 120 / 90) < 0.05, "its shape stays"


def test_the_page_shows_every_picture_and_each_is_small() -> None:
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    shown = {part.partition(")")[0] for part in page.split("](images/")[1:]}
    assert {f"{name}.png" for name in KINDS} == shown
    for name in shown:
        assert (DOCS / "images" / name).stat().st_size <= MOST_BYTES, name
    assert len(shown) == page.count("## ")
