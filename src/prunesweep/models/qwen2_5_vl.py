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

from typing import Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from prunesweep.checks import require_choice
from prunesweep.cost import Shape, VisionShape
from prunesweep.models.checkpoints import stock
from prunesweep.models.decoder import ATTENTION, Decoder, llm_shape
from prunesweep.types import Clip, Merged, Places, Tokens

MODEL_TYPE = "qwen2_5_vl"
AXES = 3
LARGEST = 2**40
"""Pixels: no bound, where the frames have their final size already."""
TextAfterVideo = Literal["stock", "largest"]
"""Where text goes on: behind the larger side of the grid, or behind the video's largest position on any axis."""


class Qwen25VL(Decoder):
    """One checkpoint: `network` is the stock module, `processor` its stock processor."""

    def __init__(self, name: str, network: Any, processor: Any, text_after_video: TextAfterVideo = "stock"):
        super().__init__(network.model.language_model, network.lm_head)
        network.set_attn_implementation({"text_config": ATTENTION})
        self.name = name
        self.network = network.eval()
        self.processor = processor
        self.text_after_video = text_after_video
        self.shape = shape_of(network.config)

    @property
    def stop_ids(self) -> frozenset[int]:
        stop = self.network.generation_config.eos_token_id
        return frozenset(stop if isinstance(stop, list) else [] if stop is None else [stop])

    def encode(self, clip: Clip, scale: float = 1.0, needs: tuple[str, ...] = (), question: str | None = None) -> Tokens:
        """Raises ValueError if facts are needed: the tower's attention has windows."""
        if needs:
            raise ValueError(f"no {needs[0]} is defined for the window attention of Qwen2.5-VL's tower; use another reducer")
        frames = clip.frames.permute(0, 3, 1, 2)
        pixels = self._pixels(frames)
        _, rows, columns = self._grid(pixels)
        full = rows * columns
        if scale != 1:
            pixels = self._pixels(self._smaller(frames, rows, columns, scale), min_pixels=1, max_pixels=LARGEST)
            _, rows, columns = self._grid(pixels)
        grid = pixels["video_grid_thw"].to(self.network.device)
        values = pixels["pixel_values_videos"].to(self.network.device, self.network.dtype)
        features = self.network.model.get_video_features(values, grid).pooler_output[0]
        steps = len(features) // (rows * columns)
        vision = self.network.config.vision_config
        return Tokens(
            clip.video_id,
            x=features.unflatten(0, (steps, -1)),
            suffix=features[:0],
            grid=(rows, columns),
            step=vision.tokens_per_second * vision.temporal_patch_size * _frame_distance(clip),
            unreduced=steps * full,
            vision_patches=rows * columns * vision.spatial_merge_size**2,
            frames=steps,
        )

    def _pixels(self, frames: Tensor, **bounds: Any) -> Any:
        return self.processor.video_processor(videos=[frames], return_tensors="pt", do_sample_frames=False, **bounds)

    def _grid(self, pixels: Any) -> tuple[int, int, int]:
        """Time steps, rows and columns of tokens."""
        time, height, width = pixels["video_grid_thw"][0].tolist()
        side = self.network.config.vision_config.spatial_merge_size
        return time, height // side, width // side

    def _smaller(self, frames: Tensor, rows: int, columns: int, scale: float) -> Tensor:
        """Frames of the size that gives `scale` of the rows and columns."""
        vision = self.network.config.vision_config
        token = vision.patch_size * vision.spatial_merge_size
        size = tuple(max(1, round(scale * n)) * token for n in (rows, columns))
        small = F.interpolate(frames.float(), size=size, mode="bilinear", antialias=True)
        return small.round().clamp(0, 255).to(torch.uint8)

    def places(self, merged: Merged) -> Places:
        tokens = merged.tokens
        steps, patches, _ = tokens.x.shape
        if merged.span != steps * patches or tokens.grid is None:  # renumbered: no places in the grid
            return Places(merged.position[:, None].expand(-1, AXES), merged.span)
        rows, columns = tokens.grid
        place, time = merged.position % patches, merged.position // patches
        visual = torch.stack([(time * tokens.step).long(), place // columns, place % columns], dim=1)
        last = int((torch.tensor(steps - 1) * tokens.step).long()) if self.text_after_video == "largest" else 0
        return Places(visual, max(rows, columns, last + 1))

    def text_position(self, start: int, count: int) -> Int[Tensor, "count 3"]:
        return super().text_position(start, count)[:, None].expand(-1, AXES)

    def prompt(self, text: str, system: str = "", prefix: str = "") -> tuple[tuple[int, ...], tuple[int, ...]]:
        content = [{"type": "video"}, {"type": "text", "text": text}]
        messages = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
        messages.append({"role": "user", "content": content})
        chat = self.processor.apply_chat_template(messages, add_generation_prompt=True) + prefix
        ids = self.processor.tokenizer(chat)["input_ids"]
        video = self.network.config.video_token_id
        if ids.count(video) != 1:
            raise ValueError(f"the chat template of {self.name} gives {ids.count(video)} video tokens, expected 1")
        at = ids.index(video)
        return tuple(ids[:at]), tuple(ids[at + 1 :])

    def tokenize(self, text: str) -> tuple[int, ...]:
        return tuple(self.processor.tokenizer(text, add_special_tokens=False)["input_ids"])

    def detokenize(self, ids: tuple[int, ...]) -> str:
        return self.processor.tokenizer.decode(ids, skip_special_tokens=True).strip()


def _frame_distance(clip: Clip) -> float:
    """Seconds between the frames; half a second, the model's own, where there is one only."""
    times = clip.timestamps
    return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 and times[-1] > times[0] else 0.5


def load(name: str, checkpoint: str, dtype: str = "auto", text_after_video: TextAfterVideo = "stock") -> Qwen25VL:
    """A checkpoint folder, or a name on the Hugging Face hub, with its own processor."""
    require_choice("model.text_after_video", text_after_video, TextAfterVideo)  # before seconds of loading
    from transformers import Qwen2_5_VLForConditionalGeneration

    return Qwen25VL(name, *stock(checkpoint, Qwen2_5_VLForConditionalGeneration, MODEL_TYPE, dtype), text_after_video)


def shape_of(config: Any) -> Shape:
    """The vision part is an upper bound: it counts the window attention as full, and two linear layers as projector."""
    text, vision = config.text_config, config.vision_config
    return llm_shape(
        text,
        VisionShape(
            layers=vision.depth,
            hidden=vision.hidden_size,
            mlp=vision.intermediate_size * 3 // 2,  # three matrices where the ledger counts two
            patches=0,  # of any number: recorded with each sample
            token_patches=vision.spatial_merge_size**2,
            patch_inputs=vision.in_channels * vision.temporal_patch_size * vision.patch_size**2,
        ),
    )
