"""A tiny random checkpoint of every family that the adapter serves, saved as its own stock classes save it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from prunesweep.embedded.language import CHAT_TEMPLATE, build_tokenizer
from prunesweep.types import Clip

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


def qwen2_vl() -> Made:
    import transformers as t

    words = Words("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    pixels = {"patch_size": 8, "size": PIXELS}
    processor = t.Qwen2VLProcessor(
        t.Qwen2VLImageProcessor(**pixels),
        words.tokenizer,
        t.Qwen2VLVideoProcessor(**pixels),
        chat_template=template("<|vision_start|><|video_pad|><|vision_end|>"),
    )
    config = t.Qwen2VLConfig(
        vision_config={"depth": 2, "embed_dim": 32, "mlp_ratio": 2, "num_heads": 2, "hidden_size": HIDDEN, "patch_size": 8},
        text_config={**TEXT, "vocab_size": len(words), "rope_parameters": {**MROPE, "mrope_section": [2, 2, 2]}},
        **_qwen_ids(words),
    )
    return Made(t.Qwen2VLForConditionalGeneration, config, processor)


def _qwen_ids(words: Words) -> dict[str, int]:
    return {
        "video_token_id": words["<|video_pad|>"],
        "image_token_id": words["<|image_pad|>"],
        "vision_start_token_id": words["<|vision_start|>"],
        "vision_end_token_id": words["<|vision_end|>"],
    }


def qwen2_5_vl() -> Made:
    import transformers as t

    words = Words("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    pixels = {"patch_size": 8, "size": PIXELS}
    processor = t.Qwen2_5_VLProcessor(
        t.Qwen2VLImageProcessor(**pixels),
        words.tokenizer,
        t.Qwen2VLVideoProcessor(**pixels),
        chat_template=template("<|vision_start|><|video_pad|><|vision_end|>"),
    )
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": HIDDEN,
        "patch_size": 8,
        "window_size": 32,
        "fullatt_block_indexes": [1],
        "tokens_per_second": 2,
    }
    text = {**TEXT, "vocab_size": len(words), "rope_parameters": {**MROPE, "mrope_section": [2, 2, 2]}}
    config = t.Qwen2_5_VLConfig(vision_config=vision, text_config=text, **_qwen_ids(words))
    return Made(t.Qwen2_5_VLForConditionalGeneration, config, processor)


def _qwen3_vl(moe: bool) -> Made:
    import transformers as t

    words = Words("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    pixels = {"patch_size": 8, "size": {"shortest_edge": 256, "longest_edge": 8 * 48 * 48}}
    processor = t.Qwen3VLProcessor(
        t.Qwen2VLImageProcessor(patch_size=8, size=PIXELS),
        words.tokenizer,
        t.Qwen3VLVideoProcessor(**pixels),
        chat_template=template("<|vision_start|><|video_pad|><|vision_end|>"),
    )
    vision = {
        "depth": 4,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": HIDDEN,
        "patch_size": 8,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0, 1, 2],
        "initializer_range": SPREAD,
    }
    text = {
        **TEXT,
        "head_dim": 16,
        "vocab_size": len(words),
        "rope_parameters": {**MROPE, "mrope_section": [4, 2, 2], "mrope_interleaved": True},
    }
    if moe:
        text |= {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "mlp_only_layers": []}
    kind = "Qwen3VLMoe" if moe else "Qwen3VL"
    config = getattr(t, f"{kind}Config")(vision_config=vision, text_config=text, **_qwen_ids(words))
    return Made(getattr(t, f"{kind}ForConditionalGeneration"), config, processor)


def qwen3_vl() -> Made:
    return _qwen3_vl(moe=False)


def qwen3_vl_moe() -> Made:
    return _qwen3_vl(moe=True)


def internvl() -> Made:
    import transformers as t

    marks = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<img_context>"}
    words = Words(**marks, video_token="<video>")
    size = {"height": 32, "width": 32}
    processor = t.InternVLProcessor(
        t.GotOcr2ImageProcessor(size=size),
        words.tokenizer,
        t.InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=template("<video>"),
    )
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": [32, 32],
        "patch_size": [8, 8],
        "initializer_range": SPREAD,
    }
    config = t.InternVLConfig(
        vision_config=vision,
        text_config={**TEXT, "model_type": "qwen2", "vocab_size": len(words)},
        image_token_id=words["<img_context>"],
        image_seq_length=4,
    )
    return Made(t.InternVLForConditionalGeneration, config, processor)


def smolvlm() -> Made:
    import transformers as t

    words = Words("<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    processor = t.SmolVLMProcessor(
        t.SmolVLMImageProcessor(size={"longest_edge": 32}, max_image_size={"longest_edge": 32}),
        words.tokenizer,
        t.SmolVLMVideoProcessor(size={"longest_edge": 32}, max_image_size={"longest_edge": 32}),
        image_seq_len=4,
        chat_template=template("<video>"),
    )
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "initializer_range": SPREAD,
    }
    config = t.SmolVLMConfig(
        vision_config=vision,
        text_config={**TEXT, "model_type": "llama", "vocab_size": len(words)},
        image_token_id=words["<image>"],
        scale_factor=2,
    )
    return Made(t.SmolVLMForConditionalGeneration, config, processor)


def video_llama_3() -> Made:
    import transformers as t

    words = Words("<|image_pad|>", "<|video_pad|>")
    pixels = {"patch_size": 8, "merge_size": 2, "size": {"shortest_edge": 256, "longest_edge": 8 * 48 * 48}}
    processor = t.VideoLlama3Processor(
        t.VideoLlama3ImageProcessor(patch_size=8, size=PIXELS),
        words.tokenizer,
        t.VideoLlama3VideoProcessor(**pixels),
        chat_template=template("<|video_pad|>"),
    )
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "patch_size": 8,
        "initializer_range": SPREAD,
    }
    config = t.VideoLlama3Config(
        vision_config=vision,
        text_config={**TEXT, "model_type": "qwen2", "vocab_size": len(words)},
        video_token_id=words["<|video_pad|>"],
        image_token_id=words["<|image_pad|>"],
    )
    return Made(t.VideoLlama3ForConditionalGeneration, config, processor)


def _glm(kind: str, **text: Any) -> Made:
    import transformers as t

    special = ("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>", "<|image|>", "<|video|>")
    words = Words(*special)
    seen = "Glm46V" if kind == "Glm46V" else "Glm4v"
    pixels = {"patch_size": 8, "size": {"shortest_edge": 256, "longest_edge": 8 * 48 * 48}}
    processor = getattr(t, f"{seen}Processor")(
        getattr(t, f"{seen}ImageProcessor")(**pixels),
        words.tokenizer,
        getattr(t, f"{seen}VideoProcessor")(**pixels),
        chat_template=template("<|begin_of_video|><|video|><|end_of_video|>"),
    )
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": HIDDEN,
        "image_size": 32,
        "patch_size": 8,
        "initializer_range": SPREAD,
    }
    rope = {**MROPE, "mrope_section": [1, 1, 1], "partial_rotary_factor": 0.5}
    config = getattr(t, f"{kind}Config")(
        vision_config=vision,
        text_config={**TEXT, "vocab_size": len(words), "rope_parameters": rope, **text},
        image_token_id=words["<|image|>"],
        video_token_id=words["<|video|>"],
        image_start_token_id=words["<|begin_of_image|>"],
        image_end_token_id=words["<|end_of_image|>"],
        video_start_token_id=words["<|begin_of_video|>"],
        video_end_token_id=words["<|end_of_video|>"],
    )
    return Made(getattr(t, f"{kind}ForConditionalGeneration"), config, processor)


def glm4v() -> Made:
    return _glm("Glm4v")


def glm46v() -> Made:
    return _glm("Glm46V", model_type="glm4v_text")


def glm4v_moe() -> Made:
    moe = {"n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_shared_experts": 1}
    return _glm("Glm4vMoe", **moe, first_k_dense_replace=1, n_group=1, topk_group=1)


def molmo2() -> Made:
    import transformers as t

    special = (
        "<im_patch>",
        "<im_col>",
        "<im_start>",
        "<low_res_im_start>",
        "<im_end>",
        "<frame_start>",
        "<frame_end>",
        "<im_low>",
    )
    words = Words(*special, "<|image|>", "<|video|>")
    words.tokenizer.bos_token = "<|im_end|>"
    size = {"height": 48, "width": 48}
    processor = t.Molmo2Processor(
        t.Molmo2ImageProcessor(size=size, patch_size=8),
        t.Molmo2VideoProcessor(size=size, patch_size=8),
        words.tokenizer,
        chat_template=template("<|video|>"),
    )
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "initializer_range": SPREAD}
    vision = {
        **heads,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "patch_size": 8,
        "image_size": [48, 48],
    }
    config = t.Molmo2Config(
        vision_config={**vision, "num_position_embeddings": 36},
        adapter_config={
            **heads,
            "hidden_size": 32,
            "intermediate_size": 48,
            "text_hidden_size": HIDDEN,
            "vision_feature_layer": [-1, -2],
        },
        text_config={**TEXT, "head_dim": 12, "vocab_size": len(words), "additional_vocab_size": 0, "rope_scaling_layers": None},
        image_start_token_id=words["<im_start>"],
        low_res_image_start_token_id=words["<low_res_im_start>"],
        image_end_token_id=words["<im_end>"],
        image_patch_id=words["<im_patch>"],
        frame_start_token_id=words["<frame_start>"],
        frame_end_token_id=words["<frame_end>"],
    )
    return Made(t.Molmo2ForConditionalGeneration, config, processor)


CLIP: dict[str, Any] = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
    "projection_dim": 16,
    "initializer_range": SPREAD,
}
CROPPED = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}


def llava_next_video() -> Made:
    import transformers as t

    words = Words()
    processor = t.LlavaNextVideoProcessor(
        t.LlavaNextVideoVideoProcessor(**CROPPED),
        t.LlavaNextImageProcessor(**CROPPED),
        words.tokenizer,
        chat_template=template("<video>"),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    config = t.LlavaNextVideoConfig(
        vision_config=CLIP,
        text_config={**TEXT, "model_type": "llama", "vocab_size": len(words)},
        image_token_index=words["<image>"],
        video_token_index=words["<video>"],
        image_grid_pinpoints=[[32, 64], [64, 32]],
    )
    return Made(t.LlavaNextVideoForConditionalGeneration, config, processor)


def video_llava() -> Made:
    import transformers as t

    words = Words()
    processor = t.VideoLlavaProcessor(
        t.VideoLlavaImageProcessor(**CROPPED),
        t.VideoLlavaVideoProcessor(**CROPPED),
        words.tokenizer,
        chat_template=template("<video>"),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    config = t.VideoLlavaConfig(
        vision_config=CLIP,
        text_config={**TEXT, "model_type": "llama", "vocab_size": len(words)},
        image_token_index=words["<image>"],
        video_token_index=words["<video>"],
    )
    return Made(t.VideoLlavaForConditionalGeneration, config, processor)


def llava_onevision() -> Made:
    import transformers as t

    words = Words()
    size = {"height": 32, "width": 32}
    processor = t.LlavaOnevisionProcessor(
        t.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=[[32, 32]]),
        words.tokenizer,
        t.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=template("<video>"),
    )
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "vision_use_head": False,
    }
    config = t.LlavaOnevisionConfig(
        vision_config=vision,
        text_config={**TEXT, "model_type": "qwen2", "vocab_size": len(words)},
        image_token_index=words["<image>"],
        video_token_index=words["<video>"],
        image_grid_pinpoints=[[32, 32]],
    )
    return Made(t.LlavaOnevisionForConditionalGeneration, config, processor)


def qwen2_5_omni() -> Made:
    """The thinker, within the configuration and the names of a released checkpoint, whose other parts are left out."""
    import transformers as t

    named = {"image_token": "<|image|>", "video_token": "<|video|>", "audio_token": "<|audio|>"}
    named |= {"vision_bos_token": "<|vision_bos|>", "vision_eos_token": "<|vision_eos|>"}
    named |= {"audio_bos_token": "<|audio_bos|>", "audio_eos_token": "<|audio_eos|>"}
    words = Words(**named)
    pixels = {"patch_size": 8, "size": PIXELS}
    processor = t.Qwen2_5OmniProcessor(
        t.Qwen2VLImageProcessor(**pixels),
        t.Qwen2VLVideoProcessor(**pixels),
        t.WhisperFeatureExtractor(feature_size=8),
        words.tokenizer,
        chat_template=template("<|vision_bos|><|video|><|vision_eos|>"),
    )
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": HIDDEN,
        "patch_size": 8,
        "window_size": 32,
        "fullatt_block_indexes": [1],
        "initializer_range": SPREAD,
    }
    audio = {"d_model": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16, "num_mel_bins": 8}
    config = t.Qwen2_5OmniThinkerConfig(
        audio_config={**audio, "output_dim": HIDDEN},
        vision_config=vision,
        text_config={**TEXT, "vocab_size": len(words), "rope_parameters": {**MROPE, "mrope_section": [2, 2, 2]}},
        audio_token_index=words["<|audio|>"],
        image_token_index=words["<|image|>"],
        video_token_index=words["<|video|>"],
        vision_start_token_id=words["<|vision_bos|>"],
        vision_end_token_id=words["<|vision_eos|>"],
        audio_start_token_id=words["<|audio_bos|>"],
        audio_end_token_id=words["<|audio_eos|>"],
        position_id_per_seconds=4,
        initializer_range=SPREAD,
    )
    return Made(t.Qwen2_5OmniThinkerForConditionalGeneration, config, processor)


ZOO: dict[str, Callable[[], Made]] = {
    make.__name__: make
    for make in (
        *(qwen2_vl, qwen2_5_vl, qwen3_vl, qwen3_vl_moe),
        *(llava_onevision, internvl, smolvlm, video_llama_3, glm4v, glm46v, glm4v_moe, molmo2),
        *(llava_next_video, video_llava, qwen2_5_omni),
    )
}


def save(name: str, folder: Path) -> Path:
    made = ZOO[name]()
    torch.manual_seed(0)
    network = made.network(made.config)
    _stir(network)
    network.generation_config.eos_token_id = None
    network.save_pretrained(folder)
    made.processor.save_pretrained(folder)
    if name == "qwen2_5_omni":
        _as_a_part(folder, "thinker")
    return folder


def _as_a_part(folder: Path, part: str) -> None:
    """Of a larger model, as it is released."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    save_file({f"{part}.{key}": tensor for key, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    own = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2_5_omni", f"{part}_config": own}))


def _stir(network: Any) -> None:
    """Embeddings of positions and the like, which are made as zeros."""
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=SPREAD)


class Zoo(dict[str, Any]):
    """Models by their families' names, made when they are asked for."""

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder

    def __missing__(self, name: str) -> Any:
        from prunesweep.models.adapter import load_family

        self[name] = load_family(name, name, str(save(name, self.folder / name)))
        return self[name]


@functools.cache
def clip_of(frames: int = 6, spacing: float = 0.7, height: int = 64, width: int = 80) -> Clip:
    dice = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (frames, height, width, 3), generator=dice, dtype=torch.uint8)
    return Clip("video", pixels, tuple(round(spacing * frame, 6) for frame in range(frames)))
