"""Benchmarks and protocols as `conf/` has them, without a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from prunesweep.engine.protocol import Protocol
from prunesweep.targets import instantiate
from prunesweep.types import Sample
from support.places import CONF


def protocol(name: str) -> Protocol:
    """With what it is based on."""
    config = OmegaConf.load(CONF / "protocol" / f"{name}.yaml")
    for base in [entry for entry in config.pop("defaults", []) if entry != "_self_"]:
        config = OmegaConf.merge(OmegaConf.load(CONF / "protocol" / f"{base}.yaml"), config)
    return instantiate(OmegaConf.to_container(config))


def benchmark(name: str, root: Path) -> dict[str, Any]:
    """Its settings on a folder."""
    config = OmegaConf.create({"benchmark": OmegaConf.load(CONF / "benchmark" / f"{name}.yaml"), "video": {"frames": 8}})
    config.benchmark.path = str(root)
    settings: Any = OmegaConf.to_container(config, resolve=True)
    return settings["benchmark"]


def loaded(name: str, root: Path) -> list[Sample]:
    return instantiate(benchmark(name, root)["load"])
