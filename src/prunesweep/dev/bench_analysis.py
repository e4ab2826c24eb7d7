"""`python -m prunesweep.dev.bench_analysis`: how long does it take to read a large sweep, and how much memory?

Writes a drawn sweep (2,000 trials of 4,000 samples unless told otherwise), then reads it in a fresh process: records,
front with its bootstrap, intervals, tests against the dense model, main effects, importance.  Nothing of it is cached.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prunesweep.analysis import resampling
from prunesweep.console.layout import grid
from prunesweep.cost import Shape, VisionShape
from prunesweep.dev import parser_of
from prunesweep.errors import reported
from prunesweep.paths import user_path
from prunesweep.results.records import TrialInfo, schema, write_trial

if TYPE_CHECKING:
    import polars as pl

SHAPE = Shape(28, 3584, 28, 4, 128, 18944, 152064, VisionShape(26, 1152, 4304, 729, 588))
"""A 7B model's, as in `conf/model/llava_onevision_7b.yaml`."""
FRAMES, PATCHES = 32, 196
QUESTIONS_PER_VIDEO = 3
TASKS = 20
LIMIT_SECONDS, LIMIT_BYTES = 20, 4e9
"""What two cores should manage for eight million records."""


def drawn_settings(trials: int) -> Iterator[dict[str, Any]]:
    """The dense model, then a grid of PruneVid's settings."""
    yield {"name": "none", "merge": None, "prune": None}
    thresholds, clusters = np.linspace(0.5, 0.95, 10), np.linspace(0.1, 1, 10)
    layers, keeps = (4, 7, 10, 14, 20), (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    while True:
        for threshold, cluster, layer, keep in product(thresholds, clusters, layers, keeps):
            merge = {"static_threshold": round(float(threshold), 3), "cluster_ratio": round(float(cluster), 3)}
            yield {"name": "prunevid", "merge": merge, "prune": {"layer": layer, "keep_ratio": keep}}


def write_drawn_sweep(folder: Path, trials: int, samples: int, seed: int = 0) -> None:
    """Trial folders as a sweep leaves them; answers and token counts are drawn, harder questions are harder for all."""

    draw = np.random.default_rng(seed)
    table = drawn_table(samples, draw)
    for number, chosen in zip(range(trials), drawn_settings(trials), strict=False):
        info = TrialInfo(f"{chosen['name']} {number}", chosen["name"], "7b", "drawn", (), {"reducer": chosen}, SHAPE)
        write_trial(folder / str(number), info, drawn_trial(table, chosen, info.name, draw))


class Table(NamedTuple):
    """What a drawn sweep's trials have in common."""

    common: pl.DataFrame
    hardness: np.ndarray
    motion: np.ndarray


def drawn_table(samples: int, draw: np.random.Generator) -> Table:
    import polars as pl

    ids, videos = [f"question {i:05d}" for i in range(samples)], np.arange(samples) // QUESTIONS_PER_VIDEO
    common = pl.DataFrame(
        {
            "sample_id": ids,
            "video_id": [f"videos/{v:05d}.mp4" for v in videos],
            "task": [f"task {i % TASKS:02d}" for i in range(samples)],
            "choices": [["yes", "no", "before", "after"]] * samples,
            "target": ["yes"] * samples,
            "text_tokens": draw.integers(60, 130, samples),
            "frames": [FRAMES] * samples,
            "dense_tokens": [FRAMES * PATCHES] * samples,
        }
    )
    return Table(common, draw.random(samples), draw.random(videos[-1] + 1)[videos])


def drawn_trial(table: Table, chosen: dict[str, Any], name: str, draw: np.random.Generator) -> pl.DataFrame:
    import polars as pl

    common, hardness, motion = table
    samples, merge, prune = len(common), chosen["merge"], chosen["prune"]
    entering = np.full(samples, FRAMES * PATCHES)
    if merge:
        share = merge["cluster_ratio"] * (0.3 + 0.7 * motion * merge["static_threshold"])
        entering = np.maximum(1, (entering * share).astype(np.int64))
    leaving = np.maximum(1, (entering * prune["keep_ratio"]).astype(np.int64)) if prune else entering
    full = prune["layer"] if prune else SHAPE.layers
    tokens = np.repeat(np.stack([entering, leaving], 1), [full, SHAPE.layers - full], axis=1)
    right = draw.random(samples) < 0.95 - 0.5 * hardness - 0.2 * (1 - leaving / (FRAMES * PATCHES)) ** 4
    columns: dict[str, Any] = {
        "trial": pl.lit(name),
        "prediction": pl.Series(np.where(right, "yes", "no")),
        "correct": pl.Series(right),
        "choice_scores": pl.Series(draw.normal(size=(samples, 4)).tolist()),
        "visual_tokens": pl.Series(tokens).arr.to_list(),
        "generated_tokens": pl.lit(1),
        "reduction_flops": pl.Series(draw.integers(10**9, 10**10, samples)),
        "option_rows": pl.lit(0),
        "option_pairs": pl.lit(0),
    }
    drawn = common.with_columns(**columns)
    empty = {key: pl.lit(None) for key in schema() if key not in drawn.columns}
    return drawn.with_columns(**empty).select(pl.col(key).cast(kind) for key, kind in schema().items())


def measure(folder: Path) -> None:
    """Prints per step the seconds that passed and those that processors worked on it, and the peak memory of this process."""
    begin, worked = time.perf_counter(), time.process_time()
    last = (begin, worked)
    rows: list[tuple[str, ...]] = []

    def step(name: str) -> None:
        nonlocal last
        now = (time.perf_counter(), time.process_time())
        rows.append((name, *(f"{after - before:.1f} s" for after, before in zip(now, last, strict=True))))
        last = now

    from prunesweep.analysis import ablation, significance
    from prunesweep.analysis.outcomes import read_outcomes

    (outcomes,) = read_outcomes(folder)
    step("records to outcomes, costs and errors")
    front = resampling.front(outcomes)
    step(f"front of {sum(row.pareto for row in outcomes.table)} trials, {resampling.REPLICATES} draws of the videos")
    against = significance.against_dense(outcomes)
    step("paired tests against dense, Holm and FDR")
    significance.by_task(outcomes)
    step(f"accuracy by task, {len(set(outcomes.tasks))} tasks")
    ablation.ablations(outcomes)
    step("main effects and interactions")
    ablation.importances(outcomes)
    step("importance (Optuna's fANOVA)")
    total = last[0] - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(grid(("step", "time", "CPU time"), [*rows, ("total", f"{total:.1f} s", f"{last[1] - worked:.1f} s")]))
    records = int(outcomes.answered.sum())
    print(f"{records:,} records of {len(outcomes.table):,} trials; peak memory {peak / 1e9:.2f} GB; {os.cpu_count()} CPUs")
    safe = len(against.within_margin) if against else 0
    print(
        f"hypervolume {front.hypervolume:.3f}; {safe} trials lose less than {100 * outcomes.margin:g} point against the dense one"
    )
    good = total < LIMIT_SECONDS and peak < LIMIT_BYTES
    print(f"within {LIMIT_SECONDS} s and {LIMIT_BYTES / 1e9:g} GB: {'yes' if good else 'no'}")


def main() -> None:
    parser = parser_of(__file__, "Read a large drawn sweep in a fresh process.")
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--measure", type=user_path, help="read the sweep in this folder, nothing else", metavar="FOLDER")
    arguments = parser.parse_args()
    if min(arguments.trials, arguments.samples) < 2:
        parser.error("--trials and --samples must be at least 2")
    with reported():
        if arguments.measure:
            measure(arguments.measure)
        else:
            draw_and_measure(arguments.trials, arguments.samples)


def draw_and_measure(trials: int, samples: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        begin = time.perf_counter()
        folder = Path(temporary)
        write_drawn_sweep(folder, trials, samples)
        size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
        print(f"drawn: {trials} trials x {samples} samples, {size / 1e9:.2f} GB of parquet", end="")
        print(f", written in {time.perf_counter() - begin:.0f} s", flush=True)
        subprocess.run([sys.executable, "-m", "prunesweep.dev.bench_analysis", "--measure", str(folder)], check=True)


if __name__ == "__main__":
    main()
