from __future__ import annotations

import functools
import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest

from prunesweep.engine.candidate import Candidate
from prunesweep.engine.protocol import Protocol
from prunesweep.models.llava_onevision import LlavaOnevision, load
from prunesweep.reducers import Reducer
from prunesweep.reducers.prunevid import Merge, Prune
from prunesweep.sweep.evaluate import Lines, Unpadded, evaluate
from prunesweep.types import Sample

TRIALS = [
    Candidate("dense", Reducer("none"), 8, Protocol("words", "choose")),
    Candidate("prunevid", Reducer("prunevid", Merge(), Prune(layer=2)), 8, Protocol("words", "choose")),
    Candidate("letters", Reducer("prunevid", Merge(), Prune(layer=2)), 4, Protocol("letters", "choose")),
]


def test_every_sample_is_drawn_once_over_all_processes() -> None:
    for length in (1, 7, 8):
        shares = [list(Unpadded(length, rank, 3)) for rank in range(3)]
        assert sorted(index for share in shares for index in share) == list(range(length))
        assert [len(Unpadded(length, rank, 3)) for rank in range(3)] == [len(share) for share in shares]


def test_a_log_has_a_line_every_few_seconds_and_one_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    trainer, module = SimpleNamespace(world_size=1, is_global_zero=True), SimpleNamespace(videos=range(100))
    for seconds, said in ((0.125, [40, 80, 100]), (10.0, range(5, 101, 5))):
        now = itertools.count(0, seconds)
        monkeypatch.setattr("prunesweep.sweep.evaluate.time.monotonic", now.__next__)
        lines = Lines()
        lines.on_predict_start(trainer, module)
        for index in range(100):
            lines.on_predict_batch_end(trainer, module, None, None, index)
        out = capsys.readouterr().err.splitlines()
        assert [int(line.split()[1]) for line in out] == list(said)


def test_records_come_in_the_order_of_the_samples(samples: list[Sample], model: LlavaOnevision) -> None:
    shuffled = samples[::-1]
    result = evaluate(lambda: model, shuffled, TRIALS, progress=False)
    assert list(result.records) == ["dense", "prunevid", "letters"]
    for name, records in result.records.items():
        assert records["sample_id"].to_list() == [s.id for s in shuffled]
        assert set(records["trial"]) == {name}
        assert records["error"].null_count() == len(samples)
    assert result.timing.run < result.timing.alone


def test_shared_records_equal_separate_ones(samples: list[Sample], model: LlavaOnevision) -> None:
    some = samples[:5]
    shared = evaluate(lambda: model, some, TRIALS, progress=False)
    separate = evaluate(lambda: model, some, TRIALS, share=False, progress=False)
    for trial in TRIALS:
        assert shared.records[trial.name].equals(separate.records[trial.name])
    assert separate.timing.run == separate.timing.alone


def test_two_processes_give_the_records_of_one(samples: list[Sample], model: LlavaOnevision, checkpoint: Path) -> None:
    make_model = functools.partial(load, "small", str(checkpoint))
    two = evaluate(make_model, samples, TRIALS, devices=2, accelerator="cpu", progress=False)
    one = evaluate(lambda: model, samples, TRIALS, accelerator="cpu", progress=False)
    for trial in TRIALS:
        assert two.records[trial.name].equals(one.records[trial.name])


def test_more_processes_than_videos_are_refused(samples: list[Sample], model: LlavaOnevision) -> None:
    with pytest.raises(ValueError, match="trainer.devices must be at most 1, the number of videos, got 2"):
        evaluate(lambda: model, samples[:1], TRIALS, devices=2)
