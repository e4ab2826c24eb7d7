"""Why stored records are not used again: what has changed, with its value before and now."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from prunesweep.engine.candidate import Candidate
from prunesweep.results.changes import why_not_reused
from prunesweep.results.keys import fingerprint
from prunesweep.results.keys.fingerprint import Files
from prunesweep.results.store import Store, StoredTrial
from prunesweep.sweep.work import (
    made_of,
    parts_of,
)
from prunesweep.targets import today
from support.stored import TRIALS


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


@pytest.mark.parametrize("module", ["prunesweep.engine.stages.llm", "prunesweep.engine.answers", "prunesweep.video.reader"])
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
    parts = {**now.about["parts"], "code": {**now.about["parts"]["code"], "prunesweep.engine.stages.llm": "0123456789"}}
    made = {**now.made_of, "code": "0" * 32}
    store.describe(StoredTrial(fingerprint.digest(made), made, {"parts": parts}))
    (line,) = reasons(store, now)
    assert line.endswith(
        f"code: prunesweep.engine.stages.llm 01234567 -> {now.about['parts']['code']['prunesweep.engine.stages.llm'][:8]}"
    )
