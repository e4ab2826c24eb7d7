"""Every family of the adapter on a tiny random checkpoint: against the stock class, a second implementation, and the laws.

`docs/networks.md` has a matrix that `python -m prunesweep.dev.matrix` writes from these tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from prunesweep.checks import InfeasibleError
from prunesweep.cost import prefill_flops, vision_flops
from prunesweep.dev.bench_engine import operator_counter
from prunesweep.engine.plan import plan, require_fit
from prunesweep.engine.prefix_tree import Clock, Job, evaluate_jobs
from prunesweep.engine.selfcheck import self_check
from prunesweep.engine.stages import Ask, Attend, Embed, Feed, Generate, Layers, Prune, Reduce
from prunesweep.reducers import Reducer
from prunesweep.reducers.prunevid import Prune as AttentionPrune
from prunesweep.reducers.random import Drop
from prunesweep.types import Clip, Prefix, Sample
from support.trials import CHOOSE, GENERATE, last_stages, reducer_of
from support.zoo import ZOO, Zoo, clip_of

QUESTION = "what color is the block ?"
GENERATED = 8
FULL_LAYERS = 3
"""Before a step prunes: behind all of the tiny networks' deep-stack."""


SHORT, LONG = clip_of(), clip_of(9, 13.0)
"""The long one of two minutes: times beyond the sides of any grid."""


def of_video(model: Any, clip: Clip, merge: Any = None) -> Prefix:
    return Embed(model.prompt(QUESTION)[0])(Reduce(merge)(model.encode(clip), model), model)


def with_question(model: Any, prefix: Prefix) -> Prefix:
    return Ask(model.prompt(QUESTION)[1], None)(prefix, model)


def through(model: Any, prefix: Prefix) -> Prefix:
    return Layers(prefix.depth, model.layers)(prefix, model)


@dataclass(frozen=True)
class EveryThird:
    """A step that leaves every third visual token, and the caches of earlier layers as they are."""

    full_layers: int = FULL_LAYERS
    earlier_caches: str = "whole"
    reads_question: bool = False

    def __call__(self, prefix: Prefix) -> torch.Tensor:
        return torch.arange(0, len(prefix.group), 3)


@contextmanager
def pruned_by_hooks(model: Any, kept: torch.Tensor) -> Iterator[None]:
    """The stock network, whose layers from FULL_LAYERS on see some tokens of a prompt only: nothing of the engine in it."""

    def before(_: Any, given: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        hidden = given[0]
        if hidden.shape[1] == 1:
            return given, named
        if hidden.shape[1] != len(kept):
            hidden = hidden[:, kept]
        named = {**named, "position_embeddings": tuple(x[..., kept, :] for x in named["position_embeddings"])}
        if named.get("attention_mask") is not None:
            named["attention_mask"] = named["attention_mask"][:, :, kept][..., kept]
        return (hidden, *given[1:]), named

    layers = list(model.language_model.layers)[FULL_LAYERS:]
    hooks = [layer.register_forward_pre_hook(before, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def hidden_from_all(model: Any, dropped: torch.Tensor) -> Iterator[None]:
    """The stock network, none of whose tokens sees those dropped: to the others it is as if these were not there."""

    def before(_: Any, given: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        mask = named.get("attention_mask")
        rows = given[0].shape[1]
        sees = torch.ones(rows, rows, dtype=torch.bool).tril() if mask is None else mask[0, 0]
        sees = sees & ~dropped | torch.eye(rows, dtype=torch.bool)
        return given, {**named, "attention_mask": sees[None, None]}

    hooks = [layer.register_forward_pre_hook(before, with_kwargs=True) for layer in model.language_model.layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def greedy_by_stock(model: Any, clip: Clip) -> tuple[int, ...]:
    inputs = model.inputs(clip, QUESTION)
    made = model.network.generate(**inputs, max_new_tokens=GENERATED, do_sample=False)
    return tuple(made[0, inputs["input_ids"].shape[1] :].tolist())


# Against the stock class.


@pytest.mark.parametrize("name", ZOO)
@torch.inference_mode()
def test_logits_are_the_stock_model_s_bit_for_bit(zoo: Zoo, name: str) -> None:
    model = zoo[name]
    for clip in (SHORT, LONG):
        stock = model.stock_logits(clip, QUESTION)
        ours = model.logits(through(model, with_question(model, of_video(model, clip))).hidden)
        assert torch.equal(ours, stock)
    assert self_check(model).alike


@pytest.mark.parametrize("name", ZOO)
@torch.inference_mode()
def test_greedy_tokens_are_those_of_stock_generate(zoo: Zoo, name: str) -> None:
    model = zoo[name]
    for clip in (SHORT, LONG):
        asked = with_question(model, through(model, of_video(model, clip)))
        assert Generate(GENERATED)(asked, model).token_ids == greedy_by_stock(model, clip)


@pytest.mark.parametrize("name", ZOO)
@torch.inference_mode()
def test_a_pruned_network_decodes_as_hooks_in_stock_generate_do(zoo: Zoo, name: str) -> None:
    model, step = zoo[name], EveryThird()
    for clip in (SHORT, LONG):
        before = Layers(0, FULL_LAYERS)(of_video(model, clip), model)
        asked = with_question(model, through(model, Prune(step)(before, model)))
        visual = before.visual.nonzero()[:, 0]
        keep = torch.ones(len(before.hidden) + len(model.prompt(QUESTION)[1]), dtype=torch.bool)
        keep[visual] = False
        keep[visual[step(before)]] = True
        with pruned_by_hooks(model, keep.nonzero()[:, 0]):
            assert Generate(GENERATED)(asked, model).token_ids == greedy_by_stock(model, clip)


@pytest.mark.parametrize("name", ZOO)
@torch.inference_mode()
def test_tokens_dropped_at_the_entrance_are_to_the_others_as_if_never_there(zoo: Zoo, name: str) -> None:
    model = zoo[name]
    tokens = model.encode(SHORT)
    merged = Reduce(Drop(0.4, positions="original"))(tokens, model)
    prefix = Embed(model.prompt(QUESTION)[0])(merged, model)
    ours = model.logits(through(model, with_question(model, prefix)).hidden)
    dense = with_question(model, of_video(model, SHORT))
    visual = dense.visual.nonzero()[:, 0]
    dropped = torch.zeros(len(dense.hidden), dtype=torch.bool)
    dropped[visual] = True
    dropped[visual[merged.position]] = False
    if model.shape.linear is None:
        with hidden_from_all(model, dropped):
            stock = model.stock_logits(SHORT, QUESTION)[~dropped]
    else:  # no mask hides anything from linear attention: the stock LLM on the tokens that are left
        left = dense.position[~dropped].T[:, None]
        states = model.language_model(inputs_embeds=dense.hidden[~dropped][None], position_ids=left, use_cache=False)
        stock = model.head(states.last_hidden_state[0])
    torch.testing.assert_close(ours, stock, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ZOO)
@torch.inference_mode()
def test_a_clip_becomes_the_tokens_of_the_stock_chat_template_and_processor(zoo: Zoo, name: str) -> None:
    """By one call of the stock `apply_chat_template` on the frames."""
    from transformers.video_utils import VideoMetadata

    model, tensors = zoo[name], {"return_tensors": "pt"}
    video = {"type": "video", "video": SHORT.frames.permute(0, 3, 1, 2).numpy()}
    metadata = VideoMetadata(len(SHORT.frames), fps=10.0, frames_indices=[7 * i for i in range(6)], duration=4.2)
    stock = model.processor.apply_chat_template(
        [{"role": "user", "content": [video, {"type": "text", "text": QUESTION}]}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        processor_kwargs={"do_sample_frames": False, "video_metadata": [metadata], **dict(model.family.video), **tensors},
        **(tensors if name == "smolvlm" else {}),  # which has a signature of its own
    )
    ours = model.inputs(SHORT, QUESTION)
    assert ours["input_ids"].tolist() == stock["input_ids"].tolist()
    pixels = next(name for name in ("pixel_values_videos", "pixel_values") if name in ours)
    assert torch.equal(ours[pixels], stock[pixels])


# The laws.


def reducers(model: Any) -> dict[str, Reducer]:
    """Of methods that fit; in networks with linear attention, selection stands behind the first full one."""
    there = {} if model.shape.linear is None else {"prune__layer": model.shape.linear.every}
    selecting = {name: reducer_of(name, **there) for name in ("prunevid", "fastv", "dart", "vtw")}
    return {
        **{name: reducer_of(name) for name in ("none", "random")},
        **selecting,
        "prunevid original": reducer_of("prunevid", merge__positions="original", **there),
        **(of_all_layers() if model.shape.linear is None else {}),
    }


def of_all_layers() -> dict[str, Reducer]:
    return {
        "lookm": reducer_of("lookm"),
        "pyramiddrop": reducer_of("pyramiddrop", prune__positions="original"),
        "framefusion": reducer_of("framefusion"),
    }


def questions(samples: list[Sample]) -> list[Sample]:
    return [replace(samples[0], id=str(i), question=q) for i, q in enumerate((samples[0].question, QUESTION))]


@pytest.mark.parametrize("name", ZOO)
def test_shared_equals_separate(zoo: Zoo, samples: list[Sample], name: str) -> None:
    model = zoo[name]
    jobs = [
        Job((r, sample.id), plan(sample, 6, reducer, GENERATE, model))
        for r, reducer in reducers(model).items()
        for sample in questions(samples)
    ]
    shared = {o.key: o.result for o in evaluate_jobs(model, jobs, Clock())}
    assert [r for r in shared.values() if isinstance(r, Exception)] == []
    assert {o.key: o.result for o in evaluate_jobs(model, jobs[::-1], Clock(), share=False)} == shared


@pytest.mark.parametrize("name", ZOO)
def test_answers_written_together_are_those_of_one_at_a_time(zoo: Zoo, samples: list[Sample], name: str) -> None:
    model = zoo[name]
    jobs = [
        Job((r, sample.id), plan(sample, 6, reducer, GENERATE, model))
        for r, reducer in reducers(model).items()
        for sample in questions(samples)
    ]
    alone = {o.key: o.result for o in evaluate_jobs(model, jobs, Clock())}
    assert {o.key: o.result for o in evaluate_jobs(model, jobs, Clock(), last=last_stages(model, 8))} == alone


@pytest.mark.parametrize("name", ZOO)
@torch.inference_mode()
def test_layer_ranges_compose_halves_are_whole_and_keeping_all_is_the_identity(zoo: Zoo, name: str) -> None:
    model = zoo[name]
    prefix = of_video(model, SHORT)
    whole = through(model, prefix)
    parts = Layers(2, model.layers)(Layers(0, 2)(prefix, model), model)
    assert torch.equal(whole.hidden, parts.hidden)
    halves = Layers(0, 1)(prefix, model)
    full = model.shape.attending(range(model.layers))
    for layer in range(1, model.layers):
        halves = Feed(layer)(Attend(layer)(halves, model), model) if layer in full else Layers(layer, layer + 1)(halves, model)
    assert torch.equal(halves.hidden, whole.hidden)
    for merge in (Drop(1.0), Drop(1.0, positions="original")):
        everything = of_video(model, SHORT, merge)
        assert torch.equal(everything.hidden, prefix.hidden)
        assert torch.equal(everything.position, prefix.position)
        assert everything.next_position == prefix.next_position
    last = full[-1]
    asked = with_question(model, Layers(0, last)(prefix, model))
    kept = Prune(AttentionPrune(last, 1.0))(Layers(last, last + 1, look="causal")(asked, model), model)
    assert torch.equal(kept.hidden, Layers(last, last + 1)(asked, model).hidden)


def test_attention_is_read_behind_full_layers_only(zoo: Zoo) -> None:
    """Recurrent states are no caches that a step could read or cut, which is said before anything runs."""
    model, refused = zoo["qwen3_5"], of_all_layers()
    with pytest.raises(InfeasibleError, match="only one in 3 of qwen3_5.s layers has full attention; let it stand after 3"):
        require_fit(reducer_of("fastv", prune__layer=2), model)
    with pytest.raises(InfeasibleError, match="changes the caches of all layers"):
        require_fit(refused["lookm"], model)
    with pytest.raises(InfeasibleError, match="let it stand after 2, 5"):
        require_fit(refused["pyramiddrop"], model)


@pytest.mark.parametrize("name", ["qwen3_5", "qwen3_5_moe", "minicpmv4_6"])
@torch.inference_mode()
def test_forks_do_not_write_into_each_other_s_states(zoo: Zoo, name: str) -> None:
    model = zoo[name]
    asked = with_question(model, through(model, of_video(model, SHORT)))
    before = [tuple(x.clone() for x in memory) for memory in asked.kv]
    first = Generate(GENERATED)(asked, model).token_ids
    assert all(torch.equal(x, y) for old, new in zip(before, asked.kv, strict=True) for x, y in zip(old, new, strict=True))
    assert Generate(GENERATED)(asked, model).token_ids == first


@pytest.mark.parametrize("name", ZOO)
@torch.inference_mode()
def test_text_stays_where_it_is_among_the_tokens_that_are_left(zoo: Zoo, name: str) -> None:
    """And these are sorted, once each; their positions, and what is added to them, are those of their slots."""
    model = zoo[name]
    dense = of_video(model, SHORT)
    for positions in ("original", "renumbered"):
        merged = Reduce(Drop(0.4, positions=positions))(model.encode(SHORT), model)
        left = Embed(model.prompt(QUESTION)[0])(merged, model)
        patch = left.place
        assert patch.tolist() == sorted(set(patch.tolist()))
        assert torch.equal(left.hidden[~left.visual], dense.hidden[~dense.visual])
        assert torch.equal(left.hidden[left.visual], dense.hidden[dense.visual][patch])
        slot = torch.cat([(~dense.visual).nonzero()[:, 0], dense.visual.nonzero()[patch, 0]]).sort().values
        if positions == "original":
            assert torch.equal(left.position, dense.position[slot])
            assert left.next_position == dense.next_position
        else:
            assert torch.equal(left.position, model.text_position(0, len(left.hidden)))
        if dense.given is not None and dense.given.added is not None:
            assert torch.equal(left.given.added, dense.given.added[:, slot])


@pytest.mark.parametrize("name", ZOO)
@torch.inference_mode()
def test_the_ledger_is_the_operator_counter(zoo: Zoo, name: str) -> None:
    """To 1 %: tower, projector, deep-stack, windows; attention, experts and router."""
    model = zoo[name]
    if hasattr(model.network, "set_experts_implementation"):
        model.network.set_experts_implementation("eager")  # other kernels hide their operations from the counter
    square = clip_of(8, 0.5, 64, 64)
    with operator_counter() as seen:
        model.encode(square)
    prefix = of_video(model, square)
    with operator_counter() as run:
        through(model, prefix)
    usage, visual = prefix.usage, len(prefix.group)
    counted = prefill_flops(model.shape, [visual] * model.layers, len(prefix.hidden) - visual)
    assert vision_flops(model.shape, usage.frames, usage.vision_patches) == pytest.approx(seen.get_total_flops(), rel=0.01)
    assert counted == pytest.approx(run.get_total_flops(), rel=0.01)


@pytest.mark.parametrize("name", ZOO)
def test_what_the_tower_sees_of_smaller_frames(zoo: Zoo, samples: list[Sample], name: str) -> None:
    """Where frames may have any size; elsewhere it is said that they may not."""
    model = zoo[name]
    stages = plan(samples[0], 6, reducer_of("downsample"), CHOOSE, model)
    (outcome,) = evaluate_jobs(model, [Job("it", stages)], Clock())
    if model.encode(SHORT).vision_patches is None or name == "minicpmv4_6":
        assert "brings every frame to its own size" in str(outcome.result)
    else:
        assert outcome.result.usage.visual_tokens[0] < outcome.result.usage.dense_tokens
