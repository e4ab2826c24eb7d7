"""Every configured method as a trial, and the states that a small model goes through."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from prunesweep.engine.devices import AtOnce
from prunesweep.engine.plan import encoding, plan
from prunesweep.engine.prefix_tree import Clock, Job, LastStages, Outcome
from prunesweep.engine.protocol import Protocol
from prunesweep.engine.stages import (
    Decode,
    Embed,
    Reduce,
)
from prunesweep.models.llava_onevision import LlavaOnevision
from prunesweep.reducers import Reducer
from prunesweep.reducers.random import Prune as RandomPrune
from prunesweep.types import Prefix, Sample, Tokens
from support.facts import RUNNABLE
from support.places import CONF

FRAMES = 8
CHOOSE = Protocol(style="words", answering="choose")
GENERATE = Protocol(style="words", answering="generate", most_tokens=5)
DENSE = Reducer("none")


@functools.cache
def reducer_of(name: str, **changes: float) -> Reducer:
    """As in conf/reducer, with changes by dotted key; composed once."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("eval", [f"reducer={name}"]).reducer
    OmegaConf.set_struct(config, False)
    for key, value in changes.items():
        OmegaConf.update(config, key.replace("__", "."), value)
    return instantiate(config)


def all_trials() -> dict[str, Reducer]:
    """Every reducer as configured, and neighbours of some that share stages with them."""
    return {
        **{name: reducer_of(name) for name in RUNNABLE},
        "prumerge on pooled tokens": reducer_of("prumerge", merge__level="pooled"),
        "lookm pruned": replace(reducer_of("lookm"), prune=RandomPrune(layer=3, keep_ratio=0.5)),
        "lookm pruned, whole": replace(reducer_of("lookm"), prune=RandomPrune(3, 0.5, earlier_caches="whole")),
        "random_layer whole": reducer_of("random_layer", prune__earlier_caches="whole"),
        "fastv cut": reducer_of("fastv", prune__earlier_caches="cut"),
        "prunevid whole": reducer_of("prunevid", prune__earlier_caches="whole"),
        "prunevid layer 2": reducer_of("prunevid", prune__layer=2),
        "prunevid keep 0.1": reducer_of("prunevid", prune__keep_ratio=0.1),
        "prunevid grouped": reducer_of("prunevid", prune__selection="grouped"),
        "prunevid original": reducer_of("prunevid", merge__positions="original"),
        "merge only": reducer_of("prunevid", prune=None),
        "over time only": reducer_of("prunevid", prune=None, merge__cluster_ratio=1),
        "in space only": reducer_of("prunevid", prune=None, merge__static_threshold=None),
        "prune only": reducer_of("prunevid", merge=None),
    }


def jobs_of(samples: Sequence[Sample], model: LlavaOnevision, protocol: Protocol) -> list[Job]:
    trials = all_trials()
    return [Job((name, s.id), plan(s, FRAMES, trials[name], protocol, model)) for name in trials for s in samples]


def answers(outcomes: list[Outcome]) -> dict:
    failed = {str(outcome.key): repr(outcome.result) for outcome in outcomes if isinstance(outcome.result, Exception)}
    assert not failed, failed
    return {outcome.key: outcome.result for outcome in outcomes}


def last_stages(model: Any, most: int, memory: int = 2**30) -> LastStages:
    """What waits for its answer until there are so many, or so many bytes of caches."""
    return LastStages(model, Clock(), AtOnce(most, memory))


def one_video(samples: Sequence[Sample]) -> list[Sample]:
    """The questions of the video that has most."""
    counts = {s.video_id: sum(o.video_id == s.video_id for o in samples) for s in samples}
    video = max(counts, key=counts.__getitem__)
    return [s for s in samples if s.video_id == video][:3]


def decoded(sample: Sample, model: LlavaOnevision, reducer: Reducer = DENSE) -> Tokens:
    clip = Decode(sample.path, sample.video_id, FRAMES, None, None)(None, model)
    return encoding(reducer)(clip, model)


def embedded(sample: Sample, model: LlavaOnevision, merge: object = None) -> Prefix:
    tokens = decoded(sample, model, Reducer("its encoding", merge=merge))
    return Embed(model.prompt(sample.question)[0])(Reduce(merge)(tokens, model), model)


def stock_inputs(sample: Sample, model: LlavaOnevision) -> dict:
    """The prompt as the stock processor makes it."""
    frames = Decode(sample.path, sample.video_id, FRAMES, None, None)(None, model).frames
    content = [{"type": "video"}, {"type": "text", "text": sample.question}]
    text = model.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    return dict(model.processor(text=text, videos=[frames.permute(0, 3, 1, 2)], return_tensors="pt"))
