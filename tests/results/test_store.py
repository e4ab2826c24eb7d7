"""The store: only what is missing is evaluated, and files lose nothing, whoever writes, gathers or damages them."""

from __future__ import annotations

import functools
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from prunesweep.cost import Usage
from prunesweep.models.llava_onevision import LlavaOnevision, load
from prunesweep.results import store as store_module
from prunesweep.results.keys import fingerprint
from prunesweep.results.keys.fingerprint import RECORD_FORMAT
from prunesweep.results.records import parquet_bytes, schema
from prunesweep.results.store import Store, StoredTrial, content_name, read_file, to_rows
from prunesweep.sweep import work
from prunesweep.sweep.evaluate import evaluate
from prunesweep.sweep.work import (
    Addresses,
    left_to_do,
)
from prunesweep.types import Sample
from support.stored import TRIALS, addresses, record, rows


class Counted:
    """A way to make the model that counts how often it is used."""

    def __init__(self, model: LlavaOnevision):
        self.model, self.calls = model, 0

    def __call__(self) -> LlavaOnevision:
        self.calls += 1
        return self.model


# Evaluating with a store


def test_only_what_is_missing_is_evaluated(store: Store, samples: list[Sample], model: LlavaOnevision) -> None:
    everything = addresses(TRIALS, samples)
    run = functools.partial(evaluate, progress=False, store=store, addresses=everything)
    fresh = evaluate(lambda: model, samples, TRIALS, progress=False)

    first = run(lambda: model, samples[:4], TRIALS[:2], addresses=everything)
    assert (first.timing.evaluated, first.timing.reused) == (8, 0)
    more = run(lambda: model, samples, TRIALS)
    assert (more.timing.evaluated, more.timing.reused) == (3 * len(samples) - 8, 8)
    maker = Counted(model)
    again = run(maker, samples, TRIALS)
    assert (again.timing.evaluated, again.timing.reused, maker.calls) == (0, 3 * len(samples), 0)
    for name, expected in fresh.records.items():
        assert parquet_bytes(more.records[name]) == parquet_bytes(again.records[name]) == parquet_bytes(expected)


def test_trials_still_share_when_each_lacks_other_samples(store: Store, samples: list[Sample], model: LlavaOnevision) -> None:
    video = [sample for sample in samples if sample.video_id == samples[0].video_id][:2]
    for trial, sample in zip(TRIALS[1:], video, strict=False):
        evaluate(lambda: model, [sample], [trial], progress=False, store=store, addresses=addresses([trial], [sample]))
    rest = evaluate(lambda: model, video, TRIALS[1:], progress=False, store=store, addresses=addresses(TRIALS, video))
    assert rest.timing.reused == len(video)
    assert rest.timing.run < rest.timing.alone


def test_trials_that_are_made_of_the_same_are_evaluated_once(store: Store, samples: list[Sample], model: LlavaOnevision) -> None:
    twins = [TRIALS[0], replace(TRIALS[0], name="the same again")]
    where = Addresses({trial.name: "one key" for trial in twins}, {s.id: s.id for s in samples})
    result = evaluate(lambda: model, samples, twins, progress=False, store=store, addresses=where)
    assert result.timing.evaluated == len(samples)
    assert set(result.records["the same again"]["trial"]) == {"the same again"}


def test_errors_are_kept_and_tried_again_on_demand(
    store: Store, samples: list[Sample], model: LlavaOnevision, tmp_path: Path
) -> None:
    video = tmp_path / "comes_later.mp4"
    some = [samples[0], replace(samples[1], path=video, video_id="later")]
    run = functools.partial(
        evaluate, lambda: model, some, TRIALS[:1], progress=False, store=store, addresses=addresses(TRIALS[:1], some)
    )
    assert run().records["dense"]["error"].is_null().to_list() == [True, False]
    shutil.copy(samples[1].path, video)
    assert run().timing.evaluated == 0
    retried = run(retry_errors=True)
    assert (retried.timing.evaluated, retried.timing.reused) == (1, 1)
    assert retried.records["dense"]["error"].null_count() == 2
    assert run().records["dense"].equals(retried.records["dense"])


def test_two_processes_share_a_store_and_resume_each_others_work(
    store: Store, samples: list[Sample], model: LlavaOnevision, checkpoint: Path
) -> None:
    where = addresses(TRIALS, samples)
    evaluate(
        lambda: model,
        samples[:3],
        TRIALS[:1],
        progress=False,
        store=store,
        addresses=where._replace(trials={"dense": "key of dense"}),
    )
    make_model = functools.partial(load, "small", str(checkpoint))
    two = evaluate(make_model, samples, TRIALS, devices=2, accelerator="cpu", progress=False, store=store, addresses=where)
    one = evaluate(lambda: model, samples, TRIALS, accelerator="cpu", progress=False)
    assert two.timing.reused == 3
    for name, expected in one.records.items():
        assert parquet_bytes(two.records[name]) == parquet_bytes(expected)


# Files


def test_an_answer_beats_an_error_and_the_newest_error_wins(store: Store) -> None:
    for one in (record(error="first"), record("b", error="old"), record("b", error="new"), record(), record(error="late")):
        store.add(rows(one))
    found = {row["sample_id"]: row for row in store.records(["k"]).iter_rows(named=True)}
    assert found["a"]["prediction"] == "red"
    assert found["b"]["error"] == "new"


def test_committing_gathers_shards_and_loses_nothing(store: Store) -> None:
    store.describe(StoredTrial("k", {}, {}))
    store.add(rows(record("a")))
    store.add(pl.concat([rows(record("b")), rows(record("a"), key="other")]))
    before = store.records(["k", "other"])
    store.commit(["k"])
    assert store.records(["k", "other"]).equals(before)
    assert len(store.shards()) == 1, "a shard with another trial's record stays"
    assert len(list((store.folder / "trials" / "k").glob("*.parquet"))) == 1
    store.add(rows(record("c")))
    store.commit(["k"])
    assert len(list((store.folder / "trials" / "k").glob("*.parquet"))) == 1
    assert store.records(["k"])["sample_id"].to_list() == ["a", "b", "c"]


def test_writers_and_gatherers_at_once_lose_and_double_nothing(store: Store) -> None:
    store.describe(StoredTrial("k", {}, {}))

    def write(worker: int) -> None:
        for number in range(12):
            store.add(rows(record(f"{worker}-{number}"), record(f"shared {number}")))
            if number % 3 == worker % 3:
                store.commit(["k"])
            assert len(store.records(["k"])) >= number

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    expected = {f"{worker}-{number}" for worker in range(4) for number in range(12)} | {f"shared {n}" for n in range(12)}
    found = store.records(["k"])["sample_id"].to_list()
    assert len(found) == len(expected)
    assert set(found) == expected


DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "garbage": lambda path: path.write_bytes(b"\x00garbage" * 99),
    "empty": lambda path: path.write_bytes(b""),
    "one bit": lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
    "foreign": lambda path: pl.DataFrame({"x": [1]}).write_parquet(path),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("committed", [False, True], ids=["shard", "committed"])
def test_a_damaged_file_is_left_out_and_never_removed(store: Store, damage: str, committed: bool, caplog) -> None:
    store.add(rows(record("a")))
    if committed:
        store.commit(["k"])
    (path,) = store.folder.rglob("*.parquet")
    DAMAGE[damage](path)
    store.add(rows(record("b")))
    assert store.records(["k"])["sample_id"].to_list() == ["b"]
    assert path.name in caplog.text
    store.commit(["k"])
    assert path.exists()
    assert store.records(["k"])["sample_id"].to_list() == ["b"]


def test_a_foreign_file_with_a_right_name_is_left_out(store: Store) -> None:
    name = store.add(rows(record("a")).drop("sample_key").with_columns(sample_key=pl.lit("a")))
    assert read_file(store.folder / "shards" / name).height == 1
    content = parquet_bytes(pl.DataFrame({"key": ["k"]}))
    (store.folder / "shards" / f"{content_name(content)}.parquet").write_bytes(content)
    assert store.records(["k"]).height == 1


def test_a_store_of_format_1_is_read_and_goes_on(store: Store) -> None:
    """It has one number of cached tokens for all layers, where there is one per layer now."""
    answers = [replace(record(sample), usage=Usage((4, 2, 2))) for sample in "ab"]
    old = rows(*answers).with_columns(cached_tokens=pl.Series([3, None], dtype=pl.Int64))
    content = parquet_bytes(old)
    (store.folder / "shards").mkdir()
    (store.folder / "shards" / f"{content_name(content)}.parquet").write_bytes(content)
    (store.folder / "store.json").write_text('{"format": 1}')
    assert Store.existing(store.folder).records(["k"])["cached_tokens"].to_list() == [[3, 3, 3], None]
    store = Store.open(store.folder)
    store.add(rows(replace(record("c"), usage=Usage((4, 2, 2), cached_tokens=(4, 2, 2)))))
    store.commit(["k"])
    assert store.records(["k"])["cached_tokens"].to_list() == [[3, 3, 3], None, [4, 2, 2]]
    assert json.loads((store.folder / "store.json").read_text()) == {"format": RECORD_FORMAT}  # versions that know 1 refuse it


def test_a_folder_with_other_things_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="holds other things than a store; set store.folder to a new folder"):
        Store.open(tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        Store.open(tmp_path / "thesis.tex")
    with pytest.raises(ValueError, match="is no store"):
        Store.existing(tmp_path)
    store = Store.open(tmp_path / "new")
    (store.folder / "store.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="format 99, this version reads"):
        Store.open(store.folder)


def test_work_counts_what_is_missing(store: Store, samples: list[Sample]) -> None:
    where = addresses(TRIALS, samples)
    assert left_to_do(store, samples, where).missing == len(TRIALS) * len(samples)
    known = samples[0].video_id
    for trial in TRIALS:
        for sample in samples:
            if sample.video_id == known:
                store.add(to_rows([(where.trials[trial.name], where.samples[sample.id], record(sample.id))]))
    work = left_to_do(store, samples, where)
    assert known not in {video[0].video_id for video in work.videos}
    others = [sample for sample in samples if sample.video_id != known]
    assert not any((key, where.samples[sample.id]) in work.done for key in where.trials.values() for sample in others)
    assert len(work.done) == work.known == len(TRIALS) * (len(samples) - len(others))


def test_descriptions_are_found_by_their_content(store: Store) -> None:
    made = {"format": 1, "trial": "x"}
    trial = StoredTrial(fingerprint.digest(made), made, {"model": "tiny"})
    store.describe(trial)
    assert store.trials() == [trial]
    path = store.folder / "trials" / trial.key / "trial.json"
    path.write_text(json.dumps({"made_of": {"trial": "another"}, "about": {}}))
    assert store.trials() == []
    store.describe(trial)
    path.write_text("{")
    assert store.trials() == []
    store.describe(trial)
    assert store.trials() == [trial]


def test_gathered_rows_and_rows_of_shards_are_read_alike(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether they are in order already, twice there, or partly gathered."""
    original = pl.concat
    kept = pl.concat([rows(*map(record, "qap"), key=key) for key in "ba"])
    expected = store_module._resolved([kept])
    store.add(kept)
    assert store.records("ab").equals(expected)
    store.commit(["a"])
    assert store.records("ab").equals(expected)
    store.add(rows(record("a"), record("z", error="it broke")))
    store.add(kept.with_columns(at=pl.col("at") + 1))
    assert store.records("ab").equals(expected)
    store.commit(["a", "b"])
    monkeypatch.setattr(pl, "concat", lambda parts: original(parts) if len(parts) == 3 else pytest.fail("put in order again"))
    assert store.records("ab").equals(expected)


def test_samples_in_any_order_get_their_own_rows(store: Store) -> None:
    samples = [Sample(name, Path("v.mp4"), "?", ("a", "b"), 0, "t", "v") for name in "qzap"]
    own = addresses(TRIALS, samples)
    for trial in TRIALS:
        found = [replace(record(s.id, prediction=s.id), sample_id=s.id) for s in samples]
        store.add(to_rows((own.trials[trial.name], own.samples[one.sample_id], one) for one in found))
    read = work.assembled(store, samples, own)
    assert [frame["sample_id"].to_list() for frame in read.values()] == [list("qzap")] * 3
    assert [frame["trial"].unique().to_list() for frame in read.values()] == [[trial.name] for trial in TRIALS]
    assert [frame["prediction"].to_list() for frame in read.values()] == [list("qzap")] * 3
    assert {tuple(frame.schema.items()) for frame in read.values()} == {tuple(schema().items())}
