"""The specification: laws that hold for every file in conf/reducer/, on a small random model and drawn clips."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from prunesweep.engine.plan import inside, plan
from prunesweep.engine.prefix_tree import Clock, Job, cut, evaluate_jobs
from prunesweep.engine.protocol import Protocol
from prunesweep.engine.stages import (
    Ask,
    Generate,
    Layers,
    Prune,
    Reduce,
    changed,
    looked,
)
from prunesweep.models.llava_onevision import LlavaOnevision, load
from prunesweep.reducers import EarlierCaches, Left, Reducer, Step, earlier_caches, left_by_step, merges_patches
from prunesweep.reducers.prunevid import Prune as AttentionPrune
from prunesweep.reducers.random import Drop
from prunesweep.reducers.random import Prune as RandomPrune
from prunesweep.types import Answer, Prefix, Sample
from prunesweep.types.facts import FEATURES
from prunesweep.video.reader import VideoError
from support.facts import RUNNABLE
from support.trials import (
    CHOOSE,
    DENSE,
    FRAMES,
    GENERATE,
    all_trials,
    answers,
    decoded,
    embedded,
    jobs_of,
    one_video,
    reducer_of,
    stock_inputs,
)

SAME_FIRST_TOKEN = {
    "random_layer whole": "random_layer",
    "fastv cut": "fastv",
    "prunevid whole": "prunevid",
    "lookm pruned, whole": "lookm pruned",
}
"""Trials that differ from another one in the caches of layers before pruning alone, which the first token does not read."""

# 1. Shared = separate, bit for bit, in any order.


@pytest.mark.parametrize("protocol", [CHOOSE, GENERATE], ids=["choose", "generate"])
def test_shared_equals_separate(samples: list[Sample], model: LlavaOnevision, protocol: Protocol) -> None:
    jobs = jobs_of(one_video(samples), model, protocol)
    shuffled = random.Random(0).sample(jobs, len(jobs))
    clock = Clock()
    shared = answers(evaluate_jobs(model, jobs, clock))
    assert clock.run < clock.alone / 2
    assert answers(evaluate_jobs(model, shuffled, Clock())) == shared
    assert answers(evaluate_jobs(model, jobs, Clock(), share=False)) == shared


def test_the_answers_differ_between_trials_so_that_sharing_could_be_caught(samples: list[Sample], model: LlavaOnevision) -> None:
    found = answers(evaluate_jobs(model, jobs_of(one_video(samples)[:1], model, CHOOSE), Clock()))
    evicting = {
        name for name, reducer in all_trials().items() if reducer.evict and not reducer.prune
    }  # reads the prompt as the dense model does
    alike = evicting | SAME_FIRST_TOKEN.keys()
    scores = {name: answer.choice_scores for (name, _), answer in found.items() if name not in alike}
    assert len(set(scores.values())) == len(scores)
    every = {name: answer.choice_scores for (name, _), answer in found.items()}
    for name, other in SAME_FIRST_TOKEN.items():  # random_layer whole is asked later, in chunks of other sizes
        assert every[name] == pytest.approx(every[other], abs=1e-5)
    assert {found[key].choice_scores for key in found if key[0] in evicting} == {scores["none"]}


def test_permuting_samples_permutes_answers(samples: list[Sample], model: LlavaOnevision) -> None:
    some = samples[:4]
    forward = answers(evaluate_jobs(model, jobs_of(some, model, CHOOSE), Clock()))
    backward = answers(evaluate_jobs(model, jobs_of(some[::-1], model, CHOOSE), Clock()))
    assert forward == backward


# 2. Layer ranges compose and equal the stock forward; generating equals the stock `generate`.


@torch.inference_mode()
def test_layer_ranges_compose(samples: list[Sample], model: LlavaOnevision) -> None:
    start = embedded(samples[0], model)
    whole = Layers(0, 8)(start, model)
    parts = Layers(4, 8)(Layers(1, 4)(Layers(0, 1)(start, model), model), model)
    assert torch.equal(whole.hidden, parts.hidden)
    assert whole.usage.visual_tokens == parts.usage.visual_tokens
    for a, b in zip(whole.kv, parts.kv, strict=True):
        assert torch.equal(a.key, b.key)
        assert torch.equal(a.value, b.value)


def test_layers_refuse_a_prefix_of_another_depth(samples: list[Sample], model: LlavaOnevision) -> None:
    with pytest.raises(ValueError, match="need a prefix of depth 2, got 0"):
        Layers(2, 3)(embedded(samples[0], model), model)


@torch.inference_mode()
def test_all_layers_on_the_whole_prompt_equal_the_stock_forward(samples: list[Sample], model: LlavaOnevision) -> None:
    sample = samples[0]
    inputs = stock_inputs(sample, model)
    stock = model.network(**inputs).logits[0]
    prefix = embedded(sample, model)
    question = model.embed(model.prompt(sample.question)[1])
    hidden = torch.cat([prefix.hidden, question])
    ours = model.logits(model.run(hidden, torch.arange(len(hidden)), 0, model.layers).hidden)
    assert torch.equal(ours, stock)


@torch.inference_mode()
def test_the_question_as_a_chunk_equals_the_stock_forward(samples: list[Sample], model: LlavaOnevision) -> None:
    sample = samples[0]
    stock = model.network(**stock_inputs(sample, model)).logits[0]
    prefix = Ask(model.prompt(sample.question)[1], look=None)(Layers(0, 8)(embedded(sample, model), model), model)
    torch.testing.assert_close(model.logits(prefix.hidden[-1:]), stock[-1:], atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_generated_tokens_equal_stock_generate(samples: list[Sample], model: LlavaOnevision) -> None:
    seen = set()
    for sample in samples[:6]:
        inputs = stock_inputs(sample, model)
        stock = model.network.generate(**inputs, max_new_tokens=5, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        job = Job("it", plan(sample, FRAMES, DENSE, GENERATE, model))
        (outcome,) = evaluate_jobs(model, [job], Clock())
        assert outcome.result.token_ids == tuple(stock.tolist())
        seen |= set(stock.tolist())
    assert len(seen) > 1, "a model that repeats one token proves nothing"


# 3. Identities.


KEEPING_ALL = [
    AttentionPrune(layer=3, keep_ratio=1.0),
    RandomPrune(layer=3, keep_ratio=1.0),
    RandomPrune(layer=3, keep_ratio=1.0, earlier_caches="whole"),
]


@pytest.mark.parametrize("pruner", KEEPING_ALL, ids=str)
def test_keep_one_is_identity(samples: list[Sample], model: LlavaOnevision, pruner: object) -> None:
    start = Ask(model.prompt(samples[0].question)[1], "causal")(Layers(0, 3)(embedded(samples[0], model), model), model)
    after = Prune(pruner)(start, model)
    assert torch.equal(after.hidden, start.hidden)
    assert torch.equal(after.position, start.position)
    assert all(torch.equal(a.key, b.key) for a, b in zip(after.kv, start.kv, strict=True))


def test_dropping_nothing_is_identity(samples: list[Sample], model: LlavaOnevision) -> None:
    none, all_kept = embedded(samples[0], model), embedded(samples[0], model, Drop(keep_ratio=1.0))
    assert torch.equal(none.hidden, all_kept.hidden)
    assert torch.equal(none.position, all_kept.position)


def test_keep_one_and_no_merge_answer_as_the_dense_model(samples: list[Sample], model: LlavaOnevision) -> None:
    kept = Reducer("all kept", merge=None, prune=AttentionPrune(layer=3, keep_ratio=1.0))
    for sample in samples[:4]:
        jobs = [Job(r.name, plan(sample, FRAMES, r, CHOOSE, model)) for r in (DENSE, kept)]
        dense, pruned = (outcome.result for outcome in evaluate_jobs(model, jobs, Clock()))
        assert pruned.usage.visual_tokens == dense.usage.visual_tokens
        assert pruned.choice_scores == pytest.approx(dense.choice_scores, abs=1e-4)


# 4. Kept tokens.


@pytest.mark.parametrize("name", RUNNABLE)
def test_kept_indices_are_sorted_unique_and_never_text(samples: list[Sample], model: LlavaOnevision, name: str) -> None:
    reducer = reducer_of(name)
    if not reducer.steps(model.layers):
        pytest.skip(f"{name} does nothing inside the LLM")
    state = embedded(samples[0], model, reducer.merge)
    entered = len(state.group)
    for stage in inside(reducer, model.prompt(samples[0].question)[1], model.layers):
        after = stage(state, model)
        if isinstance(stage, Prune):
            require_kept(stage.pruner, state, after, model, entered)
        state = after
    assert len(state.usage.visual_tokens) == len(state.usage.cached_tokens) == len(state.kv) == model.layers


def require_kept(step: Step, before: Prefix, after: Prefix, model: LlavaOnevision, entered: int) -> None:
    change = changed(step(looked(before, step, model)[0]))
    kept, made = change.keep.tolist(), 0 if change.extra is None else len(change.extra)
    assert kept == sorted(set(kept))
    assert set(kept) <= set(range(len(before.group)))
    left = left_by_step(step, Left(len(before.group), tuple(torch.bincount(before.group).tolist()), entered))
    assert left in (None, len(kept) + made)
    assert torch.equal(after.hidden[~after.visual], before.hidden[~before.visual])
    if change.hidden is None:
        assert torch.equal(after.hidden[after.visual][: len(kept)], before.hidden[before.visual][kept])
    whole = earlier_caches(step) == "whole"
    lengths = [len(seen.visual) for seen in after.seen]
    assert lengths == [key.shape[2] for key, _ in after.kv]
    assert lengths == [len(seen.visual) for seen in before.seen] if whole else set(lengths) == {len(after.hidden)}
    assert list(after.usage.cached_tokens) == [int(seen.visual.sum()) for seen in after.seen]
    assert len(after.group) == int(after.visual.sum()) == len(after.place) == len(kept) + made
    if change.positions == "original":
        assert after.next_position == before.next_position


@torch.inference_mode()
def test_attention_at_the_pruning_layer_equals_eager_attention(samples: list[Sample], checkpoint: object) -> None:
    ours, eager = load("ours", str(checkpoint)), load("eager", str(checkpoint))
    eager.network.set_attn_implementation("eager")
    sample = samples[0]
    maps = eager.network(**stock_inputs(sample, eager), output_attentions=True).attentions[2][0]
    start = embedded(sample, ours)
    asked = Ask(ours.prompt(sample.question)[1], look="causal")(Layers(0, 3)(start, ours), ours)
    rows = maps[:, len(start.hidden) :, : len(start.hidden)][:, :, start.visual]
    torch.testing.assert_close(asked.attention, rows, atol=1e-6, rtol=1e-4)


@torch.inference_mode()
def test_attention_before_the_rotary_embedding_equals_that_of_the_projections(
    samples: list[Sample], model: LlavaOnevision
) -> None:
    """The release's variant: queries and keys as projected, softmax over all tokens without a mask."""
    sample, layer = samples[0], model.language_model.layers[2].self_attn
    projected: dict[str, torch.Tensor] = {}
    hooks = [
        getattr(layer, f"{name}_proj").register_forward_hook(lambda _, __, out, name=name: projected.__setitem__(name, out[0]))
        for name in ("q", "k")
    ]
    model.network(**stock_inputs(sample, model))
    for hook in hooks:
        hook.remove()
    query, key = (projected[name].unflatten(-1, (-1, 12)).transpose(0, 1) for name in ("q", "k"))
    scores = query @ key.repeat_interleave(2, dim=0).transpose(-1, -2) * 12**-0.5
    start = embedded(sample, model)
    expected = scores.softmax(-1)[:, len(start.hidden) :, : len(start.hidden)][:, :, start.visual]
    question = model.prompt(sample.question)[1]
    asked = Ask(question, look="before_rotary")(Layers(0, 3)(start, model), model)
    torch.testing.assert_close(asked.attention, expected, atol=1e-6, rtol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_scores_before_the_rotary_embedding_are_of_the_projections_in_half_precision(
    samples: list[Sample], checkpoint: Path, kind: torch.dtype
) -> None:
    """Step by step as released: products, scale and result in half precision, softmax in float32."""
    model = load("half", str(checkpoint), dtype=str(kind).removeprefix("torch."))
    start, question = embedded(samples[0], model), model.prompt(samples[0].question)[1]
    prefix = Layers(0, 3)(start, model)
    entering, attention = Layers(0, 2)(start, model), model.language_model.layers[2]
    asked_before = Ask(question, look=None)(entering, model)
    normed = attention.input_layernorm(torch.cat([entering.hidden, asked_before.hidden[len(entering.hidden) :]]))
    query, key = (
        projection(part[None])[0].unflatten(-1, (-1, 12)).transpose(0, 1)
        for projection, part in (
            (attention.self_attn.q_proj, normed[len(entering.hidden) :]),
            (attention.self_attn.k_proj, normed),
        )
    )
    scores = query @ key.repeat_interleave(2, dim=0).transpose(-1, -2) * 12**-0.5
    expected = scores.float().softmax(-1).to(kind)[:, :, : len(start.hidden)][:, :, start.visual]
    asked = Ask(question, look="before_rotary")(prefix, model)
    assert asked.attention.dtype == kind
    torch.testing.assert_close(asked.attention, expected, atol=torch.finfo(kind).eps * float(expected.max()), rtol=0)


@pytest.mark.parametrize("earlier", ["cut", "whole"])
def test_pruned_decoding_equals_a_dense_run_whose_mask_hides_the_pruned_tokens(
    samples: list[Sample], model: LlavaOnevision, earlier: EarlierCaches
) -> None:
    """After layer 3 the pruned tokens are gone from later layers; if caches are cut, for generated tokens from all layers."""
    sample, layer = samples[0], 3
    pruner = AttentionPrune(layer=layer, keep_ratio=0.3, earlier_caches=earlier)
    reducer = Reducer("pruned", prune=pruner)
    (outcome,) = evaluate_jobs(model, [Job("it", plan(sample, FRAMES, reducer, GENERATE, model))], Clock())
    start = embedded(sample, model)
    question = model.prompt(sample.question)[1]
    asked = Ask(question, look="causal")(Layers(0, layer)(start, model), model)
    gone = asked.visual.nonzero()[:, 0][~torch.isin(torch.arange(len(asked.group)), pruner(asked))]
    ids = [*outcome.result.token_ids[:-1]]
    hidden = torch.cat([start.hidden, model.embed((*question, *ids))])[None]
    prompt, size = len(asked.hidden), hidden.shape[1]
    position = torch.arange(size)[None]
    rotary = model.language_model.rotary_emb(hidden, position)
    least = torch.finfo(torch.float32).min
    causal = torch.full((size, size), least).triu(1)
    for index, decoder_layer in enumerate(model.language_model.layers):
        mask = causal.clone()
        if index >= layer:
            mask[:, gone] = least
        elif earlier == "cut":
            mask[prompt:, gone] = least
        hidden = decoder_layer(hidden, attention_mask=mask[None, None], position_embeddings=rotary, position_ids=None)
    dense = model.logits(hidden[0, prompt - 1 :]).argmax(-1)
    assert outcome.result.token_ids == tuple(dense.tolist())


# 5. Merges (weighted sums: test_prunevid.py).


@pytest.mark.parametrize("name", RUNNABLE)
def test_sources_name_tokens_and_every_token_has_a_source(samples: list[Sample], model: LlavaOnevision, name: str) -> None:
    reducer = reducer_of(name)
    tokens = decoded(samples[0], model, reducer)
    merged = Reduce(reducer.merge)(tokens, model)
    patches = (tokens.fact(FEATURES) if merges_patches(reducer.merge) else tokens.x).shape[1]
    assert merged.source.shape == ((FRAMES, patches) if tokens.source is None else tokens.source.shape)
    assert set(merged.source.unique().tolist()) - {-1} == set(range(len(merged.x)))
    assert len(merged.position) == len(merged.group) == len(merged.x)
    assert merged.position.max() < merged.span


# The engine's cutting, and what a bad sample does.


def test_cut_splits_layer_ranges_where_others_begin_or_end() -> None:
    jobs = [Job(1, (Layers(0, 2), Layers(2, 6))), Job(2, (Layers(0, 4), Layers(4, 6))), Job(3, (Layers(0, 6),))]
    thirds = (Layers(0, 2), Layers(2, 4), Layers(4, 6))
    assert [job.stages for job in cut(jobs)] == [thirds] * 3


def test_a_missing_video_fails_its_own_jobs_only(samples: list[Sample], model: LlavaOnevision, tmp_path: object) -> None:
    good = samples[0]
    bad = replace(good, id="bad", path=tmp_path / "gone.mp4", video_id="gone")
    jobs = [Job(s.id, plan(s, FRAMES, DENSE, CHOOSE, model)) for s in (bad, good)]
    broken, fine = evaluate_jobs(model, jobs, Clock())
    assert isinstance(broken.result, VideoError)
    assert isinstance(fine.result, Answer)


def test_a_long_option_is_scored_token_by_token(samples: list[Sample], model: LlavaOnevision) -> None:
    sample = replace(samples[0], choices=("red", "red block", "up"), target=0)
    (outcome,) = evaluate_jobs(model, [Job("it", plan(sample, FRAMES, DENSE, CHOOSE, model))], Clock())
    one, two, _ = outcome.result.choice_scores
    before = plan(sample, FRAMES, DENSE, CHOOSE, model)[:-1]
    state = None
    with torch.inference_mode():
        for stage in before:
            state = stage(state, model)
        red, block = model.tokenize("red block")
        run = model.run(model.embed((red,)), torch.tensor([state.next_position]), 0, model.layers, state.kv)
        expected = float(model.logits(run.hidden).float().log_softmax(-1)[0, block])
    assert two - one == pytest.approx(expected, abs=1e-5)


def test_generate_stops_at_the_end_token(samples: list[Sample], checkpoint: object) -> None:
    model = load("stopping", str(checkpoint))
    stages = (*plan(samples[0], FRAMES, DENSE, GENERATE, model)[:-1], Generate(5))
    (free,) = evaluate_jobs(model, [Job("it", stages)], Clock())
    assert len(free.result.token_ids) == 5
    third = free.result.token_ids[2]
    model.network.generation_config.eos_token_id = third
    (stopped,) = evaluate_jobs(model, [Job("it", stages)], Clock())
    assert stopped.result.token_ids == free.result.token_ids[: free.result.token_ids.index(third) + 1]
