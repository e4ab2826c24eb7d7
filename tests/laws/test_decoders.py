"""Law 8 for decoding ahead: however many processes decode, and whatever becomes of them, records are the same."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest

from prunesweep.benchmarks import jsonl
from prunesweep.engine.candidate import Candidate
from prunesweep.engine.encoder_cache import EncoderCache
from prunesweep.engine.protocol import Protocol
from prunesweep.models.llava_onevision import LlavaOnevision, load
from prunesweep.reducers import Reducer
from prunesweep.reducers.prunevid import Merge, Prune
from prunesweep.sweep.evaluate import evaluate
from prunesweep.types import Sample
from prunesweep.video.prefetch import Prefetch
from prunesweep.video.reader import AHEAD, own_decoder
from support.decoders import Killing
from support.mutants import write_mutants

WORDS = Protocol("words", "choose")
TRIALS = [
    Candidate("dense", Reducer("none"), 8, WORDS),
    Candidate("prunevid", Reducer("prunevid", Merge(), Prune(layer=2)), 8, WORDS),
    Candidate("letters", Reducer("prunevid", Merge(), Prune(layer=2)), 4, Protocol("letters", "choose")),
    Candidate("released", Reducer("none"), 4, Protocol("words", "choose", sampling="released")),
]


@pytest.fixture(scope="module")
def mixed(samples: list[Sample], tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Questions on films that can be read, on parts of them, on damaged ones, on none, and some that cannot be asked."""
    folder = tmp_path_factory.mktemp("mixed")
    good = [shutil.copy(path, folder) for path in dict.fromkeys(sample.path for sample in samples[:8])]
    question = {"question": "what moves ?", "choices": ["red", "blue"], "answer": "red"}
    lines: list[dict[str, object]] = []
    for path, damaged in zip(good, write_mutants(folder, len(good)), strict=True):
        name = Path(path).name
        lines += [{"video": name}, {"video": name, "start": 0.5, "end": 1.5}, {"video": damaged.name}]
    lines += [{"video": "gone.mp4"}, {"video": Path(good[0]).name, "start": 1000.0, "end": 2000.0}]
    (folder / "questions.jsonl").write_text("\n".join(json.dumps({**line, **question, "task": "it"}) for line in lines))
    return jsonl.load(str(folder))


Records = Mapping[str, pl.DataFrame]


@pytest.fixture(scope="module")
def expected(mixed: list[Sample], model: LlavaOnevision) -> Records:
    records = evaluate(lambda: model, mixed, TRIALS, progress=False).records
    errors = records["dense"]["error"]
    assert 0 < errors.null_count() < len(errors)
    return records


def same(one: Records, other: Records) -> None:
    assert list(one) == list(other)
    for name, records in one.items():
        assert records.equals(other[name]), name


@pytest.mark.parametrize("decoders", [1, 3])
def test_records_are_the_same_by_any_number_of_decoders(
    decoders: int, mixed: list[Sample], model: LlavaOnevision, expected: Records
) -> None:
    same(evaluate(lambda: model, mixed, TRIALS, progress=False, decoders=decoders).records, expected)


def test_every_clip_is_foreseen_and_read_once(
    mixed: list[Sample], model: LlavaOnevision, monkeypatch: pytest.MonkeyPatch, expected: Records
) -> None:
    monkeypatch.setattr("prunesweep.video.prefetch.read_clip", functools.partial(_noting, read := []))
    asked = []
    before = Prefetch.__call__
    monkeypatch.setattr(Prefetch, "__call__", lambda self, *one: (asked.append(one), before(self, *one))[1])
    same(evaluate(lambda: model, mixed, TRIALS, progress=False, decoders=2).records, expected)
    assert sorted(map(str, read)) == sorted(map(str, asked))
    assert len(set(asked)) == len(asked)


def _noting(read: list, *asked, decoder=None):
    from prunesweep.video.reader import read_clip

    assert decoder is not None, "it was not foreseen"
    read.append(asked)
    return read_clip(*asked, decoder=decoder)


def test_records_are_the_same_with_decoders_in_two_processes(
    samples: list[Sample], checkpoint: Path, model: LlavaOnevision
) -> None:
    make_model = functools.partial(load, "small", str(checkpoint))
    two = evaluate(make_model, samples, TRIALS, devices=2, accelerator="cpu", progress=False, decoders=2)
    same(two.records, evaluate(lambda: model, samples, TRIALS, accelerator="cpu", progress=False).records)


def test_nothing_is_decoded_of_what_was_kept(
    mixed: list[Sample], model: LlavaOnevision, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, expected: Records
) -> None:
    monkeypatch.setattr("prunesweep.video.prefetch.read_clip", functools.partial(_noting, read := []))
    cache = EncoderCache(str(tmp_path))
    counts = []
    for _ in range(2):
        read.clear()
        same(evaluate(lambda: model, mixed, TRIALS, progress=False, decoders=1, cache=cache).records, expected)
        counts.append(len(read))
    failed = set(expected["dense"].drop_nulls("error")["sample_id"])
    assert counts[0] > counts[1] > 0
    assert {(one[0], one[3]) for one in read} == {(sample.path, sample.start) for sample in mixed if sample.id in failed}


def test_a_decoder_that_is_killed_costs_no_record(mixed: list[Sample], model: LlavaOnevision, expected: Records) -> None:
    own_decoder(AHEAD).close()
    with Killing(own_decoder(AHEAD), times=1) as killing:
        found = evaluate(lambda: model, mixed, TRIALS, progress=False, decoders=1)
    assert len(killing.killed) == 1
    same(found.records, expected)


def test_trials_that_are_run_alone_decode_for_themselves(
    samples: list[Sample], model: LlavaOnevision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prunesweep.sweep.decoding.Prefetch", None)
    alone = evaluate(lambda: model, samples[:3], TRIALS, share=False, progress=False, decoders=3)
    assert alone.timing.run == alone.timing.alone
