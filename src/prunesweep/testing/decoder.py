"""A small random LLM, built in code, and prompts for it: what methods inside the LLM are held to account on."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from prunesweep.cost import NOTHING, VisionShape
from prunesweep.lazy import torch
from prunesweep.types import Prefix

LAYERS, HEADS, KV_HEADS, HIDDEN = 8, 4, 2, 32
VOCABULARY = 64
BEFORE = 4
"""Tokens of text before the video, and one behind it before the question."""
QUESTIONS: tuple[tuple[int, ...], ...] = ((7, 12, 9, 30, 22), (41, 3, 50, 11, 19, 8, 60), (25, 26, 33, 2, 44))
SHARPNESS = 3.0
"""Of the weights, beside what keeps values as large as they are: attention that is no even mean."""


@dataclass(frozen=True)
class Prompt:
    """A video's tokens as they enter."""

    name: str
    frames: int
    patches: int
    alike: float
    """Share of each token that is the same in all frames."""

    def __str__(self) -> str:
        return f"a prompt ({self.name}) of {self.frames} frames of {self.patches} tokens"


PROMPTS = (Prompt("random", 6, 9, 0.0), Prompt("drifting", 5, 8, 0.9), Prompt("short", 2, 4, 0.5))


@functools.cache
def small_decoder() -> Any:
    """The engine's decoder loop on a stock Qwen2 of random weights."""
    from transformers import Qwen2Config, Qwen2Model

    from prunesweep.models.decoder import ATTENTION, Decoder, llm_shape

    config = Qwen2Config(
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        vocab_size=VOCABULARY,
        attn_implementation=ATTENTION,
    )
    with torch.random.fork_rng(devices=[]):
        network = Qwen2Model(config).eval()
    dice = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim > 1:
                wide = 1.0 if "embed" in name else weight.shape[1] ** -0.5
                sharp = SHARPNESS if "q_proj" in name else 1.0
                weight.copy_(torch.randn(weight.shape, generator=dice) * wide * sharp)
    model = Decoder(network, torch.nn.Identity())
    model.network = network
    model.shape = llm_shape(config, VisionShape(layers=0, hidden=1, mlp=1, patches=1, patch_inputs=1))  # type: ignore[attr-defined]
    return model


def entering(prompt: Prompt) -> Prefix:
    """The prompt up to the question, in front of the first layer."""
    dice = torch.Generator().manual_seed(prompt.frames * 100 + prompt.patches)
    count = prompt.frames * prompt.patches
    text = torch.randn(BEFORE + 1, HIDDEN, generator=dice)
    first, noise = torch.randn(1, prompt.patches, HIDDEN, generator=dice), torch.randn(count, HIDDEN, generator=dice)
    still = first.expand(prompt.frames, -1, -1).flatten(0, 1)
    x = prompt.alike * still + (1 - prompt.alike) * noise
    visual = torch.zeros(BEFORE + count + 1, dtype=torch.bool)
    visual[BEFORE : BEFORE + count] = True
    index = torch.arange(count)
    return Prefix(
        video_id="video",
        hidden=torch.cat([text[:BEFORE], x, text[BEFORE:]]),
        position=torch.arange(len(visual)),
        visual=visual,
        group=index // prompt.patches,
        next_position=len(visual),
        place=index,
        patches=prompt.patches,
        entered=x,
        usage=replace(NOTHING, dense_tokens=count, cached_tokens=()),
    )


@dataclass(frozen=True, eq=False)
class Given:
    """The stage that all jobs begin with."""

    prefix: Prefix
    share = "LLM"

    def __call__(self, _: Any, __: Any) -> Prefix:
        return self.prefix


def tensors_of(state: Any) -> list[Any]:
    """All tensors of a state, in the order of its fields."""
    if isinstance(state, torch.Tensor):
        return [state]
    if isinstance(state, dict):
        return [x for value in state.values() for x in tensors_of(value)]
    if isinstance(state, (tuple, list)):
        return [x for value in state for x in tensors_of(value)]
    if hasattr(state, "__dataclass_fields__"):
        return [x for name in state.__dataclass_fields__ for x in tensors_of(getattr(state, name))]
    return []


def same_tensors(one: Any, other: Any) -> bool:
    """To the bit."""
    first, second = tensors_of(one), tensors_of(other)
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def run_stages(state: Prefix, stages: Sequence[Any]) -> Prefix:
    for stage in stages:
        state = stage(state, small_decoder())
    return state
