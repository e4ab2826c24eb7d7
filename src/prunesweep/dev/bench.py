"""Speed, memory and work of the package's own parts, each against a plain reference in the same run.

    python -m prunesweep.dev.bench merge      PruneVid's merge against a loop over frames; --methods: all that merge
    python -m prunesweep.dev.bench plain      methods that compare many tokens against the plainest batched code
    python -m prunesweep.dev.bench steps      what every method's step inside the LLM takes by itself
    python -m prunesweep.dev.bench engine     shared trials against one at a time, with and without kept vision features
    python -m prunesweep.dev.bench answers    the same by how the answer is given: chosen, or written in 10 or 100 tokens
    python -m prunesweep.dev.bench roofline   what each stage takes at least by its FLOPs and bytes, and what it takes here
    python -m prunesweep.dev.bench processes  several processes of one thread each against one
    python -m prunesweep.dev.bench decoding   whether the walk waits for frames, by decoders that work ahead
    python -m prunesweep.dev.bench start      what a trial costs besides its questions, in sweeps and searches of many trials
    python -m prunesweep.dev.bench resume     what reading a store of millions of records takes

Times alternate between the two sides; the ratio of medians is what counts on a shared machine.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from prunesweep.console.layout import grid
from prunesweep.dev import parser_of
from prunesweep.dev.bench_answers import bench_answers
from prunesweep.dev.bench_engine import SCALES, as_released, bench_engine
from prunesweep.dev.bench_methods import bench_methods
from prunesweep.dev.bench_plain import bench_plain
from prunesweep.dev.bench_roofline import bench_roofline
from prunesweep.dev.bench_store import FEW, bench_resume, bench_start
from prunesweep.dev.drawn import drawn_video, growth, in_a_process_of_its_own, median_and_range, operations
from prunesweep.errors import reported
from prunesweep.reducers.parts.clustering import contiguous_segments
from prunesweep.reducers.prunevid import Merge
from prunesweep.types import Tokens

TOLERANCE = 1e-4
"""Two merged tokens further apart than this, in any channel, are not means of the same tokens."""


DIFFERENCES, PRODUCTS = "donot_use_mm_for_euclid_dist", "use_mm_for_euclid_dist_if_necessary"
"""How torch.cdist computes distances: exactly, or for more than 25 points by products, its default, which cancel in float32."""


def plain_dpc(x: Float[Tensor, "n c"], clusters: int, neighbours: int, distances: str = DIFFERENCES) -> Int[Tensor, " n"]:
    """DPC-KNN of one set of tokens, step by step."""
    distance = torch.cdist(x[None], x[None], compute_mode=distances)[0] / math.sqrt(x.shape[1])
    density = (-distance.topk(min(neighbours, len(x)), largest=False).values.square().mean(-1)).exp()
    denser = density[None, :] > density[:, None]
    separation = torch.where(denser, distance, distance.max()).amin(-1)
    centre = (separation * density).sort(descending=True, stable=True).indices[:clusters]
    label = distance[:, centre].argmin(-1)
    label[centre] = torch.arange(clusters)
    return label


def plain_means(x: Float[Tensor, "n c"], merge: Merge, distances: str) -> Float[Tensor, "g c"]:
    clusters = int(len(x) * merge.cluster_ratio)
    if len(x) < merge.min_cluster_tokens or clusters == 0:
        return x
    one_hot = F.one_hot(plain_dpc(x, clusters, merge.neighbours, distances), clusters).to(x.dtype)
    return one_hot.T @ x / one_hot.sum(0)[:, None]


def plain_merge(tokens: Tokens, merge: Merge, distances: str = DIFFERENCES) -> Float[Tensor, "n c"]:
    """The merge as a loop over segments and frames, tokens only: no bookkeeping of sources, groups or positions."""
    x = tokens.x
    frames = x.mean(1)
    label = plain_dpc(frames, max(1, int(len(x) * merge.segment_ratio)), merge.neighbours, distances)
    out, first = [], 0
    for length in contiguous_segments(label):
        part = x[first : first + length]
        first += length
        unit = F.normalize(part, dim=-1)
        similarity = torch.einsum("tpc,spc->pts", unit, unit)
        mean = (similarity.sum((1, 2)) - length) / (length * (length - 1))
        static = mean > merge.static_threshold
        out.append(plain_means(part[:, static].mean(0), merge, distances))
        for frame in part:
            out.append(plain_means(frame[~static], merge, distances))
    return torch.cat(out)


def alternating(works: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Seconds of each, taken in turns after one warm-up."""
    times: list[list[float]] = [[] for _ in works]
    for round_number in range(rounds + 1):
        for work, taken in zip(works, times, strict=True):
            begin = time.perf_counter()
            work()
            if round_number:
                taken.append(time.perf_counter() - begin)
    return times


def extra_memory(name: str, tokens: Tokens) -> float:
    """MiB by which a process of its own grows at most while merging, beyond its input and an earlier small merge."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "tokens.safetensors")
        save_file({"x": tokens.x}, path)
        return in_a_process_of_its_own(_grown, name, path)


def _grown(name: str, path: str) -> float:
    work, merge = SIDES[name], as_released(static_threshold=0.5)
    work(drawn_video(8, 16, 8), merge)
    x = load_file(path)["x"].clone()
    return growth(lambda: work(Tokens("drawn", x, x[:0, 0]), merge), x.device)


SIDES: dict[str, Callable[[Tokens, Merge], object]] = {
    "batched": lambda t, m: m(t),
    "loop, distances by differences": plain_merge,
    "loop, by float32 products": lambda t, m: plain_merge(t, m, PRODUCTS),
}


def bench_merge(shape: tuple[int, int, int], rounds: int) -> str:
    tokens, merge = drawn_video(*shape), as_released(static_threshold=0.5)
    ours, exact = merge(tokens).x, plain_merge(replace(tokens, x=tokens.x.double()), merge).float()
    if ours.shape != exact.shape or _differing(ours, exact):
        sys.exit("python -m prunesweep.dev.bench: the batched merge disagrees with the loop over frames in float64")
    works = [lambda work=work: work(tokens, merge) for work in SIDES.values()]
    counts = [operations(work) for work in works]
    times = alternating(works, rounds)
    memory = [[extra_memory(name, tokens) for _ in range(rounds)] for name in SIDES]
    rows: list[tuple[str, ...]] = [
        (name, f"{count}", *(median_and_range(*own) for own in ((taken, "s", 2), (grown, "MiB", 0))))
        for name, count, taken, grown in zip(SIDES, counts, times, memory, strict=True)
    ]
    medians = [tuple(counts), *(tuple(map(statistics.median, all_sides)) for all_sides in (times, memory))]
    for index, name in list(enumerate(SIDES))[1:]:
        rows.append((f"batched / {name}", *(f"{side[0] / side[index]:.2f}" if side[index] else "n/a" for side in medians)))
    lost = [_lost(plain_merge(tokens, merge, distances), ours) for distances in (DIFFERENCES, PRODUCTS)]
    sizes = " x ".join(map(str, shape))
    title = (
        f"{sizes} (frames x tokens x channels), {len(ours)} of {shape[0] * shape[1]} tokens left\n"
        "the batched merge equals the loop run in float64\n"
        f"in float32, as timed, rounding changes {lost[0]} of the loop with differences and {lost[1]} of that with products"
    )
    return f"{title}\n{grid(('', 'operations', f'median of {rounds} (range)', 'extra memory'), rows)}"


def _lost(rounded: Float[Tensor, "m c"], ours: Float[Tensor, "n c"]) -> str:
    return "other counts" if rounded.shape != ours.shape else f"{_differing(rounded, ours)} tokens"


def _differing(one: Float[Tensor, "n c"], other: Float[Tensor, "n c"]) -> int:
    return int(((one - other).abs().amax(1) > TOLERANCE).sum())


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(__file__, __doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    merge = parts.add_parser("merge", help="PruneVid's merge against a loop over frames")
    merge.add_argument("--shape", type=int, nargs=3, default=(32, 196, 3584), metavar=("FRAMES", "TOKENS", "CHANNELS"))
    merge.add_argument("--rounds", type=int, default=5)
    merge.add_argument("--methods", nargs="*", metavar="NAME", help="what these take, or all that merge, beside their FLOPs")
    plain = parts.add_parser("plain", help="methods that compare many tokens against the plainest batched code")
    plain.add_argument("--shape", type=int, nargs=3, default=(32, 196, 3584), metavar=("FRAMES", "TOKENS", "CHANNELS"))
    plain.add_argument("--rounds", type=int, default=3)
    plain.add_argument("--methods", nargs="*", default=(), metavar="NAME", help="these alone")
    steps = parts.add_parser("steps", help="what every method's step inside the LLM takes by itself")
    steps.add_argument("--shape", type=int, nargs=3, default=(32, 196, 3584), metavar=("FRAMES", "TOKENS", "CHANNELS"))
    steps.add_argument("--rounds", type=int, default=3)
    steps.add_argument("--methods", nargs="*", default=(), metavar="NAME", help="these alone")
    engine = parts.add_parser("engine", help="what sharing saves on a grid of configurations and on several questions")
    engine.add_argument("--scale", choices=SCALES, default="0.5b", help="proportion of vision to LLM FLOPs")
    engine.add_argument("--rounds", type=int, default=3)
    answers = parts.add_parser("answers", help="what sharing and writing together save, by how the answer is given")
    answers.add_argument("--scale", choices=SCALES, default="7b", help="proportion of vision to LLM FLOPs")
    answers.add_argument("--tokens", type=int, nargs="*", default=(10, 100), help="of generated answers")
    answers.add_argument("--rounds", type=int, default=3)
    roofline = parts.add_parser("roofline", help="what each stage must take by its FLOPs and bytes, and takes here")
    roofline.add_argument("--scale", choices=SCALES, default="7b", help="proportion of vision to LLM FLOPs")
    roofline.add_argument("--rounds", type=int, default=5)
    processes = parts.add_parser("processes", help="what a second process brings, each with one thread")
    processes.add_argument("--processes", type=int, default=2)
    processes.add_argument("--questions", type=int, default=200, help="of the embedded benchmark")
    processes.add_argument("--rounds", type=int, default=3)
    decoding = parts.add_parser("decoding", help="whether the walk waits for frames, by decoders that work ahead")
    decoding.add_argument("--decoders", type=int, nargs="+", default=(1, 2))
    decoding.add_argument("--videos", type=int, default=12)
    decoding.add_argument("--frames", type=int, default=64, help="that each video has")
    decoding.add_argument("--rounds", type=int, default=3)
    start = parts.add_parser("start", help="what a trial costs besides its questions, in sweeps and searches of many trials")
    start.add_argument("--trials", type=int, nargs="+", default=(30, 300, 3000))
    resume = parts.add_parser("resume", help="what reading a store of millions of records takes")
    resume.add_argument("--millions", type=float, nargs="+", default=(1.0, 2.0, 4.0, 8.0), help="of records")
    resume.add_argument("--shards", action="store_true", help="as a killed sweep leaves them, not gathered by trial")
    return parser


def _parsed() -> argparse.Namespace:
    parser = _parser()
    arguments = parser.parse_args()
    if arguments.part == "start" and min(arguments.trials) <= FEW:
        parser.error(f"--trials must be more than {FEW}, which they are compared with")
    if arguments.part == "resume" and min(arguments.millions) <= 0:
        parser.error("--millions must be more than 0")
    if arguments.part == "decoding" and (arguments.videos <= 1 or min([*arguments.decoders, arguments.frames]) < 1):
        parser.error("--videos must be at least 2, --decoders and --frames at least 1")
    bounded = ("rounds", "processes", "questions")
    lists = [*getattr(arguments, "shape", ()), *getattr(arguments, "tokens", ())]
    if min([*lists, *(getattr(arguments, name, 1) for name in bounded)]) < 1:
        parser.error("--shape, --tokens, --rounds, --processes and --questions must be at least 1")
    return arguments


def main() -> None:
    arguments = _parsed()
    with reported():
        if arguments.part == "processes":
            from prunesweep.dev.bench_processes import bench_processes

            print(bench_processes(arguments.processes, arguments.questions, arguments.rounds))
        elif arguments.part == "answers":
            scale = SCALES[arguments.scale]
            print(bench_answers(arguments.scale, scale, arguments.tokens, arguments.rounds))
        elif arguments.part == "roofline":
            print(bench_roofline(arguments.scale, SCALES[arguments.scale], arguments.rounds))
        elif arguments.part == "decoding":
            from prunesweep.dev.bench_decoding import bench_decoding

            print(bench_decoding(arguments.decoders, arguments.videos, arguments.frames, arguments.rounds))
        elif arguments.part == "start":
            print(bench_start(arguments.trials))
        elif arguments.part == "resume":
            print(bench_resume(arguments.millions, not arguments.shards))
        elif arguments.part == "plain":
            print(bench_plain(tuple(arguments.shape), arguments.rounds, arguments.methods))
        elif arguments.part == "steps":
            from prunesweep.dev.bench_steps import bench_steps

            print(bench_steps(tuple(arguments.shape), arguments.rounds, arguments.methods))
        elif arguments.part == "merge":
            shape, methods = tuple(arguments.shape), arguments.methods
            print(bench_merge(shape, arguments.rounds) if methods is None else bench_methods(shape, arguments.rounds, methods))
        else:
            print(bench_engine(arguments.scale, SCALES[arguments.scale], arguments.rounds))


if __name__ == "__main__":
    main()
