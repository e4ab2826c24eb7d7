"""Defaults live in the YAML files: a dataclass has the same ones, or none."""

from dataclasses import MISSING, fields

import pytest
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from prunesweep.reducers import SLOTS
from support.places import CONF, REDUCERS

VARIANTS = {
    "prumerge_plus": "prumerge",
    "prunevid_official": "prunevid",
    "sparsevlm_plus": "sparsevlm",
    "temporal": "pooling",
    "visionzip_clip": "visionzip",
}
"""Files that set a class of another file differently, on purpose: what they differ in is listed in them."""
PARTS = [
    (reducer, slot)
    for reducer in REDUCERS
    for slot in SLOTS
    if OmegaConf.select(OmegaConf.load(CONF / "reducer" / f"{reducer}.yaml"), f"{slot}._target_")
]


def part(reducer: str, slot: str) -> DictConfig:
    return OmegaConf.load(CONF / "reducer" / f"{reducer}.yaml")[slot]


@pytest.mark.parametrize(("reducer", "slot"), PARTS, ids=lambda part: part)
def test_python_and_yaml_have_one_truth(reducer: str, slot: str) -> None:
    settings = part(reducer, slot)
    kind = get_class(settings._target_)
    written = {name for name in settings if name != "_target_"}
    assert written == {field.name for field in fields(kind)}, "a setting that the YAML lacks cannot be overridden"
    if reducer in VARIANTS:
        return
    given = OmegaConf.to_container(settings, resolve=False)
    for field in fields(kind):
        default = field.default
        if default is not MISSING:
            default = list(default) if isinstance(default, tuple) else default  # YAML has no tuples
            assert (type(default), default) == (type(given[field.name]), given[field.name]), field.name


def test_every_variant_is_one_of_a_file_that_is_none() -> None:
    own = {str(part(reducer, slot)._target_) for reducer, slot in PARTS if reducer not in VARIANTS}
    for reducer, base in VARIANTS.items():
        text = (CONF / "reducer" / f"{reducer}.yaml").read_text()
        assert base not in VARIANTS
        assert f"- {base}\n" in text or str(part(reducer, "merge")._target_) in own
    assert len(own) == sum(reducer not in VARIANTS for reducer, _ in PARTS), "two files of one class: one is a variant"


STEPS = {"fastv": ("fastv", "prune"), "pyramiddrop": ("pyramiddrop", "prune"), "prunevid_selection": ("prunevid", "prune")}
"""Of conf/step, for combinations: whose part each is."""


def test_a_step_for_combinations_is_the_method_s_own_part() -> None:
    assert {path.stem for path in (CONF / "step").glob("*.yaml")} == set(STEPS)
    for name, (reducer, slot) in STEPS.items():
        assert OmegaConf.load(CONF / "step" / f"{name}.yaml") == part(reducer, slot), name
