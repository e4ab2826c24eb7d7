"""The decoder that the reference cases of methods inside the LLM were made with, as a model of the engine's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import Qwen2Config, Qwen2Model

from prunesweep.cost import VisionShape
from prunesweep.models.decoder import ATTENTION, Decoder, llm_shape
from prunesweep.types import Prefix

FOLDER = Path(__file__).parents[1] / "data" / "methods" / "inside_llm"
CASES: list[dict[str, Any]] = json.loads((FOLDER / "cases.json").read_text())["cases"]
HEADS = 4
NO_TOWER = VisionShape(layers=0, hidden=1, mlp=1, patches=1, patch_inputs=1)


def cases_of(method: str) -> list[dict[str, Any]]:
    return [case for case in CASES if case["method"] == method]


def arrays_of(case: dict[str, Any]) -> dict[str, torch.Tensor]:
    """By name; indices as 64-bit numbers."""
    prefix = f"{case['case']}."
    found = {
        k.removeprefix(prefix): v for k, v in load_file(FOLDER / f"{case['method']}.safetensors").items() if k.startswith(prefix)
    }
    return {name: x.long() if x.dtype == torch.int32 else x for name, x in found.items()}


class TinyDecoder(Decoder):
    """Eight layers; a token's id is its row in a case's own table of embeddings."""

    name = "tiny decoder"

    def __init__(self, kv_heads: int, query_times: float = 1.0):
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 8, "num_attention_heads": HEADS}
        config = Qwen2Config(
            **sizes, num_key_value_heads=kv_heads, rms_norm_eps=1e-6, vocab_size=256, attn_implementation=ATTENTION
        )
        config.rope_parameters = {"rope_type": "default", "rope_theta": 10000.0}
        network = Qwen2Model(config).eval()
        weights = {name.removeprefix("model."): x for name, x in load_file(FOLDER / "tiny_decoder.safetensors").items()}
        state = network.state_dict()
        for name, x in weights.items():
            if name in state:
                rows = state[name].shape[0]
                state[name] = x[:rows] * (query_times if "q_proj" in name else 1.0)
        network.load_state_dict({name: torch.zeros_like(x) if name.endswith("proj.bias") else x for name, x in state.items()})
        super().__init__(network, torch.nn.Identity())
        self.network = network
        self.shape = llm_shape(config, NO_TOWER)

    def table(self, *rows: torch.Tensor) -> None:
        """What ids stand for."""
        self.language_model.embed_tokens.weight = torch.nn.Parameter(torch.cat(rows), requires_grad=False)


def entering(case: dict[str, Any], arrays: dict[str, torch.Tensor], model: TinyDecoder) -> tuple[Prefix, tuple[int, ...]]:
    """The prompt up to the question, and the question's ids."""
    hidden, visual = arrays["hidden"], arrays["visual"].bool()
    asked = case["settings"]["after"]
    start = len(hidden) - asked
    count = int(visual.sum())
    frames, patches = case["settings"]["frames"], case["settings"]["patches"]
    prefix = Prefix(
        video_id="video",
        hidden=hidden[:start],
        position=torch.arange(start),
        visual=visual[:start],
        group=arrays["group"],
        next_position=start,
        place=torch.arange(count),
        patches=patches if count == frames * patches else count // frames,
        entered=hidden[visual],
    )
    return prefix, tuple(range(start, len(hidden)))
