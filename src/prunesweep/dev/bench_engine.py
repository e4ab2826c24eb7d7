"""`python -m prunesweep.dev.bench engine`: what sharing saves, against plain loops over configurations, in one run.

The network is a LLaVA-OneVision with random weights, scaled down until every side can really be run: as many LLM layers
as the real one, 196 visual tokens a frame from 729 patches, and the real one's proportion of vision FLOPs to LLM FLOPs.
Nothing is extrapolated.  The sides take turns; a ratio is the median of the ratios within a round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop

from prunesweep.benchmarks import blocks, by_video
from prunesweep.console.layout import grid, with_prefix
from prunesweep.cost import Shape, VisionShape, ledger, prefill_flops, vision_flops
from prunesweep.embedded.network import TinyShape, build_network, build_processor
from prunesweep.engine.plan import plan
from prunesweep.engine.prefix_tree import Clock, Job, Outcome, cut, evaluate_jobs, walk
from prunesweep.engine.protocol import Protocol
from prunesweep.engine.stages import Decode, Encode
from prunesweep.models.llava_onevision import LlavaOnevision
from prunesweep.reducers import Reducer
from prunesweep.reducers.prunevid import Merge, Prune, mean_similarity
from prunesweep.types import Answer, Sample, Tokens

CHOOSE = Protocol("words", "choose")
REAL_FRAMES, REAL_TOKENS = 32, 196
SIGLIP = VisionShape(layers=26, hidden=1152, mlp=4304, patches=729, patch_inputs=588)
SIGLIP_GRID = {"size": 108, "patch": 4}
"""27 x 27 patches, pooled to 14 x 14 visual tokens."""


class Scale(NamedTuple):
    """A real network and its scaled-down stand-in with the same proportion of vision to LLM FLOPs.

    The one for 0.5B has both widths a good fifth of the real ones: of unlike widths a CPU would run one more efficiently.
    """

    real: Shape
    small: TinyShape
    layers: tuple[int, int, int, int]
    """Pruning layers of the grid; the second one, the paper's M = 10, is that of the questions, too."""
    wide: TinyShape
    """For the prefill: half as many layers, but wide enough that a layer's time is that of its products."""
    wide_layer: int
    """Half of the paper's M."""
    frames: int = REAL_FRAMES
    tokens: int = REAL_TOKENS
    """Visual tokens a frame."""


SCALES = {
    "0.5b": Scale(
        Shape(24, 896, 14, 2, 64, 4864, 151936, SIGLIP),
        TinyShape(
            **{"hidden": 192, "layers": 24, "heads": 3, "kv_heads": 1, "mlp": 1042},
            **{"vision_hidden": 240, "vision_layers": 22, "vision_heads": 4, "vision_mlp": 860},
            **SIGLIP_GRID,
        ),
        (5, 10, 15, 20),
        TinyShape(hidden=384, layers=12, heads=6, kv_heads=1, mlp=2088, vision_hidden=96, vision_layers=1, **SIGLIP_GRID),
        5,
    ),
    "7b": Scale(
        Shape(28, 3584, 28, 4, 128, 18944, 152064, SIGLIP),
        TinyShape(
            **{"hidden": 96, "layers": 28, "heads": 3, "kv_heads": 1, "mlp": 508},
            **{"vision_hidden": 96, "vision_layers": 3, "vision_heads": 2, "vision_mlp": 359},
            **SIGLIP_GRID,
        ),
        (5, 10, 15, 20),
        TinyShape(hidden=384, layers=14, heads=6, kv_heads=1, mlp=2032, vision_hidden=96, vision_layers=1, **SIGLIP_GRID),
        5,
    ),
    "tiny": Scale(  # the embedded model's own sizes
        Shape(8, 96, 4, 2, 24, 256, 205, VisionShape(layers=2, hidden=96, mlp=192, patches=144, patch_inputs=192)),
        *(TinyShape(), (1, 2, 4, 6), TinyShape(), 4),
        frames=8,
        tokens=36,
    ),
}


FRAMES = 8
"""Of every comparison (1568 visual tokens); the stand-ins have the proportion of the real networks at this number."""
STATIC_SHARES, CLUSTER_RATIOS, KEEP_RATIOS = (0.3, 0.15), (0.5, 0.75), (0.1, 0.2, 0.3, 0.4, 0.5)
"""Of the patches, the share that the static thresholds call static: random weights make all tokens alike, so thresholds
are set by what they do.  With the first values of all, the merge leaves about as much as is published (0.4)."""
QUESTIONS = 3


def proportion(shape: Shape, frames: int, tokens: int = REAL_TOKENS) -> float:
    """Vision FLOPs for one LLM FLOP of the dense prefill on so many visual tokens a frame."""
    return vision_flops(shape, frames) / prefill_flops(shape, [frames * tokens] * shape.layers, 0)


def build_model(shape: TinyShape) -> LlavaOnevision:
    return LlavaOnevision("random weights", build_network(shape, seed=0), build_processor(shape))


def questions_on_one_video() -> tuple[Sample, ...]:
    """The video of the shipped benchmark with most questions."""
    return max(by_video(blocks.load()), key=len)


def as_released(static_threshold: float = 0.8, cluster_ratio: float = 0.5) -> Merge:
    """What `prunesweep.dev.bench.plain_merge` computes: the release's merge, but in float32 and without noise."""
    return Merge(
        segmentation="repaired",
        static_threshold=static_threshold,
        at_threshold=False,
        cluster_ratio=cluster_ratio,
        min_cluster_tokens=15,
        order="score",
    )


def thresholds_for(tokens: Tokens) -> list[float]:
    """Static thresholds that STATIC_SHARES of a video's patches exceed."""
    lengths = as_released().segment_lengths(tokens.x)
    segment = torch.tensor([index for index, length in enumerate(lengths) for _ in range(length)])
    similarity = mean_similarity(tokens.x, (segment == torch.arange(len(lengths))[:, None]).float())
    return [float(similarity.quantile(1 - share)) for share in STATIC_SHARES]


def grid_of(tokens: Tokens, scale: Scale) -> list[Reducer]:
    """PruneVid at 2 static thresholds x 2 cluster ratios x 4 layers x 5 keep ratios."""
    return [
        Reducer("prunevid", as_released(tau, beta), Prune(layer, keep_ratio=alpha))
        for tau, beta, layer, alpha in product(thresholds_for(tokens), CLUSTER_RATIOS, scale.layers, KEEP_RATIOS)
    ]


def default_of(tokens: Tokens, layer: int) -> Reducer:
    """PruneVid with the first threshold and the paper's other settings."""
    return Reducer("prunevid", as_released(thresholds_for(tokens)[0]), Prune(layer))


def operator_counter() -> FlopCounterMode:
    """torch's counter of FLOPs, with the SDPA operator of CPUs that it does not know."""

    def cpu_sdpa(query: tuple, key: tuple, value: tuple, *args: object, out_shape: object = None, **kwargs: object) -> int:
        return sdpa_flop(query, key, value)

    operator = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={operator: cpu_sdpa})


def counted_flops(work: Callable[[], object]) -> int:
    with operator_counter() as counter:
        work()
    return counter.get_total_flops()


def matmul_peak(seconds: float = 1.0, size: int = 1024) -> float:
    """FLOPs per second of the best of many square float32 products, this process's threads."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        torch.mm(a, b)
        best = max(best, 2 * size**3 / (time.perf_counter() - begin))
    return best


@dataclass(frozen=True)
class Side:
    """One way to evaluate the same jobs."""

    name: str
    work: Callable[[], Sequence[Outcome]]
    flops: int
    """Of the work, each operation as often as this side runs it."""


def sides_of(model: LlavaOnevision, jobs: Sequence[Job], frames: int) -> tuple[Side, Side, Side]:
    """One job at a time; one at a time on kept vision features; shared.  Raises ValueError if their answers differ."""
    alone = partial(evaluate_jobs, model, jobs, Clock(), share=False)
    kept = partial(on_kept_features, model, jobs)
    shared = partial(evaluate_jobs, model, jobs, Clock())
    found = require_same_answers([work() for work in (alone, kept, shared)])
    costs = [ledger(model.shape, answer.usage) for answer in found.values()]
    total, vision = sum(cost.total for cost in costs), costs[0].vision
    counted = counted_flops(shared)
    return (
        Side("one at a time", alone, total),
        Side("one at a time, vision kept", kept, total - vision * (len(jobs) - 1)),
        Side("shared", shared, counted),
    )


def on_kept_features(model: LlavaOnevision, jobs: Sequence[Job]) -> list[Outcome]:
    """What a harness does that caches vision features: encode once, then every configuration for itself."""
    with torch.inference_mode():
        decode, encode = jobs[0].stages[:2]
        tokens = encode(decode(None, model), model)
        after = [cut([Job(job.key, job.stages[2:])]) for job in jobs]
        return [outcome for alone in after for outcome in walk(model, tokens, alone, 0, Clock())]


@torch.inference_mode()
def encoded(model: LlavaOnevision, sample: Sample, frames: int) -> Tokens:
    clip = Decode(sample.path, sample.video_id, frames, sample.start, sample.end)(None, model)
    return Encode()(clip, model)


def require_same_answers(sides: Sequence[Sequence[Outcome]]) -> dict[Any, Answer]:
    """What all sides answer.  Raises ValueError if two differ; scores of options may do so in their last bits."""
    found = [_answers(side) for side in sides]
    said = [{key: (answer.text, answer.token_ids, answer.usage) for key, answer in one.items()} for one in found]
    if any(one != said[0] for one in said):
        raise ValueError("sharing changed an answer; please report this with the command you ran")
    return found[0]


def _answers(outcomes: Sequence[Outcome]) -> dict[Any, Answer]:
    for outcome in outcomes:
        if isinstance(outcome.result, Exception):
            raise outcome.result
    return {outcome.key: outcome.result for outcome in outcomes if isinstance(outcome.result, Answer)}


def in_turns(works: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Seconds of each work by round; every round runs all of them.  Each has run before, so nothing is warmed up here."""
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, seconds in zip(works, taken, strict=True):
            begin = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - begin)
    return taken


def against_last(sides: Sequence[Side], rounds: int, peak: float) -> list[str]:
    """A table of the sides, each against the last one: measured, and by their FLOPs."""
    taken = in_turns([side.work for side in sides], rounds)
    rows = []
    for side, seconds in zip(sides, taken, strict=True):
        ratios = sorted(own / last for own, last in zip(seconds, taken[-1], strict=True))
        measured, theory = statistics.median(ratios), side.flops / sides[-1].flops
        rows.append(
            (
                side.name,
                f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})",
                f"{measured:.2f}x ({ratios[0]:.2f} to {ratios[-1]:.2f})",
                with_prefix(side.flops, 3),
                f"{theory:.2f}x",
                f"{measured / theory:.2f}",
                f"{side.flops / statistics.median(seconds) / peak:.0%}",
            )
        )
    head = ("", f"median of {rounds} (range)", "of shared", "FLOPs", "of shared", "measured / by FLOPs", "of peak")
    return grid(head, rows).splitlines()


def bench_grid(model: LlavaOnevision, scale: Scale, rounds: int, peak: float) -> list[str]:
    sample = questions_on_one_video()[0]
    reducers = grid_of(encoded(model, sample, FRAMES), scale)
    jobs = [Job(reducer, plan(sample, FRAMES, reducer, CHOOSE, model)) for reducer in reducers]
    title = f"{len(jobs)} configurations of PruneVid, one video of {FRAMES} frames, one question: same answers on all sides"
    return [title, *against_last(sides_of(model, jobs, FRAMES), rounds, peak)]


def bench_questions(model: LlavaOnevision, scale: Scale, rounds: int, peak: float) -> list[str]:
    samples = questions_on_one_video()[:QUESTIONS]
    reducer = default_of(encoded(model, samples[0], FRAMES), scale.layers[1])
    jobs = [Job(sample.id, plan(sample, FRAMES, reducer, CHOOSE, model)) for sample in samples]
    title = f"PruneVid, layer {scale.layers[1]}, {len(jobs)} questions on one video of {FRAMES} frames"
    return [title, *against_last(sides_of(model, jobs, FRAMES), rounds, peak)]


def bench_prefill(model: LlavaOnevision, layer: int, rounds: int) -> list[str]:
    """From encoded tokens to the first answer: PruneVid with what it spends on merging and scoring, against the dense model."""
    sample = questions_on_one_video()[0]
    tokens = encoded(model, sample, FRAMES)
    works: list[Callable[[], object]] = []
    costs: list[int] = []
    for reducer in (Reducer("none"), default_of(tokens, layer)):
        stages = plan(sample, FRAMES, reducer, CHOOSE, model)
        work = partial(_after, model, tokens, stages[2:])
        cost = ledger(model.shape, work().usage)
        works.append(work)
        costs.append(cost.total - cost.vision)
    dense, pruned = in_turns(works, rounds)
    ratios = sorted(d / p for d, p in zip(dense, pruned, strict=True))
    measured, predicted = statistics.median(ratios), costs[0] / costs[1]
    reached = f"{measured / predicted:.0%} of the {predicted:.2f}x that its FLOPs predict"
    network = f"{model.shape.layers} layers of width {model.shape.hidden}"
    return [
        f"prefill of {tokens.x[..., 0].numel()} visual tokens, {network}, PruneVid at layer {layer} with merging and scoring",
        f"dense {statistics.median(dense):.3f} s, PruneVid {statistics.median(pruned):.3f} s, medians of {rounds}",
        f"speed-up {measured:.2f}x ({ratios[0]:.2f} to {ratios[-1]:.2f}), {reached}",
    ]


@torch.inference_mode()
def _after(model: LlavaOnevision, state: Any, stages: Sequence[Any]) -> Answer:
    for stage in stages:
        state = stage(state, model)
    return state


def bench_engine(name: str, scale: Scale, rounds: int) -> str:
    """The three comparisons on one stand-in.  Raises ValueError if two sides answer differently."""
    model = build_model(scale.small)
    peak = matmul_peak()
    small, real = proportion(model.shape, FRAMES, scale.tokens), proportion(scale.real, scale.frames, scale.tokens)
    lines = [
        f"stand-in for {name}: {model.shape.layers} LLM layers, {small:.2f} vision FLOPs for one of the LLM's at "
        f"{FRAMES} frames ({real:.2f} at {scale.frames} frames of the real one)",
        f"peak of this machine's float32 matrix product: {peak / 1e9:.1f} GFLOPs/s, {torch.get_num_threads()} threads",
        "",
        *bench_grid(model, scale, rounds, peak),
        "",
        *bench_questions(model, scale, rounds, peak),
        "",
        *bench_prefill(build_model(scale.wide), scale.wide_layer, max(rounds, PREFILL_ROUNDS)),
    ]
    return "\n".join(lines)


PREFILL_ROUNDS = 7
"""One takes less than a second, so there may be some."""
