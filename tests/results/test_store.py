"""The store: records are used again where everything that determines them is the same, and only there."""

from __future__ import annotations

import functools
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from prunesweep.cost import Usage
from prunesweep.engine.candidate import Candidate
from prunesweep.engine.protocol import Protocol
from prunesweep.models.llava_onevision import LlavaOnevision, load
from prunesweep.reducers import Reducer
from prunesweep.reducers.prunevid import Merge, Prune
from prunesweep.reducers.random import Drop
from prunesweep.results import store as store_module
from prunesweep.results.changes import why_not_reused
from prunesweep.results.keys import code, fingerprint
from prunesweep.results.keys.fingerprint import MISSING, RECORD_FORMAT, Files, of_model, of_samples
from prunesweep.results.records import parquet_bytes, schema
from prunesweep.results.store import Store, StoredTrial, content_name, read_file, to_rows
from prunesweep.sweep import work
from prunesweep.sweep.evaluate import evaluate
from prunesweep.sweep.work import (
    Addresses,
    left_to_do,
    made_of,
    parts_of,
)
from prunesweep.targets import today
from prunesweep.types import Record, Sample

WORDS = Protocol("words", "choose")
TRIALS = [
    Candidate("dense", Reducer("none"), 4, WORDS),
    Candidate("merged", Reducer("prunevid", Merge(), None), 4, WORDS),
    Candidate("pruned", Reducer("prunevid", Merge(), Prune(layer=2)), 4, WORDS),
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def record(sample: str = "a", error: str | None = None, prediction: str = "red") -> Record:
    answer = {"prediction": None, "correct": None} if error else {"prediction": prediction, "correct": True}
    return Record("named by a sweep", sample, "v", "t", ("red", "blue"), "red", **answer, error=error)


def rows(*records: Record, key: str = "k") -> pl.DataFrame:
    return to_rows((key, one.sample_id, one) for one in records)


def addresses(trials: list[Candidate], samples: list[Sample]) -> Addresses:
    return Addresses({trial.name: f"key of {trial.name}" for trial in trials}, {s.id: f"key of {s.id}" for s in samples})


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


# Fingerprints


def fingerprint_of(trial: Candidate, checkpoint: Path, **changes: str) -> str:
    settings = {"_target_": "prunesweep.models.llava_onevision.load", "checkpoint": str(checkpoint), "dtype": "float32"}
    device = changes.pop("device", "cpu")
    return fingerprint.digest(made_of(trial, {**settings, **changes}, device, Files(), "clips"))


def test_everything_that_determines_a_record_is_part_of_its_trials_key(checkpoint: Path, tmp_path: Path) -> None:
    trial = TRIALS[2]
    other_weights = tmp_path / "other"
    shutil.copytree(checkpoint, other_weights)
    weights = (other_weights / "model.safetensors").read_bytes()
    (other_weights / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    keys = [
        fingerprint_of(trial, checkpoint),
        fingerprint_of(replace(trial, frames=5), checkpoint),
        fingerprint_of(replace(trial, protocol=Protocol("letters", "choose")), checkpoint),
        fingerprint_of(replace(trial, reducer=Reducer("prunevid", Merge(), Prune(layer=3))), checkpoint),
        fingerprint_of(replace(trial, reducer=Reducer("prunevid", Merge(), None)), checkpoint),
        fingerprint_of(replace(trial, reducer=Reducer("random", Drop(keep_ratio=0.5), None)), checkpoint),
        fingerprint_of(trial, other_weights),
        fingerprint_of(trial, checkpoint, dtype="bfloat16"),
        fingerprint_of(trial, checkpoint, device="cuda"),
    ]
    assert len(set(keys)) == len(keys)


def test_names_and_places_are_not(checkpoint: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(checkpoint, elsewhere)
    renamed = replace(TRIALS[2], name="other", reducer=replace(TRIALS[2].reducer, name="other"))
    assert fingerprint_of(renamed, elsewhere) == fingerprint_of(TRIALS[2], checkpoint)


def test_a_sample_is_its_question_and_its_videos_content(samples: list[Sample], tmp_path: Path) -> None:
    sample = samples[0]
    copy = tmp_path / "copy.mp4"
    shutil.copy(sample.path, copy)
    (key,) = of_samples([sample], Files()).values()
    assert of_samples([replace(sample, path=copy)], Files())[sample.id] == key
    for changed in (
        replace(sample, question="?"),
        replace(sample, target=1),
        replace(sample, end=1.0),
        replace(sample, path=samples[-1].path),
    ):
        assert of_samples([changed], Files())[sample.id] != key
    copy.write_bytes(copy.read_bytes() + b"x")
    assert of_samples([replace(sample, path=copy)], Files())[sample.id] != key
    gone = of_samples([replace(sample, path=tmp_path / "gone.mp4")], Files())[sample.id]
    assert gone != key
    assert Files()(tmp_path / "gone.mp4") == MISSING


def test_a_file_is_hashed_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    path, memory = tmp_path / "video.mp4", tmp_path / "files.json"
    path.write_bytes(b"one")
    monkeypatch.setattr(fingerprint, "SETTLED_SECONDS", -1.0)
    files = Files(memory)
    first = files(path)
    files.remember()
    assert str(tmp_path) not in memory.read_text()
    monkeypatch.setattr(fingerprint, "_content", lambda *_: pytest.fail("hashed again"))
    assert Files(memory)(path) == first
    monkeypatch.undo()
    stat = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as long and as old as before
    assert Files(memory)(path) != first
    memory.write_text("not json")
    assert Files(memory)(path) == Files()(path)


NOT_LOADED = ("NOTES.txt", ".DS_Store", "README.md", ".cache/huggingface/download/x.lock", "curves.png", "original/weights.pth")
LOADED = ("config.json", "tokenizer.json", "tokenizer_config.json", "processor_config.json", "generation_config.json")


def test_a_checkpoint_is_what_is_loaded_from_its_folder(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(checkpoint, folder)
    before = fingerprint_of(TRIALS[0], folder)
    for name in NOT_LOADED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("downloaded on Monday")
    assert fingerprint_of(TRIALS[0], folder) == before
    for name in (*LOADED, "chat_template.jinja", "additional_chat_templates/tools.jinja", "added_tokens.json"):
        text = (folder / name).read_text() if (folder / name).exists() else None
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text((text or "") + " ")
        assert fingerprint_of(TRIALS[0], folder) != before, name
        (folder / name).unlink()
        if text is not None:
            (folder / name).write_text(text)


def test_of_another_loaders_checkpoint_everything_counts_that_is_not_hidden(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(checkpoint, folder)
    load = {"_target_": "somebody.load", "checkpoint": str(folder)}
    before = of_model(load, Files())
    (folder / ".DS_Store").write_text("x")
    assert of_model(load, Files()) == before
    (folder / "codebook.npy").write_text("x")
    assert of_model(load, Files()) != before


def test_a_folder_that_is_called_like_a_setting_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    load = {"_target_": "prunesweep.models.llava_onevision.load", "name": "tiny", "checkpoint": "x", "dtype": "auto"}
    before = of_model(load, Files())
    for name in ("tiny", "auto"):
        (tmp_path / name).mkdir()
    assert of_model(load, Files()) == before


def test_a_hub_checkpoint_has_one_key_before_and_after_its_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The download comes first, of what is loaded and nothing else; then the folder's content is the key."""
    import huggingface_hub

    from prunesweep.models import checkpoints

    snapshot, asked = tmp_path / "snapshots" / ("0" * 40), []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, tuple(allow_patterns)))
        snapshot.mkdir(parents=True, exist_ok=True)
        (snapshot / "config.json").write_text("{}")
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(checkpoints, "require_hub", lambda _: None)
    load = {"_target_": "prunesweep.models.llava_onevision.load", "name": "m", "checkpoint": "some-lab/some-model"}
    first = of_model(checkpoints.located(load), Files())
    (snapshot / "README.md").write_text("fetched later by another program")
    assert of_model(checkpoints.located(load), Files()) == first
    assert of_model({**load, "checkpoint": str(snapshot)}, Files()) == first, "the same files by a path"
    assert asked == [("some-lab/some-model", fingerprint.LOADED)] * 2
    (snapshot / "config.json").write_text("{} ")
    assert of_model({**load, "checkpoint": str(snapshot)}, Files()) != first
    foreign = {**load, "_target_": "somebody.load"}
    assert checkpoints.located(foreign) == foreign, "what another loader makes of a name is its own affair"


def test_a_later_field_of_samples_counts_where_it_is_given(samples: list[Sample]) -> None:
    @dataclass(frozen=True)
    class Later(Sample):
        speaker: str = ""

    own = {field.name: getattr(samples[0], field.name) for field in fields(Sample)}
    key = of_samples(samples[:1], Files())
    assert of_samples([Later(**own)], Files()) == key
    assert of_samples([Later(**own, speaker="A")], Files()) != key


def test_records_of_code_that_cannot_be_followed_are_no_other_runs(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    (tmp_path / "ownreading.py").write_text(
        "from dataclasses import dataclass\nTABLE = open(__file__).read()\n@dataclass(frozen=True)\nclass Reading: x: int = 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    code.forget()
    import ownreading

    trial = Candidate("own", Reducer("own", ownreading.Reading()), 4, WORDS)
    load = {"_target_": "prunesweep.models.llava_onevision.load", "checkpoint": str(checkpoint)}
    origin = made_of(trial, load, "cpu", Files(), "clips")
    assert made_of(trial, load, "cpu", Files(), "clips") == origin, "within a run they are"
    monkeypatch.setattr(work, "THIS_RUN", "another")
    assert made_of(trial, load, "cpu", Files(), "clips") != origin
    (line,) = why_not_reused(store, {"k": origin}, {"k": parts_of(trial, load, Files())})
    assert "ownreading, line 2, reads a file; make it a field of the method" in line


# What changed


def described(trial: Candidate, checkpoint: Path, device: str = "cpu", **changes: Any) -> StoredTrial:
    load = {"_target_": "prunesweep.models.llava_onevision.load", "checkpoint": str(checkpoint), "dtype": "float32"}
    made = {**made_of(trial, load, device, Files(), "clips"), **changes}
    return StoredTrial(fingerprint.digest(made), made, {"parts": parts_of(trial, load, Files())})


def reasons(store: Store, one: StoredTrial) -> list[str]:
    return why_not_reused(store, {one.key: one.made_of}, {one.key: one.about["parts"]})


def test_what_changed_is_said_with_its_value_before_and_now(store: Store, checkpoint: Path, tmp_path: Path) -> None:
    now = described(TRIALS[2], checkpoint)
    assert reasons(store, now) == []
    store.describe(described(TRIALS[1], checkpoint))
    assert reasons(store, now) == [], "other settings are another trial"
    versions = {**now.made_of["versions"], "torch": "1.0"}
    store.describe(described(TRIALS[2], checkpoint, device="cuda", versions=versions))
    said = "1 trial of the same settings in the store: "
    torch_now = now.made_of["versions"]["torch"]
    assert reasons(store, now) == [f"{said}device cuda -> cpu; torch 1.0 -> {torch_now}"]
    store.describe(described(TRIALS[2], checkpoint, versions=versions))
    assert reasons(store, now) == [f"{said}torch 1.0 -> {torch_now}"], "of the one that differs least"
    store.describe(now)
    assert reasons(store, now) == []


def test_a_method_of_the_same_name_elsewhere_is_another_method(store: Store, checkpoint: Path) -> None:
    now = described(TRIALS[2], checkpoint)
    assert now.about["parts"]["roots"][0].startswith("prunesweep.reducers.")

    def other(*moved: tuple[str, str]) -> None:
        parts = dict(now.about["parts"])
        for old, new in moved:
            parts["roots"] = [root.replace(old, new) for root in parts["roots"]]
        made = {**now.made_of, "code": "0" * 32}
        store.describe(StoredTrial(fingerprint.digest([made, moved]), made, {"parts": parts}))

    (module,) = {root.rpartition(".")[0] for root in now.about["parts"]["roots"][:1]}
    other((module, "somebody.elses"))
    assert reasons(store, now) == []
    other(("prunesweep.engine.protocol.", "prunesweep.protocol."))
    assert len(reasons(store, now)) == 1, "the package's own modules have moved"


@pytest.mark.parametrize("module", ["prunesweep.engine.stages", "prunesweep.engine.answers", "prunesweep.video.reader"])
def test_a_module_of_today_keeps_its_name(module: str) -> None:
    """Some lie in packages that are called as modules once were."""
    assert today(module) == module
    assert today(f"{module}.Anything") == f"{module}.Anything"


def test_a_changed_checkpoint_or_module_is_named(store: Store, checkpoint: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(checkpoint, other)
    (other / "config.json").write_text((other / "config.json").read_text() + " ")
    before, now = described(TRIALS[2], other), described(TRIALS[2], checkpoint)
    store.describe(before)
    hashes = [one.about["parts"]["checkpoint"]["config.json"][:8] for one in (before, now)]
    assert reasons(store, now) == [
        f"1 trial of the same settings in the store: checkpoint: config.json {hashes[0]} -> {hashes[1]}"
    ]
    shutil.rmtree(store.folder / "trials")
    parts = {**now.about["parts"], "code": {**now.about["parts"]["code"], "prunesweep.engine.stages": "0123456789"}}
    made = {**now.made_of, "code": "0" * 32}
    store.describe(StoredTrial(fingerprint.digest(made), made, {"parts": parts}))
    (line,) = reasons(store, now)
    assert line.endswith(
        f"code: prunesweep.engine.stages 01234567 -> {now.about['parts']['code']['prunesweep.engine.stages'][:8]}"
    )


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
