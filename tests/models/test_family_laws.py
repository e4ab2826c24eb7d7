"""The laws of the small model, on every model family."""

from __future__ import annotations

import functools
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from prunesweep.analysis.costs import mean_costs
from prunesweep.checks import InfeasibleError
from prunesweep.cost import prefill_flops, vision_flops
from prunesweep.dev.bench_engine import operator_counter
from prunesweep.engine.candidate import Candidate
from prunesweep.engine.encoder_cache import EncoderCache
from prunesweep.engine.latency import run_once
from prunesweep.engine.plan import encoding, plan, require_fit
from prunesweep.engine.prefix_tree import Clock, Job, evaluate_jobs
from prunesweep.engine.scoring import score
from prunesweep.engine.stages import (
    Attend,
    Decode,
    Feed,
    Layers,
    Prune,
    Reduce,
)
from prunesweep.reducers import Reducer
from prunesweep.reducers.downsample import Resize
from prunesweep.reducers.prumerge import PruMerge
from prunesweep.reducers.prunevid import Prune as AttentionPrune
from prunesweep.reducers.random import Drop
from prunesweep.results import records as recording
from prunesweep.types import Sample
from support.families import FAMILIES, FRAMES, state_after, whole_prompt
from support.trials import CHOOSE, DENSE, GENERATE, last_stages, reducer_of


@functools.cache
def applicable(name: str) -> dict[str, Reducer]:
    reducers = {n: reducer_of(n) for n in ("none", "random", "frames", "temporal", "prunevid", "fastv", "lookm")}
    reducers["prunevid_official"] = reducer_of("prunevid_official", merge__counts="exact")  # the release needs 7 frames
    if not name.startswith("stllm"):
        reducers["small frames"] = Reducer("small", input=Resize(0.5))
    if name == "pllava":
        reducers["prumerge"] = Reducer("prumerge", merge=PruMerge(neighbours=4))
    reducers |= {n: reducer_of(n) for n in ("dart", "vtw", "framefusion", "vidcom2_fastv")}
    place = {"prune__positions": "original"} if name == "qwen" else {}
    reducers |= {n: reducer_of(n, **place) for n in ("pyramiddrop", "sparsevlm")}
    if name == "qwen":
        reducers["prunevid original"] = reducer_of("prunevid", merge__positions="original")
    return reducers


def one_video(samples: list[Sample]) -> list[Sample]:
    return [replace(samples[0], id=str(i), question=q) for i, q in enumerate((samples[0].question, "what color is it ?"))]


@pytest.mark.parametrize("name", FAMILIES)
def test_shared_equals_separate_in_any_order(samples: list[Sample], models: dict[str, Any], name: str) -> None:
    """Of trials and samples: permuting these permutes the answers."""
    model = models[name]
    jobs = [
        Job((r, s.id), plan(s, FRAMES, reducer, GENERATE, model))
        for r, reducer in applicable(name).items()
        for s in one_video(samples)
    ]
    shared = {o.key: o.result for o in evaluate_jobs(model, jobs, Clock())}
    assert [r for r in shared.values() if isinstance(r, Exception)] == []
    shuffled = random.Random(0).sample(jobs, len(jobs))
    assert {o.key: o.result for o in evaluate_jobs(model, shuffled, Clock())} == shared
    assert {o.key: o.result for o in evaluate_jobs(model, jobs, Clock(), share=False)} == shared
    assert {o.key: o.result for o in evaluate_jobs(model, jobs, Clock(), last=last_stages(model, 8))} == shared


@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_layer_ranges_compose_and_keeping_all_is_the_identity(samples: list[Sample], models: dict[str, Any], name: str) -> None:
    model = models[name]
    prefix = whole_prompt(samples[0], model)
    parts = Layers(2, 6)(Layers(0, 2)(prefix, model), model)
    assert torch.equal(Layers(0, 6)(prefix, model).hidden, parts.hidden)
    everything = state_after(samples[0], model, 4, Reducer("all", merge=Drop(1.0)))
    assert torch.equal(everything.hidden, prefix.hidden)
    assert torch.equal(everything.position, prefix.position)
    kept = Reducer("kept", prune=AttentionPrune(3, 1.0))
    dense, same = (
        evaluate_jobs(model, [Job("it", plan(samples[0], FRAMES, r, GENERATE, model))], Clock())[0].result for r in (DENSE, kept)
    )
    assert same.token_ids == dense.token_ids


@pytest.mark.parametrize("name", FAMILIES)
def test_sources_name_tokens_and_costs_follow_from_what_is_kept(samples: list[Sample], models: dict[str, Any], name: str) -> None:
    model = models[name]
    for reducer in applicable(name).values():
        merged = state_after(samples[0], model, 3, reducer)
        assert set(merged.source.unique().tolist()) - {-1} == set(range(len(merged.x)))
        (outcome,) = evaluate_jobs(model, [Job("it", plan(samples[0], FRAMES, reducer, CHOOSE, model))], Clock())
        answer = outcome.result
        assert answer.usage.dense_tokens == merged.tokens.dense_tokens
        if not any(step.full_layers == 0 for step in reducer.steps(model.layers)):  # FrameFusion merges before the first layer
            assert answer.usage.visual_tokens[0] == len(merged.x)
        assert answer.usage.visual_tokens[-1] <= answer.usage.visual_tokens[0]


@torch.inference_mode()
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("method", ["prunevid", "prunevid_official", "fastv"])
def test_kept_tokens_are_sorted_once_each_and_never_text(
    samples: list[Sample], models: dict[str, Any], name: str, method: str
) -> None:
    model, reducer = models[name], applicable(name)[method]
    before = state_after(samples[0], model, 6, reducer)
    kept, after = reducer.prune(before), Prune(reducer.prune)(before, model)
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert 0 < len(kept) <= math.ceil(round(reducer.prune.keep_ratio * len(before.group), 9))
    assert torch.equal(after.hidden[~after.visual], before.hidden[~before.visual])
    assert torch.equal(after.hidden[after.visual], before.hidden[before.visual][kept])
    assert torch.equal(after.position[~after.visual], before.position[~before.visual])
    assert {kv.key.shape[2] for kv in after.kv} == {len(before.hidden if method == "fastv" else after.hidden)}


@torch.inference_mode()
@pytest.mark.parametrize("name", FAMILIES)
def test_the_ledger_s_prefill_is_what_the_operators_count(samples: list[Sample], models: dict[str, Any], name: str) -> None:
    model = models[name]
    prefix = whole_prompt(samples[0], model)
    with operator_counter() as measured:
        Layers(0, model.layers)(prefix, model)
    text = len(prefix.hidden) - len(prefix.group)
    expected = prefill_flops(model.shape, [len(prefix.group)] * model.layers, text)
    assert expected == pytest.approx(measured.get_total_flops(), rel=1e-3)


@torch.inference_mode()
@pytest.mark.parametrize("name", FAMILIES)
def test_two_halves_are_the_stock_layer_and_looking_ahead_sees_its_attention(
    samples: list[Sample], models: dict[str, Any], name: str
) -> None:
    model = models[name]
    prefix = Layers(0, 2)(whole_prompt(samples[0], model), model)
    halves = Feed(2)(Attend(2, "queries")(prefix, model), model)
    whole = model.run(prefix.hidden, prefix.position, 2, 3, look="causal")
    assert torch.equal(halves.hidden, whole.hidden)
    assert all(torch.equal(one, other) for one, other in zip(halves.kv[-1], whole.kv[0], strict=True))
    ahead = model.ahead(prefix.hidden, prefix.position, 2)
    torch.testing.assert_close(ahead, whole.attention[:, -1].to(ahead.dtype), atol=1e-6, rtol=1e-4)
    scores = halves.query @ whole.kv[0].key[0].repeat_interleave(len(halves.query) // len(whole.kv[0].key[0]), 0).mT
    rows = (scores * model.language_model.layers[2].self_attn.scaling)[:, -1].softmax(-1)
    torch.testing.assert_close(rows, whole.attention[:, -1], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_kept_on_disk_and_measured_alone(
    samples: list[Sample], models: dict[str, Any], name: str, tmp_path: Path
) -> None:
    model, cache = models[name], EncoderCache(str(tmp_path), gib=1.0)
    plain = evaluate_jobs(model, [Job(1, plan(samples[0], FRAMES, DENSE, CHOOSE, model))], Clock())
    for _ in range(2):  # encoded, then read
        kept = evaluate_jobs(model, [Job(1, plan(samples[0], FRAMES, DENSE, CHOOSE, model, cache))], Clock())
        assert [outcome.result for outcome in kept] == [outcome.result for outcome in plain]
    assert len(list(tmp_path.iterdir())) == 1
    run_once(model, samples[0], Candidate(name, DENSE, FRAMES, GENERATE), tokens=2)


def test_positions_in_time_and_space_are_not_counted_anew(models: dict[str, Any]) -> None:
    for reducer, said in (("pyramiddrop", "cannot count anew"), ("sparsevlm_plus", "cannot correct for")):
        with pytest.raises(InfeasibleError, match=said):
            require_fit(reducer_of(reducer), models["qwen"])
        require_fit(reducer_of(reducer), models["pllava"])


@torch.inference_mode()
def test_pllava_s_vision_is_counted_but_for_the_class_token(samples: list[Sample], models: dict[str, Any]) -> None:
    model = models["pllava"]
    clip = state_after(samples[0], model, 1)
    with operator_counter() as measured:
        model.encode(clip)
    patches = model.shape.vision.patches
    assert vision_flops(model.shape, FRAMES) == pytest.approx(measured.get_total_flops() * patches / (patches + 1), rel=0.03)


def test_a_dense_qwen_costs_what_a_dense_qwen_costs(samples: list[Sample], models: dict[str, Any]) -> None:
    model = models["qwen"]
    answer = state_after(samples[0], model, len(plan(samples[0], FRAMES, DENSE, CHOOSE, model)))
    row = score(samples[0], "dense", answer, CHOOSE)
    assert mean_costs(recording.to_frame([row]), model.shape)["total_flops_ratio"] == pytest.approx(1)


def test_encoding_asks_for_the_question_only_where_it_is_read(samples: list[Sample], models: dict[str, Any]) -> None:
    assert encoding(DENSE) == plan(samples[0], FRAMES, DENSE, CHOOSE, models["pllava"])[1]
    assert plan(samples[0], FRAMES, DENSE, CHOOSE, models["stllm_qa"])[1].question == samples[0].question
    assert isinstance(plan(samples[0], FRAMES, DENSE, CHOOSE, models["qwen"])[0], Decode)
    assert isinstance(plan(samples[0], FRAMES, DENSE, CHOOSE, models["qwen"])[2], Reduce)
