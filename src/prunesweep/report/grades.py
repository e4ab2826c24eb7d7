"""A language model's grades of trials, asked for and shown."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from pathlib import Path

from prunesweep.analysis.judge import (
    CRITERIA,
    JUDGEMENTS,
    Cache,
    Failures,
    Judge,
    Score,
    Verdict,
    cases,
    grade,
    mean_score,
    scores,
)
from prunesweep.console.layout import grid, visible

SHOWN_EVERY = 200
"""Verdicts."""


def score_text(score: Score) -> str:
    """`3.02 ± 0.05 (n=998)`."""
    if not score.graded:
        return "not graded"
    error = "n/a" if math.isnan(score.error) else f"{score.error:.2f}"
    return f"{score.mean:.2f} ± {error} (n={score.graded})"


def table(found: dict[str, Score], mean: Score) -> str:
    """The five columns and their mean."""

    rows = [(f"{name}  {CRITERIA[name][0]}", score_text(s), str(s.failed)) for name, s in found.items()]
    last = score_text(mean) if mean.graded else "needs all five"
    return grid(("", "score ± SE", "no verdict"), [*rows, ("mean of the five", last, "")])


def progress(count: int) -> None:
    if count % SHOWN_EVERY == 0:
        print(f"{count} verdicts", file=sys.stderr)


def judge_trial(folder: Path, judge: Judge, cache: Cache, key: str | None, failures: Failures) -> list[Verdict]:
    """Grades a trial's records, writes its judgements and prints its scores.  Raises ValueError for records of another kind."""
    import polars as pl

    from prunesweep.results.read import read_folder
    from prunesweep.results.records import write_parquet

    trial = read_folder(folder)
    wanted, left_out = cases(trial.records, questions_of(folder))
    if not wanted:
        raise ValueError(f"{folder} holds no free answers to grade; run prunesweep benchmark=vcgbench protocol=vcgbench first")
    verdicts = grade(wanted, judge, cache, key, progress)
    rows = [
        {"sample_id": c.sample_id, "video_id": c.video_id, "dimension": c.dimension, "score": v.score, "error": v.error}
        for c, v in zip(wanted, verdicts, strict=True)
    ]
    kinds = {"sample_id": pl.String, "video_id": pl.String, "dimension": pl.String, "score": pl.Float64, "error": pl.String}
    judgements = pl.DataFrame(rows, schema=kinds)
    if judgements["score"].is_not_null().any() or not (folder / JUDGEMENTS).is_file():  # a dead endpoint takes nothing away
        write_parquet(judgements, folder / JUDGEMENTS)
    print(f"{trial.info.name}, graded by {judge.model}")
    print(table(scores(judgements, failures), mean_score(judgements, failures)))
    for error, count in judgements["error"].drop_nulls().value_counts(sort=True).iter_rows():
        print(f"{count} without a verdict: {visible(error)}")
    if left_out:
        print(f"{len(left_out)} samples without an answer, or without their pair, are not graded")
    return verdicts


def questions_of(folder: Path) -> dict[str, str]:
    """Questions by sample id, from the benchmark that the trial's configuration names: records hold answers only."""
    from prunesweep.benchmarks import vcgbench
    from prunesweep.disk.foreign import build, read_yaml, registered
    from prunesweep.results.records import CONFIG

    benchmark = read_yaml(folder / CONFIG)["benchmark"]
    if registered("benchmark").get(benchmark["load"]["_target_"]) is not vcgbench.load:
        raise ValueError(f"{folder} is a trial on {benchmark['name']}; the judge grades vcgbench")
    return {sample.id: sample.question for sample in build(benchmark["load"], "benchmark", folder / CONFIG)}


def costs(verdicts: Iterable[Verdict], price_in: float, price_out: float) -> str:
    """Tokens of this run and, with prices per million, what they cost."""
    listed = list(verdicts)
    asked = sum(not v.cached for v in listed)  # equal questions are asked once
    given, answered = (sum(getattr(v, name) for v in listed) for name in ("prompt_tokens", "answer_tokens"))
    text = f"{len(listed)} verdicts, {asked} asked for, the others known; {given:,} tokens in, {answered:,} out"
    if price_in or price_out:
        text += f", {(given * price_in + answered * price_out) / 1e6:.4f} at the prices given"
    return text
