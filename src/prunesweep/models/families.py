"""The families of stock video LLMs that one adapter serves: each two to four values.

Everything else of a family (processor, tower, projector, positions) is the stock class's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers

from prunesweep.models.checkpoints import local_folder, read_object

TESTED = ((5, 23), (5, 24))
"""First and last version of transformers that the tests ran with."""


@dataclass(frozen=True)
class Family:
    """What the adapter cannot ask the stock class."""

    model_type: str
    """In config.json."""
    network: str
    """Name of the class in transformers."""
    visual: str = "video_token_id"
    """What the configuration calls the id of a visual token."""
    head: int = 0
    """Of these ids, at the beginning of each frame: class tokens."""
    tail: int = 0
    """At the end of the video: newlines."""
    ahead: int = 0
    """Tokens of text right before the first visual one that see the visual tokens, as these see each other."""
    behind: int | str = 0
    """Tokens of text that the processor puts behind the last visual one; or what the configuration calls the id of the first
    token after them, where there may be any number."""
    video: tuple[tuple[str, Any], ...] = ()
    """Settings of its video processor."""
    begins: bool = False
    """Whether the processor puts the token of a text's beginning before the chat template's."""
    text_after_video: bool = False
    """Whether transformers changed where text goes on after a video."""

    @property
    def network_class(self) -> Any:
        """Raises ValueError where the installed transformers does not have it."""
        found = getattr(transformers, self.network, None)
        if found is None:
            raise ValueError(f"transformers {transformers.__version__} has no {self.network}; install 5.24")
        return found


FAMILIES = {
    family.model_type: family
    for family in (
        Family("qwen2_vl", "Qwen2VLForConditionalGeneration", text_after_video=True),
        Family("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration", text_after_video=True),
        Family("qwen3_vl", "Qwen3VLForConditionalGeneration", behind=1),
        Family("qwen3_vl_moe", "Qwen3VLMoeForConditionalGeneration", behind=1),
        Family("qwen3_5", "Qwen3_5ForConditionalGeneration", behind=1),
        Family("qwen3_5_moe", "Qwen3_5MoeForConditionalGeneration", behind=1),
        Family("internvl", "InternVLForConditionalGeneration", visual="image_token_id", behind=1),
        Family("smolvlm", "SmolVLMForConditionalGeneration", visual="image_token_id", behind=1),
        # its own dropping of tokens that are like the frame's before is a reduction, which the dense model is not
        Family("video_llama_3", "VideoLlama3ForConditionalGeneration", video=(("use_token_compression", False),)),
        Family("glm4v", "Glm4vForConditionalGeneration", visual="image_token_id", behind="video_end_token_id"),
        Family("glm46v", "Glm46VForConditionalGeneration", visual="image_token_id", behind="video_end_token_id"),
        Family("glm4v_moe", "Glm4vMoeForConditionalGeneration", visual="image_token_id", behind="video_end_token_id"),
        Family("molmo2", "Molmo2ForConditionalGeneration", visual="image_patch_id", ahead=1, behind=1, begins=True),
        Family("llava_next_video", "LlavaNextVideoForConditionalGeneration"),
        Family("video_llava", "VideoLlavaForConditionalGeneration", head=1),
        Family("qwen2_5_omni", "Qwen2_5OmniThinkerForConditionalGeneration"),
        # slices of frames have no place in a grid of time, rows and columns
        Family("minicpmv4_6", "MiniCPMV4_6ForConditionalGeneration", behind=1, video=(("slice_mode", False),)),
        Family("perception_lm", "PerceptionLMForConditionalGeneration"),
        Family("llava_onevision", "LlavaOnevisionForConditionalGeneration", tail=1),
    )
}
STOCK_INSTEAD = {
    "internvl_chat": "an InternVL3 or 3.5 checkpoint whose name ends with -HF (InternVLForConditionalGeneration)",
    "llava_qwen": "llava-hf/llava-onevision-qwen2-*-ov-hf, or of LLaVA-Video: prunesweep model convert llava_video",
    "videollama3_qwen2": "a VideoLLaMA3 checkpoint for transformers (VideoLlama3ForConditionalGeneration)",
}
"""What to use in place of checkpoints whose code would have to be run, by their model type."""


REFUSED = {
    "gemma3": "most of its layers see a sliding window, in which pruned tokens have no agreed meaning",
    "gemma4": "most of its layers see a sliding window, in which pruned tokens have no agreed meaning",
}
"""Families that transformers has and prunesweep does not serve, and why."""


def require_version() -> None:
    """Raises ValueError for a version of transformers that nobody has tested."""
    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    if not TESTED[0] <= version <= TESTED[1]:
        first, last = (".".join(map(str, tested)) for tested in TESTED)
        raise ValueError(f"transformers {transformers.__version__} is not tested; install {first} to {last}")


def require_family_of(checkpoint: str) -> Family:
    """The family of a checkpoint.  Raises ValueError, naming those that are known, for any other."""
    require_version()
    folder = local_folder(checkpoint)
    config = read_object(Path(folder) / "config.json") if (Path(folder) / "config.json").is_file() else {}
    kind = str(config.get("model_type"))
    if kind in FAMILIES:
        return FAMILIES[kind]
    if kind in REFUSED:
        raise ValueError(f"{checkpoint!r} ({kind}) cannot be served: {REFUSED[kind]}; known: {', '.join(sorted(FAMILIES))}")
    if kind in STOCK_INSTEAD or "auto_map" in config:
        instead = STOCK_INSTEAD.get(kind, f"a checkpoint of one of {', '.join(sorted(FAMILIES))}")
        raise ValueError(f"{checkpoint!r} ({kind}) brings code of its own, which is never run; use {instead}")
    raise ValueError(f"{checkpoint!r} holds a model of unknown family {kind!r}; known: {', '.join(sorted(FAMILIES))}")
