import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop

from prunesweep.cost import Shape, VisionShape, head_flops, layer_flops, ledger, prefill_flops, vision_flops
from prunesweep.engine import Clock, Job, evaluate_jobs
from prunesweep.models.llava_onevision import LlavaOnevision, shape_of
from prunesweep.protocol import Protocol
from prunesweep.stages import Decode, Encode, Layers, plan
from prunesweep.types import Sample
from test_laws import DENSE, FRAMES, embedded, stock_inputs


def counter() -> FlopCounterMode:
    """torch's counter, with the SDPA operator of CPUs that it does not know."""

    def cpu_sdpa(query: tuple, key: tuple, value: tuple, *args: object, out_shape: object = None, **kwargs: object) -> int:
        return sdpa_flop(query, key, value)

    operator = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={operator: cpu_sdpa})


@torch.inference_mode()
def test_the_dense_ledger_equals_a_measured_count(samples: list[Sample], model: LlavaOnevision) -> None:
    sample = samples[0]
    inputs = stock_inputs(sample, model)
    with counter() as measured:
        model.network(**inputs, logits_to_keep=1)
    (outcome,) = evaluate_jobs(model, [Job("it", plan(sample, FRAMES, DENSE, Protocol("words", "choose"), model))], Clock())
    answer = outcome.result
    cost = ledger(model.shape, answer.visual_tokens, answer.text_tokens, answer.dense_tokens, FRAMES)
    assert cost.total == pytest.approx(measured.get_total_flops(), rel=1e-3)


@torch.inference_mode()
def test_vision_and_prefill_equal_measured_counts_each(samples: list[Sample], model: LlavaOnevision) -> None:
    clip = Decode(samples[0].path, "video", FRAMES, None, None)(None, model)
    with counter() as vision:
        Encode()(clip, model)
    assert vision_flops(model.shape, FRAMES) == pytest.approx(vision.get_total_flops(), rel=1e-3)
    start = embedded(samples[0], model)
    with counter() as prefill:
        Layers(0, 8)(start, model)
    text = len(start.hidden) - len(start.group)
    assert prefill_flops(model.shape, [len(start.group)] * 8, text) == pytest.approx(prefill.get_total_flops(), rel=1e-3)


@torch.inference_mode()
def test_a_step_of_decoding_equals_a_measured_count(samples: list[Sample], model: LlavaOnevision) -> None:
    prefix = Layers(0, 8)(embedded(samples[0], model), model)
    with counter() as measured:
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
    one = ledger(QWEN2_7B, visual, 20, 6272, 32, generated=1)
    three = ledger(QWEN2_7B, visual, 20, 6272, 32, generated=3)
    assert one.decode == 0
    assert three.decode == sum(28 * layer_flops(QWEN2_7B, 1, 60 + step) + head_flops(QWEN2_7B) for step in (1, 2))
    assert three.entrance_ratio == 100 / 6272
    assert three.final_ratio == 40 / 6272


def test_the_shape_is_read_from_the_configuration(model: LlavaOnevision) -> None:
    shape = shape_of(model.network.config)
    assert (shape.layers, shape.hidden, shape.heads, shape.kv_heads, shape.head_size, shape.mlp) == (8, 48, 4, 2, 12, 96)
    assert (shape.vision.layers, shape.vision.hidden, shape.vision.patches, shape.vision.patch_inputs) == (1, 32, 144, 192)
