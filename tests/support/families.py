"""What is asked of every model family, and the states it goes through."""

from __future__ import annotations

from typing import Any

import torch

from prunesweep.engine.plan import plan
from prunesweep.reducers import Reducer
from prunesweep.types import Prefix, Sample
from support.trials import CHOOSE, DENSE

FRAMES = 6
FAMILIES = ("qwen", "llava_video", "pllava", "stllm_qa", "stllm_conversation")


def state_after(sample: Sample, model: Any, stages: int, reducer: Reducer = DENSE) -> Any:
    state = None
    with torch.inference_mode():
        for stage in plan(sample, FRAMES, reducer, CHOOSE, model)[:stages]:
            state = stage(state, model)
    return state


def whole_prompt(sample: Sample, model: Any) -> Prefix:
    """After embedding, with the question's own embeddings beside it."""
    return state_after(sample, model, 4)
