"""Which networks the decoder loop refuses, and that only question rows and visual columns are ever scored."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import Qwen2Config, Qwen2Model

from prunesweep.engine.stages import Ask, Layers
from prunesweep.models.decoder import Decoder
from prunesweep.models.llava_onevision import LlavaOnevision
from prunesweep.models.sizes import with_linear
from prunesweep.types import Sample
from support.trials import embedded


def test_sliding_window_layers_are_refused_by_number() -> None:
    config = Qwen2Config(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=10,
        use_sliding_window=True,
        sliding_window=4,
        max_window_layers=2,
    )
    with pytest.raises(ValueError, match="layer 2 of Qwen2Model has sliding_attention; only full and linear"):
        Decoder(Qwen2Model(config), torch.nn.Identity())


def test_layers_of_other_kinds_are_refused_by_number() -> None:
    hybrid = SimpleNamespace(config=SimpleNamespace(layer_types=["full_attention", "chunked_attention"]))
    with pytest.raises(ValueError, match="layer 1 of SimpleNamespace has chunked_attention"):
        Decoder(hybrid, torch.nn.Identity())


def test_full_attention_at_uneven_distances_is_refused() -> None:
    text = SimpleNamespace(layer_types=["linear_attention", "full_attention", "full_attention"])
    with pytest.raises(ValueError, match="are at uneven distances \\(linear_attention, full_attention, full_attention\\)"):
        with_linear(None, text)


@torch.inference_mode()
@pytest.mark.parametrize("attention", ["causal", "before_rotary"])
def test_scores_are_of_question_rows_and_visual_columns_and_of_the_last_layer_only(
    samples: list[Sample], model: LlavaOnevision, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import prunesweep.models.decoder as module

    scored: list[torch.Size] = []
    name = "attention_rows" if attention == "causal" else "unmasked_rows"
    plain = getattr(module, name)

    def noted(query: torch.Tensor, *others: object, **settings: object) -> torch.Tensor:
        scored.append(query.shape)
        return plain(query, *others, **settings)

    monkeypatch.setattr(module, name, noted)
    prefix = Layers(0, 3)(embedded(samples[0], model), model)
    question = model.prompt(samples[0].question)[1]
    asked = Ask(question, attention)(prefix, model)
    assert scored == [(1, model.shape.heads, len(question), model.shape.head_size)]
    assert asked.attention.shape == (model.shape.heads, len(question), len(prefix.group))
