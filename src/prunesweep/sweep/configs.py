"""Hydra's side of an evaluation: what composed configurations are called, and where their results go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from prunesweep.results.infeasible import Infeasible
from prunesweep.sweep.batch import Finished, Spread
from prunesweep.sweep.groups import evaluate_specs
from prunesweep.sweep.kept import Kept
from prunesweep.sweep.spec import spec_of


def evaluate_configs(
    configs: Sequence[DictConfig], overrides: Sequence[Sequence[str]], spread: Spread | None = None, kept: Kept | None = None
) -> list[Finished | Infeasible]:
    """All configurations, evaluated together as far as they use one model and benchmark; in the order given.

    Raises ValueError, or Hydra's InstantiationException around it.
    """
    names = trial_names(configs, overrides)
    specs = [spec_of(*one) for one in zip(names, configs, overrides, strict=True)]
    return evaluate_specs(specs, results_folder(configs[0]), spread, kept)


def trial_name(config: DictConfig, overrides: Sequence[str], shared: frozenset[str]) -> str:
    """The reducer and the overrides that tell this trial from its neighbours, keys cut to their last part if unique."""
    own = [o for o in overrides if not o.startswith("reducer=") and (o.startswith("reducer.") or o not in shared)]
    pairs = [(key.lstrip("+~"), value) for key, _, value in (o.partition("=") for o in own)]
    pairs = [(key, str(OmegaConf.select(config, key)) if "$" in value else value) for key, value in pairs]
    leaves = [key.rpartition(".")[2] for key, _ in pairs]
    short = [leaf if leaves.count(leaf) == 1 else key for leaf, (key, _) in zip(leaves, pairs, strict=True)]
    pairs = [(key, "".join(value.split())) for key, value in pairs]  # a mapping has spaces; names are split at them
    return " ".join([config.reducer.name, *(f"{key}={value}" for key, (_, value) in zip(short, pairs, strict=True))])


def trial_names(configs: Sequence[DictConfig], overrides: Sequence[Sequence[str]]) -> list[str]:
    """Names that are unique within the batch; a repeated configuration gets a number."""
    shared = frozenset.intersection(*(frozenset(o) for o in overrides))
    seen = Counter[str]()
    names: list[str] = []
    for config, own in zip(configs, overrides, strict=True):
        name = trial_name(config, own, shared)
        seen[name] += 1
        names.append(f"{name} #{seen[name]}" if seen[name] > 1 else name)
    return names


def hydra_of(config: DictConfig) -> DictConfig | None:
    """Hydra's own settings of a configuration; None outside of Hydra's runs."""
    return config.get("hydra") or (HydraConfig.get() if HydraConfig.initialized() else None)


def sweep_folder(config: DictConfig) -> Path | None:
    """Of the multirun that the configuration belongs to; None outside of one."""
    hydra = hydra_of(config)
    return Path(hydra.sweep.dir) if hydra and hydra.mode == RunMode.MULTIRUN else None


def results_folder(config: DictConfig) -> Path | None:
    """Of the run or the multirun that the configuration belongs to; None outside of Hydra's."""
    if sweep := sweep_folder(config):
        return sweep
    return Path(HydraConfig.get().runtime.output_dir) if HydraConfig.initialized() else None
