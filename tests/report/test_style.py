"""One style sheet: sizes of a paper's columns, colours once each, files that are the same for the same picture."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from prunesweep.report import style
from prunesweep.report.plots import pareto_figure, pareto_points
from prunesweep.search.curves import Curves, volumes_figure
from support.records import made


def points(trials: int = 3):
    from prunesweep.analysis.outcomes import collect

    few = [made(f"prunevid layer={n}", "+" * (20 + 5 * n) + "-" * (20 - 5 * n), visual=(n, n)) for n in range(1, trials + 1)]
    (found,) = collect([made("none", "+" * 40), *few])
    return pareto_points(found.table, found.cost)


def test_a_picture_is_written_as_png_pdf_and_svg_and_the_same_twice(tmp_path: Path) -> None:
    figure = pareto_figure({"tiny": points()})
    assert figure.get_size_inches()[0] == style.COLUMN
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        written = style.save(figure, tmp_path / folder / "pareto.png", style.FORMATS)
        assert [path.suffix for path in written] == [".png", ".pdf", ".svg"]
    for suffix in style.FORMATS:
        one, two = ((tmp_path / folder / f"pareto{suffix}").read_bytes() for folder in ("one", "two"))
        assert one == two
    assert "dense" in (tmp_path / "one" / "pareto.svg").read_text(), "letters stay letters"
    with pytest.raises(ValueError, match="a picture is a .png, .pdf or .svg, got pareto.bmp"):
        style.save(figure, tmp_path / "pareto.bmp")


def test_points_have_95_percent_intervals_and_names() -> None:
    data = points()
    assert all(point.low < point.accuracy < point.high or point.accuracy == 1 for point in data.points)
    (dense,) = (point for point in data.points if point.label == "dense")
    assert (dense.reducer, dense.accuracy) == ("none", 1)
    assert dense.low == pytest.approx(0.025 ** (1 / 40)), "the exact interval of 40 right answers"


def test_a_point_that_has_a_name_is_larger_than_its_neighbours() -> None:
    from matplotlib.collections import PathCollection

    data = points()
    (axes,) = pareto_figure({"tiny": data}).axes
    drawn = [one for one in axes.collections if isinstance(one, PathCollection) and len(one.get_offsets())]
    sizes = {tuple(place): size for one in drawn for place, size in zip(one.get_offsets(), one.get_sizes(), strict=True)}
    named = {sizes[point.cost, point.accuracy] for point in data.points if point.label}
    others = {sizes[point.cost, point.accuracy] for point in data.points if not point.label}
    assert named
    assert others
    assert min(named) > 2 * max(others)


def test_trials_on_an_axis_are_whole_numbers() -> None:
    import numpy as np

    (axes,) = volumes_figure([Curves("tpe", np.linspace(0.5, 0.8, 18)[None])], None, "searches").axes
    assert all(tick == round(tick) for tick in axes.get_xticks())


def test_no_colour_stands_for_two_names() -> None:
    own = style.looks([f"method{i}" for i in range(10)] + ["none"])
    coloured = [look for look in own.values() if look not in (style.OTHERS, style.DENSE)]
    assert len(coloured) == len({look.colour for look in coloured}) == len(style.COLOURS)
    assert own["none"] == style.DENSE
    assert own["method9"] == style.OTHERS


def test_matplotlibs_own_settings_stay_as_they_were() -> None:
    from matplotlib import rcParams

    before = dict(rcParams)
    pareto_figure({"tiny": points()})
    assert dict(rcParams) == before


def test_lines_are_named_at_their_ends_where_a_log_scale_has_no_place_for_them_too(recwarn, tmp_path: Path) -> None:
    figure, (axes,) = style.canvas(style.COLUMN, 2.5)
    axes.plot([1, 2], [1, 0.1])
    axes.set_yscale("log")
    style.write_ends(axes, [(2, 0.1, "one", "black"), (2, 0.1, "other", "black"), (2, 0.0, "third", "black")])
    style.save(figure, tmp_path / "lines.png")
    figure.draw_without_rendering()
    boxes = sorted((text.get_window_extent().y0, text.get_window_extent().y1) for text in axes.texts)
    assert all(below[1] <= above[0] + 1 for below, above in pairwise(boxes)), "no name covers another"
    assert not list(recwarn)
