"""What a stock model's forward hands to its decoder layers, noted in one pass whose layers do nothing.

The layers give back zeros meanwhile.  So what the first one gets are the embeddings as the stock model makes them (vision tower,
projector, newlines, everything put in place), and what each later one gets is what was added behind the one before, to the bit.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

TEXT_AND_GRID = 4
"""Axes of positions with the text's own before time, row and column, as some families hand them on."""


class Recording(NamedTuple):
    """Of one sequence of s tokens."""

    embedded: Float[Tensor, "s c"]
    position: Int[Tensor, " s *axes"]
    added: Float[Tensor, "l s c"] | None
    """Behind each of the first l layers; None: nothing."""
    joined: Bool[Tensor, " s"] | None
    """Tokens that see each other whatever their order; None: all see those before them only."""


class Parts(NamedTuple):
    """Of a stock video LLM."""

    outer: Any
    """Whose forward puts the sequence together; without the output head, where it comes apart."""
    language_model: Any
    head: Any


def parts_of(network: Any) -> Parts:
    """Raises ValueError for a build that is not known here."""
    core = getattr(network, "model", None)
    inner = getattr(core, "language_model", None) or getattr(core, "text_model", None)
    parts = Parts(core, inner, network.lm_head) if inner is not None else Parts(network, core, getattr(network, "lm_head", None))
    if not hasattr(parts.language_model, "layers") or parts.head is None:
        raise ValueError(f"{type(network).__name__} has no decoder layers and output head where they are expected")
    return parts


@torch.inference_mode()
def record(parts: Parts, inputs: Mapping[str, Any], axes: int) -> Recording:
    """Of a forward pass on one sequence; `axes` of its positions, 0 where they are plain numbers.

    Raises ValueError for attention that is neither causal nor, among some tokens, whole.
    """
    calls: list[dict[str, Any]] = []
    positions: list[Tensor | None] = []
    model = parts.language_model
    hook = model.register_forward_pre_hook(lambda _, __, given: positions.append(given.get("position_ids")), with_kwargs=True)
    try:
        with noting(model, calls):
            parts.outer(**inputs, use_cache=False)
    finally:
        hook.remove()
    states = [call["hidden"][0] for call in calls]
    masks = {id(mask): mask for call in calls[:-1] if (mask := call["mask"]) is not None}
    return Recording(
        embedded=states[0],
        position=_position(positions[-1], len(states[0]), axes).to(states[0].device),
        added=_added(states[1:]),
        joined=functools.reduce(_same, [_joined(mask, type(model).__name__) for mask in masks.values()], None),
    )


@contextmanager
def noting(model: Any, calls: list[dict[str, Any]]) -> Iterator[None]:
    """Layers that note the hidden states and masks that they get, and after them the final norm."""

    def stub(hidden: Tensor, *_: Any, attention_mask: Tensor | None = None, **__: Any) -> Tensor:
        calls.append({"hidden": hidden, "mask": attention_mask})
        return torch.zeros_like(hidden)

    hook = model.norm.register_forward_pre_hook(lambda _, given: calls.append({"hidden": given[0], "mask": None}))
    for layer in model.layers:
        layer.forward = stub
    try:
        yield
    finally:
        hook.remove()
        for layer in model.layers:
            del layer.forward


def _position(noted: Tensor | None, rows: int, axes: int) -> Int[Tensor, " s *axes"]:
    if noted is None:
        noted = torch.arange(rows)[None]
    if noted.ndim == 3:  # axes, batch, sequence
        return noted[-axes:, 0].T
    return noted[0][:, None].expand(-1, axes) if axes else noted[0]


def _added(states: list[Tensor]) -> Float[Tensor, "l s c"] | None:
    last = max((index + 1 for index, state in enumerate(states) if bool(state.any())), default=0)
    return torch.stack(states[:last]) if last else None


def _joined(mask: Tensor, name: str) -> Bool[Tensor, " s"] | None:
    """From a mask of booleans, or of numbers to be added to the scores."""
    if mask.ndim == 2:  # of padding, of which a single sequence has none
        return None
    sees = mask[0, 0] if mask.dtype == torch.bool else mask[0, 0] == 0
    causal = torch.ones_like(sees).tril()
    joined = (sees & ~causal).any(1)
    joined |= (sees & ~causal).any(0)
    if not torch.equal(sees, causal | joined[:, None] & joined):
        raise ValueError(
            f"attention of {name} is neither causal nor whole among some tokens, so pruned tokens have no meaning in it; "
            "use a network without sliding layers"
        )
    return joined if bool(joined.any()) else None


def _same(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """Raises ValueError for layers of which only some see all tokens."""
    if one is not None and other is not None and not torch.equal(one, other):
        raise ValueError(
            "the layers of this network differ in what their tokens see; one rule for all of them is what can be served"
        )
    return one if other is None else other
