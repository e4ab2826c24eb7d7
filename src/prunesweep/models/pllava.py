"""PLLaVA (arXiv 2404.16994): CLIP-L/336, a two-layer projector, pooling to 16 x 12 x 12 tokens, Vicuna.

transformers cannot read its checkpoints: the language model is stored as PEFT wraps it, with its LoRA matrices unmerged.  They
are merged here, W + alpha / r B A, when the weights are loaded.  PLLaVA's own evaluation has alpha 4, PruneVid's released
scripts 14 (4 on VideoChatGPT-Bench); compare methods with one and the same.

Frames are resized twice as in the release: to 640 pixels on the longer side, but no smaller than the tower's own size on the
shorter, then by CLIP's processor, which cuts out the middle.  The projector comes before the pooling.  With fewer than
16 frames time is not pooled.
"""

from __future__ import annotations

import functools
import logging
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from prunesweep.checks import require_number
from prunesweep.cost import Shape, VisionShape
from prunesweep.models.checkpoints import (
    Manifest,
    Source,
    dtype_name,
    local_folder,
    manifest,
    require_family,
    require_shards,
    safetensors_sources,
)
from prunesweep.models.decoder import ATTENTION, Decoder, llm_shape
from prunesweep.models.towers import TowerPass, facts_of, known_facts, merged_pass
from prunesweep.shares import nearest_share
from prunesweep.types import Clip, Tokens, TowerMerger

log = logging.getLogger(__name__)

MODEL_TYPE = "llava"
"""As its config.json says; a checkpoint of LLaVA itself lacks the pooling."""
IMAGE = "<image>"
SYSTEM = (
    "You are Video-ChatGPT, a large vision-language assistant. You are able to understand the video content that the user "
    "provides, and assist the user with a variety of tasks using natural language.Follow the instructions carefully and explain "
    "your answers in detail based on the provided video."
)
"""Of PLLaVA's released code (Apache-2.0), where a protocol has none of its own."""
LONGER_SIDE = 640
"""Pixels, of the first resizing."""
FEATURE_LAYER = -2
LORA = re.compile(r"\.lora_(A|B)(\.default)?\.weight$")
NOT_NEEDED = re.compile(r"(position_ids|rotary_emb\.inv_freq)$")


class Projector(nn.Module):
    """Two linear layers, named as in the checkpoint."""

    def __init__(self, vision: int, hidden: int):
        super().__init__()
        self.linear_1 = nn.Linear(vision, hidden)
        self.linear_2 = nn.Linear(hidden, hidden)

    def forward(self, x: Float[Tensor, "*n v"]) -> Float[Tensor, "*n c"]:
        return self.linear_2(F.gelu(self.linear_1(x)))


class Network(nn.Module):
    """Stock CLIP and Llama with the projector between them."""

    def __init__(self, config: dict[str, Any]):
        from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

        super().__init__()
        text = {"vocab_size": config.get("vocab_size", 32064), **config.get("text_config", {})}
        vision = CLIPVisionConfig(**config["vision_config"])
        self.vision_tower = CLIPVisionModel(vision)
        self.language_model = LlamaForCausalLM(LlamaConfig(**text))
        self.multi_modal_projector = Projector(vision.hidden_size, self.language_model.config.hidden_size)
        self.pooling_shape: tuple[int, int, int] = tuple(config["pooling_shape"])


class Pllava(Decoder):
    """One checkpoint with its tokenizer and image processor."""

    def __init__(self, name: str, network: Network, tokenizer: Any, image_processor: Any):
        super().__init__(network.language_model.model, network.language_model.lm_head)
        network.language_model.set_attn_implementation(ATTENTION)
        self.name = name
        self.network = network.eval()
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.shape = shape_of(network.vision_tower.config, network.language_model.config)

    @property
    def stop_ids(self) -> frozenset[int]:
        stop = self.tokenizer.eos_token_id
        return frozenset() if stop is None else frozenset([stop])

    @functools.cached_property
    def facts(self) -> frozenset[str]:  # type: ignore[override]
        return known_facts(self.network.vision_tower, class_token=True)

    merges_in_tower = True

    def encode(
        self,
        clip: Clip,
        scale: float = 1.0,
        needs: tuple[str, ...] = (),
        question: str | None = None,
        tower: TowerMerger | None = None,
    ) -> Tokens:
        if tower is not None:
            return self._encode_merged(clip, tower)
        vision = self.network.vision_tower.config
        full = vision.image_size // vision.patch_size
        side = max(1, nearest_share(full, scale))
        seen = self.network.vision_tower(
            self._pixels(clip, side), interpolate_pos_encoding=side != full, output_hidden_states=True
        )
        features = seen.hidden_states[FEATURE_LAYER][:, 1:]
        frames = len(clip.frames)
        time, rows, columns = self.network.pooling_shape
        time = min(time, frames)
        pooled = (time, *(max(1, round(n * side / full)) for n in (rows, columns)))

        def pool(x: Float[Tensor, "t u v"]) -> Float[Tensor, "t p v"]:
            grid = x.unflatten(1, (side, side)).permute(3, 0, 1, 2)
            return F.adaptive_avg_pool3d(grid, pooled).flatten(2).permute(1, 2, 0)

        passed = TowerPass(self.network.vision_tower, seen.hidden_states, features, FEATURE_LAYER, class_token=True, pool=pool)
        x = pool(self.network.multi_modal_projector(features))
        return Tokens(
            clip.video_id,
            x=x,
            suffix=x[:0, 0],
            grid=(pooled[1], pooled[2]),
            facts=facts_of(passed, needs, self.name),
            unreduced=time * rows * columns,
            vision_patches=side**2,
            frames=frames,
        )

    def _encode_merged(self, clip: Clip, merger: TowerMerger) -> Tokens:
        """Without pooling over space, and so without pooling over time.  Raises ValueError where the model would pool frames."""
        vision = self.network.vision_tower.config
        time, rows, columns = self.network.pooling_shape
        frames = len(clip.frames)
        if frames > time:
            raise ValueError(
                f"{self.name} pools {frames} frames to {time}, and what its tower merges has no grid; set frames={time}"
            )
        pixels = self._pixels(clip, vision.image_size // vision.patch_size)
        seen = merged_pass(self.network.vision_tower, pixels, FEATURE_LAYER, class_token=True, merger=merger)
        x = self.network.multi_modal_projector(seen.features)
        return Tokens(
            clip.video_id,
            x=x,
            suffix=x[:0, 0],
            unreduced=frames * rows * columns,
            source=seen.source,
            tower_tokens=seen.tokens,
            tower_flops=seen.flops,
        )

    def _pixels(self, clip: Clip, side: int) -> Float[Tensor, "t 3 side side"]:
        vision = self.network.vision_tower.config
        frames = first_resize(clip.frames.permute(0, 3, 1, 2), vision.image_size)
        pixels = side * vision.patch_size
        size = {"size": {"shortest_edge": pixels}, "crop_size": {"height": pixels, "width": pixels}}
        values = self.image_processor(images=list(frames), return_tensors="pt", **size)["pixel_values"]
        weight = self.network.multi_modal_projector.linear_1.weight
        return values.to(weight.device, weight.dtype)

    def project(self, features: Float[Tensor, "n v"]) -> Float[Tensor, "n c"]:
        return self.network.multi_modal_projector(features)

    def prompt(self, text: str, system: str = "", prefix: str = "") -> tuple[tuple[int, ...], tuple[int, ...]]:
        ids = self.tokenizer(f"{system or SYSTEM} USER: {IMAGE}\n USER: {text} ASSISTANT:{prefix}")["input_ids"]
        image = self.tokenizer.convert_tokens_to_ids(IMAGE)
        if ids.count(image) != 1:
            raise ValueError(f"the prompt of {self.name} must hold {IMAGE} once, got {ids.count(image)} times")
        at = ids.index(image)
        return tuple(ids[:at]), tuple(ids[at + 1 :])

    def stock_logits(self, clip: Clip, text: str) -> Float[Tensor, "s vocabulary"]:
        return self.logits_around(clip, text, self.network.language_model)

    def tokenize(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def detokenize(self, ids: tuple[int, ...]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()


def first_resize(frames: Tensor, tower_size: int) -> Tensor:
    """The release's own resizing of `t 3 height width` bytes, before CLIP's processor."""
    height, width = frames.shape[2:]
    size = first_size(height, width, tower_size)
    if size == (height, width):
        return frames
    resized = F.interpolate(frames.float(), size=size, mode="bicubic", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)


def first_size(height: int, width: int, tower_size: int) -> tuple[int, int]:
    """Height and width after the first resizing: both sides are truncated as in the release, the longer one from the shorter."""
    short, long = min(height, width), max(height, width)
    ratio = long / short
    short_wanted = int(max(tower_size, min(short, min(LONGER_SIDE, long) / ratio)))
    long_wanted = int(short_wanted * long / short)
    return (short_wanted, long_wanted) if height <= width else (long_wanted, short_wanted)


def rename(name: str) -> str | None:
    """A checkpoint's name of a tensor as ours; None for what is not needed."""
    if NOT_NEEDED.search(name):
        return None
    name = name.replace("language_model.base_model.model.", "language_model.", 1)
    name = name.replace(".base_layer.", ".").replace("vision_tower.vision_model.", "vision_tower.", 1)
    return LORA.sub(r".lora_\1", name)


def read_manifest(sources: Iterable[Source], network: Network) -> Manifest:
    """LoRA matrices must come in pairs of one rank that fit their weight."""
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = manifest(list(sources), expected, rename, lambda name: bool(re.search(r"\.lora_[AB]$", name)))
    for name in [name for name in found.used if name.endswith(("lora_A", "lora_B"))]:
        target, _, which = name.rpartition(".")
        other = f"{target}.lora_{'B' if which == 'lora_A' else 'A'}"
        if other not in found.used:
            found.missing.append(other)
        elif f"{target}.weight" not in expected:
            found.extra.append(found.used[name].name)
        elif which == "lora_A":
            rows, columns = expected[f"{target}.weight"]
            a, b = found.used[name].shape, found.used[other].shape
            if a[1] != columns or b[0] != rows or a[0] != b[1]:
                found.misshapen.append(f"LoRA of {target}: {a} and {b} for {rows} x {columns}")
    found.missing += [f"{target}.lora_{which}" for target in _without_lora(found) for which in "AB"]
    return found


def _without_lora(found: Manifest) -> list[str]:
    """Weights whose LoRA matrices are missing: their name says that they have some, or the same weights of other layers do."""
    adapted = {name.rpartition(".")[0] for name in found.used if name.endswith((".lora_A", ".lora_B"))}
    kinds = {target.rpartition(".")[2] for target in adapted}
    weights = {
        name.removesuffix(".weight"): source.name
        for name, source in found.used.items()
        if name.startswith("language_model.") and name.endswith(".weight")
    }
    return [
        target
        for target, name in weights.items()
        if target not in adapted and (".base_layer." in name or target.rpartition(".")[2] in kinds)
    ]


def merged_state(found: Manifest, alpha: float, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """All weights with W + alpha / r B A where there are LoRA matrices, computed in float32 and rounded once, to `dtype`."""
    state = {}
    for name, source in found.used.items():
        if name.endswith(("lora_A", "lora_B")):
            continue
        weight = source.read()
        kind = weight.dtype if dtype is None else dtype
        target = name.removesuffix(".weight")
        if f"{target}.lora_A" in found.used:
            a, b = (found.used[f"{target}.lora_{which}"].read().float() for which in "AB")
            weight = weight.float() + alpha / len(a) * (b @ a)
        state[name] = weight.to(kind)
    return state


def load(name: str, checkpoint: str, lora_alpha: float = 14.0, dtype: str = "auto") -> Pllava:
    """A folder as released or as `prunesweep model convert pllava` writes it, or a name on the Hugging Face hub.

    Raises ValueError, in one line, for a checkpoint that is incomplete, of another family, or does not fit the model.
    """
    from transformers import AutoTokenizer, CLIPImageProcessor

    require_number("model.lora_alpha", lora_alpha)
    if not math.isfinite(lora_alpha):
        raise ValueError(f"model.lora_alpha must be a number, got {lora_alpha}")
    folder = local_folder(checkpoint)
    config = read_config(folder)
    with torch.device("meta"):
        network = Network(config)
    found = read_manifest(safetensors_sources(require_shards(folder)), network)
    found.require_complete(str(folder))
    if not any(name.endswith(".lora_A") for name in found.used):
        log.warning("%s has no LoRA matrices, so model.lora_alpha does nothing: it is merged already, or not PLLaVA's", folder)
    wanted = dtype_name(dtype)
    state = merged_state(found, lora_alpha, None if wanted == "auto" else getattr(torch, wanted))
    network = materialize(network, state)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        image_processor = CLIPImageProcessor.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ValueError(f"checkpoint folder {str(folder)!r} has no usable tokenizer or image processor: {error}") from error
    return Pllava(name, network, tokenizer, image_processor)


def read_config(folder: Path) -> dict[str, Any]:
    """Raises ValueError for a configuration without pooling, as LLaVA's own has it."""
    config = require_family(folder, MODEL_TYPE)
    if "pooling_shape" not in config or "vision_config" not in config:
        raise ValueError(f"{folder / 'config.json'} has no pooling_shape and vision_config: a LLaVA model, but not PLLaVA")
    shape = config["pooling_shape"]
    if not (isinstance(shape, list) and len(shape) == 3 and all(isinstance(n, int) and n > 0 for n in shape)):
        raise ValueError(f"{folder / 'config.json'}: pooling_shape must be three whole numbers above 0, got {shape!r}")
    return config


def materialize(network: Any, state: dict[str, Tensor]) -> Any:
    """A network made on the meta device with its weights; buffers that are computed and not stored are made anew."""
    network.load_state_dict(state, strict=True, assign=True)
    for module in network.modules():
        for key, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_meta:
                setattr(module, key, _computed_buffer(module, key, buffer))
    return network


def _computed_buffer(module: Any, key: str, buffer: Tensor) -> Tensor:
    if key == "position_ids":
        return torch.arange(buffer.shape[-1]).expand(buffer.shape)
    if key in ("inv_freq", "original_inv_freq"):
        return module.compute_default_rope_parameters(module.config)[0]
    raise ValueError(f"{type(module).__name__} computes a buffer {key} that is not known here")


def shape_of(vision: Any, text: Any) -> Shape:
    return llm_shape(
        text,
        VisionShape(
            layers=vision.num_hidden_layers,  # the stock tower runs its last layer, though its output is not used
            hidden=vision.hidden_size,
            mlp=vision.intermediate_size,
            patches=(vision.image_size // vision.patch_size) ** 2,
            patch_inputs=vision.num_channels * vision.patch_size**2,
        ),
    )
