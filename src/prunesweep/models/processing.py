"""What a stock processor makes of a question about our frames."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from prunesweep.types import Clip, Tokens

FIRST_STEP = 0.5
"""Seconds between the frames of a video that has one only."""
SECONDS_OF_A_STEP = ("second_per_grid_ts", "video_second_per_grid")
"""What processors call the time between two steps of the tower."""


class Prepared(NamedTuple):
    """A prompt that others have prepared with the stock processor."""

    tokens: Tokens
    before: tuple[int, ...]
    after: tuple[int, ...]
    """Ids of the text before and after the video."""


def ends_of_video(ids: Int[Tensor, " s"], visual: int, name: str) -> tuple[int, int]:
    """The first visual token's place and the one behind the last.  Raises ValueError where there is none."""
    at = (ids == visual).nonzero()[:, 0]
    if not len(at):
        raise ValueError(f"there is no visual token of {name} in the prompt; put a video into it with the model's own processor")
    return int(at[0]), int(at[-1]) + 1


def chat_of(processor: Any, text: str, system: str = "", prefix: str = "") -> str:
    """A question about one video in the checkpoint's own template, and how the answer begins."""
    content = [{"type": "video"}, {"type": "text", "text": text}]
    messages = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
    messages.append({"role": "user", "content": content})
    return processor.apply_chat_template(messages, add_generation_prompt=True) + prefix


def around_video(processor: Any, chat: str, name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Token ids before and after the video.  Raises ValueError unless there is one."""
    ids = processor.tokenizer(chat)["input_ids"]
    video = processor.tokenizer.convert_tokens_to_ids(processor.video_token)
    if ids.count(video) != 1:
        raise ValueError(f"the chat template of {name} gives {ids.count(video)} video tokens, expected 1")
    at = ids.index(video)
    return tuple(ids[:at]), tuple(ids[at + 1 :])


def video_inputs(processor: Any, clip: Clip, chat: str, **video: Any) -> dict[str, Any]:
    """All that the stock model takes; `video` are settings of the video processor.  Frames are taken as they are."""
    from transformers.video_utils import VideoMetadata

    seconds = frame_distance(clip)
    metadata = VideoMetadata(
        total_num_frames=len(clip.frames),
        fps=1.0,  # so that the numbers of the frames are their seconds
        frames_indices=list(clip.timestamps),
        duration=clip.timestamps[-1] + seconds,
    )
    made = processor(
        text=[chat],
        videos=[clip.frames.permute(0, 3, 1, 2)],
        video_metadata=[metadata],
        do_sample_frames=False,
        return_tensors="pt",
        **video,
    )
    for name in SECONDS_OF_A_STEP:
        if name in made:
            made[name] = torch.tensor([seconds * processor.video_processor.temporal_patch_size])
    return dict(made)


def placed(inputs: dict[str, Any], network: Any) -> dict[str, Any]:
    """On the network's device; pixels in its type."""
    return {name: _placed(value, network) for name, value in inputs.items()}


def _placed(value: Any, network: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    pixels = value.is_floating_point() and value.ndim > 1
    return value.to(network.device, network.dtype if pixels else None)


def frame_distance(clip: Clip) -> float:
    """Seconds between the frames."""
    times = clip.timestamps
    return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 and times[-1] > times[0] else FIRST_STEP
