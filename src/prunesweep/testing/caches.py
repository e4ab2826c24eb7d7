"""Laws of what makes caches smaller, and of what generated tokens attend to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from prunesweep.engine.plan import inside
from prunesweep.engine.stages import Evict, Writer
from prunesweep.lazy import torch
from prunesweep.reducers import Reducer
from prunesweep.testing.decoder import LAYERS, PROMPTS, QUESTIONS, entering, run_stages, same_tensors, small_decoder
from prunesweep.testing.law import Law, require
from prunesweep.testing.settings import switched, turned


def cache_laws(reducer: Reducer) -> list[Law]:
    """Of evictors and of decoding."""
    found = []
    if reducer.evict is not None:
        found.append(Law("evict: left is what is left, of finite caches", lambda: _inferring(evicted, reducer)))
    if reducer.decode is not None:
        found.append(Law("decode: what is attended to is what it says", lambda: _inferring(attended, reducer)))
    return found


def _inferring(claim: Callable[[Reducer], None], reducer: Reducer) -> None:
    with torch.inference_mode():
        claim(reducer)


def evicted(reducer: Reducer) -> None:
    """Through the engine's stage, which refuses what is not valid."""
    model = small_decoder()
    parts = switched(reducer.evict) | {str(value): part for value, part in turned(reducer, "evict").items()}
    for part in parts.values():
        for prompt in PROMPTS:
            mine = replace(reducer, merge=None, evict=part, decode=None)
            state = run_stages(entering(prompt), list(inside(mine, QUESTIONS[1], LAYERS)))
            small = Evict(part)(state, model)
            again = Evict(part)(state, model)
            require(same_tensors(small, again), lambda: f"{part} on {prompt}: two calls differ")
            for layer, (kv, seen) in enumerate(zip(small.caches, state.seen, strict=True)):
                _require_evicted(part, str(prompt), kv.tokens, seen.visual, (small.usage.cached_tokens or ())[layer])
            if (
                any(kv.tokens < len(seen.visual) for kv, seen in zip(small.caches, state.seen, strict=True))
                and getattr(part, "merging", "none") != "none"
            ):
                spent = small.usage.reduction_flops - state.usage.reduction_flops
                require(
                    spent > 0,
                    lambda: f"{part} on {prompt}: merges for {spent} FLOPs; count them in Evicted.flops",
                )


def _require_evicted(part: Any, where: str, length: int, visual: Any, said: int) -> None:
    place = visual.nonzero()[:, 0]
    count, before = len(place), int(place[0])
    after = len(visual) - before - count
    left = part.left(count, before, after) if hasattr(part, "left") else None
    require(
        left in (None, said), lambda: f"{part} on {where}: left says {left} visual tokens, {said} are left; count in one place"
    )
    text = length - said
    require(0 <= text <= before + after, lambda: f"{part} on {where}: {text} tokens of text of {before + after} are left")
    recent, heavy = part.budget(len(visual)) if hasattr(part, "budget") else (0, 0)
    if recent + heavy and getattr(part, "text_overflow", "evict") == "evict":
        require(
            length == recent + heavy, lambda: f"{part} on {where}: {length} tokens are left, its budget is {recent} + {heavy}"
        )


def attended(reducer: Reducer) -> None:
    model = small_decoder()
    decode: Any = reducer.decode
    parts = switched(decode) | {str(value): part for value, part in turned(reducer, "decode").items()}
    for part in parts.values():
        state = run_stages(
            entering(PROMPTS[0]), list(inside(replace(reducer, merge=None, prune=None, inner=None), QUESTIONS[0], LAYERS))
        )
        writer = Writer(state, model, part)
        for token in (5, 6):
            writer.write(model.embed((token,)))
        count = PROMPTS[0].frames * PROMPTS[0].patches
        fewer, full = part.left(count), part.full_layers
        counts = list(writer.attended or ())
        require(counts[:full] == [2 * count] * full, lambda: f"{part}: {full} layers attend to all, got {counts}")
        low, high = 2 * min(fewer, count), 2 * count
        require(
            all(low <= c <= high for c in counts[full:]),
            lambda: f"{part}: {counts[full:]} tokens attended, left says {fewer} of {count}",
        )
        first, _ = part(torch.rand(4, count, generator=torch.Generator().manual_seed(0)), None)
        there = count if first is None else len(first)
        require(there == fewer, lambda: f"{part}: the first token attends to {there}, left says {fewer}")
