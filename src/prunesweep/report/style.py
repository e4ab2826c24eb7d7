"""One style sheet for every picture: sizes of a paper's columns, colours, letters, and how files are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN, PAGE = 3.25, 6.75
"""Inches: a column and a whole page of ICML's and CVPR's two-column papers, so that letters are as large as the text's."""
DPI = 200
"""Of PNGs: a column is 650 pixels."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A4B2A")
"""Okabe and Ito's palette with a brown for its yellow, which white paper swallows; told apart with any colour vision."""
MARKERS = ("o", "s", "^", "v", "P", "X", "p")
INK, SOFT, PALE, GREY = "#1B1F24", "#57616C", "#DFE3E8", "#9AA3AD"
SCALE = "cividis"
"""Of everything that goes from little to much (Nunez, Anderton and Renslow, 2018)."""
LOOK: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "figure.titlesize": 7.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "legend.handletextpad": 0.4,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": SOFT,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.5,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 0,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "pdf.fonttype": 42,  # letters stay letters, as publishers ask
    "svg.fonttype": "none",
    "svg.hashsalt": "prunesweep",
}
BAR = {"elinewidth": 0.8, "capsize": 0, "alpha": 0.9}
"""Of every error bar, which is a 95 % interval."""
FORMATS = (".png", ".pdf", ".svg")
UNDATED = {".png": {}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
"""The same picture is the same file."""

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """A function that draws with the style sheet, whatever matplotlib was told elsewhere."""

    @wraps(draw)
    def drawn(*given: P.args, **named: P.kwargs) -> R:
        from matplotlib import rc_context

        with rc_context(LOOK):
            return draw(*given, **named)

    return drawn


def canvas(width: float, height: float, rows: int = 1, columns: int = 1, **shared: Any) -> tuple[Figure, list[Axes]]:
    """A figure of so many inches with its panels, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, **shared).flat)


def headed(figure: Figure, text: str, size: float = 7.5) -> None:
    """What stands above all panels, left as above one."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=size)


def save(figure: Figure, path: Path, formats: Iterable[str] = ()) -> list[Path]:
    """Writes a picture by its file's ending, and beside it those of other formats; returns what was written.

    Raises ValueError for an ending that is no picture's, OSError for a place where nothing can be written.
    """
    from matplotlib import rc_context

    written = []
    for suffix in dict.fromkeys((path.suffix.lower(), *formats)):
        if suffix not in FORMATS:
            raise ValueError(f"a picture is a {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, got {path.name}")
        written.append(path.with_suffix(suffix))
        with rc_context(LOOK):
            figure.savefig(written[-1], dpi=DPI, metadata=UNDATED[suffix])
    return written


class Look(NamedTuple):
    """How the trials of one method are drawn."""

    colour: str
    marker: str


DENSE = Look(INK, "D")
OTHERS = Look(GREY, ".")


def looks(names: Sequence[str], dense: str = "none") -> dict[str, Look]:
    """A colour and a marker for each name, each once; of more names than colours the last ones are grey.

    `dense` is what the trial without reduction is called.
    """
    others = [name for name in names if name != dense]
    own = {name: Look(*pair) for name, pair in zip(others, zip(COLOURS, MARKERS, strict=True), strict=False)}
    return own | dict.fromkeys(others[len(COLOURS) :], OTHERS) | ({dense: DENSE} if dense in names else {})


def write_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]], size: float = 6.5) -> None:
    """Names lines at their right ends: x, y, name and colour of each; moved apart where they would cover each other."""
    if not ends:
        return
    figure: Any = axes.get_figure()
    figure.draw_without_rendering()  # only then the layout says where things are
    bottom, top = axes.get_ylim()
    ends = [(x, min(max(y, bottom), top), name, colour) for x, y, name, colour in ends]  # on a log scale 0 is nowhere
    high = float(axes.transAxes.transform((0, 1))[1])
    step = 1.25 * size * figure.dpi / 72
    ordered = sorted(ends, key=lambda end: axes.transData.transform(end[:2])[1])
    heights = [float(axes.transData.transform(end[:2])[1]) for end in ordered]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + step)
    heights[-1] = min(heights[-1], high)
    for i in range(len(heights) - 2, -1, -1):
        heights[i] = min(heights[i], heights[i + 1] - step)
    for (x, y, name, colour), height in zip(ordered, heights, strict=True):
        shift = (height - axes.transData.transform((x, y))[1]) * 72 / figure.dpi
        axes.annotate(
            name, (x, y), xytext=(4, shift), textcoords="offset points", va="center", color=colour, fontsize=size,
            annotation_clip=False,
        )  # fmt: skip
