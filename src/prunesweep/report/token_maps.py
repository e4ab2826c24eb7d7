"""`prunesweep-tokens TRIAL [OTHER]`: what each stage did to the tokens of one video, drawn on its frames.

A trace runs the stages of one trial on one question and keeps what lies between them; it asks nothing of the method but
`Merged.source` and the indices its pruner keeps, so every reducer can be drawn.  First compute, then draw.
"""

from __future__ import annotations

import argparse
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prunesweep.checks import require_at_least
from prunesweep.errors import reported
from prunesweep.foreign import ForeignCodeError, Group, build, read_yaml
from prunesweep.paths import user_path
from prunesweep.report.plots import COLOURS
from prunesweep.results.records import CONFIG

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, Shaped, UInt8
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from prunesweep.engine.protocol import Protocol
    from prunesweep.reducers import Reducer
from prunesweep.targets import TARGET, instantiate
from prunesweep.types import Model, Sample

DROPPED = -1
MOST_COLUMNS = 16
"""Frames in a picture; of longer clips they are spread evenly, a movie shows all."""
GOLDEN = 0.6180339887
"""Hues this far apart are told apart best, however many there are."""
SECONDS_PER_FRAME = 0.8
"""Of a movie: time to look."""
LONGEST_STEM = 100
"""Characters of a sample's id in a file's name, which may have 255 bytes."""
MOST_FRAMES, MOST_LAYERS = 4096, 1024
"""What a saved configuration may ask for: far more than any model here takes, little enough to be refused by a model at once."""
DIM = 0.25
"""Brightness of what is gone."""


@dataclass(frozen=True)
class Trace:
    """One trial on one question.  Letters: t frames, p patches, n visual tokens that enter the LLM."""

    trial: str
    sample: str
    question: str
    target: str
    answer: str
    correct: bool
    frames: UInt8[np.ndarray, "t height width 3"]
    timestamps: tuple[float, ...]
    grid: tuple[int, int]
    """Rows and columns of the patches; p = rows * columns."""
    source: Int[np.ndarray, "t p"]
    """The token that each patch went to; DROPPED where it was dropped before the LLM."""
    segments: tuple[int, ...]
    """Frames per segment; empty if the method has none."""
    kept: Bool[np.ndarray, " n"]
    """Which tokens reach the last layer."""
    attention: Float[np.ndarray, " n"] | None
    """The largest over heads and question tokens in the layer before pruning; None if the method does not look."""
    layer: int | None
    """Tokens are pruned after this many layers; None if they are not."""
    whole: bool = False
    """Whether these layers keep all tokens in their caches, so that generated tokens see them there."""

    @property
    def over_time(self) -> Bool[np.ndarray, "t p"]:
        """Patches that share their token with another frame: static ones, in PruneVid's words."""
        shown = self.source != DROPPED
        first = np.full(len(self.kept), len(self.source))
        last = np.full(len(self.kept), -1)
        frame = np.broadcast_to(np.arange(len(self.source))[:, None], self.source.shape)
        np.minimum.at(first, self.source[shown], frame[shown])
        np.maximum.at(last, self.source[shown], frame[shown])
        return shown & (first != last)[np.maximum(self.source, 0)]

    @property
    def shared(self) -> Bool[np.ndarray, "t p"]:
        """Patches whose token stands for others, too."""
        shown = self.source != DROPPED
        counts = np.bincount(self.source[shown], minlength=len(self.kept))
        return shown & (counts[np.maximum(self.source, 0)] > 1)

    @property
    def surviving(self) -> Bool[np.ndarray, "t p"]:
        """Patches whose token reaches the last layer."""
        return (self.source != DROPPED) & self.kept[np.maximum(self.source, 0)]

    @property
    def patch_attention(self) -> Float[np.ndarray, "t p"] | None:
        """Of each patch's token; 0 where it was dropped."""
        if self.attention is None:
            return None
        return np.where(self.source != DROPPED, self.attention[np.maximum(self.source, 0)], 0)


def trace(model: Model, sample: Sample, frames: int, reducer: Reducer, protocol: Protocol, name: str) -> Trace:
    """Runs the stages of a trial on one sample and keeps what they did.

    Raises VideoError for a video that cannot be read, ValueError if the model's tokens have no places in a grid.
    """
    import torch

    from prunesweep.engine.scoring import score
    from prunesweep.engine.stages import Prune, plan
    from prunesweep.reducers import earlier_caches
    from prunesweep.types import Answer, Clip, Merged, Tokens

    seen: dict[type, Any] = {}
    state: Any = None
    kept = attention = layer = None
    with torch.inference_mode():
        for stage in plan(sample, frames, reducer, protocol, model):
            if isinstance(stage, Prune):
                kept = stage.pruner(state)
                layer = stage.pruner.full_layers
                attention = None if state.attention is None else state.attention.float().amax((0, 1)).cpu().numpy()
            state = stage(state, model)
            seen[type(state)] = state
        segments = getattr(reducer.merge, "segment_lengths", None)
        lengths = tuple(segments(seen[Tokens].x)) if segments else ()
    clip, merged, answer = seen[Clip], seen[Merged], seen[Answer]
    survivors = np.zeros(len(merged.x), dtype=bool)
    survivors[slice(None) if kept is None else kept.cpu().numpy()] = True
    record = score(sample, name, answer, protocol)
    return Trace(
        trial=name,
        sample=sample.id,
        question=sample.question,
        target=record.target or "",
        answer=str(record.prediction),
        correct=bool(record.correct),
        frames=clip.frames.cpu().numpy(),
        timestamps=clip.timestamps,
        grid=square(merged.source.shape[1], model.name),
        source=merged.source.cpu().numpy(),
        segments=lengths,
        kept=survivors,
        attention=attention,
        layer=layer,
        whole=reducer.prune is not None and earlier_caches(reducer.prune) == "whole",
    )


def square(patches: int, model: str) -> tuple[int, int]:
    """The patches' rows and columns.  Raises ValueError if they are no square."""
    side = math.isqrt(patches)
    if side * side != patches:
        raise ValueError(f"the {patches} tokens per frame of {model} are no square grid, so they cannot be drawn on a frame")
    return side, side


class Overlap(NamedTuple):
    """How much two traces of one video keep alike."""

    jaccard: float
    """Patches that survive in both, of those that survive in one of them; 1 if nothing survives in either."""
    by_frame: tuple[float, ...]
    both: Bool[np.ndarray, "t p"]
    first: Bool[np.ndarray, "t p"]
    """Only in the first."""
    second: Bool[np.ndarray, "t p"]


def overlap(first: Trace, second: Trace) -> Overlap:
    """Raises ValueError if the two do not show the same frames."""
    one, other = first.surviving, second.surviving
    if one.shape != other.shape:
        raise ValueError(f"the two trials see {one.shape} and {other.shape} frames and patches: nothing to lay over each other")
    both, either = one & other, one | other
    shares = [_share(b.sum(), e.sum()) for b, e in zip(both, either, strict=True)]
    return Overlap(_share(both.sum(), either.sum()), tuple(shares), both, one & ~other, other & ~one)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 1.0


class Flip(NamedTuple):
    """A question that two trials answer differently, one of them right, and what the first one does not see."""

    trace: Trace
    other: Trace
    lost: Bool[np.ndarray, "t p"]
    """Patches that reach the last layer of the other trial only."""

    def text(self) -> str:
        frames = self.lost.sum(1)
        worst = np.argsort(-frames, kind="stable")[:3]
        where = ", ".join(f"frame {i} ({frames[i]})" for i in worst if frames[i])
        names = distinct([self.trace.trial, self.other.trial])
        return (
            f"{self.trace.sample}: {self.trace.question!r} is {self.trace.target!r}; "
            f"{names[0]} says {self.trace.answer!r}, {names[1]} {self.other.answer!r}; "
            f"{int(self.lost.sum())} of {self.lost.size} patches reach the end of the latter only"
            + (f", most in {where}" if where else "")
        )


def distinct(names: Sequence[str]) -> list[str]:
    """Trial names without the settings that all of them share, if they are of one method."""
    words = [name.split(" ") for name in names]
    alike = len(names) > 1 and len({own[0] for own in words}) == 1
    common = {word for word in words[0][1:] if all(word in own[1:] for own in words)} if alike else set()
    return [" ".join(word for word in own if word not in common) for own in words]


def flip(first: Trace, second: Trace) -> Flip:
    return Flip(first, second, overlap(first, second).second)


# Drawing


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
    """`36 of 432 tokens enter, 14 reach the end`."""
    entering = "all" if len(trace.kept) == trace.source.size else f"{len(trace.kept)} of"
    pruned = f", {int(trace.kept.sum())} kept after layer {trace.layer}" if trace.layer else ""
    earlier = ", all in the caches before it" if trace.whole else ""
    return f"{entering} {trace.source.size} tokens enter the LLM{pruned}{earlier}"


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


# The command


class Loaded(NamedTuple):
    """A trial folder brought back to life."""

    name: str
    model: Model
    samples: dict[str, Sample]
    frames: int
    reducer: Reducer
    protocol: Protocol


MODEL_AND_BENCHMARK = ("model", "benchmark")


def load_trials(folders: Sequence[Path], trusted: bool = False) -> list[Loaded]:
    """Trials from their folders' configurations, all on the first one's model and benchmark.

    Raises ValueError if a configuration is missing, cannot be read, is of another model or benchmark, or names code that is
    not registered here (a folder from elsewhere must not run anything) unless it is `trusted`.
    """
    from prunesweep.results.read import read_folder

    make = _trusting if trusted else _wary
    configs = [_read_config(folder) for folder in folders]
    for config, folder in zip(configs, folders, strict=True):
        if any(config[key] != configs[0][key] for key in MODEL_AND_BENCHMARK):
            raise ValueError(f"{folder} is on another model or benchmark than {folders[0]}; draw them one by one")
    methods = [
        [make(config["reducer"], "reducer", folder / CONFIG), make(config["protocol"], "protocol", folder / CONFIG)]
        for config, folder in zip(configs, folders, strict=True)
    ]
    model = make(configs[0]["model"]["load"], "model", folders[0] / CONFIG)
    samples = make(configs[0]["benchmark"]["load"], "benchmark", folders[0] / CONFIG)
    by_id = {sample.id: sample for sample in samples}
    names = [read_folder(folder, ("sample_id",)).info.name for folder in folders]
    return [
        Loaded(name, model, by_id, config["video"]["frames"], *own)
        for name, config, own in zip(names, configs, methods, strict=True)
    ]


def _read_config(folder: Path) -> dict[str, Any]:
    if not (folder / CONFIG).is_file():
        raise ValueError(f"{folder} holds no {CONFIG}; name the numbered folder of a trial")
    config = read_yaml(folder / CONFIG)
    sections = config if isinstance(config, dict) else {}
    wanted = {**dict.fromkeys(MODEL_AND_BENCHMARK, "load"), "reducer": "name", "protocol": TARGET, "video": "frames"}
    for section, key in wanted.items():
        if key not in (sections.get(section) or {}):
            raise ValueError(f"{folder / CONFIG} has no {section}.{key}: it is no configuration of a trial")
    _require_bounds(sections, folder / CONFIG)
    return sections


def _require_bounds(config: Mapping[str, Any], source: Path) -> None:
    """Raises ValueError for numbers of a saved configuration that no trial has, before anything is decoded or computed."""
    frames = config["video"]["frames"]
    bounded = [("video.frames", frames, MOST_FRAMES)]
    prune = config["reducer"].get("prune") if isinstance(config["reducer"], Mapping) else None
    if isinstance(prune, Mapping) and "layer" in prune:
        bounded.append(("reducer.prune.layer", prune["layer"], MOST_LAYERS))
    for key, value, most in bounded:
        require_at_least(f"{source}: {key}", value, 1)
        if value > most:
            raise ValueError(f"{source}: {key} must be at most {most}, got {value}")


def _wary(node: Any, group: Group, source: Path) -> Any:
    try:
        return build(node, group, source)
    except ForeignCodeError as error:
        raise ValueError(f"{error}; --trust allows it, if you trust whoever wrote the folder") from error


def _trusting(node: Any, *_: Any) -> Any:
    return instantiate(node)


def trace_trial(trial: Loaded, sample: str) -> Trace:
    """Raises ValueError for an unknown sample."""
    if sample not in trial.samples:
        few = ", ".join(list(trial.samples)[:3])
        raise ValueError(f"unknown sample {sample!r}; known: {few} and so on")
    return trace(trial.model, trial.samples[sample], trial.frames, trial.reducer, trial.protocol, trial.name)


def dense_folder(folder: Path) -> Path | None:
    """The trial without reduction beside a trial, on the same frames and prompts, if the sweep has one."""
    from prunesweep.analysis.counterparts import alike
    from prunesweep.results.read import read_folder
    from prunesweep.results.records import trial_folders

    own = read_folder(folder, ("sample_id",)).info
    beside = {other: read_folder(other, ("sample_id",)).info for other in trial_folders(folder.parent) if other != folder}
    return next((other for other, info in beside.items() if info.reducer == "none" and alike(own, info)), None)


def flipped(trial: Path, other: Path) -> tuple[list[str], list[str]]:
    """Samples that the first trial gained and lost against the second, from their records."""
    from prunesweep.analysis.outcomes import collect
    from prunesweep.analysis.significance import agreement
    from prunesweep.results.read import read_folder

    found = collect([read_folder(folder) for folder in (trial, other)])
    if len(found) != 1:
        raise ValueError(f"{trial} and {other} are on different models or benchmarks")
    flips = agreement(found[0], 0, 1)
    return list(flips.gained), list(flips.lost)


def draw(trials: Sequence[Loaded], sample: str, out: Path, movie: str | None) -> list[Path]:
    """Pictures of one sample, and a movie if asked for; returns what was written."""
    traces = [trace_trial(trial, sample) for trial in trials]
    stem = "".join(c if c.isalnum() or c in "-." else "_" for c in sample)[:LONGEST_STEM]
    written = []
    for number, one in enumerate(traces):
        written.append(out / f"{stem}_stages{'_of_other' if number else ''}.png")
        trace_figure(one).savefig(written[-1], dpi=110)
    if len(traces) == 2:
        written.append(out / f"{stem}_overlap.png")
        overlap_figure(*traces).savefig(written[-1], dpi=110)
        print(f"{sample}: Jaccard overlap {overlap(*traces).jaccard:.3f} of the patches that reach the last layer")
        if traces[0].correct != traces[1].correct:
            print(flip(*traces).text())
    if movie:
        written.append(out / f"{stem}.{movie}")
        write_movie(traces, written[-1])
    return written


def _chosen(arguments: argparse.Namespace, folders: Sequence[Path]) -> tuple[list[str], list[Path]]:
    """Which samples to draw of which trials; says which answers flipped if flips were asked for."""
    if arguments.sample:
        return arguments.sample, list(folders)
    other = folders[1] if len(folders) > 1 else dense_folder(folders[0])
    if other is None:
        return [], list(folders)
    gained, lost = flipped(folders[0], other)
    print(f"{folders[0].name} against {other.name}: {len(lost)} answers lost, {len(gained)} gained")
    for name, samples in (("lost", lost), ("gained", gained)):
        if samples:
            print(f"{name}: {', '.join(samples)}")
    return (lost + gained)[: arguments.flips], [folders[0], other]


def main() -> None:
    parser = argparse.ArgumentParser(prog="prunesweep-tokens", description="Draw what each stage did to the tokens of a video.")
    parser.add_argument("trial", type=user_path, help="folder of a trial, such as multirun/DATE/TIME/3")
    parser.add_argument("other", type=user_path, nargs="?", help="a second trial; without it, the sweep's dense one")
    parser.add_argument("--sample", action="append", help="id of a question; may be given several times", metavar="ID")
    parser.add_argument("--flips", type=int, default=1, help="without --sample: draw so many flipped questions (1)", metavar="N")
    parser.add_argument("--movie", choices=("gif", "mp4"), help="a movie of each, too")
    parser.add_argument("--out", type=user_path, help="folder for the pictures; tokens/ beside the trial unless given")
    parser.add_argument("--trust", action="store_true", help="allow configurations that name code of other packages")
    arguments = parser.parse_args()
    if arguments.flips < 1:
        parser.error(f"--flips must be at least 1, got {arguments.flips}")
    folders = [folder for folder in (arguments.trial, arguments.other) if folder]
    out = arguments.out or arguments.trial.parent / "tokens"
    with reported():
        if out.exists() and not out.is_dir():
            raise ValueError(f"{out} is a file; name a folder for the pictures with --out")
        samples, folders = _chosen(arguments, folders)
        trials = load_trials(folders, arguments.trust)
        out.mkdir(parents=True, exist_ok=True)
        if not samples:
            samples = list(trials[0].samples)[:1]
            print(f"no flipped answer to draw; the first question instead: {samples[0]}")
        for sample in samples:
            for path in draw(trials, sample, out, arguments.movie):
                print(path)
