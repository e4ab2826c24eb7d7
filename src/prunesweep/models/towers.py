"""What vision towers have in common: the attention of the last layer of a stock CLIP or SigLIP."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from prunesweep.types import Tower


def last_layer_attention(
    tower: Any, entering: Float[Tensor, "t s v"], features: Float[Tensor, "t u v"], class_token: bool
) -> Tower:
    """How much each patch is attended to in the last layer, whose input is `entering`, heads side by side as one.

    With a class token (the first of s) that is its attention, else the mean over all patches.
    """
    vision = getattr(tower, "vision_model", tower)
    layer = vision.encoder.layers[-1]
    normed = layer.layer_norm1(entering)
    query, key = layer.self_attn.q_proj(normed), layer.self_attn.k_proj(normed)
    asking = query[:, :1] if class_token else query
    scores = asking.float() @ key.float().transpose(1, 2) * query.shape[-1] ** -0.5
    attention = scores.softmax(-1).mean(1)
    frames, tokens, width = key.shape
    first = 1 if class_token else 0
    return Tower(
        features=features,
        key=key[:, first:],
        attention=attention[:, first:],
        flops=2 * frames * asking.shape[1] * tokens * width,
    )
