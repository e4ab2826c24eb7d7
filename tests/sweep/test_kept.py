"""A search loads its model once, and never holds two."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

from prunesweep.results.keys.fingerprint import Files
from prunesweep.sweep import kept
from prunesweep.sweep.kept import Kept


class Built:
    """Stands for a model."""


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Built]]:
    """Of everything that is built, in order; one is built only when no other is left."""
    built: list[weakref.ref[Built]] = []

    def build(_: Any, at: str = "") -> Built:
        assert not any(one() for one in built)
        new = Built()
        new.itself = new  # type: ignore[attr-defined]  # as a trainer refers to what it evaluates
        built.append(weakref.ref(new))
        return new

    monkeypatch.setattr(kept, "instantiate", build)
    return built


def test_a_model_is_built_anew_for_other_settings_or_files_only(alive: list[Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "one"}')
    load = {"_target_": "prunesweep.models.llava_onevision.load", "name": "a", "checkpoint": str(tmp_path)}
    one = Kept()
    gc.disable()
    try:
        for times, change in enumerate((lambda: None, lambda: load.update(name="b"), lambda: _write(tmp_path)), 1):
            change()
            for _ in range(2):
                assert one.model(load, Files()) is alive[-1]()
            assert len(alive) == times
    finally:
        gc.enable()


def _write(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "other"}')
