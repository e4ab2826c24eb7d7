"""Of all other families."""

from __future__ import annotations

from typing import Any

from support.zoo_parts import HIDDEN, HYBRID, MROPE, PIXELS, SPREAD, TEXT, Made, Words, template


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


def minicpmv4_6() -> Made:
    import transformers as t

    marks = {f"{what}_{end}_token": f"<{what}_{end}>" for what in ("image", "slice", "image_id") for end in ("start", "end")}
    words = Words(image_token="<image>", video_token="<video>", **marks)
    pixels = {"scale_resolution": 64, "patch_size": 8}
    processor = t.MiniCPMV4_6Processor(
        t.MiniCPMV4_6ImageProcessor(**pixels),
        t.MiniCPMV4_6VideoProcessor(**pixels),
        words.tokenizer,
        chat_template=template("<video>"),
    )
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 8,
    }
    config = t.MiniCPMV4_6Config(
        vision_config=vision,
        text_config={**HYBRID, "model_type": "qwen3_5_text", "vocab_size": len(words)},
        insert_layer_id=1,
        image_token_id=words["<image>"],
        video_token_id=words["<video>"],
    )
    return Made(t.MiniCPMV4_6ForConditionalGeneration, config, processor)


def perception_lm() -> Made:
    import transformers as t

    words = Words(image_token="<image>", video_token="<video>")
    size = {"height": 32, "width": 32}
    processor = t.PerceptionLMProcessor(
        t.PerceptionLMVideoProcessor(size=size),
        t.PerceptionLMImageProcessor(tile_size=32),
        words.tokenizer,
        patch_size=8,
        chat_template=template("<video>"),
        pooling_ratio=2,
    )
    tower = {
        "embed_dim": 32,
        "depth": 2,
        "num_heads": 2,
        "img_size": [32, 32],
        "patch_size": 8,
        "global_pool": "",
        "use_post_transformer_norm": False,
        "init_values": 0.1,
        "ref_feat_shape": [4, 4],
    }
    config = t.PerceptionLMConfig(
        vision_config={"architecture": "vit_pe_lang_large_patch14_448", "num_classes": 0, "model_args": tower},
        text_config={**TEXT, "model_type": "llama", "vocab_size": len(words)},
        vision_use_cls_token=True,
        projector_pooling_ratio=2,
        image_token_id=words["<image>"],
        video_token_id=words["<video>"],
    )
    return Made(t.PerceptionLMForConditionalGeneration, config, processor)


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
