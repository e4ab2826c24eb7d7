"""What each stage did to the tokens of one video.

A trace runs the stages of one trial on one question and keeps what lies between them; it asks nothing of the method but
`Merged.source` and the indices its pruner keeps, so every reducer can be drawn: see `token_pictures`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prunesweep.checks import require_at_least
from prunesweep.console.layout import short_numbers
from prunesweep.disk.foreign import ForeignCodeError, Group, build, read_yaml
from prunesweep.models.loading import legible
from prunesweep.results.records import CONFIG

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, UInt8
    from torch import Tensor

    from prunesweep.engine.protocol import Protocol
    from prunesweep.reducers import Reducer
from prunesweep.targets import TARGET, instantiate
from prunesweep.types import Model, Sample

DROPPED = -1
MOST_FRAMES, MOST_LAYERS = 4096, 1024
"""What a saved configuration may ask for: far more than any model here takes, little enough to be refused by a model at once."""


class Pruned(NamedTuple):
    """What a step inside the LLM leaves."""

    layers: int
    """It acts after this many."""
    tokens: int
    kept: Bool[np.ndarray, " n"] | None = None
    """Which of the tokens that enter the LLM are among them."""


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
    pruned: tuple[Pruned, ...] = ()
    """What the steps inside the LLM leave, in order."""
    whole: bool = False
    """Whether the layers before such a step keep all tokens in their caches, so that generated tokens see them there."""

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
        return self.alive(self.kept)

    def alive(self, kept: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, "t p"]:
        """Patches whose token is among these."""
        return (self.source != DROPPED) & kept[np.maximum(self.source, 0)]

    @property
    def fewer(self) -> tuple[Pruned, ...]:
        """The steps that leave fewer tokens than came to them."""
        before = [len(self.kept), *(step.tokens for step in self.pruned)]
        return tuple(step for step, tokens in zip(self.pruned, before, strict=False) if step.tokens != tokens)

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

    from prunesweep.engine.plan import plan
    from prunesweep.engine.scoring import score
    from prunesweep.reducers import earlier_caches
    from prunesweep.types import Answer, Clip, Merged, Tokens

    with torch.inference_mode():
        seen, kept, attention, pruned = _followed(plan(sample, frames, reducer, protocol, model), model)
        segments = getattr(reducer.merge, "segment_lengths", None)
        lengths = tuple(segments(seen[Tokens].x)) if segments else ()
    clip, merged = seen[Clip], seen[Merged]
    masks = [_mask(len(merged.x), own) for own in kept]
    record = score(sample, name, seen[Answer], protocol)
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
        kept=masks[-1] if masks else np.ones(len(merged.x), dtype=bool),
        attention=attention,
        pruned=tuple(Pruned(*step, mask) for step, mask in zip(pruned, masks, strict=True)),
        whole=any(earlier_caches(step) == "whole" for step in reducer.steps(model.layers)),
    )


def _mask(tokens: int, kept: Int[Tensor, " k"]) -> Bool[np.ndarray, " n"]:
    mask = np.zeros(tokens, dtype=bool)
    mask[kept.cpu().numpy()] = True
    return mask


class _Followed(NamedTuple):
    """What stages left behind."""

    seen: dict[type, Any]
    """The last state of each kind."""
    kept: tuple[Int[Tensor, " k"], ...]
    """Merged tokens that each step leaves."""
    attention: Float[np.ndarray, " n"] | None
    """That the first selection saw."""
    pruned: tuple[tuple[int, int], ...]
    """Layers before each step, and tokens after it."""


def _followed(stages: Iterable[Any], model: Model) -> _Followed:
    from prunesweep.engine.stages import Prune, changed, looked

    seen: dict[type, Any] = {}
    state: Any = None
    attention = None
    kept: list[Int[Tensor, " k"]] = []
    pruned: list[tuple[int, int]] = []
    for stage in stages:
        if isinstance(stage, Prune):
            chosen = changed(stage.pruner(looked(state, stage.pruner, model)[0])).keep
            kept.append(kept[-1][chosen[chosen < len(kept[-1])]] if kept else chosen)  # tokens that a step made come last
            if not pruned:
                attention = None if state.attention is None else state.attention.float().amax((0, 1)).cpu().numpy()
        state = stage(state, model)
        if isinstance(stage, Prune):
            pruned.append((stage.pruner.full_layers, int(state.visual.sum())))
        seen[type(state)] = state
    return _Followed(seen, tuple(kept), attention, tuple(pruned))


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
        first, second = map(short_numbers, distinct([self.trace.trial, self.other.trial]))
        return (
            f"{self.trace.sample}: {self.trace.question!r} is {self.trace.target!r}; "
            f"{first} says {self.trace.answer!r}, {second} {self.other.answer!r}; "
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
    load = configs[0]["model"]["load"]
    with legible(load):
        model = make(load, "model", folders[0] / CONFIG)
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
