"""LLaVA-OneVision (arXiv 2408.03326), the stock transformers class: SigLIP, a two-layer projector, 2x2 pooling, Qwen2."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from prunesweep.cost import Shape, VisionShape
from prunesweep.models.checkpoints import stock
from prunesweep.models.decoder import ATTENTION, Decoder, llm_shape
from prunesweep.models.processing import Prepared, around_video, chat_of, ends_of_video
from prunesweep.models.towers import TowerPass, facts_of, known_facts, merged_pass
from prunesweep.shares import nearest_share
from prunesweep.types import Clip, Tokens, TowerMerger
from prunesweep.types.facts import Fact

MODEL_TYPE = "llava_onevision"


class LlavaOnevision(Decoder):
    """One checkpoint: `network` is the stock module, `processor` its stock processor, or None where others prepare inputs."""

    def __init__(self, name: str, network: Any, processor: Any = None):
        super().__init__(network.model.language_model, network.lm_head)
        network.set_attn_implementation({"text_config": ATTENTION})
        self.name = name
        self.network = network.eval()
        self.processor = processor
        self.shape = shape_of(network.config)

    @property
    def visual_id(self) -> int:
        return self.network.config.video_token_id

    @property
    def stop_ids(self) -> frozenset[int]:
        stop = self.network.generation_config.eos_token_id
        return frozenset(stop if isinstance(stop, list) else [] if stop is None else [stop])

    @functools.cached_property
    def facts(self) -> frozenset[str]:  # type: ignore[override]
        return known_facts(self.network.model.vision_tower, class_token=False)

    merges_in_tower = True

    def encode(
        self,
        clip: Clip,
        scale: float = 1.0,
        needs: tuple[str, ...] = (),
        question: str | None = None,
        tower: TowerMerger | None = None,
    ) -> Tokens:
        if scale != 1:
            return self._encode_smaller(clip, scale, needs)
        return self._encode_pixels(self._pixels(clip), clip.video_id, needs, tower)

    def prepared(
        self, inputs: Mapping[str, Any], video_id: str, needs: tuple[str, ...] = (), tower: TowerMerger | None = None
    ) -> Prepared:
        """A prompt that others have prepared with the stock processor.  Raises ValueError where there is no video in it."""
        ids = inputs["input_ids"][0].cpu()
        first, stop = ends_of_video(ids, self.visual_id, self.name)
        tokens = self._encode_pixels(inputs["pixel_values_videos"], video_id, needs, tower)
        return Prepared(tokens, tuple(ids[:first].tolist()), tuple(ids[stop:].tolist()))

    def _encode_pixels(
        self, pixels: Float[Tensor, "1 t 3 side side"], video_id: str, needs: tuple[str, ...], tower: TowerMerger | None
    ) -> Tokens:
        if tower is not None:
            return self._encode_merged(pixels, video_id, tower)
        seen = self.network.model.get_video_features(pixel_values_videos=pixels, output_hidden_states=True)
        features = seen.pooler_output[0]
        return Tokens(
            video_id,
            x=features[:-1].unflatten(0, (pixels.shape[1], -1)),
            suffix=features[-1:],
            facts=self._facts(needs, seen.hidden_states),
        )

    def _encode_merged(self, pixels: Float[Tensor, "1 t 3 side side"], video_id: str, merger: TowerMerger) -> Tokens:
        network = self.network.model
        layer, states = self.network.config.vision_feature_layer, self.network.config.vision_config.num_hidden_layers + 1
        from_end = layer if layer < 0 else layer - states
        seen = merged_pass(network.vision_tower, pixels[0], from_end, class_token=False, merger=merger)
        return Tokens(
            video_id,
            x=network.multi_modal_projector(seen.features),
            suffix=network.image_newline[None],
            unreduced=len(pixels[0]) * math.ceil(math.isqrt(seen.source.shape[1]) / 2) ** 2,
            source=seen.source,
            tower_tokens=seen.tokens,
            tower_flops=seen.flops,
        )

    def _pixels(self, clip: Clip, **size: Any) -> Float[Tensor, "1 t 3 side side"]:
        pixels = self.processor.video_processor(clip.frames.permute(0, 3, 1, 2), return_tensors="pt", **size)
        return pixels["pixel_values_videos"].to(self.network.device, self.network.dtype)

    def _encode_smaller(self, clip: Clip, scale: float, needs: tuple[str, ...]) -> Tokens:
        """The stock model has no frames of another size; its tower has, with interpolated position embeddings."""
        network, vision = self.network.model, self.network.config.vision_config
        full = vision.image_size // vision.patch_size
        side = max(1, nearest_share(full, scale))
        pixels = self._pixels(clip, size={"height": side * vision.patch_size, "width": side * vision.patch_size})
        seen = network.vision_tower(pixels[0], interpolate_pos_encoding=True, output_hidden_states=True)
        features = network.multi_modal_projector(seen.hidden_states[self.network.config.vision_feature_layer])
        return Tokens(
            clip.video_id,
            x=_pooled(features),
            suffix=network.image_newline[None],
            facts=self._facts(needs, seen.hidden_states),
            unreduced=len(clip.frames) * math.ceil(full / 2) ** 2,
            vision_patches=side**2,
        )

    def _facts(self, needs: tuple[str, ...], states: tuple[Tensor, ...]) -> dict[str, Fact]:
        layer = self.network.config.vision_feature_layer
        features, from_end = states[layer], layer if layer < 0 else layer - len(states)
        tower = self.network.model.vision_tower
        return facts_of(TowerPass(tower, states, features, from_end, class_token=False, pool=_pooled), needs, self.name)

    def project(self, features: Float[Tensor, "n v"]) -> Float[Tensor, "n c"]:
        return self.network.model.multi_modal_projector(features.to(self.network.dtype))

    def prompt(self, text: str, system: str = "", prefix: str = "") -> tuple[tuple[int, ...], tuple[int, ...]]:
        return around_video(self.processor, chat_of(self.processor, text, system, prefix), self.name)

    def tokenize(self, text: str) -> tuple[int, ...]:
        return tuple(self.processor.tokenizer(text, add_special_tokens=False)["input_ids"])

    def detokenize(self, ids: tuple[int, ...]) -> str:
        return self.processor.tokenizer.decode(ids, skip_special_tokens=True).strip()


def _pooled(x: Float[Tensor, "t u v"]) -> Float[Tensor, "t p v"]:
    """Of a square grid to half its sides, as the stock model pools."""
    side = math.isqrt(x.shape[1])
    grid = x.unflatten(1, (side, side)).permute(0, 3, 1, 2).contiguous()
    return F.interpolate(grid, size=(math.ceil(side / 2),) * 2, mode="bilinear").flatten(2).transpose(1, 2)


def load(name: str, checkpoint: str, dtype: str = "auto") -> LlavaOnevision:
    """A checkpoint folder, or a name on the Hugging Face hub, with its own processor."""
    from transformers import LlavaOnevisionForConditionalGeneration

    return LlavaOnevision(name, *stock(checkpoint, LlavaOnevisionForConditionalGeneration, MODEL_TYPE, dtype))


def shape_of(config: Any) -> Shape:
    text, vision = config.text_config, config.vision_config
    chosen = config.vision_feature_layer  # an index into the hidden states, of which the first is the embedding
    layers = vision.num_hidden_layers + 1 + chosen if chosen < 0 else chosen
    return llm_shape(
        text,
        VisionShape(
            layers=layers,
            hidden=vision.hidden_size,
            mlp=vision.intermediate_size,
            patches=(vision.image_size // vision.patch_size) ** 2,
            patch_inputs=vision.num_channels * vision.patch_size**2,
        ),
    )
