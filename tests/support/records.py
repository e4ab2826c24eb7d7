"""Records, trials and stores made up for tests of what reads them."""

from __future__ import annotations

import random
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl

from prunesweep.analysis.costs import COSTS
from prunesweep.cost import (
    Shape,
    Usage,
    VisionShape,
)
from prunesweep.results.keys.fingerprint import digest
from prunesweep.results.records import Trial, TrialInfo, to_frame
from prunesweep.results.store import Store, StoredTrial, row_schema
from prunesweep.types import Record

SHAPE = Shape(2, 8, 2, 1, 4, 16, 100, VisionShape(1, 8, 16, 4, 12))


def record(
    sample: str, correct: bool | None, video: str = "a", trial: str = "t", visual: tuple = (4, 2), error: str | None = None
) -> Record:
    return Record(
        trial=trial,
        sample_id=sample,
        video_id=video,
        task="count",
        choices=("one", "two"),
        target="one",
        prediction=None if correct is None else "one" if correct else "two",
        correct=correct,
        choice_scores=(-0.5, -1.0),
        usage=Usage(visual, text_tokens=5, frames=2, dense_tokens=8),
        error=error,
    )


def trial(*records: Record, name: str = "t") -> Trial:
    return Trial(TrialInfo(name, "prunevid", "tiny", "blocks", (), {}, SHAPE), to_frame(records), None)


def made(name: str, answers: str, videos: list[str] | None = None, visual: tuple = (8, 8), tasks: str = "", **reducer) -> Trial:
    """A trial whose letters are its answers: `+` right, `-` wrong, `?` none; one video per question unless told."""
    truth = {"+": True, "-": False, "?": None}
    rows = [
        record(f"q{i}", truth[a], videos[i] if videos else str(i), name, visual, error="gone" if a == "?" else None)
        for i, a in enumerate(answers)
    ]
    frame = to_frame(rows)
    if tasks:
        frame = frame.with_columns(task=pl.Series(list(tasks)))
    kind = name.split(" ")[0]
    info = TrialInfo(
        name, kind, "tiny", "blocks", (), {"reducer": {"name": kind, "merge": None, "prune": None, **reducer}}, SHAPE
    )
    return Trial(info, frame, None)


def drawn(trials: int = 6, questions: int = 60, videos: int = 20, seed: int = 0) -> list[Trial]:
    """Random answers, some missing, the dense model first."""
    draw = random.Random(seed)
    names = [str(draw.randrange(videos)) for _ in range(questions)]
    return [
        made(
            "none" if t == 0 else f"prunevid layer={t}",
            "".join(draw.choices("+-?", [6, 3, 1 if t else 0], k=questions)),
            names,
            (8, 8) if t == 0 else (1 + t % 7, 1 + t % 3),
            prune={"layer": t},
        )
        for t in range(trials)
    ]


def grid_trials(levels: dict[str, list], effect, questions: int = 200, seed: int = 0) -> list[Trial]:
    """A full grid whose probability of a right answer is `effect(*values)`; harder questions are harder for all."""
    draw = np.random.default_rng(seed)
    hardness = draw.random(questions)
    trials = []
    for values in product(*levels.values()):
        right = hardness < effect(*values)
        name = "prunevid " + " ".join(f"{k}={v}" for k, v in zip(levels, values, strict=True))
        prune = dict(zip(levels, values, strict=True))
        trials.append(made(name, "".join("+" if r else "-" for r in right), visual=(4, 2), prune=prune))
    return trials


def store_of(folder: Path, trials: list[Trial], commit: bool = True) -> Store:
    """A store with these trials, as an evaluation leaves it, or as a kill does."""
    store = Store.open(folder)
    keys = []
    for one in trials:
        info = one.info
        about = {name: getattr(info, name) for name in ("reducer", "model", "benchmark", "settings")}
        trial = StoredTrial(digest(info.settings), info.settings, {**about, "shape": asdict(info.shape)})
        keys.append(trial.key)
        store.describe(trial)
        rows = one.records.with_columns(
            key=pl.lit(trial.key), trial=pl.lit(trial.key), sample_key=pl.col("sample_id"), at=pl.lit(1.0)
        )
        store.add(rows.select(list(row_schema())).cast(row_schema()))
    if commit:
        store.commit(keys)
    return store


COST = {**dict.fromkeys(COSTS, 0.1), "entrance_ratio": 0.2, "llm_flops": 9.5e7, "llm_flops_ratio": 0.07}
COST |= {"total_flops": 9e8, "total_flops_ratio": 0.4}
