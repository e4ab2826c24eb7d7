"""Of the Qwen families."""

from __future__ import annotations

from support.zoo_parts import HIDDEN, HYBRID, MROPE, PIXELS, SPREAD, TEXT, Made, Words, template


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


def _qwen3_5(moe: bool) -> Made:
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
        "depth": 3,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": HIDDEN,
        "patch_size": 8,
        "num_position_embeddings": 16,
        "initializer_range": SPREAD,
    }
    text = {**HYBRID, "vocab_size": len(words)}
    if moe:
        text |= {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 24}
    kind = "Qwen3_5Moe" if moe else "Qwen3_5"
    config = getattr(t, f"{kind}Config")(vision_config=vision, text_config=text, **_qwen_ids(words))
    return Made(getattr(t, f"{kind}ForConditionalGeneration"), config, processor)


def qwen3_5() -> Made:
    return _qwen3_5(moe=False)


def qwen3_5_moe() -> Made:
    return _qwen3_5(moe=True)


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
