"""What stock vision towers, CLIP and SigLIP, know besides the features that the projector gets: the facts of mergers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from prunesweep.types import TowerMerger, TowerTokens
from prunesweep.types.facts import FEATURES, POOLED, Fact


@dataclass(frozen=True)
class TowerPass:
    """A tower's way through the frames of a video."""

    tower: Any
    """The stock module."""
    hidden_states: tuple[Tensor, ...]
    """`t s v` each: the embedding, then what each layer gave."""
    features: Float[Tensor, "t u v"]
    feature_layer: int
    """Which of the hidden states the features come from, counted from the end: -1 is the last."""
    class_token: bool
    """Whether the first of s is one."""
    pool: Callable[[Tensor], Tensor]
    """`t u v` to `t p v`, as the model pools its visual tokens."""

    @property
    def vision(self) -> Any:
        return getattr(self.tower, "vision_model", self.tower)


def facts_of(seen: TowerPass, needs: Iterable[str], model: str) -> dict[str, Fact]:
    """The named facts.  Raises ValueError for one that the tower does not have."""
    return {name: _pooled(seen, name, model) if name.startswith(POOLED) else _fact(seen, name, model) for name in needs}


def known_facts(tower: Any, class_token: bool) -> frozenset[str]:
    """Names of what a stock tower can give, pooled or not."""
    vision = getattr(tower, "vision_model", tower)
    missing = set() if class_token else {"attention.class"}
    if not hasattr(getattr(vision, "head", None), "probe"):
        missing |= {"frame.head", "attention.probe"}
    there = KNOWN.keys() - missing
    return frozenset(there | {POOLED + name for name in there if name != "frame.head"})


def _pooled(seen: TowerPass, name: str, model: str) -> Fact:
    fact = _fact(seen, name.removeprefix(POOLED), model)
    one = fact.value.ndim == 2
    pooled = seen.pool(fact.value[..., None] if one else fact.value)
    return fact._replace(value=pooled[..., 0] if one else pooled)


def _fact(seen: TowerPass, name: str, model: str) -> Fact:
    if name not in KNOWN:
        raise ValueError(f"the vision tower of {model} has no {name}; it has {', '.join(sorted(KNOWN))}; use another reducer")
    try:
        return KNOWN[name](seen)
    except LookupError as error:
        raise ValueError(f"the vision tower of {model} has no {name}: {error.args[0]}; use another reducer") from None


def _projected(seen: TowerPass, layer: int) -> tuple[Tensor, Tensor, int]:
    """Queries and keys of a layer, counted from the end, `t s w`; and its number of heads."""
    block = seen.vision.encoder.layers[layer]
    normed = block.layer_norm1(seen.hidden_states[layer - 1])
    return block.self_attn.q_proj(normed), block.self_attn.k_proj(normed), block.self_attn.num_heads


def _joined(seen: TowerPass) -> Fact:
    query, key, _ = _projected(seen, -1)
    return _attention(seen, query[:, None], key[:, None], seen.class_token)


def _by_head(seen: TowerPass, from_class: bool) -> Fact:
    if from_class and not seen.class_token:
        raise LookupError("it has no class token")
    query, key, heads = _projected(seen, seen.feature_layer)
    query, key = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key))
    return _attention(seen, query, key, from_class)


def _attention(seen: TowerPass, query: Float[Tensor, "t h s d"], key: Float[Tensor, "t h s d"], from_class: bool) -> Fact:
    """What each patch receives: from the class token, or on average; mean over heads."""
    first = 1 if seen.class_token else 0
    asking = query[:, :, :1] if from_class else query[:, :, first:]
    scores = asking.float() @ key.float().transpose(-1, -2) * query.shape[-1] ** -0.5
    frames, heads, rows, tokens = scores.shape
    return Fact(scores.softmax(-1).mean((1, 2))[:, first:], 2 * frames * heads * rows * tokens * query.shape[-1])


def _keys(seen: TowerPass, layer: int, heads_as_one: bool) -> Fact:
    _, key, heads = _projected(seen, layer)
    key = key[:, 1:] if seen.class_token else key
    return Fact(key if heads_as_one else key.unflatten(-1, (heads, -1)).mean(-2))


def _pooling_head(seen: TowerPass) -> tuple[Any, Tensor]:
    head = getattr(seen.vision, "head", None)
    if head is None or not hasattr(head, "probe"):
        raise LookupError("it comes without a pooling head")
    return head, seen.vision.post_layernorm(seen.features)


def _summed_up(seen: TowerPass) -> Fact:
    head, patches = _pooling_head(seen)
    frames, count, width = patches.shape
    return Fact(head(patches), 2 * frames * count * 2 * width**2 + 4 * frames * count * width)


def _from_probe(seen: TowerPass) -> Fact:
    head, patches = _pooling_head(seen)
    probe = head.probe.repeat(len(patches), 1, 1)
    return Fact(head.attention(probe, patches, patches)[1][:, 0].to(torch.float32))


KNOWN: dict[str, Callable[[TowerPass], Fact]] = {
    FEATURES: lambda seen: Fact(seen.features),
    "attention.joined": _joined,
    "attention.class": lambda seen: _by_head(seen, from_class=True),
    "attention.received": lambda seen: _by_head(seen, from_class=False),
    "attention.probe": _from_probe,
    "key.joined": lambda seen: _keys(seen, -1, heads_as_one=True),
    "key.mean": lambda seen: _keys(seen, seen.feature_layer, heads_as_one=False),
    "frame.head": _summed_up,
}
"""The probe's attention is worked out again, but the head's FLOPs are booked once, with what it makes of a frame."""


class MergedPass(NamedTuple):
    """A tower's way through the frames with merging in its layers; without class token."""

    features: Float[Tensor, "t n v"]
    source: Int[Tensor, "t u"]
    """Which of the t x n each patch went to."""
    tokens: tuple[int, ...]
    """Of a frame, per layer that ran, and behind the last."""
    flops: int


def merged_pass(tower: Any, pixels: Tensor, layer: int, class_token: bool, merger: TowerMerger) -> MergedPass:
    """Up to the hidden states of `layer`, counted from the end: -1 is the last.

    Without anything to merge these are the stock tower's, bit for bit.  A merged class token would be none: it stays.
    """
    vision = getattr(tower, "vision_model", tower)
    x = vision.embeddings(pixels)
    if hasattr(vision, "pre_layrnorm"):
        x = vision.pre_layrnorm(x)
    blocks = vision.encoder.layers[: len(vision.encoder.layers) + 1 + layer]
    frames, count, _ = x.shape
    first = int(class_token)
    tokens = TowerTokens(x, x.new_ones(frames, count), torch.arange(count, device=x.device).expand(frames, -1))
    counts, flops = [count - first], 0
    for block, fewer in zip(blocks, merger.schedule(len(blocks), count - first), strict=True):
        tokens, spent = _merged_layer(block, tokens, fewer, class_token, merger)
        counts.append(tokens.x.shape[1] - first)
        flops += spent
    left = TowerTokens(tokens.x[:, first:], tokens.size[:, first:], tokens.source[:, first:] - first)
    done = merger.ordered(left)
    base = torch.arange(frames, device=x.device)[:, None] * done.x.shape[1]
    return MergedPass(done.x, base + done.source, tuple(counts), flops)


def _merged_layer(block: Any, tokens: TowerTokens, fewer: int, class_token: bool, merger: TowerMerger) -> tuple[TowerTokens, int]:
    count = tokens.x.shape[1]
    normed = block.layer_norm1(tokens.x)
    weighted = merger.proportional and count < tokens.source.shape[1]
    mask = tokens.size.log().to(normed.dtype)[:, None, None].expand(-1, 1, count, -1) if weighted else None
    keys: list[Tensor] = []
    hook = block.self_attn.k_proj.register_forward_hook(lambda _, __, output: keys.append(output))
    try:
        mixed = block.self_attn(normed, attention_mask=mask)[0]
    finally:
        hook.remove()
    tokens = tokens._replace(x=tokens.x + mixed)
    flops = 0
    if fewer:
        key = keys[0].unflatten(-1, (block.self_attn.num_heads, -1)).mean(-2)
        tokens = merger(key, tokens, fewer, class_token)
        flops = _merging_flops(count, tokens, key)
    return tokens._replace(x=tokens.x + block.mlp(block.layer_norm2(tokens.x))), flops


def _merging_flops(count: int, left: TowerTokens, key: Tensor) -> int:
    """Every other token's cosines with the rest, and means as a product with those of `count` tokens that each is made of."""
    frames, tokens, width = left.x.shape
    return 2 * frames * ((count + 1) // 2 * (count // 2) * key.shape[2] + tokens * count * width)
