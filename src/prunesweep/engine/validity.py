"""Whether what a stage hands on can be believed: finite numbers, and tokens that exist, once each and in order.

Every model's and every method's results pass here, whoever wrote it.  What is not valid becomes the sample's error record.
All values of one result are looked at together, so that a check waits for the device once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from prunesweep.lazy import torch
from prunesweep.reducers import Change, Evicted, Evictor, Left, Merger, Step, called, in_order, left_by_step, merges_patches
from prunesweep.types import KeyValue, Merged, Prefix, Tokens
from prunesweep.types.facts import FEATURES

if TYPE_CHECKING:
    from torch import Tensor

NOT_FINITE = "NaN or infinite values"


class InvalidError(ValueError):
    """A model or a method handed on what no answer can be believed from; the message says who, what and the bound."""


class Fault(NamedTuple):
    """Something that must not be, and what to say of it then."""

    found: Tensor
    """One truth value, on any device."""
    words: Callable[[], str]


def require_none(who: str, faults: Sequence[Fault]) -> None:
    """Raises InvalidError for the first of the faults that is there."""
    device = faults[0].found.device
    for fault, there in zip(faults, torch.stack([fault.found.to(device) for fault in faults]).tolist(), strict=True):
        if there:
            raise InvalidError(f"{who} {fault.words()}")


def not_finite(name: str, x: Tensor) -> Fault:
    """Of a tensor that holds NaN or infinity; both pass through its smallest and largest value."""
    bounds = torch.stack(x.aminmax()) if x.numel() else x.new_zeros(1)
    return Fault(~bounds.isfinite().all(), lambda: f"has {NOT_FINITE} in {name}: {_rows(x)}")


def _rows(x: Tensor) -> str:
    bad = ~x.isfinite().flatten(0, -2).all(-1) if x.ndim > 1 else ~x.isfinite()
    return f"{int(bad.sum())} of {bad.numel()} rows"


def valid_tokens(tokens: Tokens) -> Tokens:
    """The same tokens.  Raises InvalidError for those that are not finite."""
    faults = [not_finite("the visual tokens", tokens.x), not_finite("the tokens after them", tokens.suffix)]
    faults += [not_finite(f"the fact {name}", fact.value) for name, fact in tokens.facts.items()]
    require_none("the vision encoder", faults)
    return tokens


def require_finite_scores(scores: Sequence[float]) -> None:
    """Raises InvalidError unless the log-likelihood of every option is a finite number."""
    if not all(map(math.isfinite, scores)):
        raise InvalidError(f"the model has {NOT_FINITE} in the scores of the options: {', '.join(f'{s:.4g}' for s in scores)}")


def require_finite_logit(best: float, step: int) -> None:
    """Raises InvalidError unless the largest logit is a finite number; NaN among others is the largest."""
    if not math.isfinite(best):
        raise InvalidError(f"the model has {NOT_FINITE} in the logits of generated token {step}")


# What a merger hands on


def require_merged(merge: Merger, merged: Merged, tokens: Tokens) -> None:
    """Raises InvalidError unless there are tokens, and everything about them has the shapes and types of `Merged`."""
    who = called(merge)
    if not isinstance(merged, Merged):
        raise InvalidError(f"{who} must hand on Merged, got {type(merged).__name__}")
    if merged.x.ndim != 2 or not merged.x.is_floating_point():
        raise InvalidError(f"{who} must hand on tokens x as floats of shape (n, c), got {_kind(merged.x)}")
    count = len(merged.x)
    if not count:
        raise InvalidError(f"{who} hands on no token; keep at least one")
    patches = tokens.fact(FEATURES) if merges_patches(merge) else tokens.x
    if merged.x.dtype != patches.dtype:
        raise InvalidError(f"{who} must hand on tokens x of the type {_type(patches)} that it got, got {_type(merged.x)}")
    shapes = {"position": (count,), "group": (count,), "source": tuple(patches.shape[:2])}
    for name, shape in shapes.items():
        if not _are_integers(own := getattr(merged, name)) or tuple(own.shape) != shape:
            raise InvalidError(f"{who} must hand on {name} as whole numbers of shape {shape}, got {_kind(own)}")


def require_valid_merge(merge: Merger, merged: Merged, channels: int) -> None:
    """Raises InvalidError unless the tokens are finite, stand within the span, and come from patches that exist.

    Of a merger that keeps the video's order: unless every token stands behind the one before and has a patch.
    """
    who, count, position, source = called(merge), len(merged.x), merged.position, merged.source.flatten()
    if merged.x.shape[1] != channels:
        raise InvalidError(f"{who} hands on tokens of {merged.x.shape[1]} channels; visual tokens have {channels}")
    low, high = position.aminmax()
    first, last = source.aminmax()
    faults = [
        not_finite("the tokens that it hands on", merged.x),
        Fault((low < 0) | (high >= merged.span), lambda: f"puts tokens at {int(low)} to {int(high)}, outside [0, {merged.span})"),
        Fault((first < -1) | (last >= count), lambda: f"sends patches to {int(first)} to {int(last)}; there are {count} tokens"),
    ]
    faults += _contribution_faults(merged)
    require_none(who, faults + (_order_faults(merged, source) if in_order(merge) else []))


def _contribution_faults(merged: Merged) -> list[Fault]:
    if merged.contributions is None:
        return []
    token, patch, share = merged.contributions
    count, patches = len(merged.x), merged.source.numel()
    return [
        not_finite("the shares that patches have in its tokens", share),
        Fault(_outside(token, count), lambda: f"has shares of tokens outside [0, {count})"),
        Fault(_outside(patch, patches), lambda: f"has shares of patches outside [0, {patches})"),
    ]


def _outside(index: Tensor, bound: int) -> Tensor:
    return ((index < 0) | (index >= bound)).any()


def _order_faults(merged: Merged, source: Tensor) -> list[Fault]:
    count, position, group = len(merged.x), merged.position, merged.group
    behind = position[1:] > position[:-1]
    has_patch = torch.zeros(count + 1, dtype=torch.bool, device=source.device)
    has_patch[source.clamp(-1, count - 1) + 1] = True
    there = source >= 0
    backwards = (there.sum() == count) & (there & (source < source.cummax(0).values)).any()
    way_out = "; where this is meant, set in_order = False in its class"
    return [
        Fault(~behind.all(), lambda: f"hands on {_doubled_or_unsorted(position)} positions{way_out}"),
        Fault((group[1:] < group[:-1]).any(), lambda: f"hands on groups in descending order{way_out}"),
        Fault(~has_patch[1:].all(), lambda: f"hands on {int((~has_patch[1:]).sum())} tokens that no patch went to{way_out}"),
        Fault(backwards, lambda: f"hands on tokens in another order than the video's{way_out}"),
    ]


def _doubled_or_unsorted(index: Tensor) -> str:
    return "doubled" if len(index.unique()) < len(index) else "unsorted"


# What a pruner or an evictor hands on


def require_valid_change(step: Step, change: Change, prefix: Prefix) -> None:
    """Raises InvalidError unless indices of visual tokens were chosen from finite attention, sorted, each once, and what has
    become of the tokens is finite and of their shape.

    A step may keep none where its `left` says so.
    """
    who, count, chosen = called(step), len(prefix.group), change.keep
    if not _are_integers(chosen) or chosen.ndim != 1:
        raise InvalidError(f"{who} must choose tokens by their indices, whole numbers of shape (kept,), got {_kind(chosen)}")
    faults = [not_finite("the attention that it reads", prefix.attention)] if prefix.attention is not None else []
    channels = prefix.hidden.shape[-1]
    for name, x, rows in (("hidden", change.hidden, len(chosen)), ("extra", change.extra, None)):
        if x is None:
            continue
        if x.ndim != 2 or x.shape[1] != channels or (rows is not None and len(x) != rows):
            raise InvalidError(f"{who} must hand on {name} as ({rows or 'more'}, {channels}) floats, got {_kind(x)}")
        faults.append(not_finite(f"the {name} tokens that it hands on", x))
    if not len(chosen):
        if left_by_step(step, Left(count, None, count)) != 0 or change.extra is not None:
            raise InvalidError(f"{who} keeps no token; keep at least one")
        if faults:
            require_none(who, faults)
        return
    low, high = chosen.aminmax()
    faults += [
        Fault((low < 0) | (high >= count), lambda: f"chooses tokens {int(low)} to {int(high)}; there are {count}, from 0 on"),
        Fault(~(chosen[1:] > chosen[:-1]).all(), lambda: f"chooses {_doubled_or_unsorted(chosen)} tokens; sort them, each once"),
    ]
    require_none(who, faults)


def require_valid_caches(evictor: Evictor, evicted: Sequence[Evicted], prefix: Prefix) -> None:
    """Raises InvalidError unless every layer's cache is a finite, smaller or equal one, and its tokens are counted."""
    who, faults = called(evictor), []
    layers = zip(evicted, prefix.caches, prefix.received, prefix.usage.cached_tokens or (), strict=True)
    for layer, (small, whole, received, visual) in enumerate(layers):
        if not isinstance(small, Evicted) or not isinstance(small.kv, KeyValue):
            raise InvalidError(f"{who} must hand on Evicted with a KeyValue, got {type(small).__name__} for layer {layer}")
        _require_cache_shape(f"{who}, layer {layer},", small, whole, visual)
        faults += [
            not_finite(f"the attention of layer {layer} that it reads", received),
            *(not_finite(f"the cache of layer {layer}", x) for x in small.kv),
        ]
    if faults:
        require_none(who, faults)


def _require_cache_shape(who: str, small: Evicted, whole: KeyValue, visual: int) -> None:
    length = small.kv.key.shape[2] if small.kv.key.ndim == 4 else 0
    for x, before in zip(small.kv, whole, strict=True):
        wanted = (*before.shape[:2], length, before.shape[3])
        if tuple(x.shape) != wanted or x.dtype != before.dtype or not 0 < length <= before.shape[2]:
            raise InvalidError(f"{who} must leave 1 to {before.shape[2]} tokens of {_kind(before)}, got {_kind(x)}")
    if isinstance(small.visual, bool) or not isinstance(small.visual, int) or not 0 <= small.visual <= min(visual, length):
        raise InvalidError(f"{who} must count the visual tokens left, 0 to {min(visual, length)}, got {small.visual!r}")


def _are_integers(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and not (x.is_floating_point() or x.is_complex() or x.dtype == torch.bool)


def _type(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def _kind(x: Any) -> str:
    return f"{_type(x)} of shape {tuple(x.shape)}" if isinstance(x, torch.Tensor) else type(x).__name__
