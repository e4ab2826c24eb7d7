"""PruMerge and LOOK-M against numbers of their released code."""

import json

import pytest
import torch
from safetensors.torch import load_file

from prunesweep.reducers.lookm import Evict
from prunesweep.reducers.prumerge import PruMerge
from prunesweep.types import KeyValue, Tokens
from support.facts import tower_facts
from support.places import DATA

RELEASED = DATA / "released"


def cases(name: str) -> list[dict]:
    return json.loads((RELEASED / f"{name}.json").read_text())


@pytest.mark.parametrize("case", cases("prumerge"), ids=lambda case: f"{case['outliers']} outliers")
@pytest.mark.parametrize("plus", [False, True])
def test_prumerge_gives_the_released_tokens(case: dict, plus: bool) -> None:
    tensors = load_file(RELEASED / "prumerge.safetensors")
    name = "plus" if plus else "prumerge"
    features, key, attention = (tensors[f"{case['case']}.{part}"][None] for part in ("features", "keys", "attention"))
    tokens = Tokens("video", features, features[:0, 0], facts=tower_facts(features, key, attention))
    merged = PruMerge(plus=plus)(tokens)
    assert len(merged.x) == case[f"{name}_tokens"]
    torch.testing.assert_close(merged.x, tensors[f"{case['case']}.{name}"], atol=1e-5, rtol=1e-5)


def evicted(case: dict, **settings: object):
    tensors = load_file(RELEASED / "lookm.safetensors")
    prior, _, merging = case["mode"].rpartition("-")
    evict = Evict(case["recent_ratio"], case["heavy_ratio"], **{"merging": merging, "text_prior": prior == "text", **settings})
    place = torch.arange(tensors["key"].shape[1])
    visual = (place >= case["image_start"]) & (place < case["image_start"] + case["image_tokens"])
    found = evict(KeyValue(tensors["key"][None], tensors["value"][None]), tensors["received"], visual)
    name = f"{case['case']}.{case['mode']}"
    return found, KeyValue(*(tensors.get(f"{name}.{part}") for part in ("key", "value")))


@pytest.mark.parametrize("case", cases("lookm"), ids=lambda case: f"{case['case']} {case['mode']}")
def test_lookm_gives_the_released_caches(case: dict) -> None:
    found, expected = evicted(case)
    assert found.kv.key.shape[2] == case["kept"]
    if expected.key is not None:  # half precision has 11 bits: the last one may round otherwise
        torch.testing.assert_close(found.kv.key[0], expected.key, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(found.kv.value[0], expected.value, atol=1e-3, rtol=1e-3)


def test_a_weighted_merge_of_every_evicted_token_is_not_the_released_one() -> None:
    (case,) = (c for c in cases("lookm") if (c["case"], c["mode"]) == (1, "text-weighted"))
    every, released = evicted(case, merging="weighted_all")
    assert (every.kv.key[0].float() - released.key.float()).abs().max() > 0.1


def test_text_is_never_evicted_unless_the_setting_says_so() -> None:
    (case,) = (c for c in cases("lookm") if (c["case"], c["mode"]) == (2, "text-pivot"))
    assert evicted(case)[0].kv.key.shape[2] == 34  # all text of 610 - 576
    assert evicted(case, text_overflow="evict")[0].kv.key.shape[2] == 18  # floor(0.01 * 610) + floor(0.02 * 610)
    cache = torch.randn(1, 2, 786, 4, generator=torch.Generator().manual_seed(0))
    visual = (torch.arange(786) >= 132) & (torch.arange(786) < 132 + 576)  # 210 tokens of text, 78 of them recent
    for overflow, expected in (("keep", 210), ("evict", 156)):
        evict = Evict(merging="none", text_overflow=overflow)
        assert evict(KeyValue(cache, cache), torch.rand(2, 786), visual).kv.key.shape[2] == expected
