"""Every family's small random checkpoint against stock transformers, or a plain reading of the published structure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from prunesweep.engine.plan import plan
from prunesweep.engine.prefix_tree import Clock, Job, evaluate_jobs
from prunesweep.engine.protocol import Protocol, encoder_text
from prunesweep.engine.stages import (
    Choose,
    Embed,
    Generate,
    Reduce,
)
from prunesweep.models import llava_onevision, pllava, qwen2_5_vl, stllm
from prunesweep.reducers.random import Drop
from prunesweep.types import Clip, Sample
from support import networks
from support.families import FRAMES, state_after, whole_prompt
from support.trials import CHOOSE, DENSE, GENERATE, reducer_of


def qwen_inputs(sample: Sample, model: Any, clip: Clip) -> dict[str, Any]:
    """The prompt as the stock model takes it, with the time between two frames that our frames have."""
    pixels = model.processor.video_processor(
        videos=[clip.frames.permute(0, 3, 1, 2)], return_tensors="pt", do_sample_frames=False
    )
    before, after = model.prompt(sample.question)
    tokens = int(pixels["video_grid_thw"].prod()) // 4
    ids = [*before, *[model.network.config.video_token_id] * tokens, *after]
    kinds = [0] * len(before) + [2] * tokens + [0] * len(after)
    step = 2 * (clip.timestamps[-1] - clip.timestamps[0]) / (len(clip.frames) - 1)
    return {
        "input_ids": torch.tensor([ids]),
        "mm_token_type_ids": torch.tensor([kinds]),
        "second_per_grid_ts": torch.tensor([step]),
        **pixels,
    }


@torch.inference_mode()
def test_qwen_s_logits_and_generated_tokens_are_the_stock_model_s(samples: list[Sample], models: dict[str, Any]) -> None:
    model = models["qwen"]
    inputs = qwen_inputs(samples[0], model, state_after(samples[0], model, 1))
    stock = model.network(**inputs).logits[0]
    prefix = whole_prompt(samples[0], model)
    question = model.prompt(samples[0].question)[1]
    hidden = torch.cat([prefix.hidden, model.embed(question)])
    position = torch.cat([prefix.position, model.text_position(prefix.next_position, len(question))])
    assert torch.equal(model.logits(model.run(hidden, position, 0, model.layers).hidden), stock)
    generated = model.network.generate(**inputs, max_new_tokens=5, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    (outcome,) = evaluate_jobs(model, [Job("it", plan(samples[0], FRAMES, DENSE, GENERATE, model))], Clock())
    assert outcome.result.token_ids == tuple(generated.tolist())


GENERATED = 8
SPACINGS = (0.04, 0.1, 1 / 3, 0.5, 1.0, 2.0, 10.0, 60.0)
"""Seconds between frames."""


def of_older_releases(inputs: dict[str, Any], before: int, model: Any) -> torch.Tensor:
    """Positions as transformers had them up to 5.0, for the stock `generate`: text begins behind the video's largest one."""
    stock, _ = model.network.model.get_rope_index(**{k: v for k, v in inputs.items() if not k.startswith("pixel")})
    video = inputs["mm_token_type_ids"][0] == 2
    position = stock.clone()
    text = int(stock[:, 0, video].max()) + 1
    position[:, 0, video.nonzero()[-1, 0] + 1 :] = text + torch.arange(len(video) - before - int(video.sum()))
    return position


@torch.inference_mode()
@pytest.mark.parametrize("frames", [2, FRAMES, 24])
@pytest.mark.parametrize("text_after_video", ["stock", "largest"])
def test_qwen_goes_on_as_stock_generate_however_long_the_video(
    samples: list[Sample], folders: dict[str, Path], text_after_video: str, frames: int
) -> None:
    """Greedy tokens, and the likelihood of all of them as an option, whose rows are one chunk."""
    model = qwen2_5_vl.load("qwen", str(folders["qwen"]), text_after_video=text_after_video)
    decode, encode, reduce, *stages, _ = plan(samples[0], frames, DENSE, GENERATE, model)
    clip = decode(None, model)
    for spacing in SPACINGS:
        slow = replace(clip, timestamps=tuple(spacing * i for i in range(frames)))
        prefix = reduce(encode(slow, model), model)
        for stage in stages:
            prefix = stage(prefix, model)
        inputs = qwen_inputs(samples[0], model, slow)
        if text_after_video == "largest":
            inputs["position_ids"] = of_older_releases(inputs, len(stages[0].before), model)
        stock = model.network.generate(
            **inputs, max_new_tokens=GENERATED, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
        ids = tuple(stock.sequences[0, inputs["input_ids"].shape[1] :].tolist())
        assert Generate(GENERATED)(prefix, model).token_ids == ids, spacing
        scores = torch.stack(stock.logits)[:, 0].float().log_softmax(-1).gather(1, torch.tensor(ids)[:, None])
        scored = Choose((ids,), ("it",))(prefix, model).choice_scores
        assert scored == pytest.approx((float(scores.sum()),), abs=1e-3), spacing


@torch.inference_mode()
def test_where_the_text_begins_matters_in_long_videos_only(samples: list[Sample], folders: dict[str, Path]) -> None:
    """A grid of 6 x 6 and 3 steps of time; a reduced video takes up the same room."""
    ends = {}
    for kind in ("stock", "largest"):
        model = qwen2_5_vl.load("qwen", str(folders["qwen"]), text_after_video=kind)
        clip = state_after(samples[0], model, 1)
        for step in (1.0, 2.5, 50.0):  # two frames make a step, at two numbers a second
            tokens = model.encode(replace(clip, timestamps=tuple(step / 4 * i for i in range(FRAMES))))
            for keep in (1.0, 0.2):
                merged = Reduce(Drop(keep, positions="original"))(tokens, model)
                ends[kind, step, keep] = Embed((1, 2))(merged, model).next_position - 2
    assert ends == {
        (kind, step, keep): 101 if kind == "largest" and step == 50 else 6
        for kind in ("stock", "largest")
        for step in (1.0, 2.5, 50.0)
        for keep in (1.0, 0.2)
    }
    with pytest.raises(ValueError, match="model.text_after_video must be one of stock, largest, got 'last'"):
        qwen2_5_vl.load("qwen", str(folders["qwen"]), text_after_video="last")


def test_a_merged_token_of_qwen_has_the_time_row_and_column_of_its_place(samples: list[Sample], models: dict[str, Any]) -> None:
    model = models["qwen"]
    clip = state_after(samples[0], model, 1)
    tokens = model.encode(replace(clip, timestamps=tuple(0.7 * i for i in range(FRAMES))))
    kept = Reduce(Drop(0.1, positions="original"))(tokens, model)
    positions = Embed((1, 2))(kept, model).position[2:] - 2
    for (time, row, column), index in zip(positions.tolist(), kept.position.tolist(), strict=True):
        assert (time, row, column) == (int(index // 36 * 2.8), index % 36 // 6, index % 6)
    renumbered = Embed((1, 2))(Reduce(Drop(0.1))(tokens, model), model)
    assert renumbered.position.tolist() == [[i] * 3 for i in range(len(renumbered.hidden))]
    assert renumbered.next_position == len(renumbered.hidden)


def plain_pllava(folder: Path, alpha: float) -> tuple[pllava.Network, Callable]:
    """The published structure in a few lines: weights by their released names, LoRA merged by hand."""
    from safetensors.torch import load_file

    raw = {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}
    plain = {}
    for name, tensor in raw.items():
        if "lora" in name or name.endswith("position_ids"):
            continue
        if "base_layer" in name:
            target = name.removesuffix(".base_layer.weight")
            a, b = raw[f"{target}.lora_A.default.weight"], raw[f"{target}.lora_B.default.weight"]
            tensor = tensor + alpha / networks.LORA_RANK * b @ a
        plain[name] = tensor

    def tokens(network: pllava.Network, pixels: torch.Tensor) -> torch.Tensor:
        seen = network.vision_tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        x = seen @ plain["multi_modal_projector.linear_1.weight"].T + plain["multi_modal_projector.linear_1.bias"]
        x = F.gelu(x) @ plain["multi_modal_projector.linear_2.weight"].T + plain["multi_modal_projector.linear_2.bias"]
        frames = len(pixels)
        grid = x.view(1, frames, 4, 4, -1).permute(0, 4, 1, 2, 3)
        return torch.nn.AdaptiveAvgPool3d((frames, 2, 2))(grid)[0].flatten(1).T

    config = {**networks.PLLAVA_CONFIG, "vocab_size": 205}
    network = pllava.Network({**config, "vocab_size": plain["language_model.base_model.model.lm_head.weight"].shape[0]})
    stock = {k.replace("language_model.base_model.model.", "language_model."): v for k, v in plain.items()}
    stock = {k.replace(".base_layer.", ".").replace("vision_tower.vision_model.", "vision_tower."): v for k, v in stock.items()}
    network.load_state_dict(stock)
    return network.eval(), tokens


@torch.inference_mode()
@pytest.mark.parametrize("alpha", [4.0, 14.0])
def test_pllava_is_clip_projector_pooling_and_a_merged_llama(
    samples: list[Sample], folders: dict[str, Path], alpha: float
) -> None:
    model = pllava.load("pllava", str(folders["pllava"]), lora_alpha=alpha)
    network, tokens = plain_pllava(folders["pllava"], alpha)
    clip: Clip = state_after(samples[0], model, 1)
    x = tokens(network, model._pixels(clip, 4))
    prefix = whole_prompt(samples[0], model)
    torch.testing.assert_close(prefix.hidden[prefix.visual], x, atol=1e-5, rtol=1e-4)
    before, question = model.prompt(samples[0].question)
    table = network.language_model.get_input_embeddings()
    ours = prefix.hidden[prefix.visual]
    embeds = torch.cat([table(torch.tensor(before)), ours, table(torch.tensor(question))])[None]
    stock = network.language_model(inputs_embeds=embeds).logits[0]
    hidden = torch.cat([prefix.hidden, model.embed(question)])
    logits = model.logits(model.run(hidden, torch.arange(len(hidden)), 0, model.layers).hidden)
    torch.testing.assert_close(logits, stock, atol=1e-3, rtol=1e-3)  # the weights were merged in another order
    own = model.network.language_model(inputs_embeds=embeds).logits[0]
    assert torch.equal(logits, own), "the decoder loop is the stock forward, bit for bit"
    generated = model.network.language_model.generate(
        inputs_embeds=embeds, max_new_tokens=5, do_sample=False, eos_token_id=model.tokenizer.eos_token_id, pad_token_id=0
    )[0]
    (outcome,) = evaluate_jobs(model, [Job("it", plan(samples[0], FRAMES, DENSE, GENERATE, model))], Clock())
    assert outcome.result.token_ids == tuple(generated.tolist())


def test_another_alpha_is_another_model(folders: dict[str, Path]) -> None:
    low, high = (pllava.load("p", str(folders["pllava"]), lora_alpha=alpha) for alpha in (4.0, 14.0))
    names = [n for n, p in low.network.named_parameters() if not torch.equal(p, high.network.get_parameter(n))]
    assert {n.split(".")[-2] for n in names} == {"q_proj", "v_proj"}
    assert len(names) == 2 * low.layers


def test_frames_are_first_resized_as_released() -> None:
    frames = torch.zeros(1, 3, 720, 1280, dtype=torch.uint8)
    assert pllava.first_resize(frames, 336).shape[2:] == (360, 640)
    assert pllava.first_resize(torch.zeros(1, 3, 240, 320, dtype=torch.uint8), 336).shape[2:] == (336, 448)
    assert pllava.first_size(480, 854, 336) == (359, 638)  # 640 * 480 / 854 is 359.72: truncated, not rounded
    assert pllava.first_size(854, 480, 336) == (638, 359)
    square = torch.zeros(1, 3, 400, 400, dtype=torch.uint8)
    assert pllava.first_resize(square, 336) is square


def plain_eva(state: dict[str, torch.Tensor], pixels: torch.Tensor, heads: int, depth: int) -> torch.Tensor:
    """EVA's ViT and, with a depth, the branch through time, one formula a line, by the released names."""
    s = {k.removeprefix("model.stllm_model."): v for k, v in state.items()}
    width = s["visual_encoder.cls_token"].shape[-1]

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, (width,), s[f"{name}.weight"], s[f"{name}.bias"], 1e-6)

    def attention(x: torch.Tensor, name: str) -> torch.Tensor:
        bias = torch.cat([s[f"{name}.q_bias"], torch.zeros(width), s[f"{name}.v_bias"]])
        q, k, v = (x @ s[f"{name}.qkv.weight"].T + bias).chunk(3, -1)
        q, k, v = (y.unflatten(-1, (heads, -1)).transpose(-3, -2) for y in (q, k, v))
        weights = (q @ k.transpose(-1, -2) * (width // heads) ** -0.5).softmax(-1)
        return (weights @ v).transpose(-3, -2).flatten(-2) @ s[f"{name}.proj.weight"].T + s[f"{name}.proj.bias"]

    def mlp(x: torch.Tensor, name: str) -> torch.Tensor:
        x = F.gelu(x @ s[f"{name}.fc1.weight"].T + s[f"{name}.fc1.bias"])
        return x @ s[f"{name}.fc2.weight"].T + s[f"{name}.fc2.bias"]

    e = "visual_encoder"
    x = F.conv2d(pixels, s[f"{e}.patch_embed.proj.weight"], s[f"{e}.patch_embed.proj.bias"], stride=8).flatten(2).transpose(1, 2)
    x = torch.cat([s[f"{e}.cls_token"].expand(len(x), -1, -1), x], 1) + s[f"{e}.pos_embed"]
    frames, blocks, branch = len(x), 4, None
    for i in range(blocks):
        x = x + attention(norm(x, f"{e}.blocks.{i}.norm1"), f"{e}.blocks.{i}.attn")
        x = x + mlp(norm(x, f"{e}.blocks.{i}.norm2"), f"{e}.blocks.{i}.mlp")
        n = i - (blocks - depth)
        if n < 0 or not depth:
            continue
        if branch is None:
            cls = (x[:, 0].mean(0) + s[f"{e}.BTAdapter_cls"][0, 0] + s[f"{e}.pos_embed"][0, 0]) / 2
            patches = x[:, 1:] + s[f"{e}.pos_embed"][:, 1:] + s[f"{e}.BTAdapter_position.weight"][:frames, None]
        else:
            cls, patches = branch[0] + x[:, 0].mean(0), branch[1] + x[:, 1:]
        moved = torch.zeros_like(patches)
        for place in range(patches.shape[1]):  # each patch over time
            own = norm(patches[:, place], f"{e}.BTAdapter_T.{n}.norm1")
            own = attention(own, f"{e}.BTAdapter_T.{n}.attn")
            moved[:, place] = own @ s[f"{e}.BTAdapter_T.{n}.temporal_fc.weight"].T + s[f"{e}.BTAdapter_T.{n}.temporal_fc.bias"]
        patches = patches + moved
        name, classes, spaced = f"{e}.BTAdapter_S.{n}", [], []
        for frame in range(frames):  # each frame in space, with the class token
            own = attention(norm(torch.cat([cls[None], patches[frame]]), f"{name}.norm1"), f"{name}.attn")
            classes.append(own[0])
            spaced.append(own[1:])
        cls, patches = cls + torch.stack(classes).mean(0), patches + torch.stack(spaced)
        cls = cls + mlp(norm(cls, f"{name}.norm2"), f"{name}.mlp")
        patches = patches + mlp(norm(patches, f"{name}.norm2"), f"{name}.mlp")
        branch = (cls, patches)
    if branch is not None:
        x = (x + torch.cat([branch[0].expand(frames, 1, -1), branch[1]], 1)) / 2
    return norm(x, "ln_vision")


def released_state(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v for f in folder.glob("*.bin") for k, v in torch.load(f, weights_only=True).items()}


@torch.inference_mode()
@pytest.mark.parametrize("variant", ["qa", "conversation"])
def test_st_llm_is_eva_with_its_branch_a_qformer_and_a_llama(
    samples: list[Sample], models: dict[str, Any], folders: dict[str, Path], variant: str
) -> None:
    model, state = models[f"stllm_{variant}"], released_state(folders[f"stllm_{variant}_released"])
    network = model.network
    clip: Clip = state_after(samples[0], model, 1)
    pixels = model.image_processor(images=list(clip.frames.permute(0, 3, 1, 2)), return_tensors="pt")["pixel_values"]
    seen = plain_eva(state, pixels, heads=2, depth=3 if variant == "qa" else 0)
    torch.testing.assert_close(network.see(pixels), seen, atol=1e-4, rtol=1e-3)
    ids = torch.tensor([model.qformer_tokenizer(samples[0].question)["input_ids"]])
    read = network.qformer(  # stock, frame by frame
        input_ids=ids.expand(len(seen), -1),
        query_embeds=network.query_tokens.expand(len(seen), -1, -1),
        encoder_hidden_states=seen,
    ).last_hidden_state[:, :5]
    x = read @ state["model.stllm_model.llama_proj.weight"].T + state["model.stllm_model.llama_proj.bias"]
    if variant == "conversation":
        down, up = (tuple(state[f"model.stllm_model.{n}_proj.{w}"] for w in ("weight", "bias")) for n in ("down", "up"))
        mean = torch.relu(x.mean(0) @ down[0].T + down[1]) @ up[0].T + up[1]
        part = FRAMES / 16
        x = x[[min(int(part / 2 + round(part * i)), FRAMES - 1) for i in range(16)]] + mean
    prefix = whole_prompt(samples[0], model)
    torch.testing.assert_close(prefix.hidden[prefix.visual], x.flatten(0, 1), atol=1e-4, rtol=1e-3)
    assert prefix.visual.all(), "visual tokens come first, and all text with the question"
    question = model.prompt(samples[0].question)[1]
    embeds = torch.cat([prefix.hidden, model.embed(question)])[None]
    logits = model.logits(model.run(embeds[0], torch.arange(embeds.shape[1]), 0, model.layers).hidden)
    assert torch.equal(logits, network.language_model(inputs_embeds=embeds).logits[0])
    generated = network.language_model.generate(
        inputs_embeds=embeds, max_new_tokens=5, do_sample=False, eos_token_id=model.tokenizer.eos_token_id, pad_token_id=0
    )[0]
    (outcome,) = evaluate_jobs(model, [Job("it", plan(samples[0], FRAMES, DENSE, GENERATE, model))], Clock())
    assert outcome.result.token_ids == tuple(generated.tolist())


def test_st_llm_encodes_a_video_anew_for_every_question(samples: list[Sample], models: dict[str, Any]) -> None:
    model = models["stllm_qa"]
    other = replace(samples[0], id="other", question="what color is the block ?")
    one, two = (state_after(s, model, 2).x for s in (samples[0], other))
    assert not torch.allclose(one, two)
    lettered = Protocol("letters", "choose", encoder_template="Question: {question}")
    assert encoder_text(samples[0], lettered) == f"Question: {samples[0].question}"
    with pytest.raises(ValueError, match="reads the question"):
        model.encode(state_after(samples[0], model, 1))


# What cannot be.


def test_what_a_family_cannot_do_is_said(samples: list[Sample], models: dict[str, Any]) -> None:
    for name, reducer, message in (
        ("qwen", reducer_of("prumerge"), "no attention.joined is known of qwen's vision tower"),
        ("stllm_qa", reducer_of("downsample"), "fixed number of queries a frame"),
        ("stllm_qa", reducer_of("pooling"), "must fit into 6 grids of 1 x 5 visual tokens"),
    ):
        stages = plan(samples[0], FRAMES, reducer, CHOOSE, models[name])
        (outcome,) = evaluate_jobs(models[name], [Job("it", stages)], Clock())
        assert message in str(outcome.result)


def test_a_checkpoint_of_another_family_is_refused(folders: dict[str, Path], checkpoint: Path) -> None:
    for load, folder, message in (
        (qwen2_5_vl.load, checkpoint, "holds a llava_onevision model, expected qwen2_5_vl"),
        (llava_onevision.load, folders["qwen"], "holds a qwen2_5_vl model, expected llava_onevision"),
        (pllava.load, folders["qwen"], "holds a qwen2_5_vl model, expected llava"),
        (stllm.load, folders["pllava"], "holds a llava model, expected prunesweep_stllm"),
        (stllm.load, folders["stllm_qa_released"], "is ST-LLM as released; convert it first: prunesweep model convert stllm"),
        (pllava.load, "/nowhere/at/all", "checkpoint folder '/nowhere/at/all' does not exist"),
    ):
        with pytest.raises(ValueError, match=message):
            load("x", str(folder))
