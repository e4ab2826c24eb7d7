"""What each stage did to the tokens of one video, drawn on its frames: pictures and movies of traces."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prunesweep.layout import count, visible, visible_lines
from prunesweep.report.style import COLOURS
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
from prunesweep.terminal import say

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped, UInt8
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


MOST_COLUMNS = 16
"""Frames in a picture; of longer clips they are spread evenly, a movie shows all."""


GOLDEN = 0.6180339887
"""Hues this far apart are told apart best, however many there are."""


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


def time_overlay(trace: Trace, frame: int) -> Float[np.ndarray, "p 4"]:
    """Blue where a patch is merged over time, orange where it is a token of its own frame, dark where it was dropped."""
    colours = np.zeros((trace.source.shape[1], 4))
    colours[:] = (*_rgb(COLOURS[1]), 0.55)
    colours[trace.over_time[frame]] = (*_rgb(COLOURS[0]), 0.55)
    colours[trace.source[frame] == DROPPED] = (0, 0, 0, 1 - DIM)
    return colours


def cluster_overlay(trace: Trace, frame: int) -> Float[np.ndarray, "p 4"]:
    """A hue per merged token, nothing where a patch is a token by itself, dark where it was dropped."""
    from matplotlib.colors import hsv_to_rgb

    token = trace.source[frame]
    hue = (token * GOLDEN) % 1
    vivid = hsv_to_rgb(np.stack([hue, np.full_like(hue, 0.75), np.full_like(hue, 0.95)], -1))
    colours = np.concatenate([vivid, np.zeros((len(hue), 1))], axis=1)
    colours[trace.shared[frame], 3] = 0.6
    colours[token == DROPPED] = (0, 0, 0, 1 - DIM)
    return colours


def kept_overlay(trace: Trace, frame: int) -> Float[np.ndarray, "p 4"]:
    """Dark where nothing reaches the last layer; survivors in the colours of viridis by attention, if there is any."""
    from matplotlib import colormaps

    survives, attention = trace.surviving[frame], trace.patch_attention
    colours = np.zeros((len(survives), 4))
    if attention is not None:
        top = trace.patch_attention.max() or 1  # type: ignore[union-attr]
        colours = colormaps["viridis"](attention[frame] / top)
        colours[:, 3] = 0.55
    colours[~survives] = (0, 0, 0, 1 - DIM)
    return colours


def overlap_overlay(found: Overlap, frame: int) -> Float[np.ndarray, "p 4"]:
    """Green in both, blue in the first only, orange in the second only, dark in neither."""
    colours = np.tile((0.0, 0.0, 0.0, 1 - DIM), (found.both.shape[1], 1))
    for mask, colour in ((found.both, COLOURS[2]), (found.first, COLOURS[0]), (found.second, COLOURS[1])):
        colours[mask[frame]] = (*_rgb(colour), 0.6)
    return colours


def _outlines(axes: Axes, labels: Shaped[np.ndarray, " p"], grid: tuple[int, int]) -> None:
    """Lines between patches with different labels, so that they are told apart without colours."""
    from matplotlib.collections import LineCollection

    label, (rows, columns) = _patches(labels, grid), grid
    upright = [[(c + 1, r), (c + 1, r + 1)] for r in range(rows) for c in range(columns - 1) if label[r, c] != label[r, c + 1]]
    level = [[(c, r + 1), (c + 1, r + 1)] for r in range(rows - 1) for c in range(columns) if label[r, c] != label[r + 1, c]]
    axes.add_collection(LineCollection(upright + level, colors="white", linewidths=0.5))


def _row_title(axes: Axes, text: str) -> None:
    axes.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=8, labelpad=6)


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
                      ha="center", va="center", fontsize=7)  # fmt: skip
    axes.axis("off")


def _numbers(trace: Trace) -> str:
    """`36 of 432 tokens enter the LLM, 24 kept after layer 2, 12 after 4`: steps that leave all of them are not named."""
    entering = "all" if len(trace.kept) == trace.source.size else f"{len(trace.kept)} of"
    before = [len(trace.kept), *(step.tokens for step in trace.pruned)]
    fewer = [step for step, tokens in zip(trace.pruned, before, strict=False) if step.tokens != tokens]
    said = ", ".join(f"{step.tokens} {'kept after layer' if step is fewer[0] else 'after'} {step.layers}" for step in fewer)
    earlier = f", {'caches whole up to each' if len(fewer) > 1 else 'all in the caches before it'}" if trace.whole else ""
    return f"{entering} {trace.source.size} tokens enter the LLM{', ' if said else ''}{said}{earlier}"


def _verdict(trace: Trace) -> str:
    return f"“{trace.answer}” ({'right' if trace.correct else f'wrong, it is “{trace.target}”'})"


def _plain(text: str, most: int = 110) -> str:
    """One line without matplotlib's markup: a dollar sign would start mathematics."""
    line = " ".join(text.split())
    return (line if len(line) <= most else f"{line[: most - 1]}…").replace("$", r"\$")


def trace_figure(found: Trace) -> Figure:
    """Rows: frames under their segments, what was merged over time, merge clusters, what the question keeps."""
    from matplotlib.figure import Figure

    shown = _columns(len(found.frames))
    rows = [("frames", None), ("merged over time\n(blue) or not\n(orange)", time_overlay), ("merge clusters", cluster_overlay)]
    colours = "\n(purple to yellow:\nattended)" if found.attention is not None else ""
    rows.append((f"reach the last\nlayer{colours}", kept_overlay))
    figure = Figure(figsize=(1.05 * len(shown) + 1.4, 5.6), layout="constrained")
    grid = figure.add_gridspec(len(rows) + 1, len(shown), height_ratios=[0.22, *[1] * len(rows)])
    if found.segments:
        _segments(figure.add_subplot(grid[0, :]), found, shown)
    for row, (title, overlay) in enumerate(rows):
        for column, frame in enumerate(shown):
            axes = figure.add_subplot(grid[row + 1, column])
            _frame(axes, found, frame, overlay(found, frame) if overlay else None)
            if overlay in (cluster_overlay, kept_overlay):
                _outlines(axes, (found.source if overlay is cluster_overlay else found.surviving)[frame], found.grid)
            if not row:
                axes.set_title(f"{found.timestamps[frame]:.1f} s", fontsize=7)
            if not column:
                _row_title(axes, title)
    figure.suptitle(f"{_plain(found.question)} {_plain(_verdict(found))}\n{_plain(found.trial)}: {_numbers(found)}", fontsize=9)
    return figure


def overlap_figure(first: Trace, second: Trace) -> Figure:
    """Two methods on one video: what each keeps, and where they agree."""
    from matplotlib.figure import Figure

    found, shown = overlap(first, second), _columns(len(first.frames))
    names = distinct([first.trial, second.trial])
    figure = Figure(figsize=(1.05 * len(shown) + 1.4, 4.1), layout="constrained")
    for column, frame in enumerate(shown):
        for row, (title, overlay) in enumerate(
            (("first keeps", kept_overlay(first, frame)), ("second keeps", kept_overlay(second, frame)),
             ("both (green),\nfirst (blue) or\nsecond (orange)\nonly", overlap_overlay(found, frame)))
        ):  # fmt: skip
            axes = figure.add_subplot(3, len(shown), row * len(shown) + column + 1)
            _frame(axes, first, frame, overlay)
            if row < 2:
                _outlines(axes, (first, second)[row].surviving[frame], first.grid)
            if not column:
                _row_title(axes, title)
            if not row:
                axes.set_title(f"{first.timestamps[frame]:.1f} s", fontsize=7)
            if row == 2:
                axes.set_xlabel(f"J {found.by_frame[frame]:.2f}", fontsize=7)
    figure.suptitle(
        f"{_plain(first.question)}  Jaccard overlap of surviving patches {found.jaccard:.2f}\n"
        f"first: {_plain(names[0])}, {_numbers(first)}, {_plain(_verdict(first))}\n"
        f"second: {_plain(names[1])}, {_numbers(second)}, {_plain(_verdict(second))}",
        fontsize=8,
    )
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

        first, *rest = [Image.fromarray(frame).quantize(128) for frame in frames]
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
    """Pictures of one sample, and a movie if asked for; returns what was written."""
    traces = [trace_trial(trial, sample) for trial in trials]
    stem = "".join(c if c.isalnum() or c in "-." else "_" for c in sample)[:LONGEST_STEM]
    written = []
    for index, one in enumerate(traces):
        written.append(out / f"{stem}_stages{'_of_other' if index else ''}.png")
        trace_figure(one).savefig(written[-1], dpi=110)
    if len(traces) == 2:
        written.append(out / f"{stem}_overlap.png")
        overlap_figure(*traces).savefig(written[-1], dpi=110)
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
