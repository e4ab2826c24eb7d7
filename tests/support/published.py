"""Published sizes of the stock families: what their configuration files say, and where that was seen."""

from __future__ import annotations

from typing import Any, NamedTuple

from hydra import compose, initialize_config_dir

from prunesweep.cost import Shape
from prunesweep.report.costs import shape_in
from support.places import CONF

TRANSFORMERS = "transformers 5.24's defaults for it"


class Published(NamedTuple):
    checkpoint: str
    network: str
    """The class in transformers."""
    config: dict[str, Any]
    billions: float
    """Of parameters."""
    tokens: float
    """Visual tokens of a frame (of 448 x 448 pixels where it may have any size)."""
    frames_per_step: int
    patches: int
    """That the tower sees of a step then."""
    frames: int
    seen: str


QWEN2_7B = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
}
MROPE = {"rope_type": "default", "rope_theta": 1000000.0, "mrope_section": [16, 24, 24]}
LLAMA_7B = {"model_type": "llama", "vocab_size": 32064}
PUBLISHED: dict[str, Published] = {
    "qwen2_vl_7b": Published(
        "Qwen/Qwen2-VL-7B-Instruct",
        "Qwen2VL",
        {"vision_config": {}, "text_config": {**QWEN2_7B, "vocab_size": 152064, "rope_parameters": MROPE}},
        *(8.29, 128, 2, 1024, 32),
        f"the tower {TRANSFORMERS}, the LLM that of Qwen2.5-VL 7B, from memory",
    ),
    "qwen3_vl_4b": Published(
        "Qwen/Qwen3-VL-4B-Instruct",
        "Qwen3VL",
        {
            "tie_word_embeddings": True,
            "text_config": {
                "hidden_size": 2560,
                "intermediate_size": 9728,
                "num_hidden_layers": 36,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "head_dim": 128,
                "vocab_size": 151936,
            },
            "vision_config": {
                "depth": 24,
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "out_hidden_size": 2560,
                "deepstack_visual_indexes": [5, 11, 17],
            },
        },
        *(4.44, 98, 2, 784, 32),
        "its config.json of transformers 4.57, as quoted by public code that loads it",
    ),
    "qwen3_5_9b": Published(
        "Qwen/Qwen3.5-9B",
        "Qwen3_5",
        {"text_config": {}, "vision_config": {"out_hidden_size": 4096}},
        *(9.41, 98, 2, 784, 32),
        TRANSFORMERS,
    ),
    "perception_lm_1b": Published(
        "facebook/Perception-LM-1B",
        "PerceptionLM",
        {
            "tie_word_embeddings": True,
            "projector_pooling_ratio": 2,
            "vision_config": {
                "architecture": "vit_pe_lang_large_patch14_448",
                "do_pooling": True,
                "num_classes": 0,
                "global_pool": "",
                "initializer_range": 0.02,
                "model_args": {
                    "embed_dim": 1024,
                    "depth": 23,
                    "img_size": [448, 448],
                    "global_pool": "",
                    "use_post_transformer_norm": False,
                    "init_values": 0.1,
                    "ref_feat_shape": [32, 32],
                },
            },
            "text_config": {
                "model_type": "llama",
                "hidden_size": 2048,
                "intermediate_size": 8192,
                "num_hidden_layers": 16,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "vocab_size": 128256,
                "tie_word_embeddings": True,
            },
        },
        *(1.53, 256, 1, 1024, 32),
        "the LLM that of Llama 3.2 1B, the tower the model card's, from memory; not checked against the checkpoint",
    ),
    "qwen3_vl_30b_a3b": Published(
        "Qwen/Qwen3-VL-30B-A3B-Instruct",
        "Qwen3VLMoe",
        {
            "text_config": {
                "hidden_size": 2048,
                "intermediate_size": 6144,
                "moe_intermediate_size": 768,
                "num_experts": 128,
                "num_experts_per_tok": 8,
                "num_hidden_layers": 48,
                "num_attention_heads": 32,
                "num_key_value_heads": 4,
                "head_dim": 128,
                "vocab_size": 151936,
                "mlp_only_layers": [],
            },
            "vision_config": {"out_hidden_size": 2048},
        },
        *(31.1, 98, 2, 784, 32),
        f"its config.json, as quoted by a public parser's test; the tower {TRANSFORMERS}",
    ),
    "internvl3_2b": Published(
        "OpenGVLab/InternVL3-2B-hf",
        "InternVL",
        {
            "vision_config": {},
            "text_config": {
                "model_type": "qwen2",
                "hidden_size": 1536,
                "intermediate_size": 8960,
                "num_hidden_layers": 28,
                "num_attention_heads": 12,
                "num_key_value_heads": 2,
                "vocab_size": 151674,
            },
        },
        *(1.86, 256, 1, 1024, 32),
        f"the LLM as quoted by a public runtime's test (feed-forward width from memory); the tower {TRANSFORMERS}",
    ),
    "smolvlm2_500m": Published(
        "HuggingFaceTB/SmolVLM2-500M-Video-Instruct",
        "SmolVLM",
        {
            "scale_factor": 4,
            "vision_config": {
                "hidden_size": 768,
                "intermediate_size": 3072,
                "num_hidden_layers": 12,
                "num_attention_heads": 12,
                "image_size": 512,
                "patch_size": 16,
            },
            "text_config": {
                "model_type": "llama",
                "hidden_size": 960,
                "intermediate_size": 2560,
                "num_hidden_layers": 32,
                "num_attention_heads": 15,
                "num_key_value_heads": 5,
                "head_dim": 64,
                "vocab_size": 49280,
            },
        },
        *(0.51, 64, 1, 1024, 32),
        "its config.json, as quoted by public code that validates it",
    ),
    "video_llama3_7b": Published(
        "lkhl/VideoLLaMA3-7B-HF",
        "VideoLlama3",
        {
            "vision_config": {
                "hidden_size": 1152,
                "intermediate_size": 4304,
                "num_hidden_layers": 27,
                "num_attention_heads": 16,
                "patch_size": 14,
            },
            "text_config": {"model_type": "qwen2", **QWEN2_7B, "vocab_size": 152064},
        },
        *(8.04, 256, 1, 1024, 32),
        "from memory: SigLIP's so400m and Qwen2.5 7B; not checked against the checkpoint",
    ),
    "glm4_1v_9b": Published(
        "zai-org/GLM-4.1V-9B-Thinking",
        "Glm4v",
        {"vision_config": {}, "text_config": {}},
        *(10.3, 128, 2, 1024, 32),
        TRANSFORMERS,
    ),
    "glm4_5v": Published(
        "zai-org/GLM-4.5V",
        "Glm4vMoe",
        {
            "text_config": {
                "hidden_size": 4096,
                "intermediate_size": 10944,
                "moe_intermediate_size": 1408,
                "n_routed_experts": 128,
                "n_shared_experts": 1,
                "num_experts_per_tok": 8,
                "first_k_dense_replace": 1,
                "num_hidden_layers": 46,
                "num_attention_heads": 96,
                "num_key_value_heads": 8,
                "head_dim": 128,
                "vocab_size": 151552,
            },
            "vision_config": {"depth": 24, "hidden_size": 1536, "intermediate_size": 10944, "out_hidden_size": 4096},
        },
        *(107.7, 128, 2, 1024, 32),
        "the config.json of GLM-4.6V, as quoted by public notes, and of a public model with its LLM; 4.6V is as large",
    ),
    "glm4_6v_flash": Published(
        "zai-org/GLM-4.6V-Flash",
        "Glm46V",
        {"vision_config": {}, "text_config": {}},
        *(10.3, 128, 2, 1024, 32),
        f"the LLM as a public GGUF of it says, which {TRANSFORMERS} are; the tower {TRANSFORMERS}",
    ),
    "qwen3_5_35b_a3b": Published(
        "Qwen/Qwen3.5-35B-A3B",
        "Qwen3_5Moe",
        {
            "text_config": {
                "hidden_size": 2048,
                "num_hidden_layers": 40,
                "num_attention_heads": 16,
                "num_key_value_heads": 2,
                "head_dim": 256,
                "num_experts": 256,
                "num_experts_per_tok": 8,
                "moe_intermediate_size": 512,
                "shared_expert_intermediate_size": 512,
                "linear_conv_kernel_dim": 4,
                "linear_key_head_dim": 128,
                "linear_value_head_dim": 128,
                "linear_num_key_heads": 16,
                "linear_num_value_heads": 32,
                "vocab_size": 248320,
            },
            "vision_config": {"out_hidden_size": 2048},
        },
        *(35.1, 98, 2, 784, 32),
        f"the LLM as a public training script for it has it; the tower {TRANSFORMERS}",
    ),
    "qwen2_5_omni_7b": Published(
        "Qwen/Qwen2.5-Omni-7B",
        "Qwen2_5OmniThinker",
        {"text_config": {**QWEN2_7B, "vocab_size": 152064}, "vision_config": {"hidden_size": 1280}},
        *(8.93, 128, 2, 1024, 32),
        f"{TRANSFORMERS}, the tower's width that of Qwen2.5-VL; the thinker only, whose audio tower never runs",
    ),
    "minicpm_v4_6": Published(
        "openbmb/MiniCPM-V-4.6",
        "MiniCPMV4_6",
        {
            "tie_word_embeddings": True,
            "vision_config": {
                "hidden_size": 1152,
                "intermediate_size": 4304,
                "num_hidden_layers": 27,
                "num_attention_heads": 16,
                "image_size": 980,
                "patch_size": 14,
            },
            "text_config": {
                "hidden_size": 1024,
                "intermediate_size": 3584,
                "num_hidden_layers": 24,
                "num_attention_heads": 8,
                "num_key_value_heads": 2,
                "head_dim": 256,
                "linear_num_value_heads": 16,
                "tie_word_embeddings": True,
            },
        },
        *(1.3, 64, 1, 1024, 32),
        "its config.json; the LLM's heads and depth as a public training script for Qwen3.5 0.8B has them, "
        "which has its width; heads of linear attention from memory",
    ),
    "molmo2_8b": Published(
        "allenai/Molmo2-8B",
        "Molmo2",
        {"vision_config": {}, "adapter_config": {}, "text_config": {}},
        *(8.66, 81, 1, 729, 64),
        TRANSFORMERS,
    ),
    "llava_next_video_7b": Published(
        "llava-hf/LLaVA-NeXT-Video-7B-hf",
        "LlavaNextVideo",
        {"text_config": LLAMA_7B},
        *(7.06, 144, 1, 576, 32),
        TRANSFORMERS,
    ),
    "video_llava_7b": Published(
        "LanguageBind/Video-LLaVA-7B-hf",
        "VideoLlava",
        {"text_config": LLAMA_7B},
        *(7.37, 256, 1, 256, 8),
        TRANSFORMERS,
    ),
}


LLAVA_VIDEO_7B = {"text_config": {**QWEN2_7B, "vocab_size": 152064}}
"""lmms-lab/LLaVA-Video-7B-Qwen2, from memory."""


def on_meta(name: str) -> Any:
    """The network without weights."""
    import torch
    import transformers

    published = PUBLISHED[name]
    config = getattr(transformers, f"{published.network}Config")(**published.config)
    with torch.device("meta"):
        return getattr(transformers, f"{published.network}ForConditionalGeneration")(config)


def configured(name: str) -> Shape:
    """The sizes in conf/model, which `prunesweep cost` counts with."""
    given = ["model.checkpoint=x"] if name.startswith(("stllm", "llava_video")) else []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return shape_in(compose("cost", [f"model={name}", *given]))
