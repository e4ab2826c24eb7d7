"""`python -m prunesweep.dev.bench roofline`: what each stage must take by its FLOPs and bytes, beside what it takes here.

A stage takes at least its FLOPs over the machine's FLOPs a second, and at least its bytes over the bytes a second that
memory gives; the longer of the two is its roof (Williams, Waterman, Patterson, "Roofline", 2009).  First the real network on
an H100, by its datasheet; then the stand-in of `bench_engine` on this machine, whose two peaks are measured in the same run.

Bytes are counted low: all weights once, and of each product what goes in and what comes out.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from prunesweep.console.layout import grid, with_prefix
from prunesweep.cost import Shape, Usage, kv_bytes, ledger, linear_flops, vision_flops, with_text
from prunesweep.dev.bench_engine import (
    FRAMES,
    Scale,
    build_model,
    default_of,
    encoded,
    matmul_peak,
    questions_on_one_video,
    require_same_answers,
)
from prunesweep.engine.plan import plan
from prunesweep.engine.prefix_tree import Clock, Job, evaluate_jobs
from prunesweep.engine.protocol import Protocol
from prunesweep.reducers import Reducer

TOKENS = 10
"""Generated for an answer; all after the first are decoding."""
STAGES = {"vision": ("Encode",), "merge": ("Reduce",), "prefill": ("Embed", "Layers", "Ask", "Prune"), "decoding": ("Generate",)}
"""Classes of stages that a row of the table is the time of."""
READS = 4
"""Times that PruneVid's merge reads every token at least: for segments, for what is static, for distances, and for means."""


class Machine(NamedTuple):
    """Its two peaks, each a second."""

    name: str
    flops: float
    bytes: float
    value: int
    """Bytes of a number in the precision of `flops`."""


H100 = Machine("one H100 SXM in bfloat16", 989e12, 3.35e12, 2)
"""NVIDIA's datasheet: 1,979 TFLOPs with sparsity, half of them without; 3.35 TB/s."""


class Work(NamedTuple):
    """Of one stage."""

    flops: float
    bytes: float

    def roof(self, machine: Machine) -> float:
        """Seconds that the stage takes at least."""
        return max(self.flops / machine.flops, self.bytes / machine.bytes)

    def bound(self, machine: Machine) -> str:
        return "FLOPs" if self.flops / machine.flops >= self.bytes / machine.bytes else "memory"


def layer_weights(shape: Shape) -> int:
    """Values of one decoder layer.  Raises ValueError for a network with experts or linear attention."""
    if shape.experts or shape.linear:
        raise ValueError("the roofline knows networks without experts and linear attention; use another scale")
    return linear_flops(shape, 1) // 2  # one row multiplies and adds each weight once


def layer_activations(shape: Shape) -> int:
    """Values that a row brings to the products of a decoder layer and takes from them."""
    queries, keys = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    attention = (shape.hidden + queries + 2 * keys) + (2 * queries + 2 * keys) + (queries + shape.hidden)
    return attention + (shape.hidden + 2 * shape.mlp) + (shape.mlp + shape.hidden)


def vision_bytes(shape: Shape, frames: int, value: int) -> int:
    """Of a tower of the plain kind: its weights, and what goes into its products and comes out."""
    v = shape.vision
    weights = v.layers * (4 * v.hidden**2 + 2 * v.hidden * v.mlp)
    weights += v.patch_inputs * v.hidden + v.hidden * shape.hidden + shape.hidden**2
    row = v.layers * (10 * v.hidden + 2 * (v.hidden + v.mlp)) + v.patch_inputs + 2 * v.hidden + 3 * shape.hidden
    return (weights + frames * v.patches * row) * value


def works(shape: Shape, usage: Usage, value: int) -> dict[str, Work]:
    """Of one answer that is generated."""
    costs = ledger(shape, usage)
    rows = with_text(usage.visual_tokens, usage.text_tokens)
    weights = shape.layers * layer_weights(shape) * value
    head = shape.hidden * shape.vocabulary * value
    steps = usage.generated_tokens - 1
    cached = with_text(usage.cached_tokens or [usage.visual_tokens[-1]] * shape.layers, usage.text_tokens)
    merged = READS * usage.dense_tokens * shape.hidden * value if usage.reduction_flops else 0
    written = steps * (weights + kv_bytes(shape, cached, value)) + (steps + 1) * head
    return {
        "vision": Work(vision_flops(shape, usage.frames), vision_bytes(shape, usage.frames, value)),
        "merge": Work(usage.reduction_flops, merged),
        "prefill": Work(costs.prefill, weights + sum(rows) * layer_activations(shape) * value),
        "decoding": Work(costs.decode + costs.head, written),
    }


def planned(scale: Scale, entrance: float, layer: int, kept: float, text: int) -> Usage:
    """An answer of the real network, where so many of its visual tokens enter and so many of these are kept after a layer."""
    dense = scale.frames * scale.tokens
    entering = round(dense * entrance)
    visual = (entering,) * layer + (round(entering * kept),) * (scale.real.layers - layer)
    return Usage(visual, text, TOKENS, scale.frames, dense)


def copy_peak(seconds: float = 1.0, size: int = 2**26) -> float:
    """Bytes per second of the best of many copies in memory, read and written."""
    a = torch.ones(size // 4)
    b, best, end = torch.empty_like(a), 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        b.copy_(a)
        best = max(best, 2 * size / (time.perf_counter() - begin))
    return best


def measured(model: Any, jobs: Sequence[Job], rounds: int) -> dict[Any, dict[str, float]]:
    """Median seconds of each job's stages, each job by itself, in turns after a warm-up."""
    taken: dict[Any, dict[str, list[float]]] = {job.key: {name: [] for name in STAGES} for job in jobs}
    for number in range(rounds + 1):
        for job in jobs:
            clock = Clock()
            require_same_answers([evaluate_jobs(model, [job], clock, share=False)])
            for name, kinds in STAGES.items():
                if number:
                    taken[job.key][name].append(sum(clock.kinds[kind][1] for kind in kinds if kind in clock.kinds))
    return {key: {name: statistics.median(own) for name, own in by_name.items()} for key, by_name in taken.items()}


def rows_of(name: str, work: Mapping[str, Work], machine: Machine, seconds: Mapping[str, float] | None) -> list[tuple[str, ...]]:
    rows = []
    for stage, own in work.items():
        if not own.flops:
            continue
        roof, counts = own.roof(machine), (with_prefix(round(count), 3) for count in own)
        row = (name, stage, *counts, own.bound(machine), duration(roof))
        rows.append((*row, duration(seconds[stage]), f"{seconds[stage] / roof:.1f}x") if seconds else row)
    return rows


def duration(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"


HEAD = ("", "stage", "FLOPs", "bytes", "bound by", "at least")


def bench_roofline(name: str, scale: Scale, rounds: int) -> str:
    """Two tables.  Raises ValueError if an answer differs between rounds."""
    model = build_model(scale.small)
    sample = questions_on_one_video()[0]
    tokens = encoded(model, sample, FRAMES)
    protocol = Protocol("words", "generate", TOKENS)
    reducers = {"dense": Reducer("none"), "prunevid": default_of(tokens, scale.layers[1])}
    jobs = [Job(key, plan(sample, FRAMES, reducer, protocol, model)) for key, reducer in reducers.items()]
    answers = require_same_answers([evaluate_jobs(model, jobs, Clock(), share=False)])
    here = Machine(f"this machine in float32, {torch.get_num_threads()} threads", matmul_peak(), copy_peak(), 4)
    seconds = measured(model, jobs, rounds)
    small: list[tuple[str, ...]] = []
    real: list[tuple[str, ...]] = []
    for key, answer in answers.items():
        usage = answer.usage
        small += rows_of(key, works(model.shape, usage, here.value), here, seconds[key])
        entrance, kept = usage.visual_tokens[0] / usage.dense_tokens, usage.visual_tokens[-1] / usage.visual_tokens[0]
        wanted = planned(scale, entrance, scale.layers[1], kept, usage.text_tokens)
        real += rows_of(key, works(scale.real, wanted, H100.value), H100, None)
    peaks = [f"{one.flops / 1e12:.3g} TFLOPs/s, {one.bytes / 1e9:,.0f} GB/s" for one in (H100, here)]
    there = f"{name}: {scale.frames} frames, {scale.frames * scale.tokens:,} visual tokens, {TOKENS} generated, on {H100.name}"
    own = f"its stand-in: {FRAMES} frames, {tokens.x[..., 0].numel():,} visual tokens, {TOKENS} generated, on {here.name}"
    return "\n".join(
        [
            there,
            f"({peaks[0]} by its datasheet; nothing was run there; PruneVid's merge is left out, it depends on the video)",
            *grid(HEAD, real).splitlines(),
            "",
            own,
            f"({peaks[1]}, measured just now)",
            *grid((*HEAD, f"median of {rounds}", "of that"), small).splitlines(),
        ]
    )
