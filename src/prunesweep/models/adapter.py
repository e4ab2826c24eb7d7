"""Stock video LLMs of transformers: whatever their forward does before the decoder layers is recorded, not written again.

A video goes through the family's own stock processor and its own stock forward, with layers that only note what they get
(`recording`): visual tokens, text and marks among them, positions, what is added behind layers and who sees whom.  A token that
a reducer leaves keeps its slot in that sequence.  A merged token sits in the slot of the patch whose place it keeps, or else of
the first that went to it, with its own embedding; what is added behind layers (deep-stack) is that patch's, no mean.  Renumbered
tokens, and text among them, count on like text.  Text among the tokens is never reduced: a timestamp stays when its frame goes.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from prunesweep.checks import require_at_least, require_choice
from prunesweep.models import llava_onevision
from prunesweep.models.checkpoints import stock
from prunesweep.models.decoder import ATTENTION, Decoder
from prunesweep.models.families import FAMILIES, Family, require_family_of, require_version
from prunesweep.models.processing import Prepared, around_video, chat_of, ends_of_video, placed, video_inputs
from prunesweep.models.recording import Recording, parts_of, record
from prunesweep.models.sizes import shape_of
from prunesweep.types import Clip, Tokens, TowerMerger
from prunesweep.types.slots import Slots

GRID_AXES = 3
"""Time, row and column."""
LARGEST = 2**40
"""Pixels: no bound, where the frames have their final size already."""
TextAfterVideo = Literal["stock", "largest"]
"""Where text goes on: as the installed transformers has it, or behind the video's largest position on any axis."""
ASKED = "?"
"""Any text: what a recording is made of ends before it."""


class Grid(NamedTuple):
    """Of a video's visual tokens."""

    steps: int
    rows: int
    columns: int
    patches: int | None
    """That the tower sees of each step, where that depends on the video."""


class Pixels(NamedTuple):
    """Bounds of what a processor leaves of the pixels, as it means them: of a frame, or of all; None: the checkpoint's own."""

    least: int | None = None
    most: int | None = None

    def size(self, name: str, processor: Any) -> dict[str, Any]:
        """A setting of the video processor.  Raises ValueError for one that knows no bounds."""
        if self == OWN_PIXELS:
            return {}
        own = processor.size
        if not _has_bounds(processor):
            raise ValueError(f"the processor of {name} brings every frame to its own size; leave model.most_pixels=null")
        for setting, value in (("least_pixels", self.least), ("most_pixels", self.most)):
            if value is not None:
                require_at_least(f"model.{setting}", value, 1)
        return {"size": {"shortest_edge": self.least or own["shortest_edge"], "longest_edge": self.most or own["longest_edge"]}}


OWN_PIXELS = Pixels()


def _has_bounds(processor: Any) -> bool:
    """Whether frames may have any size between two."""
    own = processor.size or {}
    return bool(own.get("shortest_edge") and own.get("longest_edge"))


def _frames_of(inputs: Mapping[str, Any]) -> int:
    """Of the video in a stock processor's inputs, where nothing else says how many steps there are."""
    if "target_sizes_videos" in inputs:
        return len(inputs["target_sizes_videos"])
    pixels = inputs.get("pixel_values_videos", inputs.get("pixel_values"))
    return pixels.shape[-4] if pixels is not None and pixels.ndim > 3 else 1


def _grid_of(inputs: Mapping[str, Any], frames: int, tokens: int) -> Grid:
    """Of a stock processor's inputs that have so many visual tokens."""
    if "video_grids" in inputs:
        steps, rows, columns = inputs["video_grids"][0].tolist()
        return Grid(steps, rows, columns, None)
    if "video_grid_thw" in inputs:
        steps, height, width = inputs["video_grid_thw"][0].tolist()
    elif "target_sizes_videos" in inputs:
        steps, (height, width) = frames, inputs["target_sizes_videos"][0].tolist()
    else:
        side = round((tokens / frames) ** 0.5)
        rows, columns = (side, side) if side * side * frames == tokens else (1, tokens // frames)
        return Grid(frames, rows, columns, None)
    merged = round((height * width * steps / tokens) ** 0.5)  # patches on a token's side
    return Grid(steps, height // merged, width // merged, height * width)


class StockModel(Decoder):
    """One checkpoint: `network` is the stock module, `processor` its stock processor, or None where others prepare inputs."""

    def __init__(
        self,
        name: str,
        family: Family,
        network: Any,
        processor: Any = None,
        text_after_video: TextAfterVideo = "stock",
        pixels: Pixels = OWN_PIXELS,
    ):
        """Raises ValueError for a network that is built otherwise, and for a processor without a video part."""
        self.parts = parts_of(network)
        super().__init__(self.parts.language_model, self.parts.head)
        if processor is not None and getattr(processor, "video_processor", None) is None:
            raise ValueError(f"the processor of {name} has no video part; use a checkpoint with video_preprocessor_config.json")
        if text_after_video != "stock" and not family.text_after_video:
            raise ValueError(
                f"model.text_after_video={text_after_video} is a rule of Qwen2-VL and Qwen2.5-VL; {name} has stock only"
            )
        network.set_attn_implementation({"text_config": ATTENTION})
        self.name, self.family = name, family
        self.network = network.eval()
        self.processor = processor
        self.text_after_video = text_after_video
        self.video = dict(family.video) | (pixels.size(name, processor.video_processor) if processor is not None else {})
        self.shape = shape_of(network.config)
        rope = getattr(self.language_model.config, "rope_parameters", None) or {}
        self.axes = GRID_AXES if "mrope_section" in rope else 0

    @property
    def visual_id(self) -> int:
        return getattr(self.network.config, self.family.visual)

    @property
    def stop_ids(self) -> frozenset[int]:
        stop = self.network.generation_config.eos_token_id
        return frozenset(stop if isinstance(stop, list) else [] if stop is None else [stop])

    @functools.cached_property
    def encoder_fingerprint(self) -> str:
        """With the rule of positions, which are recorded where a video is encoded."""
        return f"{super().encoder_fingerprint} slots {self.text_after_video} {self.video}"

    # A video.

    def encode(self, clip: Clip, scale: float = 1.0, needs: tuple[str, ...] = (), question: str | None = None) -> Tokens:
        """Raises ValueError for facts, which no tower is known to have, and for smaller frames where they have no meaning."""
        if needs:
            raise ValueError(f"no {needs[0]} is known of {self.name}'s vision tower; use another reducer")
        inputs, start, frames = self.inputs(clip, ASKED), len(self.prompt(ASKED)[0]), len(clip.frames)
        ids = self._ids_of_video(inputs)
        if scale == 1:
            return self._tokens(clip.video_id, inputs, slice(start, start + len(ids)), frames)
        full = self._grid(inputs, frames, int(self._visual(ids, frames).sum()))
        smaller = self._smaller(clip, full, scale)
        inputs = self.inputs(smaller, ASKED, size={"shortest_edge": 1, "longest_edge": LARGEST})
        ids = self._ids_of_video(inputs)
        return self._tokens(clip.video_id, inputs, slice(start, start + len(ids)), frames, full)

    def prepared(
        self, inputs: Mapping[str, Any], video_id: str, needs: tuple[str, ...] = (), tower: TowerMerger | None = None
    ) -> Prepared:
        """A prompt that others have prepared with the stock processor.  Raises ValueError where there is no video in it."""
        ids = inputs["input_ids"][0].cpu()
        first, stop = ends_of_video(ids, self.visual_id, self.name)
        behind = self.family.behind
        if isinstance(behind, str):
            behind = int((ids[stop:] == getattr(self.network.config, behind)).nonzero()[0])
        block = slice(first - self.family.ahead, stop + behind)
        tokens = self._tokens(video_id, inputs, block, _frames_of(inputs))
        return Prepared(tokens, tuple(ids[: block.start].tolist()), tuple(ids[block.stop :].tolist()))

    def _tokens(self, video_id: str, inputs: Mapping[str, Any], block: slice, frames: int, full: Grid | None = None) -> Tokens:
        """Of the part of a prompt that a video is in; `full` is its grid before its frames were made smaller."""
        ids = inputs["input_ids"][0].cpu()[block]
        visual = self._visual(ids, frames)
        grid = self._grid(inputs, frames, int(visual.sum()))
        full = full or grid
        visual = visual.to(self.network.device)
        noted = record(self.parts, inputs, self.axes)
        x = noted.embedded[block][visual]
        return Tokens(
            video_id,
            x=x.unflatten(0, (grid.steps, -1)),
            suffix=x[:0],
            grid=(grid.rows, grid.columns),
            unreduced=full.steps * full.rows * full.columns,
            vision_patches=grid.patches,
            frames=grid.steps,
            slots=self._slots(noted, block, visual),
        )

    def inputs(self, clip: Clip, text: str, **video: Any) -> dict[str, Any]:
        """All that the stock model takes, from its stock processor, of a question about our frames."""
        chat = self._chat(text)
        return placed(video_inputs(self.processor, clip, chat, **self.video | video), self.network)

    def _ids_of_video(self, inputs: Mapping[str, Any]) -> Int[Tensor, " b"]:
        """What the processor put in the place of the video.  Raises ValueError if the text around it became another."""
        ids = inputs["input_ids"][0].cpu()
        before, after = self.prompt(ASKED)
        stop = len(ids) - len(after)
        if tuple(ids[: len(before)].tolist()) != before or tuple(ids[stop:].tolist()) != after:
            raise ValueError(f"the processor of {self.name} spells the prompt another way around a video than without it")
        return ids[len(before) : stop]

    def _visual(self, ids: Int[Tensor, " b"], frames: int) -> Bool[Tensor, " b"]:
        """Which of these are visual tokens that a reducer may take."""
        visual = ids == self.visual_id
        at = visual.nonzero()[:, 0]
        if self.family.tail:
            visual[at[-self.family.tail :]] = False
        if self.family.head:
            visual[at.unflatten(0, (frames, -1))[:, : self.family.head].flatten()] = False
        return visual

    def _grid(self, inputs: Mapping[str, Any], frames: int, tokens: int) -> Grid:
        """Raises ValueError for frames that have different numbers of tokens."""
        grid = _grid_of(inputs, frames, tokens)
        if grid.steps * grid.rows * grid.columns != tokens:
            raise ValueError(f"{self.name} has {tokens} visual tokens of {grid.steps} steps: not the same number in each of them")
        return grid

    def _slots(self, noted: Recording, block: slice, visual: Bool[Tensor, " b"]) -> Slots:
        position = noted.position - block.start
        span = int(position[block.stop].max())
        if self.text_after_video == "largest":
            span = int(position[block][visual].max()) + 1
        return Slots(
            visual=visual,
            text=noted.embedded[block][~visual],
            position=position[block],
            span=span,
            added=None if noted.added is None else noted.added[:, block],
            joined=None if noted.joined is None else noted.joined[block],
        )

    def _smaller(self, clip: Clip, full: Grid, scale: float) -> Clip:
        """Frames of the size that gives `scale` of the rows and columns."""
        video = self.processor.video_processor
        if full.patches is None or not _has_bounds(video):
            raise ValueError(
                f"the processor of {self.name} brings every frame to its own size; use a reducer without input.scale"
            )
        token = video.patch_size * round((full.patches / (full.rows * full.columns)) ** 0.5)
        size = tuple(max(1, round(scale * n)) * token for n in (full.rows, full.columns))
        small = F.interpolate(clip.frames.permute(0, 3, 1, 2).float(), size=size, mode="bilinear", antialias=True)
        return Clip(clip.video_id, small.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1), clip.timestamps)

    # Text.

    def text_positions(self, counted: Int[Tensor, " s"]) -> Int[Tensor, " s *axes"]:
        return counted[:, None].expand(-1, self.axes) if self.axes else counted

    def _chat(self, text: str, system: str = "", prefix: str = "") -> str:
        chat, words = chat_of(self.processor, text, system, prefix), self.processor.tokenizer
        return (words.bos_token or words.eos_token) + chat if self.family.begins else chat

    def prompt(self, text: str, system: str = "", prefix: str = "") -> tuple[tuple[int, ...], tuple[int, ...]]:
        return around_video(self.processor, self._chat(text, system, prefix), self.name)

    def tokenize(self, text: str) -> tuple[int, ...]:
        return tuple(self.processor.tokenizer(text, add_special_tokens=False)["input_ids"])

    def detokenize(self, ids: tuple[int, ...]) -> str:
        return self.processor.tokenizer.decode(ids, skip_special_tokens=True).strip()

    # Layers.

    def stock_logits(self, clip: Clip, text: str) -> Float[Tensor, "s vocabulary"]:
        return self.network(**self.inputs(clip, text)).logits[0]

    def _rotations(self, x: Tensor, position: Int[Tensor, " s *axes"], start: int, stop: int) -> list[tuple[Tensor, Tensor]]:
        kinds = getattr(self.language_model, "rope_types", None)
        if kinds is None:
            return super()._rotations(x, position, start, stop)
        made = {
            "scaled": self.language_model.rotary_emb(x, position_ids=position[None]),
            "unscaled": self.language_model.rotary_emb_unscaled(x, position_ids=position[None]),
        }
        return [made[kinds[layer]] for layer in range(start, stop)]


def family_of(network: Any) -> Family:
    """Of a stock model that somebody has loaded.  Raises ValueError for an unknown one, naming those that are known."""
    require_version()
    name = type(network).__name__
    for family in FAMILIES.values():
        if family.network == name:
            return family
    raise ValueError(f"{name} is no stock model that is served; known: {', '.join(f.network for f in FAMILIES.values())}")


def of_network(network: Any) -> StockModel | llava_onevision.LlavaOnevision:
    """A stock model that somebody has loaded, whose prompts they prepare; raises ValueError as `family_of`."""
    family, name = family_of(network), type(network).__name__
    if family.model_type == llava_onevision.MODEL_TYPE:
        return llava_onevision.LlavaOnevision(name, network)
    return StockModel(name, family, network)


def load_family(
    model_type: str,
    name: str,
    checkpoint: str,
    dtype: str = "auto",
    text_after_video: TextAfterVideo = "stock",
    pixels: Pixels = OWN_PIXELS,
) -> StockModel:
    """A checkpoint of that family.  Raises ValueError, in one line, for any other and for what cannot be loaded."""
    require_choice("model.text_after_video", text_after_video, TextAfterVideo)  # before seconds of loading
    require_version()
    family = FAMILIES[model_type]
    return StockModel(name, family, *stock(checkpoint, family.network_class, model_type, dtype), text_after_video, pixels)


def load(
    name: str,
    checkpoint: str,
    dtype: str = "auto",
    text_after_video: TextAfterVideo = "stock",
    least_pixels: int | None = None,
    most_pixels: int | None = None,
) -> Any:
    """A checkpoint folder of any known family, or a name on the Hugging Face hub, with its own processor."""
    kind = require_family_of(checkpoint).model_type
    pixels = Pixels(least_pixels, most_pixels)
    if kind == llava_onevision.MODEL_TYPE and pixels == OWN_PIXELS:  # whose tower's facts are known
        return llava_onevision.load(name, checkpoint, dtype)
    return load_family(kind, name, checkpoint, dtype, text_after_video, pixels)
