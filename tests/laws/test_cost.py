from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from prunesweep.analysis.costs import mean_costs
from prunesweep.cost import (
    CONVENTIONS,
    Shape,
    Usage,
    VisionShape,
    causal_prefill_flops,
    dycoke_decode,
    head_flops,
    kv_bytes,
    layer_flops,
    ledger,
    prefill_flops,
    published_prefill,
    scoring_flops,
    vision_flops,
)
from prunesweep.dev.bench_engine import operator_counter
from prunesweep.engine.plan import inside, plan
from prunesweep.engine.prefix_tree import Clock, Job, evaluate_jobs
from prunesweep.engine.protocol import Protocol
from prunesweep.engine.scoring import score
from prunesweep.engine.stages import Ask, Attend, Decode, Encode, Feed, Layers
from prunesweep.engine.stages import Prune as Step
from prunesweep.models.llava_onevision import LlavaOnevision, shape_of
from prunesweep.models.looks import attention_rows
from prunesweep.reducers import EarlierCaches, Reducer, look_of, place_of
from prunesweep.reducers.fastv import Prune as FastV
from prunesweep.reducers.prunevid import Merge, Prune
from prunesweep.results import records as recording
from prunesweep.search.bounds import least_costs
from prunesweep.types import Sample, Tokens
from support.trials import CHOOSE, DENSE, FRAMES, decoded, embedded, reducer_of, stock_inputs


@torch.inference_mode()
def test_the_dense_ledger_equals_a_measured_count(samples: list[Sample], model: LlavaOnevision) -> None:
    sample = samples[0]
    inputs = stock_inputs(sample, model)
    with operator_counter() as measured:
        model.network(**inputs, logits_to_keep=1)
    (outcome,) = evaluate_jobs(model, [Job("it", plan(sample, FRAMES, DENSE, Protocol("words", "choose"), model))], Clock())
    answer = outcome.result
    cost = ledger(model.shape, answer.usage)
    assert cost.total == pytest.approx(measured.get_total_flops(), rel=1e-3)


@torch.inference_mode()
def test_vision_and_prefill_equal_measured_counts_each(samples: list[Sample], model: LlavaOnevision) -> None:
    clip = Decode(samples[0].path, "video", FRAMES, None, None)(None, model)
    with operator_counter() as vision:
        Encode()(clip, model)
    assert vision_flops(model.shape, FRAMES) == pytest.approx(vision.get_total_flops(), rel=1e-3)
    start = embedded(samples[0], model)
    with operator_counter() as prefill:
        Layers(0, 8)(start, model)
    text = len(start.hidden) - len(start.group)
    assert prefill_flops(model.shape, [len(start.group)] * 8, text) == pytest.approx(prefill.get_total_flops(), rel=1e-3)


@torch.inference_mode()
def test_a_step_of_decoding_equals_a_measured_count(samples: list[Sample], model: LlavaOnevision) -> None:
    prefix = Layers(0, 8)(embedded(samples[0], model), model)
    with operator_counter() as measured:
        run = model.run(model.embed((5,)), torch.tensor([prefix.next_position]), 0, 8, prefix.kv)
        model.logits(run.hidden)
    expected = 8 * layer_flops(model.shape, 1, len(prefix.hidden) + 1) + head_flops(model.shape)
    assert expected == pytest.approx(measured.get_total_flops(), rel=1e-3)


QWEN2_7B = Shape(28, 3584, 28, 4, 128, 18944, 152064, VisionShape(26, 1152, 4304, 729, 588))


def test_llava_onevision_7b_costs_what_fastvid_publishes() -> None:
    # FastVID (arXiv 2503.11187) states 48.82 TFLOPs for 6272 visual tokens, counting a multiply-add once.
    assert prefill_flops(QWEN2_7B, [6272] * 28, 0) / 2 == pytest.approx(48.82e12, rel=1e-3)


def test_decoding_costs_one_row_per_token_after_the_first() -> None:
    visual = [100] * 20 + [40] * 8
    one = ledger(QWEN2_7B, Usage(visual, 20, 1, 32, 6272))
    three = ledger(QWEN2_7B, Usage(visual, 20, 3, 32, 6272))
    assert one.decode == 0
    assert three.decode == sum(28 * layer_flops(QWEN2_7B, 1, 60 + step) + head_flops(QWEN2_7B) for step in (1, 2))
    assert three.entrance_ratio == 100 / 6272
    assert three.final_ratio == 40 / 6272


def masked(model: LlavaOnevision, *rows: int) -> int:
    """FLOPs that the operator spends on pairs of rows of different options, which go through the layers as one chunk.

    The ledger leaves them out: each option by itself needs none of them.
    """
    shape = model.shape
    pairs = sum(rows) ** 2 - sum(n * n for n in rows)
    return shape.layers * 2 * 2 * shape.heads * shape.head_size * pairs


@torch.inference_mode()
def test_a_chunk_after_a_cache_and_scored_options_equal_measured_counts(samples: list[Sample], model: LlavaOnevision) -> None:
    sample = replace(samples[0], choices=("red", "red block moves", "up down left"), target=0)
    stages = plan(sample, FRAMES, DENSE, Protocol("words", "choose"), model)
    prefix = None
    for stage in stages[:-1]:
        prefix = stage(prefix, model)
    with operator_counter() as measured:
        answer = stages[-1](prefix, model)
    assert (answer.usage.option_rows, answer.usage.option_pairs) == (0 + 2 + 2, 0 + 4 + 4)
    cost = ledger(model.shape, answer.usage)
    assert cost.head + cost.options == pytest.approx(measured.get_total_flops() - masked(model, 2, 2), rel=1e-3)
    assert cost.total - ledger(model.shape, replace(answer.usage, option_rows=0, option_pairs=0)).total == cost.options > 0
    rows, cached = 5, len(prefix.hidden)
    with operator_counter() as measured:
        model.run(model.embed((5,) * rows), torch.arange(cached, cached + rows), 0, 8, prefix.kv)
    assert 8 * layer_flops(model.shape, rows, cached + rows) == pytest.approx(measured.get_total_flops(), rel=1e-3)


@torch.inference_mode()
@pytest.mark.parametrize("earlier", ["cut", "whole"])
def test_decoding_on_caches_of_a_pruned_prompt_equals_a_measured_count(
    samples: list[Sample], model: LlavaOnevision, earlier: EarlierCaches
) -> None:
    """Generated tokens and scored options, with the reducer's own caches from layer to layer."""
    sample = replace(samples[0], choices=("red", "red block moves", "up down left"), target=0)
    reducer = Reducer("pruned", prune=FastV(layer=3, keep_ratio=0.3, earlier_caches=earlier))
    for protocol in (Protocol("words", "choose"), Protocol("words", "generate", most_tokens=5)):
        prefix = None
        *stages, last = plan(sample, FRAMES, reducer, protocol, model)
        for stage in stages:
            prefix = stage(prefix, model)
        with operator_counter() as measured:
            answer = last(prefix, model)
        assert answer.usage.generated_tokens == len(answer.token_ids)
        cost = ledger(model.shape, answer.usage)
        hidden = masked(model, 2, 2) if protocol.answering == "choose" else 0
        assert cost.head + cost.options + cost.decode == pytest.approx(measured.get_total_flops() - hidden, rel=1e-3)
        assert cost.options + cost.decode > 0
        size = sum(kv.key[0].numel() + kv.value[0].numel() for kv in prefix.kv)
        assert cost.kv_bytes == size * 2


@pytest.mark.parametrize("earlier", ["cut", "whole"])
def test_a_search_knows_the_caches_of_a_trial_before_it_runs(
    samples: list[Sample], model: LlavaOnevision, earlier: EarlierCaches
) -> None:
    words = Protocol("words", "choose")
    pruned = Reducer("pruned", prune=FastV(layer=3, keep_ratio=0.3, earlier_caches=earlier))
    trials = {}
    for reducer in (DENSE, pruned):
        jobs = [Job(s, plan(s, FRAMES, reducer, words, model)) for s in samples[:3]]
        rows = [score(o.key, reducer.name, o.result, words) for o in evaluate_jobs(model, jobs, Clock())]
        about = recording.TrialInfo(reducer.name, reducer.name, "small", "blocks", (), {}, model.shape)
        trials[reducer] = recording.Trial(about, recording.to_frame(rows), None)
    known, found = least_costs(pruned, FRAMES, trials[DENSE]), mean_costs(trials[pruned].records, model.shape)
    names = ("kv_ratio", "kv_bytes", "layer_ratio", "llm_flops")
    assert {name: known[name] for name in names} == {name: found[name] for name in names}
    assert (found["kv_ratio"] == found["layer_ratio"]) == (earlier == "whole")


def test_causal_attention_counts_the_pairs_that_the_mask_leaves() -> None:
    # 2 x multiply-adds of LLaVA-OneVision 7B at 6272 tokens: 97.6 T in full, 89.7 T causal.
    assert prefill_flops(QWEN2_7B, [6272] * 28, 0) == pytest.approx(97.6e12, rel=1e-3)
    assert causal_prefill_flops(QWEN2_7B, [6272] * 28, 0) == pytest.approx(89.7e12, rel=1e-3)
    assert causal_prefill_flops(QWEN2_7B, [1], 0) == layer_flops(QWEN2_7B, 1, 1)


def test_the_shape_is_read_from_the_configuration(model: LlavaOnevision) -> None:
    shape = shape_of(model.network.config)
    assert (shape.layers, shape.hidden, shape.heads, shape.kv_heads, shape.head_size, shape.mlp) == (8, 48, 4, 2, 12, 96)
    assert (shape.vision.layers, shape.vision.hidden, shape.vision.patches, shape.vision.patch_inputs) == (1, 32, 144, 192)


VICUNA_7B = Shape(32, 4096, 32, 32, 128, 11008, 32000, VisionShape(23, 1024, 4096, 577, 588))
PLLAVA_TOKENS = 16 * 144


def tera(convention: str, tokens: list[float]) -> float:
    return published_prefill(CONVENTIONS[convention], QWEN2_7B, tokens) / 1e12


def relative(convention: str, shape: Shape, dense: int, full_layers: int, entrance: float, keep: float = 1.0) -> float:
    """FLOPs of `full_layers` layers on a share of the tokens and of the others on `keep` of those, of the dense model's."""
    few, fewer = entrance * dense, entrance * keep * dense
    tokens = [few] * full_layers + [fewer] * (shape.layers - full_layers)
    own = CONVENTIONS[convention]
    return published_prefill(own, shape, tokens) / published_prefill(own, shape, [dense] * shape.layers)


def test_the_dense_onevision_7b_is_what_two_conventions_publish() -> None:
    assert tera("fastvid", [6272] * 28) == pytest.approx(48.82, abs=0.005)
    assert tera("fastv", [6272] * 28) == pytest.approx(40.8, abs=0.05)


@pytest.mark.parametrize(("keep", "published"), [(0.25, 13.45), (0.2, 11.38), (0.15, 9.35), (0.1, 7.36)])
def test_fastv_rows_of_fastvid(keep: float, published: float) -> None:
    """FastV prunes after layer 2 of 28."""
    assert tera("fastvid", [6272] * 2 + [keep * 6272] * 26) == pytest.approx(published, abs=0.005)


@pytest.mark.parametrize(
    ("tokens", "published"),
    [
        (11648, "103.24"),  # FastVID, LLaVA-Video at 64 frames: 13 x 14 tokens a frame, newlines included
        (2038, "14.13"),  # FastVID, LLaVA-OneVision: DyCoke at 32.5 %
        (1568, "10.73"),  # FastVID itself at 25 %
        (608, "4.04"),  # and at 9.7 %: 19 tokens a frame
        (12544, "113.4"),  # FlashVID, LLaVA-OneVision at 64 frames, not the 32 of its main table
        (10880, "94.8"),  # FlashVID, LLaVA-Video
    ],
)
def test_other_published_prefills_of_the_7b_model(tokens: int, published: str) -> None:
    last_digit = 10.0 ** -len(published.partition(".")[2])
    assert tera("fastvid", [tokens] * 28) == pytest.approx(float(published), abs=last_digit / 2)


@pytest.mark.parametrize(
    ("convention", "full_layers", "entrance", "keep", "published"),
    [
        ("fastv", 11, 0.405, 0.4, 0.23),  # PruneVid, Table 1; the release prunes after 11 layers
        ("sparsevlm", 11, 0.405, 0.4, 0.23),
        ("sparsevlm", 2, 1, 0.3, 0.33),  # FastV
        ("fastv", 32, 0.557, 1, 0.53),  # PruMerge
        ("fastv", 32, 0.715, 1, 0.69),  # component table: static merge
        ("sparsevlm", 32, 0.5, 1, 0.48),  # spatial merge
        ("fastv", 32, 0.361, 1, 0.34),  # both
        ("fastv", 11, 1, 0.4, 0.59),  # attention selection
        ("fastv", 11, 0.361, 0.141 / 0.361, 0.20),  # all three
    ],
)
def test_pllava_ratios_of_the_prunevid_paper(
    convention: str, full_layers: int, entrance: float, keep: float, published: float
) -> None:
    assert round(relative(convention, VICUNA_7B, PLLAVA_TOKENS, full_layers, entrance, keep), 2) == published


def test_the_onevision_ratio_of_the_prunevid_paper_does_not_follow_from_its_settings() -> None:
    """0.20x is published for 42.5 % merged and 17 % kept tokens; every convention gives more, with 10 full layers and with 11."""
    found = [relative(name, QWEN2_7B, 6272, layers, 0.425, 0.4) for name in CONVENTIONS for layers in (10, 11)]
    assert min(found) > 0.22


def test_dycoke_adds_one_row_per_generated_token() -> None:
    d, m = QWEN2_7B.hidden, QWEN2_7B.mlp
    assert dycoke_decode(QWEN2_7B, 100, 0) == 0
    assert dycoke_decode(QWEN2_7B, 100, 2) == 2 * (4 * d * d + 2 * d * m) + 2 * d * (101 + 102)


def test_a_cache_holds_keys_and_values_of_every_layer() -> None:
    # 28 layers, 4 heads of 128, 2 bytes: 57,344 bytes a token.
    assert kv_bytes(QWEN2_7B, [10] * 28, 2) == 10 * 57344
    assert kv_bytes(QWEN2_7B, [10] * 14 + [5] * 14, 2) == 15 * 57344 // 2


def test_the_layer_average_lies_between_entrance_and_end() -> None:
    cost = ledger(QWEN2_7B, Usage([100] * 14 + [50] * 14, 20, 0, 32, 200))
    assert (cost.entrance_ratio, cost.layer_ratio, cost.final_ratio) == (0.5, 0.375, 0.25)


@torch.inference_mode()
def test_scoring_equals_a_measured_count(model: LlavaOnevision) -> None:
    shape = model.shape
    query, key = torch.randn(1, shape.heads, 5, shape.head_size), torch.randn(1, shape.kv_heads, 30, shape.head_size)
    with operator_counter() as measured:
        attention_rows(query, key, 1.0)
    assert scoring_flops(shape, 5, 30) == measured.get_total_flops()


def test_merging_costs_distances_means_and_similarities() -> None:
    x = torch.randn(2, 20, 8, generator=torch.Generator().manual_seed(0))
    merged = Merge(segments=1, static_threshold=1.0, cluster_ratio=0.5)(Tokens("video", x, x[:0, 0]))  # all dynamic
    frames, similarity = 2 * 2**2 * 8, 4 * 2 * 20 * 8
    each_frame = 2 * 20**2 * 8 + 2 * 20 * 10 * 8
    assert merged.flops == frames + similarity + 2 * each_frame
    raster, score = (
        Merge(static_threshold=None, cluster_ratio=1, order=o)(Tokens("video", x, x[:0, 0])) for o in ("raster", "score")
    )
    assert raster.flops == frames
    assert score.flops == frames + 2 * (2 * 20**2 * 8 + 2 * 20 * 20 * 8)  # as released, groups are still put in order


def test_an_answer_carries_what_its_reduction_cost(samples: list[Sample], model: LlavaOnevision) -> None:
    merge = Merge()
    words = Protocol("words", "choose")
    stages = plan(samples[0], FRAMES, Reducer("p", merge, Prune(2)), words, model)
    (outcome,) = evaluate_jobs(model, [Job("it", stages)], Clock())
    question = len(model.prompt(samples[0].question)[1])
    merged = merge(decoded(samples[0], model))
    columns = len(merged.x) + outcome.result.usage.text_tokens
    assert outcome.result.usage.reduction_flops == merged.flops + scoring_flops(model.shape, question, columns)
    cost = ledger(model.shape, Usage([10] * 8, 5, 0, 4, 20, reduction_flops=7))
    assert cost.total == cost.vision + cost.prefill + cost.head + 7


INSIDE = (
    "pyramiddrop",
    "sparsevlm",
    "sparsevlm_plus",
    "dart",
    "vtw",
    "framefusion",
    "aim",
    "holitom",
    "flashvid",
    "fastv",
    "prunevid",
)


def question_first(reducer: Reducer, question: tuple[int, ...], layers: int) -> Iterator[Any]:
    """The stages inside the LLM as releases run them, with the whole prompt from the start."""
    yield Ask(question, None)
    at = 0
    for step in reducer.steps(layers):
        full, inside_layer = place_of(step)
        if full > at:
            yield Layers(at, full, look=look_of(step))
        if inside_layer:
            yield Attend(full, look_of(step))
        yield Step(step)
        if inside_layer:
            yield Feed(full)
        at = full + inside_layer
    if at < layers:
        yield Layers(at, layers)


def counted(stage: Any, state: Any, model: LlavaOnevision) -> int:
    """What its layers take, without looking: choosing is booked by formulas of its own."""
    if isinstance(stage, (Ask, Step)):
        return 0
    with operator_counter() as measured:
        (stage if isinstance(stage, Feed) else replace(stage, look=None))(state, model)
    return measured.get_total_flops()


@torch.inference_mode()
@pytest.mark.parametrize("name", INSIDE)
def test_steps_inside_the_llm_cost_what_the_operators_count_and_do_what_they_do_with_the_whole_prompt(
    samples: list[Sample], model: LlavaOnevision, name: str
) -> None:
    reducer = reducer_of(name)
    question = model.prompt(samples[0].question)[1]
    first = late = embedded(samples[0], model, reducer.merge)
    measured = 0
    for stage in question_first(reducer, question, model.layers):
        measured += counted(stage, first, model)
        first = stage(first, model)
    usage = first.usage
    text = int((~first.visual).sum())
    assert prefill_flops(model.shape, usage.visual_tokens, text, usage.fed_tokens) == pytest.approx(measured, rel=1e-3)
    for stage in inside(reducer, question, model.layers):
        late = stage(late, model)
    assert late.usage.visual_tokens == usage.visual_tokens
    torch.testing.assert_close(late.hidden[-len(question) :], first.hidden[-len(question) :], atol=1e-3, rtol=1e-3)


@torch.inference_mode()
@pytest.mark.parametrize("answering", ["generate", "choose"])
def test_decoding_that_attends_to_few_tokens_costs_what_the_operators_count(
    samples: list[Sample], model: LlavaOnevision, answering: str
) -> None:
    state = None
    sample = replace(samples[0], choices=("red", "red block moves", "up down left"), target=0)
    *stages, last = plan(sample, FRAMES, reducer_of("dycoke"), Protocol("words", answering, most_tokens=5), model)
    for stage in stages:
        state = stage(state, model)
    with operator_counter() as measured:
        answer = last(state, model)
    usage = answer.usage
    times = max(0, usage.generated_tokens - 1) + usage.option_rows
    assert times > 1
    assert sum(usage.attended_tokens) < times * sum(usage.cached_tokens)
    looking = usage.reduction_flops - state.usage.reduction_flops
    cost = ledger(model.shape, usage)
    assert cost.decode + cost.options + cost.head + looking == pytest.approx(measured.get_total_flops(), rel=1e-3)
    assert mean_costs(recording.to_frame([score(sample, "it", answer, CHOOSE)]), model.shape)["total_flops"] == cost.total
