"""What a model knows of a video besides its visual tokens, for mergers that need it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Fact(NamedTuple):
    """Something that a model knows of a video besides its visual tokens, for mergers that say that they need it."""

    value: Tensor
    flops: int = 0
    """Spent on it: multiply-adds twice, as in `prunesweep.cost`."""


FACTS = {
    "features": "t u v: what the projector gets, patch by patch; who needs it merges these, and the projector comes after",
    "attention.joined": "t u: received in the last layer, heads side by side as one, from the class token or else on average",
    "attention.class": "t u: from the class token, in the layer that the features come from; mean over the heads' softmaxes",
    "attention.received": "t u: received on average from all patches, in that layer; mean over the heads' softmaxes",
    "attention.probe": "t u: from the probe of the tower's own pooling head; mean over heads",
    "key.joined": "t u w: keys of the last layer, heads side by side",
    "key.mean": "t u d: keys of the layer that the features come from; mean over heads",
    "frame.head": "t g: each frame as the tower's own pooling head sums it up",
    "image.text_space": "t u e: patches in the space that the tower shares with a text tower",
    "question.text_space": "m e: the question's pieces there",
    "question.embedded": "m c: the question's tokens as the LLM embeds them",
}
"""What a merger may ask for, with its shape."""
FEATURES = "features"
POOLED = "pooled."
"""Before the name of a fact of shape `t u ...`: on the grid of the p visual tokens, pooled as the model pools these."""
