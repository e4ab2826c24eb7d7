"""An untrained LLaVA-OneVision of tiny size, and its processor: stock transformers classes throughout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunesweep.embedded.language import CHAT_TEMPLATE, build_tokenizer
from prunesweep.embedded.render import SIZE

if TYPE_CHECKING:
    from transformers import (
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionProcessor,
        PreTrainedTokenizerBase,
        Qwen2Config,
        SiglipVisionConfig,
    )


@dataclass(frozen=True)
class TinyShape:
    """Sizes of the tiny model.  `patch` 8 on 96 pixels, pooled 2x2, gives one visual token per cell of the scene."""

    hidden: int = 96
    layers: int = 8
    heads: int = 4
    kv_heads: int = 2
    mlp: int = 256
    vision_hidden: int = 96
    vision_layers: int = 2
    vision_heads: int = 4
    vision_mlp: int = 192
    patch: int = 8
    size: int = SIZE
    """Of a frame's side, in pixels."""


def build_network(shape: TinyShape, seed: int, words: tuple[str, ...] = ()) -> LlavaOnevisionForConditionalGeneration:
    """`words` are those besides the ones of `blocks`."""
    import torch
    from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

    tokenizer = build_tokenizer(words)
    config = LlavaOnevisionConfig(
        vision_config=_vision(shape),
        text_config=_language(shape, tokenizer),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    network = LlavaOnevisionForConditionalGeneration(config)
    for layer in network.model.language_model.layers:
        _start_as_lookup(layer.self_attn)
    return network


def _vision(shape: TinyShape) -> SiglipVisionConfig:
    from transformers import SiglipVisionConfig

    return SiglipVisionConfig(
        hidden_size=shape.vision_hidden,
        intermediate_size=shape.vision_mlp,
        num_hidden_layers=shape.vision_layers,
        num_attention_heads=shape.vision_heads,
        image_size=shape.size,
        patch_size=shape.patch,
        vision_use_head=False,
    )


def _language(shape: TinyShape, tokenizer: PreTrainedTokenizerBase) -> Qwen2Config:
    from transformers import Qwen2Config

    return Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=4096,
        initializer_range=shape.hidden**-0.5,  # the default 0.02 is for widths of thousands; here it stalls attention
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def start_from(network: LlavaOnevisionForConditionalGeneration, checkpoint: str) -> None:
    """Overwrites the weights with those of a smaller vocabulary's or smaller frames' model, as far as they reach.

    New words keep their initial embeddings; position embeddings are interpolated to the patches that there are.
    """
    import torch
    from torch.nn import functional as F
    from transformers import LlavaOnevisionForConditionalGeneration

    known = LlavaOnevisionForConditionalGeneration.from_pretrained(checkpoint).state_dict()
    with torch.no_grad():
        for name, own in network.state_dict().items():
            value = known[name].to(own.dtype)
            if name.endswith("position_embedding.weight") and value.shape != own.shape:
                sides = [round(len(weight) ** 0.5) for weight in (value, own)]
                square = value.T.unflatten(1, (sides[0], sides[0]))[None]
                value = F.interpolate(square, size=(sides[1],) * 2, mode="bicubic", align_corners=False)[0].flatten(1).T
            if value.shape[1:] != own.shape[1:] or len(value) > len(own):
                raise ValueError(f"{name} of {checkpoint} is {tuple(value.shape)}, which does not fit into {tuple(own.shape)}")
            own[: len(value)] = value


def _start_as_lookup(attention: Any) -> None:
    """Initial weights with which a head attends to tokens like its own and copies them.

    Keys start equal to the queries of their group's first head and outputs as the transpose of values.  From independent
    random weights the first thousand steps go by before a head finds the block that a question names (measured).
    """
    import torch

    size = attention.head_dim
    group = attention.num_key_value_groups
    with torch.no_grad():
        for head in range(attention.q_proj.out_features // size):
            own = slice(head * size, (head + 1) * size)
            shared = slice(head // group * size, (head // group + 1) * size)
            if head % group == 0:
                attention.k_proj.weight[shared] = attention.q_proj.weight[own]
            attention.o_proj.weight[:, own] = attention.v_proj.weight[shared].T / group


def build_processor(shape: TinyShape, words: tuple[str, ...] = ()) -> LlavaOnevisionProcessor:
    from transformers import LlavaOnevisionImageProcessor, LlavaOnevisionProcessor, LlavaOnevisionVideoProcessor

    pixels = {"size": {"height": shape.size, "width": shape.size}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    return LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(**pixels),
        video_processor=LlavaOnevisionVideoProcessor(**pixels),
        tokenizer=build_tokenizer(words),
        num_image_tokens=(shape.size // shape.patch) ** 2,
        vision_feature_select_strategy="full",
        chat_template=CHAT_TEMPLATE,
    )
