"""What the engine's stages answer, and what a stock model's `generate` does: both as tokens, of one prompt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from prunesweep.checks import InfeasibleError
from prunesweep.engine.plan import encoding, inside, require_fit
from prunesweep.engine.stages import Embed, Evict, Generate, Reduce
from prunesweep.engine.stages.answer import Writer
from prunesweep.reducers import Reducer
from prunesweep.types import Prefix
from support.trials import reducer_of

QUESTION = "what color is the block ?"
NEW = 8
SEED, TEMPERATURE, TOP_K = 5, 2.0, 20
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "sampled": {"do_sample": True, "temperature": TEMPERATURE, "top_k": TOP_K},
}
"""What `generate` is told."""


def by_engine(model: Any, reducer: Reducer, clip: Any, way: str = "greedy") -> tuple[int, ...]:
    """Tokens by the stages that a sweep runs.  Raises ValueError where it would refuse."""
    require_fit(reducer, model)
    before, after = model.prompt(QUESTION)
    with torch.inference_mode():
        state = Embed(before)(Reduce(reducer.merge)(encoding(reducer)(clip, model), model), model)
        for stage in inside(reducer, after, model.layers):
            state = stage(state, model)
        if reducer.evict:
            state = Evict(reducer.evict)(state, model)
        if way == "greedy":
            return Generate(NEW, reducer.decode)(state, model).token_ids
        torch.manual_seed(SEED)
        return tuple(_sampled(state, model, reducer))


def _sampled(state: Prefix, model: Any, reducer: Reducer) -> Iterator[int]:
    """Drawn here from the engine's logits: temperature, the likeliest few, one draw a token."""
    writer, hidden = Writer(state, model, reducer.decode), state.hidden[-1:]
    for _ in range(NEW):
        logits = model.logits(hidden).float() / TEMPERATURE
        least = logits.topk(min(TOP_K, logits.shape[-1])).values[:, -1:]
        token = int(torch.multinomial(logits.masked_fill(logits < least, -torch.inf).softmax(-1), 1))
        yield token
        if token in model.stop_ids:
            return
        hidden = writer.write(model.embed((token,)))


def new_tokens(network: Any, inputs: dict[str, Any], **told: Any) -> tuple[int, ...]:
    """What `generate` adds to a prompt."""
    torch.manual_seed(SEED)
    made = network.generate(**inputs, max_new_tokens=NEW, **told)
    return tuple(made[0, inputs["input_ids"].shape[1] :].tolist())


def fitted(method: str, model: Any) -> Reducer:
    """As configured; where that does not fit the family, with original positions or steps after a layer with full attention."""
    as_configured = reducer_of(method)
    every = model.shape.linear.every if model.shape.linear is not None else None
    for changes in ({}, {"positions": "original"}, {"layer": every}, {"positions": "original", "layer": every}):
        reducer = _with(as_configured, changes)
        try:
            require_fit(reducer, model)
        except InfeasibleError:
            continue
        return reducer
    return as_configured


def _with(reducer: Reducer, changes: dict[str, Any]) -> Reducer:
    """With these settings in all parts that have them."""
    for name in ("merge", "prune"):
        part = getattr(reducer, name)
        own = {key: value for key, value in changes.items() if value is not None and getattr(part, key, None) is not None}
        reducer = replace(reducer, **{name: replace(part, **own)}) if own else reducer
    return reducer
