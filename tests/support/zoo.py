"""A tiny random checkpoint of every family that the adapter serves, saved as its own stock classes save it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from prunesweep.types import Clip
from support.zoo_others import (
    glm4v,
    glm4v_moe,
    glm46v,
    internvl,
    llava_next_video,
    llava_onevision,
    minicpmv4_6,
    molmo2,
    perception_lm,
    smolvlm,
    video_llama_3,
    video_llava,
)
from support.zoo_parts import SPREAD, Made
from support.zoo_qwen import qwen2_5_omni, qwen2_5_vl, qwen2_vl, qwen3_5, qwen3_5_moe, qwen3_vl, qwen3_vl_moe

ZOO: dict[str, Callable[[], Made]] = {
    make.__name__: make
    for make in (
        *(qwen2_vl, qwen2_5_vl, qwen3_vl, qwen3_vl_moe, qwen3_5, qwen3_5_moe),
        *(llava_onevision, internvl, smolvlm, video_llama_3, glm4v, glm46v, glm4v_moe, molmo2),
        *(llava_next_video, video_llava, perception_lm, minicpmv4_6, qwen2_5_omni),
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
