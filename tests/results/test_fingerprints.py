"""What a record's key is made of: everything that determines it, and nothing else."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest

from prunesweep.engine.candidate import Candidate
from prunesweep.engine.protocol import Protocol
from prunesweep.reducers import Reducer
from prunesweep.reducers.prunevid import Merge, Prune
from prunesweep.reducers.random import Drop
from prunesweep.results.changes import why_not_reused
from prunesweep.results.keys import code, fingerprint
from prunesweep.results.keys.fingerprint import MISSING, Files, of_model, of_samples
from prunesweep.results.store import Store
from prunesweep.sweep import work
from prunesweep.sweep.work import (
    made_of,
    parts_of,
)
from prunesweep.targets import instantiate
from prunesweep.types import Sample
from support.stored import TRIALS, WORDS


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


BESIDE = (
    *("consolidated.safetensors", "consolidated.safetensors.index.json", "adapter_model.safetensors", "adapter_config.json"),
    *("ema.safetensors", "model-00001-of-00002.safetensors", "model.fp16.safetensors"),
)


@pytest.mark.parametrize("sharded", [False, True], ids=["one file", "shards"])
def test_weights_that_are_not_loaded_are_of_no_account(checkpoint: Path, tmp_path: Path, sharded: bool) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(checkpoint, folder)
    loaded, beside = ["model.safetensors"], [*BESIDE, "model.safetensors.index.json"]
    if sharded:
        loaded, beside = ["part-a.safetensors", "part-b.safetensors", "model.safetensors.index.json"], list(BESIDE)
        (folder / "model.safetensors").rename(folder / loaded[0])
        (folder / loaded[1]).write_text("x")
        (folder / loaded[2]).write_text(json.dumps({"weight_map": {"x": loaded[0], "y": loaded[1]}}))
    before = fingerprint_of(TRIALS[0], folder)
    for name in beside:
        (folder / name).write_text("{}")
    assert fingerprint_of(TRIALS[0], folder) == before
    for name in loaded:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b" ")
        assert fingerprint_of(TRIALS[0], folder) != before, name
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("name", ["consolidated.safetensors", "adapter_model.safetensors"])
def test_transformers_loads_what_the_key_says(checkpoint: Path, tmp_path: Path, name: str) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "copy"
    shutil.copytree(checkpoint, folder)
    weights = load_file(folder / "model.safetensors")
    save_file({key: value + 1 for key, value in weights.items()}, folder / name, metadata={"format": "pt"})
    load = {"_target_": "prunesweep.models.llava_onevision.load", "checkpoint": str(folder), "name": "x"}
    network = instantiate(load).network
    original = instantiate({**load, "checkpoint": str(checkpoint)}).network
    for ours, theirs in zip(network.parameters(), original.parameters(), strict=True):
        assert ours.equal(theirs)
    assert of_model(load, Files()) == of_model({**load, "checkpoint": str(checkpoint)}, Files())


def test_where_all_weights_in_a_folder_are_read_all_count(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("x")
    load = {"_target_": "prunesweep.models.pllava.load", "checkpoint": str(tmp_path)}
    before = of_model(load, Files())
    (tmp_path / "lora.safetensors").write_text("x")
    assert of_model(load, Files()) != before


def test_a_file_that_the_configuration_names_is_not_left_out(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("x")
    (tmp_path / "config.json").write_text(json.dumps({"transformers_weights": "other.safetensors"}))
    load = {"_target_": "prunesweep.models.qwen2_5_vl.load", "checkpoint": str(tmp_path)}
    before = of_model(load, Files())
    (tmp_path / "other.safetensors").write_text("x")
    assert of_model(load, Files()) != before


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
