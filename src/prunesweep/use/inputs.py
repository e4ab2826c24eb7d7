"""What a stock `generate` was called with: prompts of a batch, one by one, and all that it is told about choosing tokens."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunesweep.lazy import torch

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor


@dataclass(frozen=True)
class Prompts:
    """What the stock processor made of one prompt or several."""

    inputs: Mapping[str, Any]

    @property
    def ids(self) -> Int[Tensor, "b s"]:
        return self.inputs["input_ids"]

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, visual: int) -> Iterator[dict[str, Any]]:
        """Each prompt without its padding; `visual` is the id of a visual token.

        Raises ValueError for pixels that cannot be told apart by the prompts' numbers of visual tokens.
        """
        counts = (self.ids == visual).sum(1).tolist()
        parts = {name: self._parts(name, value, counts) for name, value in self.inputs.items()}
        for row in range(len(self)):
            yield self._trimmed({name: values[row] for name, values in parts.items()})

    def _parts(self, name: str, value: Any, counts: Sequence[int]) -> Sequence[Any]:
        rows = len(self)
        if rows == 1 or not isinstance(value, torch.Tensor):
            return [value] * rows
        if len(value) == rows:
            return value.split(1)
        shares = [len(value) * count / max(1, sum(counts)) for count in counts]
        if not all(share.is_integer() for share in shares):
            raise ValueError(f"a batch of {rows} prompts whose {name} cannot be told apart; give one prompt at a time")
        return value.split([int(share) for share in shares])

    def _trimmed(self, prompt: dict[str, Any]) -> dict[str, Any]:
        mask = prompt.get("attention_mask")
        if mask is None or bool(mask.all()):
            return prompt
        there, shape = mask[0].bool(), prompt["input_ids"].shape
        return {n: x[:, there] if isinstance(x, torch.Tensor) and x.shape == shape else x for n, x in prompt.items()}

    def joined(self, made: Sequence[Any], config: Any) -> Int[Tensor, "b total"]:
        """The prompts as they came, each with what was made of it, filled up on the right."""
        new = [one[0, len(ids) :] for one, ids in zip(made, self._own_ids(), strict=True)]
        stop = config.eos_token_id
        filler = config.pad_token_id if config.pad_token_id is not None else stop[0] if isinstance(stop, list) else stop
        out = self.ids.new_full((len(new), max(map(len, new))), filler if filler is not None else 0)
        for row, own in zip(out, new, strict=True):
            row[: len(own)] = own
        return torch.cat([self.ids, out], dim=1)

    def _own_ids(self) -> Iterator[Int[Tensor, " s"]]:
        mask = self.inputs.get("attention_mask")
        for row, ids in enumerate(self.ids):
            yield ids if mask is None else ids[mask[row].bool()]


def prompts_of(network: Any, inputs: Any, given: Mapping[str, Any]) -> tuple[Prompts, dict[str, Any]]:
    """What the model reads, and what `generate` is told besides.  Raises ValueError without input ids."""
    from transformers import GenerationConfig

    of_loop = {*vars(GenerationConfig()), *inspect.signature(type(network).generate).parameters}
    read = {name for name in inspect.signature(type(network).forward).parameters if name not in of_loop}
    prompts = {name: value for name, value in given.items() if name in read and value is not None}
    told = {name: value for name, value in given.items() if name not in read}
    if inputs is not None:
        prompts["input_ids"] = inputs
    for name in ("inputs_embeds", "cache", "past_key_values"):
        if name in prompts or told.get(name) is not None:
            raise ValueError(f"{name} was given, but a prompt is pruned from its beginning; give input_ids and pixels only")
    if "input_ids" not in prompts:
        raise ValueError("generate was given no input_ids; give all that the model's processor made of the prompt")
    return Prompts(prompts), told


def require_one_video(inputs: Mapping[str, Any]) -> None:
    """Raises ValueError for a prompt with several videos, or with pictures beside one."""
    pixels, pictures = inputs.get("pixel_values_videos"), inputs.get("pixel_values")
    counts = [len(inputs[name]) for name in ("video_grid_thw", "video_grids") if inputs.get(name) is not None]
    counts += [len(pixels)] if pixels is not None and pixels.ndim == FRAMES_OF_VIDEOS else []
    if counts and max(counts) > 1:
        raise ValueError(f"{max(counts)} videos are in one prompt; a setting is defined for one, so ask about each on its own")
    if pixels is not None and pictures is not None:
        raise ValueError("there are pictures beside the video in the prompt; a setting is defined for a video alone")


FRAMES_OF_VIDEOS = 5
"""Axes of pixels that are kept video by video: video, frame, channel, height, width."""
ONE_SEQUENCE = {"num_beams": 1, "num_return_sequences": 1}
NOT_DYNAMIC = ("static", "offloaded_static", "sliding_window", "quantized", "paged", "offloaded")
UNSUITABLE = {
    "use_cache": (False, "pruned tokens are left out of caches, so there must be caches"),
    "cache_implementation": (NOT_DYNAMIC, "caches are the engine's own"),
    "output_attentions": (True, "pruned layers have attention to other tokens than the prompt's"),
    "output_hidden_states": (True, "pruned layers have states of other tokens than the prompt's"),
    "prompt_lookup_num_tokens": (None, "tokens are decoded one at a time"),
    "prefill_chunk_size": (None, "a prompt is read at once, up to the question"),
    "guidance_scale": (None, "a second prompt without the video is not pruned"),
}
"""Of a generation config: what cannot be served, and why; None: any value but None."""


def require_servable(network: Any, config: Any, told: Mapping[str, Any], rows: int) -> None:
    """Raises ValueError, in one line, for ways of generating that would not run on the engine's caches as they are meant."""

    def setting(name: str) -> Any:
        of_call = told.get(name) if told.get(name) is not None else getattr(config, name, None)
        return of_call if of_call is not None else getattr(network.generation_config, name, None)

    for name in ("assistant_model", "custom_generate", "negative_prompt_ids"):
        if told.get(name) is not None:
            raise ValueError(f"{name} cannot be used while a setting is in force: tokens are decoded one at a time")
    for name, most in ONE_SEQUENCE.items():
        if (setting(name) or 1) > most:
            raise ValueError(f"{name}={setting(name)} cannot be used while a setting is in force: call once for each")
    for name, (refused, why) in UNSUITABLE.items():
        value = setting(name)
        if value is not None and (refused is None or value == refused or (isinstance(refused, tuple) and value in refused)):
            raise ValueError(f"{name}={value} cannot be used while a setting is in force: {why}")
    if rows > 1 and (setting("return_dict_in_generate") or told.get("streamer") is not None):
        raise ValueError(f"{rows} prompts run one by one, without streamer and return_dict_in_generate; give one at a time")
