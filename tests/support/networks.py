"""Small random checkpoints of every family, in the files and with the names of the released ones."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from prunesweep.embedded.language import build_tokenizer
from prunesweep.models import pllava, stllm

TEXT = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "initializer_range": 0.15,
    "max_position_embeddings": 4096,
}
SIDE = 32
"""Pixels of CLIP's and EVA's frames."""


PLLAVA_CONFIG: dict[str, Any] = {
    "model_type": "llava",
    "pooling_shape": [16, 2, 2],
    "vision_config": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": 8,
        "projection_dim": 16,
    },
    "text_config": {**TEXT},
}
LORA_RANK = 4


def pllava_released(network: pllava.Network) -> dict[str, torch.Tensor]:
    """The weights under the names of a released checkpoint, with LoRA matrices unmerged."""
    generator = torch.Generator().manual_seed(1)
    state = {}
    for name, tensor in network.state_dict().items():
        name = re.sub(r"^language_model\.", "language_model.base_model.model.", name)
        name = re.sub(r"^vision_tower\.", "vision_tower.vision_model.", name)
        if re.search(r"\.(q|v)_proj\.weight$", name) and name.startswith("language_model"):
            target = name.removesuffix(".weight")
            rows, columns = tensor.shape
            state[f"{target}.lora_A.default.weight"] = torch.randn(LORA_RANK, columns, generator=generator)
            state[f"{target}.lora_B.default.weight"] = torch.randn(rows, LORA_RANK, generator=generator) / 10
            name = f"{target}.base_layer.weight"
        state[name] = tensor.contiguous()
    state["vision_tower.vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    return state


def save_shards(state: dict[str, torch.Tensor], folder: Path) -> None:
    """Two shards and their index."""
    names = list(state)
    files = [(f"model-0000{i + 1}-of-00002.safetensors", names[i::2]) for i in range(2)]
    for file, own in files:
        save_file({name: state[name] for name in own}, folder / file)
    index = {"weight_map": {name: file for file, own in files for name in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def pllava_checkpoint(folder: Path) -> Path:
    from transformers import CLIPImageProcessor

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    config = {**PLLAVA_CONFIG, "vocab_size": len(tokenizer)}
    torch.manual_seed(0)
    save_shards(pllava_released(pllava.Network(config)), folder)
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


def stllm_config() -> dict[str, Any]:
    vocabulary = len(build_tokenizer())
    return {
        "model_type": "st_llm_hf",
        **TEXT,
        "vocab_size": vocabulary,
        "num_query_tokens": 5,
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "image_size": SIDE,
            "patch_size": 8,
            "initializer_range": 0.2,
        },
        "qformer_config": {
            "vocab_size": vocabulary + 1,
            "hidden_size": 24,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "cross_attention_frequency": 2,
            "initializer_range": 0.2,
        },
    }


def stllm_released(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of our names under the names of a released checkpoint: the rules of `rename`, the other way round."""
    out = {}
    for name, tensor in state.items():
        old = name
        if name.startswith(("vision_model.encoder", "branch.spatial", "branch.temporal")):
            for ours, theirs in ((".self_attn.", ".attn."), (".projection.", ".proj."), (".layer_norm", ".norm")):
                old = old.replace(ours, theirs)
        if name.startswith("qformer.encoder"):
            old = old.replace(".attention.attention.", ".attention.self.").replace(
                ".crossattention.attention.", ".crossattention.self."
            )
        for ours, theirs in (
            ("vision_model.embeddings.class_embedding", "model.stllm_model.visual_encoder.cls_token"),
            ("vision_model.embeddings.position_embedding", "model.stllm_model.visual_encoder.pos_embed"),
            ("vision_model.embeddings.patch_embedding.", "model.stllm_model.visual_encoder.patch_embed.proj."),
            ("vision_model.encoder.layers.", "model.stllm_model.visual_encoder.blocks."),
            ("vision_model.post_layernorm.", "model.stllm_model.ln_vision."),
            ("branch.cls", "model.stllm_model.visual_encoder.BTAdapter_cls"),
            ("branch.position.", "model.stllm_model.visual_encoder.BTAdapter_position."),
            ("branch.spatial.", "model.stllm_model.visual_encoder.BTAdapter_S."),
            ("branch.temporal.", "model.stllm_model.visual_encoder.BTAdapter_T."),
            ("qformer.embeddings.layernorm.", "model.stllm_model.Qformer.bert.embeddings.LayerNorm."),
            ("qformer.", "model.stllm_model.Qformer.bert."),
            ("language_model.model.", "model."),
            ("language_model.lm_head.", "lm_head."),
            ("", "model.stllm_model."),
        ):
            if old.startswith(ours):
                old = theirs + old.removeprefix(ours)
                break
        if old.endswith("attn.qkv.bias"):
            query, _, value = tensor.chunk(3)
            stem = old.removesuffix("qkv.bias")
            out[f"{stem}q_bias"], out[f"{stem}v_bias"] = query.clone(), value.clone()
        else:
            out[old] = tensor.clone()
    out["model.stllm_model.embed_tokens.weight"] = out["model.embed_tokens.weight"]
    out["model.stllm_model.mvm_decoder.head.weight"] = torch.zeros(2, 2)
    return out


def stllm_checkpoint(folder: Path, variant: str) -> Path:
    """As released: pickled weights, no tokenizer of the Q-Former."""
    folder.mkdir(parents=True, exist_ok=True)
    config = stllm_config()
    sizes = {"text_config": {k: config[k] for k in (*TEXT, "vocab_size") if k in config}}
    made = {**config, **stllm.VARIANTS[variant], **sizes, "residual_width": 1024}
    torch.manual_seed(0)
    network = stllm.Network(made)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith("branch") or name in ("query_tokens",) or "proj." in name:
                parameter.normal_(std=0.2)
        for module in network.modules():  # the keys have no bias in EVA
            if type(module).__name__ == "InstructBlipAttention":
                size = module.embed_dim
                module.qkv.bias.normal_(std=0.2)
                module.qkv.bias[size : 2 * size] = 0
    state = stllm_released(network.state_dict())
    names = list(state)
    for i in range(2):
        torch.save({name: state[name] for name in names[i::2]}, folder / f"pytorch_model-0000{i + 1}-of-00002.bin")
    (folder / "config.json").write_text(json.dumps(config))
    build_tokenizer().save_pretrained(folder)
    return folder


def llava_video_checkpoint(folder: Path) -> Path:
    """As released: everything under `model.`, SigLIP within its two wrappers, no image processor."""
    from prunesweep.models import llava_video

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    text = {**TEXT, "num_key_value_heads": 2, "vocab_size": len(tokenizer)}
    vision = {**PLLAVA_CONFIG["vision_config"], "image_size": 56}
    vision.pop("projection_dim")
    config = {"model_type": llava_video.RELEASED_TYPE, **text, "rope_theta": 10000.0, "vision_config": vision}
    torch.manual_seed(0)
    network = llava_video.Network({"text_config": text, "vision_config": vision})
    with torch.no_grad():
        network.image_newline.normal_(std=0.2)
    released = {}
    for name, tensor in network.state_dict().items():
        for theirs, ours in llava_video.RULES:
            if name.startswith(ours):
                released[theirs + name.removeprefix(ours)] = tensor.clone()
                break
    released["model.vision_tower.vision_tower.vision_model.embeddings.position_ids"] = torch.arange(49)[None]
    save_shards(released, folder)
    (folder / "config.json").write_text(json.dumps({**config, "mm_newline_position": "grid", "mm_spatial_pool_mode": "average"}))
    tokenizer.save_pretrained(folder)
    return folder
