"""What the tiny random checkpoints of many families have in common."""

from __future__ import annotations

from typing import Any, NamedTuple

from prunesweep.embedded.language import CHAT_TEMPLATE, build_tokenizer

HIDDEN, LAYERS = 48, 6
SPREAD = 0.15
TEXT: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": SPREAD,
    "max_position_embeddings": 8192,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
MROPE = {"rope_type": "default", "rope_theta": 10000.0}
"""With the sections of a head of 12: six frequencies."""
HYBRID: dict[str, Any] = {
    **TEXT,
    "head_dim": 32,
    "full_attention_interval": 3,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 12,
    "linear_value_head_dim": 8,
    "rope_parameters": {**MROPE, "mrope_section": [2, 1, 1], "mrope_interleaved": True, "partial_rotary_factor": 0.25},
}
"""Full attention in one of three layers, so that there is one right before the tests prune."""
PIXELS = {"shortest_edge": 256, "longest_edge": 96 * 96}


class Made(NamedTuple):
    network: Any
    """The class."""
    config: Any
    processor: Any


class Words:
    """A tokenizer with a family's special tokens, and their ids."""

    def __init__(self, *special: str, **named: str):
        """`named` are also attributes of the tokenizer, by their names."""
        from transformers import PreTrainedTokenizerFast

        own = build_tokenizer()
        self.tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=own._tokenizer,
            unk_token="<unk>",
            pad_token="<pad>",
            eos_token="<|im_end|>",
            extra_special_tokens=named,
        )
        self.tokenizer.add_tokens(["<|im_start|>", "<image>", "<video>", *special], special_tokens=True)

    def __getitem__(self, token: str) -> int:
        return self.tokenizer.convert_tokens_to_ids(token)

    def __len__(self) -> int:
        return len(self.tokenizer)


def template(placeholder: str) -> str:
    return CHAT_TEMPLATE.replace("<video>\n", f"{placeholder}\n")
