"""PruMerge, LOOK-M, spatial stride and input down-sampling against their definitions, read plainly."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch.nn import functional as F
from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel

from prunesweep.engine.plan import plan
from prunesweep.engine.prefix_tree import Clock, Job, evaluate_jobs
from prunesweep.engine.protocol import Protocol
from prunesweep.engine.stages import Decode, Encode, Layers
from prunesweep.models.llava_onevision import LlavaOnevision
from prunesweep.models.towers import TowerPass, facts_of
from prunesweep.reducers import EarlierCaches, Reducer
from prunesweep.reducers.downsample import Resize
from prunesweep.reducers.lookm import Evict, most_attended
from prunesweep.reducers.prumerge import PruMerge, outlier_shares, pooled
from prunesweep.reducers.random import Prune as RandomPrune
from prunesweep.reducers.stride import Stride
from prunesweep.types import KeyValue, Sample, Tokens
from support.facts import PRUMERGE, tower_facts
from support.trials import FRAMES, stock_inputs

GENERATE = Protocol(style="words", answering="generate", most_tokens=5)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Spatial stride and input down-sampling.


def test_a_stride_keeps_the_middle_of_every_block() -> None:
    tokens = Tokens("video", noise(2, 36, 8), torch.empty(0, 8))
    merged = Stride(rows=3, columns=2, positions="original")(tokens)
    assert merged.position[:6].tolist() == [6 * row + column for row in (1, 3, 5) for column in (1, 4)]
    assert torch.equal(merged.x, tokens.x.flatten(0, 1)[merged.position])
    with pytest.raises(ValueError, match="must fit into 6 x 6 visual tokens, got 7 x 2"):
        Stride(rows=7, columns=2)(tokens)


@torch.inference_mode()
def test_frames_of_full_size_are_encoded_as_the_stock_model_does(samples: list[Sample], model: LlavaOnevision) -> None:
    clip = Decode(samples[0].path, "v", FRAMES, None, None)(None, model)
    stock, ours = model.encode(clip, needs=PRUMERGE), model._encode_smaller(clip, 1.0, needs=PRUMERGE)
    assert torch.equal(stock.x, ours.x)
    assert torch.equal(stock.suffix, ours.suffix)
    for name in PRUMERGE:
        assert torch.equal(stock.fact(name), ours.fact(name))
    assert (ours.dense_tokens, ours.vision_patches) == (stock.dense_tokens, 144)


@torch.inference_mode()
def test_smaller_frames_cost_less_in_tower_and_llm(samples: list[Sample], model: LlavaOnevision) -> None:
    reducer = Reducer("small", input=Resize(0.5))
    (outcome,) = evaluate_jobs(model, [Job("it", plan(samples[0], FRAMES, reducer, GENERATE, model))], Clock())
    assert outcome.result.usage.visual_tokens == (FRAMES * 9,) * 8
    assert (outcome.result.usage.dense_tokens, outcome.result.usage.vision_patches) == (FRAMES * 36, 36)


# The tower's attention.


@torch.inference_mode()
@pytest.mark.parametrize("class_token", [False, True], ids=["SigLIP", "CLIP"])
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("layer", [-1, -2])
def test_facts_are_the_stock_tower_s(class_token: bool, heads: int, layer: int) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": heads}
    sizes |= {"image_size": 32, "patch_size": 8, "attn_implementation": "eager"}
    kind = (CLIPVisionModel, CLIPVisionConfig) if class_token else (SiglipVisionModel, SiglipVisionConfig)
    tower = kind[0](kind[1](**sizes)).eval()
    seen = tower(noise(2, 3, 32, 32), output_hidden_states=True, output_attentions=True)
    first, from_class = int(class_token), "attention.class"
    names = {*PRUMERGE, "attention.received", "key.mean", "pooled.attention.received", "pooled.key.mean"}
    names |= {from_class} if class_token else {"frame.head", "attention.probe"}
    passed = TowerPass(tower, seen.hidden_states, seen.hidden_states[layer][:, first:], layer, class_token, halved)
    facts = {name: fact.value for name, fact in facts_of(passed, names, "the tower").items()}
    if heads == 1:  # heads side by side as one are the layer's own attention then
        last = seen.attentions[-1][:, 0]
        torch.testing.assert_close(facts["attention.joined"], last[:, 0, 1:] if class_token else last.mean(1))
    by_head = seen.attentions[layer].mean(1)
    torch.testing.assert_close(facts["attention.received"], by_head[:, first:, first:].mean(1))
    torch.testing.assert_close(facts["pooled.attention.received"], halved(facts["attention.received"][..., None])[..., 0])
    torch.testing.assert_close(
        facts["key.mean"], facts["key.joined"].unflatten(-1, (heads, -1)).mean(-2)
    ) if layer == -1 else None
    assert facts["pooled.key.mean"].shape == (2, 4, 16 // heads)
    if class_token:
        torch.testing.assert_close(facts[from_class], by_head[:, 0, 1:])
    elif layer == -1:
        torch.testing.assert_close(facts["frame.head"], seen.pooler_output)
        torch.testing.assert_close(facts["attention.probe"].sum(1), torch.ones(2))
    missing = "frame.head" if class_token else from_class
    with pytest.raises(ValueError, match=f"the vision tower of X has no {missing}: it (comes without|has no class token)"):
        facts_of(passed, [missing], "X")
    with pytest.raises(ValueError, match="the vision tower of X has no colour; it has attention.class, "):
        facts_of(passed, ["colour"], "X")


def halved(x: torch.Tensor) -> torch.Tensor:
    """Of a grid of 4 x 4 patches, the middle of each 2 x 2."""
    return x.unflatten(1, (2, 2, 2, 2)).mean((2, 4)).flatten(1, 2)


# PruMerge.


def tower_tokens(frames: int = 2, side: int = 4) -> Tokens:
    patches = side**2
    attention = noise(frames, patches, seed=1).softmax(-1)
    facts = tower_facts(noise(frames, patches, 8), noise(frames, patches, 6, seed=2), attention)
    return Tokens("video", noise(frames, patches // 4, 8, seed=3), torch.empty(0, 8), facts=facts)


def plainly(tokens: Tokens, frame: int, kept: list[int], neighbours: int, normalise: bool = False) -> torch.Tensor:
    """Of what patches one frame's merged tokens and the sum of the rest are made, one at a time: (kept + 1, patches)."""
    _, key, a = (tokens.fact(name)[frame] for name in PRUMERGE)
    key = F.normalize(key, dim=-1)
    weights = torch.zeros(len(kept) + 1, len(a))
    for token, index in enumerate(kept):
        others = [i for i in range(len(a)) if i != index]
        near = sorted(others, key=lambda i: -float(key[i] @ key[index]))[:neighbours]
        weights[token, near] = a[near]
        weights[token, index] = a[index] if normalise else 1
    rest = [i for i in range(len(a)) if i not in kept]
    weights[-1, rest] = a[rest]
    return weights / weights.sum(1, keepdim=True) if normalise else weights


@pytest.mark.parametrize("normalise", [False, True], ids=["sum", "mean"])
def test_prumerge_merges_what_resembles_the_outliers(normalise: bool) -> None:
    tokens = tower_tokens()
    merged = PruMerge(outlier_factor=0.5, neighbours=3, normalise=normalise)(tokens)
    expected, source = [], []
    for frame in range(2):
        a = tokens.fact("attention.joined")[frame]
        low, high = torch.quantile(a, 0.25), torch.quantile(a, 0.75)
        count = int((a > high + 0.5 * (high - low)).sum())
        assert 0 < count < 16
        weights = plainly(tokens, frame, a.argsort(descending=True)[:count].tolist(), 3, normalise)
        source.append((len(expected) + weights.argmax(0)).tolist())
        expected += weights @ tokens.fact("features")[frame]
    torch.testing.assert_close(merged.x, torch.stack(expected), rtol=1e-4, atol=1e-5)
    assert merged.source.tolist() == source
    assert merged.position.tolist() == list(range(merged.span))


def test_prumerge_plus_adds_patches_at_even_steps() -> None:
    tokens = tower_tokens(frames=1, side=6)
    few = PruMerge(outlier_factor=50)(tokens)
    more = PruMerge(outlier_factor=50, plus=True)(tokens)
    best = int(tokens.fact("attention.joined").argmax())  # no outliers: one patch stays, and steps are of 36 // 3
    kept = {0, 12, 24} | {best}
    assert (len(few.x), len(more.x)) == (2, len(kept) + 1)
    assert more.source[0, best] == 0
    assert more.contributions
    whole = more.contributions.share == 1
    assert set(more.contributions.patch[whole].tolist()) == kept


def test_outliers_of_a_video_share_one_bound() -> None:
    attention = torch.tensor([[0.0, 1, 2, 3, 100], [0, 1, 2, 3, 4]])
    assert outlier_shares(attention, 1.5, "frame") == [Fraction(1, 5), 0]
    assert outlier_shares(attention, 1.5, "video") == [Fraction(1, 10)] * 2


def test_original_positions_of_patches_are_those_of_the_tokens_they_lie_in() -> None:
    merged = PruMerge(outlier_factor=-20, positions="original", order="raster")(tower_tokens())
    assert merged.position.tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3] + [
        4 + p for p in (0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3)
    ]
    assert merged.span == 8


def test_more_neighbours_than_patches_are_all_patches() -> None:
    tokens = tower_tokens(frames=1, side=2)
    features, attention = tokens.fact("features"), tokens.fact("attention.joined")
    everything = PruMerge(outlier_factor=-20, neighbours=32, normalise=True)(tokens).x
    mean = attention @ features[0] / attention.sum()
    torch.testing.assert_close(everything, mean.expand(4, -1))


def test_pooled_attention_is_a_mean_over_blocks() -> None:
    x = torch.arange(16.0).view(1, 16, 1)
    assert pooled(x, 4).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    with pytest.raises(ValueError, match="15 patches cannot be pooled to 4"):
        pooled(x[:, :15], 4)


def test_prumerge_says_what_it_lacks() -> None:
    with pytest.raises(ValueError, match="key.joined was not asked of the model"):
        PruMerge()(Tokens("video", noise(2, 4, 8), torch.empty(0, 8)))


# LOOK-M.


@torch.inference_mode()
def test_received_attention_is_the_column_sum_of_eager_attention(samples: list[Sample], checkpoint: object) -> None:
    from prunesweep.models.llava_onevision import load

    ours, eager = load("ours", str(checkpoint)), load("eager", str(checkpoint))
    eager.network.set_attn_implementation("eager")
    maps = eager.network(**stock_inputs(samples[0], eager), output_attentions=True).attentions
    stages = plan(samples[0], FRAMES, Reducer("evicting", evict=Evict()), GENERATE, ours)
    state = None
    for stage in stages[:6]:
        state = stage(state, ours)
    assert len(state.received) == len(maps) == 8
    for received, attention in zip(state.received, maps, strict=True):
        torch.testing.assert_close(received, attention[0].sum(1), atol=1e-4, rtol=1e-4)


def test_text_stays_before_any_visual_token() -> None:
    score = torch.tensor([[0.1, 9, 8, 7, 0.2, 5, 6]])
    visual = torch.tensor([False, True, True, True, False, True, True])
    assert most_attended(score, visual, recent=2, heavy=3).tolist() == [[0, 1, 4, 5, 6]]
    assert most_attended(score, torch.zeros(7, dtype=torch.bool), recent=2, heavy=3).tolist() == [[1, 2, 3, 5, 6]]


@pytest.mark.parametrize(
    ("merging", "expected"),
    [
        ("none", [[1.0, 0], [0, 1]]),
        ("average_all", [[2, 0], [0, 2]]),
        ("pivot", [[1.5, 0], [0, 1.5]]),
        ("weighted_all", [[2, 0], [0, 2]]),
    ],
)
def test_an_evicted_key_joins_the_most_similar_kept_one(merging: str, expected: list) -> None:
    key = torch.tensor([[[[1.0, 0], [0, 1], [3, 0], [0, 3]]]])
    received = torch.tensor([[4.0, 3, 2, 1]])
    evicted = Evict(recent_ratio=0, heavy_ratio=0.5, merging=merging)(KeyValue(key, 2 * key), received, torch.ones(4, dtype=bool))
    assert evicted.kv.key[0, 0].tolist() == expected
    assert evicted.kv.value[0, 0].tolist() == [[2 * v for v in row] for row in expected]
    assert evicted.visual == 2


def test_a_weighted_merge_counts_a_token_by_its_similarity() -> None:
    key = torch.tensor([[[[1.0, 0], [3, 4]]]])  # cosine 0.6
    evict = Evict(recent_ratio=0, heavy_ratio=0.5, merging="weighted_all")
    merged = evict(KeyValue(key, key), torch.tensor([[1.0, 0]]), torch.ones(2, dtype=bool))
    torch.testing.assert_close(merged.kv.key[0, 0, 0], (torch.tensor([1.0, 0]) + 0.6 * torch.tensor([3.0, 4])) / 2)


@pytest.mark.parametrize("merging", ["average", "weighted"])
def test_what_resembles_nothing_is_left_out_as_released(merging: str) -> None:
    """Best similarities of the third token are 0.9 and 0.6 in the two heads, of the fourth 0.7 and 0.9."""
    similar = [[0.9, 0.6], [0.7, 0.9]]
    key = torch.tensor([[[[1.0, 0], [0, 1], *([c, -math.sqrt(1 - c * c)] for c in head)] for head in zip(*similar, strict=True)]])
    evict = Evict(recent_ratio=0, heavy_ratio=0.5, merging=merging)
    merged = evict(KeyValue(key, key), torch.tensor([[4.0, 3, 2, 1]] * 2), torch.ones(4, dtype=bool)).kv.key[0]
    last = key[0, :, 3]  # 0.7 and 0.9 are 0.8 on average, more than 0.9 and 0.6: the third token goes in no head
    for head, cosine in ((0, 0.7), (1, 0.9)):
        given = last[head] * (cosine if merging == "weighted" else 1)
        torch.testing.assert_close(merged[head, 0], (key[0, head, 0] + given) / 2)
        assert torch.equal(merged[head, 1], key[0, head, 1])


def test_grouped_queries_count_for_the_cached_head_they_share() -> None:
    kv = KeyValue(noise(1, 1, 3, 4), noise(1, 1, 3, 4))
    received = torch.tensor([[5.0, 0, 0], [0, 3, 4]])  # two query heads of one cached head: 5, 3, 4
    kept = Evict(recent_ratio=0, heavy_ratio=0.67, merging="none")(kv, received, torch.ones(3, dtype=bool)).kv.key
    assert torch.equal(kept, kv.key[:, :, [0, 2]])


@torch.inference_mode()
def test_evicting_nothing_generates_as_the_dense_model(samples: list[Sample], model: LlavaOnevision) -> None:
    everything = Reducer("all", evict=Evict(recent_ratio=0.4, heavy_ratio=0.6))
    some = Reducer("some", evict=Evict(recent_ratio=0.05, heavy_ratio=0.05))
    jobs = [Job(r.name, plan(samples[0], FRAMES, r, GENERATE, model)) for r in (Reducer("dense"), everything, some)]
    dense, all_kept, evicted = (outcome.result for outcome in evaluate_jobs(model, jobs, Clock()))
    assert all_kept.token_ids == dense.token_ids
    assert evicted.token_ids[0] == dense.token_ids[0], "the prompt is read as by the dense model"
    assert evicted.usage.visual_tokens == dense.usage.visual_tokens
    prompt = dense.usage.visual_tokens[0] + dense.usage.text_tokens
    assert evicted.usage.cached_tokens == (2 * int(0.05 * prompt) - dense.usage.text_tokens,) * 8
    assert all_kept.usage.cached_tokens == dense.usage.visual_tokens


@torch.inference_mode()
@pytest.mark.parametrize("earlier", ["cut", "whole"])
def test_what_was_received_is_of_the_tokens_that_a_cache_holds(
    samples: list[Sample], model: LlavaOnevision, earlier: EarlierCaches
) -> None:
    reducer = Reducer("both", prune=RandomPrune(3, 0.5, earlier_caches=earlier), evict=Evict(0.1, 0.1))
    stages = plan(samples[0], FRAMES, reducer, GENERATE, model)
    state = None
    for stage in stages[:-2]:
        state = stage(state, model)
    text = len(state.hidden) - len(state.group)
    held = [text + (288 if earlier == "whole" and layer < 3 else 144) for layer in range(8)]
    assert [r.shape[1] for r in state.received] == [kv.key.shape[2] for kv in state.kv] == held
    evicted = stages[-2](state, model)
    assert [kv.key.shape[2] for kv in evicted.kv] == [2 * int(0.1 * count) for count in held]
    assert list(evicted.usage.cached_tokens) == [2 * int(0.1 * count) - text for count in held]
    assert isinstance(stages[4], Layers)
    assert replace(stages[1]) == Encode()


def test_settings_out_of_bounds_are_refused() -> None:
    for broken in (
        lambda: Evict(recent_ratio=0.6, heavy_ratio=0.6),
        lambda: Evict(recent_ratio=0, heavy_ratio=0),
        lambda: Evict(merging="sum"),
        lambda: PruMerge(neighbours=0),
        lambda: PruMerge(level="tokens"),
        lambda: Resize(0),
        lambda: Stride(rows=0),
    ):
        with pytest.raises(ValueError, match="must be"):
            broken()
