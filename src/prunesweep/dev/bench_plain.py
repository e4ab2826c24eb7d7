"""What methods that compare many tokens take beside the plainest batched code, which holds whole matrices: `dev/plain.py`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from prunesweep.console.layout import grid
from prunesweep.dev import plain
from prunesweep.dev.bench_methods import HEAD, mergers, with_facts
from prunesweep.dev.drawn import drawn_video
from prunesweep.reducers import dart, framefusion, needs_of, tome
from prunesweep.reducers.aim import page_rank
from prunesweep.reducers.parts.clustering import dpc_knn
from prunesweep.types import Looks, Merged, Prefix, Tokens, TowerTokens
from prunesweep.types.caches import KeyValue

TOLERANCE = 1e-3
"""Between values that are sums of the same tokens in another order."""
LEAST_SECONDS = 0.3
"""Of the processor, for a side to be measured in a round: it is called so often."""
LAYERS, TEXT, WIDTH, HEADS, KV_HEADS = 28, 36, 128, 28, 4
"""Of a 7B: layers, tokens of text behind a video, the size of a head, and their numbers."""
FRAMES_LEFT = 4
"""Of so many tokens one is left by AIM's own merge, before it ranks them."""
TEMPERATURE, ITERATIONS = 0.1, 5
"""Of AIM's ranks, by default."""
NEIGHBOURS = 5


class Case(NamedTuple):
    """A method and its plain side; what comes out has to be the same."""

    name: str
    ours: Callable[[], Any]
    plain: Callable[[], Any]


def kept_of(merged: Merged) -> Tensor:
    """Places of tokens that stay as they are."""
    return (merged.source.flatten() >= 0).nonzero()[:, 0]


def by_place(merged: Merged) -> Tensor:
    """Of original positions, with tokens in the order of these."""
    return merged.x[merged.position.argsort()]


def cases_of(shape: tuple[int, int, int]) -> Iterator[Case]:
    video = drawn_video(*shape)
    for group in (picking, merging, in_the_llm, parts):
        yield from group(video)


def picking(video: Tokens) -> Iterator[Case]:
    """Mergers that keep some tokens as they are."""
    known: dict[str, Any] = dict(mergers())
    flat, patches = video.x.flatten(0, 1), video.x.shape[1]
    divprune, mmtok, cdpruner, vidcom2 = (known[name] for name in ("divprune", "mmtok", "cdpruner", "vidcom2"))
    seen, asked = with_facts(video, needs_of(mmtok)), with_facts(video, needs_of(cdpruner))
    first = torch.arange(len(video.x))[:, None] * patches

    def by_frame() -> Tensor:
        return (plain.cdpruner(asked, cdpruner, cdpruner.count(patches)) + first).flatten()

    yield Case("divprune", lambda: kept_of(divprune(video)), partial(plain.divprune, flat, divprune.count(len(flat))))
    yield Case("mmtok", lambda: kept_of(mmtok(seen)), partial(plain.mmtok, seen, mmtok, mmtok.count(len(flat))))
    yield Case("cdpruner", lambda: kept_of(cdpruner(asked)), by_frame)
    yield Case("vidcom2", lambda: kept_of(vidcom2(video)), partial(plain.vidcom2, video.x, vidcom2.keep_ratio))


def merging(video: Tokens) -> Iterator[Case]:
    """Mergers whose tokens are means."""
    known: dict[str, Any] = dict(mergers())
    aim, scissor = known["aim"], replace(known["scissor"], positions="original")
    merges = aim.merges(video.x.shape[1])
    yield Case("scissor", lambda: by_place(scissor(video)), partial(plain.scissor, video.x, scissor))
    yield Case("aim", lambda: aim(video).x, lambda: plain.aim(video.x, merges).flatten(0, 1))


def in_the_llm(video: Tokens) -> Iterator[Case]:
    frames, patches, _ = video.x.shape
    prefix = prefix_of(video)
    prune, key = dart.Prune(layer=1), prefix.caches[-1].key[0]
    pivots, each = (prune.visual_pivots, prune.text_pivots), prune.per_pivot(frames * patches)
    yield Case("dart", lambda: prune(prefix).keep, lambda: plain.dart(prefix.hidden, key, prefix.visual, pivots, each))
    fusion = next(framefusion.FrameFusion().steps(LAYERS))

    def fused() -> Tensor:
        return plain.framefusion(prefix.hidden[prefix.visual].view(frames, patches, -1), fusion.similarity_threshold)

    yield Case("framefusion", lambda: some(fusion(prefix).hidden), fused)
    entered = max(1, frames * patches // FRAMES_LEFT)
    ranked = (drawn(HEADS, entered, WIDTH), drawn(KV_HEADS, entered, WIDTH), TEMPERATURE, ITERATIONS)
    yield Case("aim, ranks", partial(page_rank, *ranked), partial(plain.page_rank, *ranked))


def parts(video: Tokens) -> Iterator[Case]:
    """Of the vision tower, and of several methods."""
    frames, patches, _ = video.x.shape
    key, half = drawn(frames, patches, HEAD), patches // 2
    tokens = TowerTokens(video.x, torch.ones(frames, patches), torch.arange(patches).expand(frames, -1))
    merged = (key, tokens, half // 2)
    yield Case("tome, a layer", lambda: tome.merge_layer(*merged).x, partial(plain.tome, *merged))
    points = (video.x, half, NEIGHBOURS)
    yield Case("DPC-KNN of frames", partial(dpc_knn, *points), partial(plain.density_peaks, *points))


def some(hidden: Tensor | None) -> Tensor:
    if hidden is None:
        raise ValueError("nothing was merged")
    return hidden


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def prefix_of(video: Tokens) -> Prefix:
    """The video and some text on their way through an LLM."""
    frames, patches, channels = video.x.shape
    hidden = torch.cat([video.x.flatten(0, 1), drawn(TEXT, channels)])
    every, place = torch.arange(len(hidden)), torch.arange(frames * patches)
    key = drawn(1, KV_HEADS, len(hidden), WIDTH)
    return Prefix(
        video_id=video.video_id,
        hidden=hidden,
        position=every,
        visual=every < len(place),
        group=place // patches,
        next_position=len(hidden),
        kv=(KeyValue(key, key),),
        place=place,
        patches=patches,
        looks=Looks(normed=hidden),
    )


class Times(NamedTuple):
    """Seconds of the processor for one call of each side: a busy machine changes these little."""

    ours: float
    plain: float


def seconds(run: Callable[[], object], calls: int) -> float:
    begin = time.process_time()
    for _ in range(calls):
        run()
    return (time.process_time() - begin) / calls


def timed(case: Case, calls: int) -> Times:
    return Times(seconds(case.ours, calls), seconds(case.plain, calls))


def compared(case: Case) -> Times:
    """Once.  Raises ValueError if a method gives other tokens than the plain code."""
    found: list[Tensor] = []
    taken = timed(Case(case.name, lambda: found.append(case.ours()), lambda: found.append(case.plain())), 1)
    one, other = (side.double() for side in found)
    if one.shape != other.shape or not torch.allclose(one, other, atol=TOLERANCE, rtol=TOLERANCE):
        raise ValueError(f"{case.name} gives other tokens than the plain code")
    return taken


def measured(case: Case, rounds: int) -> tuple[str, ...]:
    """The least of all rounds, in which the two sides alternate; the first is of one call."""
    times = [compared(case)]
    calls = max(1, math.ceil(LEAST_SECONDS / times[0].ours))
    times += [timed(case, calls) for _ in range(rounds - 1)]
    ours, its = (min(side) for side in zip(*times, strict=True))
    return case.name, f"{ours:.3g} s", f"{its:.3g} s", f"{ours / its:.2f}"


def bench_plain(shape: tuple[int, int, int], rounds: int, names: Sequence[str] = ()) -> str:
    """Of these methods, or of all.  Raises ValueError for one that is not compared, or gives other tokens than the plain code."""
    cases = {case.name: case for case in cases_of(shape)}
    known = sorted({name.partition(",")[0] for name in cases})
    for name in names:
        if name not in known:
            raise ValueError(f"no {name} among what is compared with plain code: {', '.join(known)}")
    rows = [measured(case, rounds) for case in cases.values() if not names or case.name.partition(",")[0] in names]
    sizes = " x ".join(map(str, shape))
    title = (
        f"{sizes} (frames x tokens x channels), with defaults; the same tokens on both sides\n"
        f"seconds of one processor, least of {rounds} rounds in turns"
    )
    return f"{title}\n{grid(('', 'ours', 'plain', 'ours / plain'), rows)}"
