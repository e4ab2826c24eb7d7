"""Input down-sampling: smaller frames, and so fewer patches and visual tokens, before anything is computed.

The baseline that VTC-Bench (arXiv 2510.07143) found to beat many compressors.  Its models take images of any size; a tower
with a fixed grid gets its position embeddings interpolated, as its stock code does for other sizes.  Unlike all other
methods here it saves work in the vision tower, which `total_flops` counts and the LLM's prefill does not.
"""

from __future__ import annotations

from dataclasses import dataclass

from prunesweep.checks import require_ratio


@dataclass(frozen=True)
class Resize:
    """Frames whose sides are `scale` of the model's own, rounded to whole patches."""

    scale: float = 0.5

    def __post_init__(self) -> None:
        require_ratio("scale", self.scale)
