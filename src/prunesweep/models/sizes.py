"""The ledger's sizes, from stock configurations: a function of three lines for each kind of tower."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from prunesweep.cost import MERGED, LinearShape, Shape, VisionShape
from prunesweep.models import llava_onevision
from prunesweep.models.decoder import llm_shape

FULL, LINEAR = "full_attention", "linear_attention"
"""In a configuration's `layer_types`."""
GATED = 3
"""Matrices of a gated feed-forward network, where the ledger's towers have two."""


def shape_of(config: Any) -> Shape:
    """Of a family that the adapter serves."""
    if config.model_type == llava_onevision.MODEL_TYPE:
        return llava_onevision.shape_of(config)
    text = config.get_text_config()
    vision = TOWERS[config.model_type](config, config.vision_config, text.hidden_size)
    return with_linear(with_experts(llm_shape(text, vision), text), text)


def with_linear(shape: Shape, text: Any) -> Shape:
    """With the sizes of layers of linear attention.  Raises ValueError where those of full attention are at uneven distances."""
    kinds = list(getattr(text, "layer_types", None) or [])
    if LINEAR not in kinds:
        return shape
    every = kinds.index(FULL) + 1 if FULL in kinds else 0
    if not every or kinds != [FULL if (index + 1) % every == 0 else LINEAR for index in range(len(kinds))]:
        raise ValueError(
            f"layers with full attention are at uneven distances ({', '.join(kinds)}); no family known here has that"
        )
    linear = LinearShape(
        every=every,
        key_heads=text.linear_num_key_heads,
        key_size=text.linear_key_head_dim,
        value_heads=text.linear_num_value_heads,
        value_size=text.linear_value_head_dim,
        kernel=text.linear_conv_kernel_dim,
    )
    return replace(shape, linear=linear, gated=True)


def with_experts(shape: Shape, text: Any) -> Shape:
    """With the experts that run and the router, averaged over the layers, of which the first may be plain ones."""
    experts = getattr(text, "num_experts", None) or getattr(text, "n_routed_experts", None)
    if not experts:
        return shape
    width = text.moe_intermediate_size * (text.num_experts_per_tok + (getattr(text, "n_shared_experts", None) or 0))
    shared = getattr(text, "shared_expert_intermediate_size", None) or 0  # which has a gate of its own, as wide as one expert's
    plain = len(getattr(text, "mlp_only_layers", None) or []) + (getattr(text, "first_k_dense_replace", None) or 0)
    routed = shape.layers - plain
    return replace(
        shape,
        mlp=round((plain * shape.mlp + routed * (width + shared)) / shape.layers),
        experts=round(routed * (experts + (shared > 0)) / shape.layers),
    )


def _first(size: Any) -> int:
    return size[0] if isinstance(size, (list, tuple)) else size


def _tower(vision: Any, inputs: int, mlp: int, outside: float, **more: int) -> VisionShape:
    """`outside` of a patch besides its embedding."""
    layers = getattr(vision, "depth", None) or vision.num_hidden_layers
    width = more.pop("hidden", vision.hidden_size)
    return VisionShape(layers, width, mlp, patch_inputs=inputs, outside=inputs * width + round(outside), **more)


def _any_size(vision: Any) -> dict[str, int]:
    return {"patches": 0, "token_patches": vision.spatial_merge_size**2}  # of any number: recorded with each sample


def _fixed(vision: Any) -> dict[str, int]:
    return {"patches": (_first(vision.image_size) // _first(vision.patch_size)) ** 2}


def _inputs(vision: Any) -> int:
    return 3 * getattr(vision, "temporal_patch_size", 1) * _first(vision.patch_size) ** 2


def _merger(width: int, merged: int, text: int) -> float:
    """Two layers on the patches of a token side by side, for each patch."""
    return merged * width**2 + width * text


def _qwen2_vl(config: Any, vision: Any, text: int) -> VisionShape:
    width = vision.embed_dim
    outside = _merger(width, vision.spatial_merge_size**2, text)
    return _tower(vision, _inputs(vision), int(width * vision.mlp_ratio), outside, hidden=width, **_any_size(vision))


def _qwen2_5_vl(config: Any, vision: Any, text: int) -> VisionShape:
    return _tower(
        vision,
        _inputs(vision),
        vision.intermediate_size * GATED // 2,
        _merger(vision.hidden_size, vision.spatial_merge_size**2, text),
        window=(vision.window_size // vision.patch_size) ** 2,
        window_layers=vision.depth - len(vision.fullatt_block_indexes),
        **_any_size(vision),
    )


def _qwen2_5_omni(config: Any, vision: Any, text: int) -> VisionShape:
    """Of the thinker, that is; the audio tower does not run."""
    return _qwen2_5_vl(config, vision, text)


def _qwen3_vl(config: Any, vision: Any, text: int) -> VisionShape:
    mergers = 1 + len(getattr(vision, "deepstack_visual_indexes", ()))
    outside = mergers * _merger(vision.hidden_size, vision.spatial_merge_size**2, text)
    return _tower(vision, _inputs(vision), vision.intermediate_size, outside, **_any_size(vision))


def _glm4v(config: Any, vision: Any, text: int) -> VisionShape:
    merged, out = vision.spatial_merge_size**2, vision.out_hidden_size
    outside = vision.hidden_size * out + (out**2 + GATED * out * vision.intermediate_size) / merged
    return _tower(vision, _inputs(vision), out * GATED // 2, outside, **_any_size(vision))


def _internvl(config: Any, vision: Any, text: int) -> VisionShape:
    merged = round(1 / config.downsample_ratio) ** 2
    outside = vision.hidden_size * text + text**2 / merged
    return _tower(vision, _inputs(vision), vision.intermediate_size, outside, class_tokens=1, **_fixed(vision))


def fixed_tower(vision: Any, projector: float) -> VisionShape:
    """For frames of one size; `projector` is multiply-adds of a patch."""
    return _tower(vision, _inputs(vision), vision.intermediate_size, projector, **_fixed(vision))


def _smolvlm(config: Any, vision: Any, text: int) -> VisionShape:
    return fixed_tower(vision, vision.hidden_size * text)


def _video_llama_3(config: Any, vision: Any, text: int) -> VisionShape:
    merged = 4  # video_merge_sizes of its processor: two by two
    outside = (vision.hidden_size * text + text**2) / merged
    return _tower(vision, _inputs(vision), vision.intermediate_size, outside, patches=0, token_patches=merged)


def _molmo2(config: Any, vision: Any, text: int) -> VisionShape:
    """Its features are of layers before the last, but all of them run; nine patches are pooled by attention."""
    adapter, pooled = config.adapter_config, 9
    seen = adapter.hidden_size * len(adapter.vision_feature_layer)
    heads, kv_heads = (n * adapter.head_dim for n in (adapter.num_attention_heads, adapter.num_key_value_heads))
    token = seen * heads + heads * adapter.hidden_size + adapter.intermediate_size * (2 * adapter.hidden_size + text)
    outside = 2 * seen * kv_heads + 2 * heads + token / pooled
    return _tower(vision, _inputs(vision), vision.intermediate_size, outside, **_fixed(vision))


def _clip(vision: Any, projector: float) -> VisionShape:
    return _tower(vision, _inputs(vision), vision.intermediate_size, projector, class_tokens=1, **_fixed(vision))


def _llava_next_video(config: Any, vision: Any, text: int) -> VisionShape:
    """Its projector comes after the pooling."""
    return _clip(vision, (vision.hidden_size * text + text**2) / config.spatial_pool_stride**2)


def _video_llava(config: Any, vision: Any, text: int) -> VisionShape:
    """Its class token is projected, too."""
    patches = _fixed(vision)["patches"]
    return _clip(vision, (vision.hidden_size * text + text**2) * (patches + 1) / patches)


def _perception_lm(config: Any, vision: Any, text: int) -> VisionShape:
    """Of timm, whose settings say how long and wide it is; its projector comes before the pooling."""
    own = vision.model_args
    width, patch = own["embed_dim"], own.get("patch_size", PERCEPTION_PATCH)
    return VisionShape(
        layers=own["depth"],
        hidden=width,
        mlp=4 * width,
        patches=(_first(own["img_size"]) // _first(patch)) ** 2,
        patch_inputs=3 * _first(patch) ** 2,
        outside=3 * _first(patch) ** 2 * width + width * text + text**2,
        class_tokens=int(config.vision_use_cls_token),
    )


def _minicpmv4_6(config: Any, vision: Any, text: int) -> VisionShape:
    """A merger of four patches within the tower, with attention among these, and another one behind it."""
    width, wide = vision.hidden_size, vision.intermediate_size
    within = 4 * width**2 + 2 * MERGED * width + MERGED * wide * width + wide * width
    behind = (MERGED * width**2 + width * text) / MERGED
    return _tower(
        vision,
        _inputs(vision),
        wide,
        within + behind,
        patches=0,
        token_patches=MERGED**2,
        merged_after=vision.insert_layer_id + 1,
    )


PERCEPTION_PATCH = 14
"""Pixels a side, of the towers that were released."""
TOWERS: dict[str, Callable[[Any, Any, int], VisionShape]] = {
    "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen2_5_omni_thinker": _qwen2_5_omni,
    "qwen3_vl": _qwen3_vl,
    "qwen3_vl_moe": _qwen3_vl,
    "qwen3_5": _qwen3_vl,
    "qwen3_5_moe": _qwen3_vl,
    "internvl": _internvl,
    "smolvlm": _smolvlm,
    "video_llama_3": _video_llama_3,
    "glm4v": _glm4v,
    "glm46v": _glm4v,
    "glm4v_moe": _glm4v,
    "molmo2": _molmo2,
    "llava_next_video": _llava_next_video,
    "video_llava": _video_llava,
    "perception_lm": _perception_lm,
    "minicpmv4_6": _minicpmv4_6,
}
