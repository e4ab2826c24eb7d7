"""What each stage did to the tokens of one video, drawn on its frames: pictures and movies of traces."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prunesweep.console.layout import count, visible, visible_lines
from prunesweep.console.terminal import say
from prunesweep.report.style import COLOURS, DPI, FORMATS, PAGE, SCALE, headed, save, styled
from prunesweep.report.token_maps import (
    DROPPED,
    Loaded,
    Overlap,
    Trace,
    dense_folder,
    distinct,
    flip,
    flipped,
    overlap,
    trace_trial,
)
from prunesweep.results.read import number

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Shaped, UInt8
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


MOST_COLUMNS = 8
"""Frames in a picture; of longer clips they are spread evenly, a movie shows all."""


SECONDS_PER_FRAME = 0.8
"""Of a movie: time to look."""


LONGEST_STEM = 100
"""Characters of a sample's id in a file's name, which may have 255 bytes."""


DIM = 0.25
"""Brightness of what is gone."""


def _columns(frames: int) -> list[int]:
    count = min(frames, MOST_COLUMNS)
    return [round(i * (frames - 1) / max(1, count - 1)) for i in range(count)]


def _patches(values: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    return values.reshape(*grid, *values.shape[1:])


def _frame(axes: Axes, trace: Trace, frame: int, overlay: np.ndarray | None = None) -> None:
    """A frame with an RGBA value per patch laid over it."""
    rows, columns = trace.grid
    extent = (0, columns, rows, 0)
    axes.imshow(trace.frames[frame], extent=extent, interpolation="bilinear")
    if overlay is not None:
        axes.imshow(_patches(overlay, trace.grid), extent=extent, interpolation="nearest", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(linewidth=0.5, color="0.6")


def _rgb(colour: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    return to_rgb(colour)


def merged_overlay(trace: Trace, frame: int) -> Float[np.ndarray, "p 4"]:
    """Every patch that shares its token in the mean colour of all that do; nothing on others, dark where it was dropped."""
    colours = np.zeros((trace.source.shape[1], 4))
    shared = trace.shared[frame]
    colours[shared, :3] = _token_colours(trace)[trace.source[frame, shared]]
    colours[shared, 3] = 1
    colours[trace.source[frame] == DROPPED] = (0, 0, 0, 1 - DIM)
    return colours


def _token_colours(trace: Trace) -> Float[np.ndarray, "n 3"]:
    """The mean colour of each token's patches, 0 to 1."""
    rows, columns = trace.grid
    height, width = trace.frames.shape[1:3]
    down, across = np.arange(height) * rows // height, np.arange(width) * columns // width
    patch = (down[:, None] * columns + across).ravel()
    token = trace.source[:, patch].ravel()
    pixels, shown = trace.frames.reshape(-1, 3), token != DROPPED
    counts = np.maximum(np.bincount(token[shown], minlength=len(trace.kept)), 1)
    sums = [np.bincount(token[shown], pixels[shown, c], len(trace.kept)) for c in range(3)]
    return np.stack(sums, 1) / counts[:, None] / 255


def attention_overlay(trace: Trace, frame: int) -> Float[np.ndarray, "p 4"]:
    """From little to much attention of the question; dark where a patch was dropped before."""
    from matplotlib import colormaps

    attention = trace.patch_attention
    assert attention is not None
    colours = colormaps[SCALE](np.sqrt(attention[frame] / (attention.max() or 1)))
    colours[:, 3] = 0.8
    colours[trace.source[frame] == DROPPED] = (0, 0, 0, 1 - DIM)
    return colours


def kept_overlay(trace: Trace, frame: int, kept: Bool[np.ndarray, " n"] | None = None) -> Float[np.ndarray, "p 4"]:
    """Dark where no token goes on: those that reach the last layer unless `kept` says which; the frame as it is elsewhere."""
    alive = trace.alive(trace.kept if kept is None else kept)[frame]
    colours = np.zeros((len(alive), 4))
    colours[~alive] = (0, 0, 0, 1 - DIM)
    return colours


def overlap_overlay(found: Overlap, frame: int) -> Float[np.ndarray, "p 4"]:
    """Green in both, blue in the first only, orange in the second only, dark in neither."""
    colours = np.tile((0.0, 0.0, 0.0, 1 - DIM), (found.both.shape[1], 1))
    for mask, colour in ((found.both, COLOURS[2]), (found.first, COLOURS[0]), (found.second, COLOURS[1])):
        colours[mask[frame]] = (*_rgb(colour), 0.6)
    return colours


def _outlines(axes: Axes, labels: Shaped[np.ndarray, " p"], grid: tuple[int, int], colour: str = "white") -> None:
    """Lines between patches with different labels, so that they are told apart without colours."""
    from matplotlib.collections import LineCollection

    label, (rows, columns) = _patches(labels, grid), grid
    upright = [[(c + 1, r), (c + 1, r + 1)] for r in range(rows) for c in range(columns - 1) if label[r, c] != label[r, c + 1]]
    level = [[(c, r + 1), (c + 1, r + 1)] for r in range(rows - 1) for c in range(columns) if label[r, c] != label[r + 1, c]]
    axes.add_collection(LineCollection(upright + level, colors=colour, linewidths=0.6))


def _row_title(axes: Axes, text: str) -> None:
    axes.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=6.5, labelpad=4)


def _segments(axes: Axes, trace: Trace, shown: Sequence[int]) -> None:
    """The time line: a bar per segment over the frames shown."""
    edges = np.cumsum((0, *trace.segments))
    segment = np.searchsorted(edges, np.arange(len(trace.source)), side="right") - 1
    axes.set(xlim=(-0.5, len(shown) - 0.5), ylim=(0, 1), xticks=[], yticks=[])
    for index, length in enumerate(trace.segments):
        places = [place for place, frame in enumerate(shown) if segment[frame] == index]
        if places:
            left, width = places[0] - 0.46, places[-1] - places[0] + 0.92
            axes.barh(0.5, width, left=left, height=0.8, color="0.82" if index % 2 else "0.7")
            axes.text(left + width / 2, 0.5, f"{index + 1}: {length}" if width < 1 else f"segment {index + 1}: {length} frames",
                      ha="center", va="center", fontsize=6)  # fmt: skip
    axes.axis("off")


def _numbers(trace: Trace) -> str:
    """`36 of 432 tokens enter the LLM, 24 kept after layer 2, 12 after 4`: steps that leave all of them are not named."""
    entering = "all" if len(trace.kept) == trace.source.size else f"{len(trace.kept)} of"
    fewer = trace.fewer
    said = ", ".join(f"{step.tokens} {'kept after layer' if step is fewer[0] else 'after'} {step.layers}" for step in fewer)
    earlier = f", {'caches whole up to each' if len(fewer) > 1 else 'all in the caches before it'}" if trace.whole else ""
    return f"{entering} {trace.source.size} tokens enter the LLM{', ' if said else ''}{said}{earlier}"


def _verdict(trace: Trace) -> str:
    return f"“{trace.answer}” ({'right' if trace.correct else f'wrong, it is “{trace.target}”'})"


def _plain(text: str, most: int = 110) -> str:
    """One line without matplotlib's markup: a dollar sign would start mathematics."""
    line = " ".join(text.split())
    return (line if len(line) <= most else f"{line[: most - 1]}…").replace("$", r"\$")


class Strip(NamedTuple):
    """One row of a picture: what is laid over each frame, and which patches are told apart by lines."""

    title: str
    overlay: Callable[[int], np.ndarray] | None = None
    labels: Callable[[int], np.ndarray] | None = None


def strips(found: Trace) -> list[Strip]:
    """The rows that mean something for a trace: the frames, then what each stage of its method did to them."""
    rows = [Strip("frames")]
    if found.shared.any():
        over_time = ",\nalso over time" if found.over_time.any() else ""
        rows.append(Strip(f"merged: one\ncolour a token{over_time}", partial(merged_overlay, found), lambda i: found.source[i]))
    elif (found.source == DROPPED).any():
        rows.append(_left(found, f"enter the LLM:\n{len(found.kept)} tokens", np.ones_like(found.kept)))
    if found.attention is not None:
        rows.append(Strip("attention of\nthe question\n(bright: much)", partial(attention_overlay, found)))
    for step in found.fewer:
        if step.kept is not None:
            rows.append(_left(found, f"after layer {step.layers}:\n{step.tokens} tokens", step.kept))
    return rows


def _left(found: Trace, title: str, kept: Bool[np.ndarray, " n"]) -> Strip:
    return Strip(title, lambda i: kept_overlay(found, i, kept), lambda i: found.alive(kept)[i])


STRIP, MARGIN = 0.72, 0.55
"""Inches of a row, and of what stands above all."""
WIDTH = 120
"""Letters of a line above all panels."""


@styled
def trace_figure(found: Trace) -> Figure:
    """Frames under their segments, and below them a row for each stage that changed something: see `strips`."""
    from matplotlib.figure import Figure

    shown, rows = _columns(len(found.frames)), strips(found)
    figure = Figure(figsize=(PAGE, MARGIN + STRIP * len(rows) + 0.15), dpi=DPI, layout="constrained")
    grid = figure.add_gridspec(len(rows) + 1, len(shown), height_ratios=[0.22, *[1] * len(rows)])
    if found.segments:
        _segments(figure.add_subplot(grid[0, :]), found, shown)
    for row, strip in enumerate(rows):
        for column, frame in enumerate(shown):
            axes = figure.add_subplot(grid[row + 1, column])
            _frame(axes, found, frame, strip.overlay(frame) if strip.overlay else None)
            if strip.labels:
                _outlines(axes, strip.labels(frame), found.grid)
            if not row:
                axes.set_title(f"{found.timestamps[frame]:.1f} s", fontsize=6)
            if not column:
                _row_title(axes, strip.title)
    said = f"{_plain(found.trial)}: {_numbers(found)}"
    headed(figure, "\n".join([f"{_plain(found.question, 70)} {_plain(_verdict(found), 40)}", *textwrap.wrap(said, WIDTH)]), 7)
    return figure


@styled
def overlap_figure(first: Trace, second: Trace) -> Figure:
    """Two methods on one video: the frames, what each keeps, and where they agree."""
    from matplotlib.figure import Figure

    found, shown = overlap(first, second), _columns(len(first.frames))
    names = distinct([first.trial, second.trial])
    rows = (
        Strip("frames"),
        _left(first, "first keeps", first.kept),
        _left(second, "second keeps", second.kept),
        Strip("both (green),\nfirst (blue) or\nsecond (orange)", partial(overlap_overlay, found)),
    )
    figure = Figure(figsize=(PAGE, MARGIN + STRIP * len(rows) + 0.2), dpi=DPI, layout="constrained")
    for column, frame in enumerate(shown):
        for row, strip in enumerate(rows):
            axes = figure.add_subplot(len(rows), len(shown), row * len(shown) + column + 1)
            _frame(axes, first, frame, strip.overlay(frame) if strip.overlay else None)
            if strip.labels:
                _outlines(axes, strip.labels(frame), first.grid)
            if not column:
                _row_title(axes, strip.title)
            if not row:
                axes.set_title(f"{first.timestamps[frame]:.1f} s", fontsize=6)
            if row == len(rows) - 1:
                axes.set_xlabel(f"J {found.by_frame[frame]:.2f}", fontsize=6)
    said = [f"{_plain(first.question, 70)} Jaccard overlap of surviving patches {found.jaccard:.2f}"]
    for which, own, name in (("first", first, names[0]), ("second", second, names[1])):
        line = f"{which}: {_plain(name)}, {_numbers(own)}, {_plain(_verdict(own), 60)}"
        said += textwrap.wrap(line, WIDTH, break_long_words=False)
    headed(figure, "\n".join(said), 7)
    return figure


MOVIE_PANEL = 2.6
"""Inches."""


def movie_frames(traces: Sequence[Trace]) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """Frame by frame: the video, then what each trial keeps of it.  Even sizes, as video codecs want them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    first = traces[0]
    titles = [textwrap.fill(_plain(name), 44) for name in distinct([one.trial for one in traces])]
    inches = MOVIE_PANEL + 0.6 + 0.13 * max(title.count("\n") + 1 for title in titles)
    for frame in range(len(first.frames)):
        figure = Figure(figsize=(MOVIE_PANEL * (len(traces) + 1), inches), dpi=100, layout="constrained")
        panels = figure.subplots(1, len(traces) + 1)
        _frame(panels[0], first, frame)
        panels[0].set_title(f"{first.timestamps[frame]:.1f} s", fontsize=8)
        for axes, one, title in zip(panels[1:], traces, titles, strict=True):
            _frame(axes, one, frame, kept_overlay(one, frame))
            _outlines(axes, one.surviving[frame], one.grid)
            axes.set_title(title, fontsize=7)
            axes.set_xlabel(f"{int(one.surviving[frame].sum())} of {one.source.shape[1]} patches", fontsize=7)
        figure.suptitle(_plain(first.question, 80), fontsize=8)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
        height, width = (side // 2 * 2 for side in pixels.shape[:2])
        yield pixels[:height, :width]


def write_movie(traces: Sequence[Trace], path: Path) -> None:
    """A GIF or an mp4, by the file's ending.  Raises ValueError for another ending."""
    frames = [np.ascontiguousarray(frame) for frame in movie_frames(traces)]
    if path.suffix == ".gif":
        from PIL import Image

        images = [Image.fromarray(frame) for frame in frames]
        palette = images[0].quantize(256)  # one for all, and dithered: areas keep their shades
        first, *rest = [image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for image in images]
        first.save(path, save_all=True, append_images=rest, duration=round(1000 * SECONDS_PER_FRAME), loop=0)
    elif path.suffix == ".mp4":
        _write_mp4(frames, path)
    else:
        raise ValueError(f"a movie is a .gif or an .mp4, got {path.name}")


def _write_mp4(frames: Sequence[np.ndarray], path: Path) -> None:
    from fractions import Fraction

    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("h264", rate=Fraction(1 / SECONDS_PER_FRAME).limit_denominator(100))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def draw(trials: Sequence[Loaded], sample: str, out: Path, movie: str | None) -> list[Path]:
    """Pictures of one sample, and a movie if asked for; returns what was written, of each picture its PNG."""
    traces = [trace_trial(trial, sample) for trial in trials]
    stem = "".join(c if c.isalnum() or c in "-." else "_" for c in sample)[:LONGEST_STEM]
    written = []
    for index, one in enumerate(traces):
        written.append(out / f"{stem}_stages{'_of_other' if index else ''}.png")
        save(trace_figure(one), written[-1], FORMATS)
    if len(traces) == 2:
        written.append(out / f"{stem}_overlap.png")
        save(overlap_figure(*traces), written[-1], FORMATS)
        say(f"{visible(sample)}: Jaccard overlap {overlap(*traces).jaccard:.3f} of the patches that reach the last layer")
        if traces[0].correct != traces[1].correct:
            say(visible_lines(flip(*traces).text()))
    if movie:
        written.append(out / f"{stem}.{movie}")
        write_movie(traces, written[-1])
    return written


def flips_of(folders: Sequence[Path], most: int) -> tuple[list[str], list[Path]]:
    """At most so many questions whose answers flipped between two trials, and these; says which flipped.

    Without a second trial it is the sweep's dense one; without that there are no questions.
    """
    other = folders[1] if len(folders) > 1 else dense_folder(folders[0])
    if other is None:
        return [], list(folders)
    gained, lost = flipped(folders[0], other)
    print(f"#{number(folders[0])} against #{number(other)}: {count(len(lost), 'answer')} lost, {len(gained)} gained")
    for name, samples in (("lost", lost), ("gained", gained)):
        if samples:
            say(f"{name}: {', '.join(map(visible, samples))}")
    return (lost + gained)[:most], [folders[0], other]
