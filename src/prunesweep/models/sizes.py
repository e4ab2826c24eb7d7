"""The ledger's sizes, from stock configurations."""

from __future__ import annotations

from typing import Any

from prunesweep.cost import Shape, VisionShape
from prunesweep.models.decoder import llm_shape


def shape_of(config: Any) -> Shape:
    """The vision part is an upper bound: it counts window attention as full, and two linear layers as projector."""
    vision = config.vision_config
    side = getattr(vision, "image_size", 0)
    patch = getattr(vision, "patch_size", 1)
    side, patch = (x[0] if isinstance(x, (list, tuple)) else x for x in (side, patch))
    layers = getattr(vision, "depth", None) or vision.num_hidden_layers
    merged = getattr(vision, "spatial_merge_size", 1)
    return llm_shape(
        config.get_text_config(),
        VisionShape(
            layers=layers,
            hidden=vision.hidden_size,
            mlp=getattr(vision, "intermediate_size", None) or vision.embed_dim * vision.mlp_ratio,
            patches=(side // patch) ** 2 if side else 0,
            token_patches=merged**2 if not side else 0,
            patch_inputs=3 * getattr(vision, "temporal_patch_size", 1) * patch**2,
        ),
    )
