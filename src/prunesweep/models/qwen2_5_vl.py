"""Qwen2.5-VL (arXiv 2502.13923), the stock transformers class: a window-attention ViT of any resolution, Qwen2.5.

Two frames make one time step; its tokens stand in time, row and column (mrope).  A token that a reducer leaves at its
original place, or that stands for several (PruneVid's merged tokens: that of a segment's first frame and the middle patch),
keeps the time, row and column of that place.  Renumbered tokens have no place in the grid: they count on like text, the same
number on all three axes.

Where the text after a video begins is a setting, because transformers changed it: behind the larger side of the grid
(`stock`, as 5.23 and 5.24 do), or behind the video's largest position on any axis (`largest`, as up to 5.0, which published
numbers used); in long videos that is time.  Generated tokens and options go on behind the prompt's last token either way, as
in `generate`.
"""

from __future__ import annotations

from prunesweep.models.adapter import StockModel, TextAfterVideo, load_family


def load(name: str, checkpoint: str, dtype: str = "auto", text_after_video: TextAfterVideo = "stock") -> StockModel:
    """A checkpoint folder, or a name on the Hugging Face hub, with its own processor."""
    return load_family("qwen2_5_vl", name, checkpoint, dtype, text_after_video)
