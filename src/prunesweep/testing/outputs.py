"""Everything that a method answers to the laws' inputs, as bytes: two methods that say the same there cannot be told apart."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from prunesweep.engine.plan import inside
from prunesweep.engine.stages import Evict
from prunesweep.lazy import torch
from prunesweep.reducers import Reducer, in_order, needs_of
from prunesweep.testing.decoder import LAYERS, PROMPTS, QUESTIONS, entering, run_stages, small_decoder, tensors_of
from prunesweep.testing.inner import Runs, coming
from prunesweep.testing.merging import Merges, merges_by_knob, said_left
from prunesweep.testing.settings import switched, turned
from prunesweep.testing.tower import walks
from prunesweep.testing.videos import VIDEOS
from prunesweep.types.tower import TowerMerger


def outputs(reducer: Reducer) -> Iterator[bytes]:
    """Errors count as what they say."""
    makers = []
    if isinstance(reducer.input, TowerMerger):
        makers.append(_in_tower)
    if reducer.merge is not None:
        makers.append(_merged)
    if reducer.prune is not None or reducer.inner is not None:
        makers.append(_stepped)
    if reducer.evict is not None:
        makers.append(_evicted)
    if reducer.decode is not None:
        makers.append(_decoded)
    for maker in makers:
        try:
            with torch.inference_mode():
                for value in maker(reducer):
                    yield _bytes(value)
        except Exception as error:
            yield _bytes((type(error).__name__, str(error)))


def _bytes(value: Any) -> bytes:
    parts = [
        x.float().numpy().tobytes() if x.dtype == torch.bfloat16 else x.numpy().tobytes() for x in map(_plain, tensors_of(value))
    ]
    return pickle.dumps(parts) if parts else repr(value).encode()


def _plain(x: Any) -> Any:
    return x.detach().contiguous()


def _in_tower(reducer: Reducer) -> Iterator[Any]:
    for walk in walks(reducer):
        yield walk.end()
        yield walk.merger.schedule(LAYERS, walk.patches), walk.merger.proportional
    for merger in turned(reducer, "input").values():
        yield [merger.schedule(layers, patches) for layers in (1, 5, 24) for patches in (16, 100, 576)]


def _merged(reducer: Reducer) -> Iterator[Any]:
    runs = Merges(reducer)
    for merge, video, merged in runs.all():
        yield [merged.x, merged.group, merged.source, merged.position, *(merged.contributions or ())]
        yield merged.span
        yield merged.flops, in_order(merge), needs_of(merge), said_left(merge, video)
        yield _asked(merge, "fewest", video.frames, video.patches)
        yield merged.contributions is None
    for video in VIDEOS[:3]:
        yield sorted((value, len(merged.x)) for value, merged in merges_by_knob(runs, video).items())


def _asked(part: Any, name: str, *values: int) -> Any:
    try:
        return getattr(part, name)(*values) if hasattr(part, name) else None
    except Exception as error:
        return type(error).__name__


def _stepped(reducer: Reducer) -> Iterator[Any]:
    slots = tuple(slot for slot in ("prune", "inner") if getattr(reducer, slot) is not None)
    runs = Runs(replace(reducer, merge=None, evict=None, decode=None), slots)
    for moment in runs.all:
        yield moment.change
        yield moment.change.flops, moment.change.positions, repr(moment.step)
        yield _asked(moment.step, "left", coming(moment)) if hasattr(moment.step, "left") else None  # type: ignore[arg-type]
        yield _asked(moment.step, "most", len(moment.before.group))
    for _, _, _, end in runs.ends:
        yield end
        yield end.usage


def _evicted(reducer: Reducer) -> Iterator[Any]:
    for part in switched(reducer.evict).values():
        mine = replace(reducer, merge=None, evict=part, decode=None)
        for prompt in PROMPTS:
            state = run_stages(entering(prompt), list(inside(mine, QUESTIONS[1], LAYERS)))
            small = Evict(part)(state, small_decoder())
            yield small
            yield small.usage
            yield [_asked(part, "left", visual, before, 7) for visual in (1, 20, 57) for before in (0, 5, 40)]


def _decoded(reducer: Reducer) -> Iterator[Any]:
    dice = torch.Generator().manual_seed(0)
    for part in switched(reducer.decode).values():
        earlier = None
        for count in (9, 20, 20, 20):
            attention = torch.rand(4, count, generator=dice)
            selection, earlier = part(attention, None if count == 9 else earlier)
            yield selection if selection is not None else "all"
            yield part.left(count)
            earlier = None if count == 9 else earlier
