"""What every method's first step inside the LLM takes by itself: operations, seconds and memory, on one drawn sequence.

The attention that it reads is drawn too: what a layer's look costs is the engine's, and booked by `look_flops`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from prunesweep.console.layout import grid
from prunesweep.dev.bench_methods import SMALL
from prunesweep.dev.bench_plain import HEADS, LAYERS, TEXT, drawn, prefix_of
from prunesweep.dev.drawn import drawn_video, growth, in_a_process_of_its_own, median_and_range, operations
from prunesweep.paths import CONF
from prunesweep.reducers import Change, Step, look_of, steps_of
from prunesweep.targets import instantiate
from prunesweep.types import Looks, Prefix

MODEL = "llava_onevision_7b"
"""Whose `prune_layer` the methods take; nothing of it is loaded."""


def steps() -> dict[str, Step]:
    """By the reducers' names the first step inside the LLM of each that has one, and is no combination of others."""
    found = {}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for path in sorted((CONF / "reducer").glob("*.yaml")):
            if "defaults" in OmegaConf.load(path):
                continue
            config = compose("cost", [f"model={MODEL}", f"reducer={path.stem}"])
            own = steps_of(instantiate(config.reducer.get("prune")), LAYERS)
            if own:
                found[path.stem] = own[0]
    return found


def sequence_for(step: Step, shape: tuple[int, int, int]) -> Prefix:
    """Behind layers of which the last has been looked at as the step asks for."""
    prefix = prefix_of(drawn_video(*shape))
    visual, words = shape[0] * shape[1], prefix.hidden[-TEXT:]
    prefix = replace(
        prefix,
        kv=prefix.kv * max(1, step.full_layers),
        entered=prefix.hidden[:visual],
        words=words,
        looks=Looks(drawn(HEADS, 1, visual).softmax(-1), prefix.hidden, (drawn(visual + TEXT, 128), drawn(visual + TEXT, 128))),
    )
    if look_of(step) == "queries":
        return replace(prefix, query=drawn(HEADS, visual + TEXT, 128))
    return replace(prefix, attention=drawn(HEADS, TEXT, visual).softmax(-1)) if look_of(step) else prefix


def _left(step: Step, prefix: Prefix) -> int:
    found = step(prefix)
    kept = found.keep if isinstance(found, Change) else found
    return len(prefix.group) if kept is None else len(kept)


def bench_steps(shape: tuple[int, int, int], rounds: int, names: Sequence[str] = ()) -> str:
    """Of these, or of all.  Raises ValueError for one that does nothing inside the LLM."""
    known = steps()
    for name in names:
        if name not in known:
            raise ValueError(f"no reducer {name} with a step inside the LLM; those that have one: {', '.join(known)}")
    rows = []
    for name in names or known:
        step = known[name]
        prefix = sequence_for(step, shape)
        left, count = _left(step, prefix), operations(partial(step, prefix))
        taken = []
        for _ in range(rounds):
            begin = time.process_time()
            step(prefix)
            taken.append(time.process_time() - begin)
        grown = [_extra_memory(step, shape) for _ in range(rounds)]
        rows.append((name, f"{left}", f"{count}", median_and_range(taken, "s", 3), median_and_range(grown, "MiB", 0)))
    sizes = " x ".join(map(str, shape))
    title = f"{sizes} (frames x tokens x channels) and {TEXT} tokens of text, {LAYERS} layers of {HEADS} heads, with defaults"
    return f"{title}\n{grid(('', 'tokens left', 'operations', f'CPU time, median of {rounds} (range)', 'extra memory'), rows)}"


def _extra_memory(step: Step, shape: tuple[int, int, int]) -> float:
    """MiB by which a process of its own grows at most, beyond what the step reads and an earlier small one."""
    return in_a_process_of_its_own(_grown, step, shape)


def _grown(step: Step, shape: tuple[int, int, int]) -> float:
    torch.set_num_threads(1)
    step(sequence_for(step, SMALL))
    prefix = sequence_for(step, shape)
    return growth(lambda: step(prefix), prefix.hidden.device)
