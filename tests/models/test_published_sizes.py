"""The published models' sizes, without their weights: those that `prunesweep cost` counts with."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from prunesweep.models import llava_onevision, pllava, stllm
from prunesweep.models.sizes import shape_of
from support.published import PUBLISHED, configured, on_meta


def test_pllava_7b_has_2304_tokens() -> None:
    """On the meta device: no weights, but every shape."""
    with torch.device("meta"):
        llava = pllava.Network({"pooling_shape": [16, 12, 12], "vision_config": CLIP_L, "text_config": {}})
        seen = llava.vision_tower(torch.zeros(16, 3, 336, 336), output_hidden_states=True).hidden_states[-2][:, 1:]
        grid = llava.multi_modal_projector(seen).unflatten(1, (24, 24)).permute(3, 0, 1, 2)
        pooled = F.adaptive_avg_pool3d(grid, llava.pooling_shape)
    assert pooled.shape == (4096, 16, 12, 12)
    assert pooled[0].numel() == 2304
    assert pllava.shape_of(llava.vision_tower.config, llava.language_model.config) == configured("pllava_7b")
    assert sum(p.numel() for p in llava.parameters()) == pytest.approx(7.06e9, rel=0.01)


@pytest.mark.parametrize(("variant", "frames", "tokens"), [("qa", 16, 512), ("conversation", 64, 512)])
def test_st_llm_7b_has_32_tokens_a_frame(variant: str, frames: int, tokens: int) -> None:
    """The conversation variant: of the 16 frames that go to the LLM, whatever it has seen."""
    with torch.device("meta"):
        st = stllm.Network({**stllm.FULL_SIZE, **stllm.VARIANTS[variant]})
        x = st.combine(st.query(st.see(torch.zeros(frames, 3, 224, 224)), torch.zeros(1, 9, dtype=torch.long)))
    assert x.shape[1:] == (32, 4096)
    assert x.shape[0] * x.shape[1] == tokens
    assert stllm.shape_of(st) == configured(f"stllm_7b_{variant}")


CLIP_L = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}


def test_the_token_count_of_llava_onevision_is_196_a_frame_and_a_newline() -> None:
    from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration, Qwen2Config, SiglipVisionConfig

    vision = SiglipVisionConfig(
        hidden_size=1152,
        intermediate_size=4304,
        num_hidden_layers=26,
        num_attention_heads=16,
        image_size=384,
        patch_size=14,
        vision_use_head=False,
    )
    text = Qwen2Config(
        vocab_size=152064,
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
    )
    with torch.device("meta"):
        network = LlavaOnevisionForConditionalGeneration(LlavaOnevisionConfig(vision_config=vision, text_config=text))
        pixels = torch.zeros(1, 4, 3, 384, 384)
        features = network.model.get_video_features(
            pixel_values_videos=pixels, vision_feature_layer=-1, vision_feature_select_strategy="full"
        ).pooler_output
    assert features.shape == (1, 4 * 196 + 1, 3584)
    assert llava_onevision.shape_of(network.config) == configured("llava_onevision_7b")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_network_has_the_configured_sizes(name: str) -> None:
    """On the meta device: what its configuration says, what `prunesweep cost` counts with, and how many parameters there are."""
    network, published = on_meta(name), PUBLISHED[name]
    sizes = configured(name)
    own = shape_of(network.config)
    assert replace(own, vision=replace(own.vision, patches=published.patches, token_patches=0)) == sizes
    assert own.vision.patches in (0, published.patches)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(published.billions * 1e9, rel=0.01)


def test_qwen2_5_vl_7b_has_the_configured_sizes() -> None:
    """Parameters only: which patches share a window depends on values, which the meta device has none of."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text = {"vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28}
    heads = {"num_attention_heads": 28, "num_key_value_heads": 4}
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584}
    with torch.device("meta"):
        network = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text | heads, vision_config=vision))
    configured_sizes = configured("qwen2_5_vl_7b")
    any_resolution = replace(configured_sizes.vision, patches=0, token_patches=4)
    assert shape_of(network.config) == replace(configured_sizes, vision=any_resolution)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(8.29e9, rel=0.01)
