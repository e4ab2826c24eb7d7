"""One preset has one accuracy, whoever asks."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict
from pathlib import Path

from prunesweep.dev import three_ways
from prunesweep.sweep.session import composed
from prunesweep.targets import instantiate
from prunesweep.use.preset import Preset, write_preset

LIMIT = 10


def test_engine_and_stock_model_answer_alike_with_one_accuracy(tmp_path: Path) -> None:
    """Of the shipped model; where lmms-eval is installed, it is asked too."""
    path = tmp_path / "preset.yaml"
    overrides = ("reducer=prunevid", "reducer.merge.positions=original", "reducer.prune.keep_ratio=0.3")
    shape = instantiate(composed(["model=tiny"]).model.load).shape
    write_preset(Preset(overrides, "tiny", "blocks", "budget=0.2x margin=0.01", "said", False, {}, asdict(shape), {}, {}), path)
    found = three_ways.ways(path, LIMIT)
    engine, *others = found
    assert len(engine.answers) == LIMIT
    assert len(set(engine.answers)) > 1
    for other in others:
        assert other.answers == engine.answers
    assert others[0].accuracy == engine.accuracy
    assert {other.accuracy.split()[0] for other in others} == {engine.accuracy.split()[0]}
    lines = three_ways.table(found)
    assert f"{LIMIT} of {LIMIT}" in lines[3]
    assert ("not installed" in lines[-1]) == (importlib.util.find_spec("lmms_eval") is None)
