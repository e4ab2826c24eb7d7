"""The claims about the embedded benchmark and model, on a few questions: the numbers are those of the records."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from prunesweep.benchmarks import blocks, take_evenly
from prunesweep.dev import evidence
from prunesweep.dev.benchmark_pages import constant_policy, exchanged
from prunesweep.dev.blocks_page import static_shares
from prunesweep.engine.candidate import Candidate
from prunesweep.engine.protocol import Protocol
from prunesweep.models.llava_onevision import load
from prunesweep.paths import DATA
from prunesweep.reducers import Reducer
from prunesweep.reducers.prunevid import Merge, Prune
from prunesweep.sweep.evaluate import evaluate
from support import forks
from support.places import ROOT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweeps that the claims read, on four questions; the validation split is a copy."""
    folder = tmp_path_factory.mktemp("evidence")
    common = [f"store.folder={folder}/store", "logger=none", "trainer.progress=false", "benchmark.limit=4"]
    for name, config, own in (("test", "evidence", []), ("test-search", "search", ["hydra.sweeper.trials=3"])):
        words = ["--config-dir", str(ROOT / "sweeps"), "--config-name", config, *common, *own, f"hydra.sweep.dir={folder / name}"]
        code, out = forks.finish(words, folder, folder / "log")
        assert code == 0, out
    shutil.copytree(folder / "test", folder / "validation")
    return folder


def test_five_claims_are_reported_with_their_numbers(folder: Path) -> None:
    found = evidence.claims(folder, "test", second=False)
    text = evidence.report({"test": found}, "python -m prunesweep.dev.evidence x")
    assert text.count("| holds |") + text.count("| **does not hold** |") == 5
    rows = evidence.read_rows(folder / "test")
    assert f"dense: {evidence.dense_of(rows).accuracy}" in text
    for frames in evidence.BUDGETS:
        assert sum(line.startswith(f"| {frames} frames | ") for line in found[2].lines) >= 4


def test_every_setting_is_moved_alone(folder: Path) -> None:
    rows = evidence.of(evidence.read_rows(folder / "test"), "prunevid")
    base = next(row for row in rows if row.name == "prunevid positions=original")
    moved = {name: {row.settings[name] for row in rows if evidence.only(row, base, name)} for name in evidence.SWEPT}
    assert min(len(values) for values in moved.values()) >= 4


def test_prunevid_never_costs_more_than_its_budget_where_it_is_chosen(folder: Path) -> None:
    rows = evidence.read_rows(folder / "test")
    contests = list(evidence.contests(rows, rows))
    for contest in contests:
        limit = evidence.budget(rows, contest.frames)
        if contest.lead is None:
            assert contest.row.cost <= limit
        else:
            assert contest.row.cost == pytest.approx(limit, rel=evidence.SAME_COST)


def test_answers_are_the_same_in_repeats_and_for_one_or_two_threads() -> None:
    model = load("tiny", str(DATA / "tiny"))
    samples = take_evenly(blocks.load(), 10)
    words = Protocol("words", "choose")
    trials = [Candidate("dense", Reducer("none"), 12, words), Candidate("pruned", Reducer("p", Merge(), Prune(4)), 12, words)]
    found = []
    for threads in (1, 2, 1):
        torch.set_num_threads(threads)
        found.append(evaluate(lambda: model, samples, trials, progress=False).records)
    for trial in trials:
        one, two, again = (records[trial.name] for records in found)
        assert one.equals(again)
        assert one["prediction"].equals(two["prediction"])


def test_questions_about_another_video_keep_their_words() -> None:
    samples = take_evenly(blocks.load(), 30)
    for own, other in zip(samples, exchanged(samples), strict=True):
        assert own.video_id != other.video_id
        assert (own.question, own.choices, own.target) == (other.question, other.choices, other.target)


def test_no_fixed_order_of_answers_beats_chance_by_much() -> None:
    samples = blocks.load()
    for task in {sample.task for sample in samples}:
        own = [sample for sample in samples if sample.task == task]
        assert constant_policy(own) <= 1 / len(own[0].choices) + 0.1


def test_a_cell_that_changes_is_not_static() -> None:
    frames = np.full((3, 96, 96, 3), 100, np.uint8)
    frames[1, :16, :16] = 200
    assert static_shares(frames) == pytest.approx([35 / 36, 35 / 36])
