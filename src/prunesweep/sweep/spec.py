"""One trial as it was asked for, in plain values: what Hydra's side, jobs elsewhere and Python hand to the evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig


@dataclass(frozen=True)
class Spec:
    """Sections of `conf/eval.yaml` with every interpolation resolved: mappings, lists, texts, numbers."""

    name: str
    """Unique within what is evaluated together."""
    overrides: tuple[str, ...]
    """As given to Hydra."""
    reducer: Mapping[str, Any]
    protocol: Mapping[str, Any]
    video: Mapping[str, Any]
    model: Mapping[str, Any]
    benchmark: Mapping[str, Any]
    questions: Mapping[str, Any]
    trainer: Mapping[str, Any]
    engine: Mapping[str, Any]
    store: Mapping[str, Any]
    race: Mapping[str, Any]
    analysis: Mapping[str, Any]
    retry_errors: bool

    @property
    def names(self) -> tuple[str, str, str]:
        """Of its reducer, model and benchmark."""
        return self.reducer["name"], self.model["name"], self.benchmark["name"]


SECTIONS = ("reducer", "protocol", "video", "model", "benchmark", "questions", "trainer", "engine", "store", "race", "analysis")


def spec_of(name: str, config: DictConfig, overrides: Sequence[str]) -> Spec:
    """Of a composed configuration; raises OmegaConf's MissingMandatoryValue for a value that must be given."""
    from prunesweep.sweep.resolved import MISSING, resolved

    plain = resolved(config)
    sections = {section: _given(plain.get(section, MISSING), config, section) for section in SECTIONS}
    if sections["store"] is None:
        raise ValueError("store=null takes its settings away; without a store: store.folder=null")
    return Spec(name, tuple(overrides), **sections, retry_errors=config.retry_errors)


def _given(plain: Any, config: DictConfig, section: str) -> Any:
    from omegaconf import OmegaConf

    from prunesweep.sweep.resolved import lacks

    node = config[section] if lacks(plain) else None
    return OmegaConf.to_container(node, resolve=True, throw_on_missing=True) if OmegaConf.is_config(node) else plain
