"""Law 12: with a setting on it, a stock model answers as the engine does, token for token, greedy and sampled with one seed.

Here a few methods meet every family, and every method the small model of the other tests.  With PRUNESWEEP_LAW_12=all every
method meets every family: `python -m prunesweep.dev.use_matrix` runs that, and writes docs/use_matrix.md.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from typing import Any

import pytest

from prunesweep.models.adapter import load
from prunesweep.models.llava_onevision import LlavaOnevision
from prunesweep.models.processing import chat_of, placed, video_inputs
from prunesweep.reducers import Reducer
from prunesweep.types import Clip, Sample
from prunesweep.use.prune import pruned
from prunesweep.video.reader import read_clip
from support.places import REDUCERS
from support.served import NEW, QUESTION, WAYS, by_engine, fitted, new_tokens
from support.zoo import ZOO, Zoo, clip_of

ALL = os.environ.get("PRUNESWEEP_LAW_12") == "all"
FEW = ("none", "random", "prunevid", "fastv", "vtw", "lookm")
FRAMES = 16
"""Enough for every method."""
NOT_SERVED = {"downsample": "makes frames smaller before the processor sees them; make them smaller yourself"}
"""By the engine only: a prompt that others prepared has its pixels already."""
Recorded = Callable[[str, object], None]


@functools.cache
def known(checkpoint: str) -> Any:
    return load("llava_onevision", checkpoint)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", REDUCERS if ALL else FEW)
@pytest.mark.parametrize("name", ZOO)
def test_every_family_answers_as_the_engine_does(zoo: Zoo, name: str, method: str, way: str, record_property: Recorded) -> None:
    model, clip = zoo[name], clip_of(FRAMES)
    inputs = model.inputs(clip, QUESTION)
    if name == "llava_onevision":  # of which the engine knows more than of other families
        model = known(str(zoo.folder / name))
    held(model, fitted(method, model), clip, inputs, way, record_property)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", REDUCERS)
def test_every_method_answers_as_the_engine_does(
    model: LlavaOnevision, samples: list[Sample], method: str, way: str, record_property: Recorded
) -> None:
    """On a real video and its question."""
    sample = samples[0]
    clip = read_clip(sample.path, sample.video_id, 12, None, None, "even", None, 60.0)
    inputs = placed(video_inputs(model.processor, clip, chat_of(model.processor, QUESTION)), model.network)
    held(model, fitted(method, model), clip, inputs, way, record_property)


def held(model: Any, reducer: Reducer, clip: Clip, inputs: dict[str, Any], way: str, record_property: Recorded) -> None:
    """Both answer the same, or both refuse in the same words, which are recorded."""
    expected = tokens_or_words(model, lambda: by_engine(model, reducer, clip, way))
    answered = []

    def serve() -> tuple[int, ...]:
        with pruned(model.network, reducer, clip.video_id) as pruning:
            made = new_tokens(model.network, inputs, **WAYS[way])
            answered.append(pruning.last)
            return made

    served = tokens_or_words(model, serve)
    if reducer.name in NOT_SERVED:
        assert isinstance(expected, str) or len(expected) > 0
        assert isinstance(served, str)
        assert NOT_SERVED[reducer.name] in served
    else:
        assert served == expected
    if isinstance(served, str):
        record_property("refused" if served == expected else "refused_alone", served)
        return
    assert 1 <= len(served) <= NEW
    assert answered[0].usage.generated_tokens == len(served)
    assert len(answered[0].usage.visual_tokens) == model.layers
    assert answered[0].map.shape[0] <= len(clip.frames)


def tokens_or_words(model: Any, answer: Callable[[], tuple[int, ...]]) -> tuple[int, ...] | str:
    """What it answers, or why it does not, whatever the model is called."""
    try:
        return answer()
    except ValueError as error:
        return re.sub(rf"\b({re.escape(model.name)}|{type(model.network).__name__})\b", "the model", str(error))
