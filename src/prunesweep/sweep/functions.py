"""Functions that configurations call: `${folder_name:/data/yoga}`.  Importing this module teaches OmegaConf all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prunesweep.paths import DATA

PAPER_LAYER = 10
"""PruneVid's pruning layer M; each model's YAML has the one that stands for it, `prune_layer`."""


def paper_layer(layer: int, *, _root_: DictConfig) -> int:
    """A layer of the paper's 32-layer models in this configuration's model: the same in proportion to `model.prune_layer`."""
    return max(1, round(layer * _root_.model.prune_layer / PAPER_LAYER))


def folder_name(path: str) -> str:
    """What a folder of the user's own videos is called: the last part of its path, or of that of the file in it."""
    whole = Path(path).expanduser().absolute()
    return (whole.parent if whole.suffix == ".jsonl" else whole).name


def lmms(what: str, *, _root_: DictConfig) -> Any:
    """How the configuration's task of lmms-eval is asked: `style`, `answering` or `most_tokens`.

    Raises ValueError where the benchmark is another.
    """
    from prunesweep.benchmarks.lmms import asked

    task = OmegaConf.select(_root_, "benchmark.task", throw_on_missing=True)
    if task is None:
        raise ValueError("protocol=lmms asks as a task of lmms-eval does; it goes with benchmark=lmms benchmark.task=...")
    return getattr(asked(task, OmegaConf.select(_root_, "benchmark.include")), what)


OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)
OmegaConf.register_new_resolver("package_data", lambda name: str(DATA / name), replace=True)
OmegaConf.register_new_resolver("paper_layer", paper_layer, replace=True)
OmegaConf.register_new_resolver("lmms", lmms, replace=True)
