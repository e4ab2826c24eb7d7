"""Facts of a vision tower as methods read them, and what of them the small random model knows."""

from __future__ import annotations

import torch
from omegaconf import OmegaConf

from prunesweep.reducers import Reducer, needs_of
from prunesweep.targets import instantiate
from prunesweep.types.facts import POOLED, Fact
from support.places import CONF, REDUCERS

PRUMERGE = ("features", "key.joined", "attention.joined")
OF_THE_SMALL_MODEL = ("features", "attention.joined", "attention.received", "key.joined", "key.mean")
"""Its tower is a SigLIP without pooling head or text tower, and has no class token."""


def tower_facts(features: torch.Tensor, key: torch.Tensor, attention: torch.Tensor) -> dict[str, Fact]:
    """Of `t u v`, `t u k` and `t u`; the attention has cost 7 FLOPs."""
    return dict(zip(PRUMERGE, (Fact(features), Fact(key), Fact(attention, 7)), strict=True))


def all_facts(x: torch.Tensor, attention: torch.Tensor) -> dict[str, Fact]:
    """Every fact there is, made of tokens `t p c` and an attention `t p`, as if nothing had been pooled."""
    by_patch = {
        "features": x,
        "key.joined": x,
        "key.mean": x,
        "image.text_space": x,
        **{f"attention.{kind}": attention for kind in ("joined", "class", "received", "probe")},
    }
    pooled = {POOLED + name: value for name, value in by_patch.items()}
    whole = {"frame.head": x.mean(1), "question.text_space": x[0, :2], "question.embedded": x[0, :3]}
    return {name: Fact(value) for name, value in {**by_patch, **pooled, **whole}.items()}


def reducer_in(name: str) -> Reducer:
    """As in conf/reducer, without what depends on a model."""
    config = OmegaConf.load(CONF / "reducer" / f"{name}.yaml")
    for base in config.get("defaults", []):
        if isinstance(base, str) and base != "_self_" and not base.startswith("/step/"):
            config = OmegaConf.merge(OmegaConf.load(CONF / "reducer" / f"{base}.yaml"), config)
    return Reducer(name, merge=instantiate(config.get("merge")))


def lacking(name: str) -> list[str]:
    """Facts that a reducer needs and the small model does not have: it can only be refused there."""
    needs = needs_of(reducer_in(name).merge)
    return [need for need in needs if need.removeprefix(POOLED) not in OF_THE_SMALL_MODEL]


RUNNABLE = [name for name in REDUCERS if not lacking(name)]
"""Those that the small model can run: of some its vision tower does not have what they read."""
