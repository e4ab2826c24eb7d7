"""Damaged videos: an error record each, and nothing else goes wrong."""

from __future__ import annotations

import json
import time
from pathlib import Path

import polars as pl

from prunesweep.benchmarks import jsonl
from prunesweep.engine.candidate import Candidate
from prunesweep.engine.protocol import Protocol
from prunesweep.models.llava_onevision import LlavaOnevision
from prunesweep.reducers import Reducer
from prunesweep.sweep.evaluate import evaluate
from prunesweep.types import Sample
from support.mutants import KINDS, UNREADABLE, write_mutants

MUTANTS = 300


def test_300_damaged_videos_give_an_error_record_each_and_leave_the_others_alone(
    samples: list[Sample], model: LlavaOnevision, tmp_path: Path
) -> None:
    paths = write_mutants(tmp_path, MUTANTS)
    good = sorted(tmp_path.glob("good*.mp4"))
    question = {"question": "what moves ?", "choices": ["red", "blue"], "answer": "red"}
    lines = [json.dumps({"video": path.name, "task": path.stem.partition("_")[2], **question}) for path in [*good, *paths, *good]]
    (tmp_path / "questions.jsonl").write_text("\n".join(lines))
    trials = [Candidate("dense", Reducer("none"), 2, Protocol("words", "choose"))]
    begin = time.monotonic()
    records = evaluate(lambda: model, jsonl.load(str(tmp_path)), trials, progress=False).records["dense"]
    seconds = time.monotonic() - begin
    assert len(records) == MUTANTS + 4
    failed = records["error"].is_not_null()
    assert (records["prediction"].is_null() == failed).all(), "an answer or an error, never both"
    healthy = records.filter(pl.col("video_id").str.starts_with("good"))
    assert healthy["error"].null_count() == 4
    errors = dict(records.filter(failed).group_by("task").len().iter_rows())
    print(f"{MUTANTS} damaged videos in {seconds:.0f} s, {sum(errors.values())} error records: {errors}")
    for kind in KINDS:
        count = sum(path.stem.endswith(f"_{kind}") for path in paths)
        assert errors.get(kind, 0) == count if kind in UNREADABLE else errors.get(kind, 0) <= count
