"""Attention that a step inside the LLM asks to see, from queries and keys as a stock layer used them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

ROWS_AT_ONCE = 512
"""Of an attention map that is summed up: a whole one may not fit into memory."""


def attention_received(
    query: Float[Tensor, "1 h s d"],
    key: Float[Tensor, "1 k total d"],
    scaling: float,
    mask: Bool[Tensor, "1 1 s total"] | None = None,
) -> Float[Tensor, "h total"]:
    """Attention that each of `total` tokens receives from the last s of them, summed in float32: causal without a mask."""
    rows, total = query.shape[2], key.shape[2]
    received = torch.zeros(query.shape[1], total, device=query.device)
    for start in range(0, rows, ROWS_AT_ONCE):
        some = query[:, :, start : start + ROWS_AT_ONCE]
        if mask is not None and rows == total:
            received += attention_rows(some, key, scaling, mask[0, 0, start : start + ROWS_AT_ONCE]).sum(1)
            continue
        seen = total - rows + start + some.shape[2]
        received[:, :seen] += attention_rows(some, key[:, :, :seen], scaling).sum(1)
    return received


@contextmanager
def noting_projections(attention: Any, found: dict[str, Tensor]) -> Iterator[None]:
    """Notes queries `q` and keys `k` of a stock attention layer that runs inside, `1 h s d`, before the rotary embedding."""

    def keep(name: str, output: Tensor) -> None:
        found[name] = output.reshape(*output.shape[:2], -1, attention.head_dim).transpose(1, 2)

    hooks = []
    for name in ("q", "k"):
        last = getattr(attention, f"{name}_norm", None) or getattr(attention, f"{name}_proj")
        hooks.append(last.register_forward_hook(lambda _, __, output, name=name: keep(name, output)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def unmasked_rows(
    query: Float[Tensor, "1 h s d"], key: Float[Tensor, "1 k total d"], scaling: float
) -> Float[Tensor, "h s total"]:
    """Softmax attention to all of `total` tokens, rounded as by PruneVid's released code: scores in the type of the queries,
    their softmax in float32, and that in the type of the queries again.
    """
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = (query[0] @ key[0].transpose(-1, -2)) / (1 / scaling)
    return scores.softmax(-1, dtype=torch.float32).to(query.dtype)


def attention_rows(
    query: Float[Tensor, "1 h s d"],
    key: Float[Tensor, "1 k total d"],
    scaling: float,
    mask: Bool[Tensor, "s total"] | None = None,
) -> Float[Tensor, "h s total"]:
    """Softmax attention of the last s of `total` tokens, in float32, causal without a mask; key heads are repeated for grouped
    queries.
    """
    rows, total = query.shape[2], key.shape[2]
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = (query[0].float() * scaling) @ key[0].float().transpose(-1, -2)
    future = torch.ones(rows, total, dtype=torch.bool, device=scores.device).triu(total - rows + 1) if mask is None else ~mask
    return scores.masked_fill(future, float("-inf")).softmax(-1)
