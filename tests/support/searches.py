"""Searches whose trials answer by a formula, on a benchmark of one video that is never looked at."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from optuna.trial import FrozenTrial

from prunesweep.cost import Shape, VisionShape
from prunesweep.results.records import Stopped, TrialInfo, schema, write_trial
from prunesweep.search import study as proposals
from prunesweep.search.loop import Job, Plan, Search, described
from prunesweep.search.space import parse_space
from prunesweep.search.warm_start import task_of

SHAPE = Shape(4, 8, 2, 1, 4, 16, 100, VisionShape(1, 8, 16, 4, 12))
FRAMES, PATCHES, SAMPLES = 8, 9, 40
LAYER, KEEP, ROWS = "reducer.prune.layer", "reducer.prune.keep_ratio", "reducer.prune.rows"
SPACE = {LAYER: "range(1, 4)", KEEP: "interval(0.1, 1.0)", ROWS: "choice(last, question)"}
BASELINES: dict[str, dict[str, Any]] = {"dense": {"reducer.prune": None}, "paper": {}}


def base(folder: Path) -> DictConfig:
    """The sections of a configuration that a search reads; its benchmark is one drawn video with many questions."""
    return OmegaConf.create(
        {
            "model": {"name": "m", "load": {"_target_": "nothing", "checkpoint": str(folder / "weights")}},
            "benchmark": {
                "name": "b",
                "load": {"_target_": "prunesweep.benchmarks.jsonl.load", "path": str(folder)},
            },
            "reducer": {
                "_target_": "prunesweep.reducers.Reducer",
                "name": "fastv",
                "prune": {"_target_": "prunesweep.reducers.fastv.Prune", "layer": 2, "keep_ratio": 0.5, "rows": "last"},
            },
            "video": {"frames": FRAMES},
            "protocol": {"style": "words"},
            "race": {"_target_": "prunesweep.sweep.racing.Race", "rounds": 1},
            "store": {"folder": None},
        }
    )


def make_task(folder: Path, samples: int = SAMPLES, weights: str = "1") -> Path:
    folder.mkdir()
    (folder / "weights").write_text(weights)
    (folder / "v.mp4").write_bytes(b"no video, but never looked at")
    lines = [{"video": "v.mp4", "question": f"{i}?", "choices": ["a", "b"], "answer": "a", "id": f"s{i}"} for i in range(samples)]
    (folder / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def records_of(config: DictConfig, samples: int, right: int) -> pl.DataFrame:
    """Token counts as FastV leaves them, so that costs known beforehand are the costs."""
    frames = config.video.frames
    tokens = frames * PATCHES
    prune = config.reducer.prune
    kept = tokens if prune is None else max(1, round(prune.keep_ratio * tokens))
    full = SHAPE.layers if prune is None else prune.layer
    row = {"video_id": "v", "task": "t", "text_tokens": 5, "dense_tokens": tokens, "frames": frames, "generated_tokens": 1}
    row |= {"reduction_flops": 0, "option_rows": 0, "option_pairs": 0}
    row |= {"visual_tokens": [tokens] * full + [kept] * (SHAPE.layers - full)}
    return pl.DataFrame([{**row, "sample_id": f"s{i}", "correct": i < right} for i in range(samples)], schema=schema())


def rightness(config: DictConfig) -> float:
    """Of a model that likes late layers and many tokens."""
    prune = config.reducer.prune
    return 0.95 if prune is None else 0.3 + 0.4 * prune.keep_ratio + 0.05 * prune.layer


class Formula:
    """A host whose trials answer by `rightness`; counts what it evaluates."""

    def __init__(self, task: Path, folder: Path, samples: int = SAMPLES):
        self.config, self.folder, self.samples = base(task), folder, samples
        self.evaluated: list[str] = []
        self.before_launch: Callable[[Sequence[Job]], None] = lambda jobs: None
        self.stops: Callable[[DictConfig], bool] = lambda config: False

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        config = self.config.copy()
        for override in overrides:
            key, _, value = override.partition("=")
            OmegaConf.update(config, key, None if value == "null" else OmegaConf.create(f"x: {value}").x, merge=False)
        return config

    def launch(self, jobs: Sequence[Job]) -> None:
        self.before_launch(jobs)
        for job in jobs:
            config = self.compose(job.overrides)
            self.evaluated.append(job.folder)
            with (self.folder / "evaluated.txt").open("a") as file:
                file.write(f"{job.folder}\n")
            keys = {"model_key": (task := task_of(config)).model_key, "samples_key": task.samples_key}
            stopped = Stopped("rival", 10, self.samples, -0.2, -0.4, -0.1, 0.1, 0.5, 0.95) if self.stops(config) else None
            seen = 10 if stopped else self.samples
            info = TrialInfo(job.folder, "fastv", "m", "b", (), described(config), SHAPE, "", stopped, **keys)
            write_trial(self.folder / job.folder, info, records_of(config, seen, round(rightness(config) * seen)))


def plan(trials: int = 8, space: Mapping[str, str] = SPACE, **others: Any) -> Plan:
    parsed = parse_space(space, OverridesParser.create())
    settings: dict[str, Any] = {"batch": 4, "seed": 0, "objectives": {"accuracy": "maximize", "llm_flops_ratio": "minimize"}}
    return Plan(**{"trials": trials, "space": dict(space), "distributions": parsed, **settings, **others})


def search(task: Path, folder: Path, searched: Plan, host: Formula | None = None) -> tuple[list[FrozenTrial], Formula]:
    folder.mkdir(exist_ok=True)
    host = host or Formula(task, folder)
    return Search(searched, folder, [], host).run(), host


def params(trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
    return [t.params for t in trials if proposals.is_own(t)]


BASELINE_FOLDERS = [f"baseline-{name}" for name in BASELINES]
