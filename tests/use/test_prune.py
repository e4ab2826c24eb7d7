"""A setting on a stock model: what it is told, what it refuses, and what it leaves behind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from prunesweep.models.processing import chat_of, video_inputs
from prunesweep.use.prune import pruned
from support.served import NEW, QUESTION, new_tokens
from support.trials import DENSE, reducer_of
from support.zoo import ZOO, Zoo, clip_of


@pytest.mark.parametrize("name", ZOO)
def test_the_stock_model_is_itself_again_and_all_tokens_sample_as_it_does(zoo: Zoo, name: str) -> None:
    model, clip = zoo[name], clip_of()
    inputs = model.inputs(clip, QUESTION)
    told = {"do_sample": True, "temperature": 2.0, "top_k": 20, "repetition_penalty": 1.3}
    stock = new_tokens(model.network, inputs, **told)
    with pruned(model.network, DENSE):
        assert new_tokens(model.network, inputs, **told) == stock
    assert new_tokens(model.network, inputs, **told) == stock


def two_prompts(model: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Of different length, one by one and as a batch that is filled up on the left."""
    chats = [chat_of(model.processor, text) for text in (QUESTION, f"what is there ? {QUESTION}")]
    clips = [replace(clip_of(), video_id=str(index)) for index in range(2)]
    alone = [dict(video_inputs(model.processor, clip, chat)) for clip, chat in zip(clips, chats, strict=True)]
    width = max(one["input_ids"].shape[1] for one in alone)

    def filled(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(x, (width - x.shape[1], 0))

    batch = {}
    for name, first in alone[0].items():
        values = [one[name] for one in alone]
        wide = isinstance(first, torch.Tensor) and first.shape == alone[0]["input_ids"].shape
        batch[name] = torch.cat([filled(x) for x in values] if wide else values)
    return alone, batch


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "llava_onevision", "internvl", "video_llava"])
def test_a_batch_is_its_rows(zoo: Zoo, name: str) -> None:
    model = zoo[name]
    alone, batch = two_prompts(model)
    with pruned(model.network, reducer_of("prunevid")) as pruning:
        made = model.network.generate(**batch, max_new_tokens=NEW, do_sample=False)
        rows = [new_tokens(model.network, one, do_sample=False) for one in alone]
    assert made[:, : batch["input_ids"].shape[1]].equal(batch["input_ids"])
    assert [tuple(row) for row in made[:, batch["input_ids"].shape[1] :].tolist()] == rows
    assert len(pruning.answered) == 4


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"num_beams": 2}, "num_beams=2 cannot be used"),
        ({"num_return_sequences": 2, "do_sample": True}, "num_return_sequences=2 cannot be used"),
        ({"use_cache": False}, "use_cache=False cannot be used"),
        ({"cache_implementation": "static"}, "cache_implementation=static cannot be used"),
        ({"prompt_lookup_num_tokens": 3}, "tokens are decoded one at a time"),
        ({"assistant_model": object()}, "assistant_model cannot be used"),
        ({"output_attentions": True}, "output_attentions=True cannot be used"),
        ({"max_new_tokns": 3}, "max_new_tokns"),
        ({"past_key_values": object()}, "a prompt is pruned from its beginning"),
    ],
)
def test_ways_of_generating_that_mean_something_else_are_refused(zoo: Zoo, told: dict[str, Any], said: str) -> None:
    model = zoo["qwen2_5_vl"]
    inputs = model.inputs(clip_of(), QUESTION)
    with pruned(model.network, reducer_of("fastv")), pytest.raises(ValueError, match=said):
        model.network.generate(**inputs, **told)


def test_prompts_that_no_setting_is_defined_for_are_refused(zoo: Zoo) -> None:
    model = zoo["llava_onevision"]
    inputs, network = model.inputs(clip_of(), QUESTION), model.network
    two = {**inputs, "pixel_values_videos": inputs["pixel_values_videos"].repeat(2, 1, 1, 1, 1)}
    text = model.processor.tokenizer(QUESTION, return_tensors="pt")
    with pruned(network, reducer_of("fastv")):
        for wrong, said in ((two, "2 videos are in one prompt"), (text, "no visual token")):
            with pytest.raises(ValueError, match=said):
                network.generate(**wrong)
        with pytest.raises(ValueError, match="serves generate only"):
            network(**inputs)
        with pytest.raises(ValueError, match="in force on this model already"), pruned(network, DENSE):
            pass
    with pytest.raises(ValueError, match="Linear is no stock model that is served"), pruned(torch.nn.Linear(1, 1).eval(), DENSE):
        pass


def test_an_error_inside_leaves_the_model_as_it_was(zoo: Zoo) -> None:
    network = zoo["qwen2_5_vl"].network
    before = dict(vars(network)), network.config.text_config._attn_implementation
    with pytest.raises(RuntimeError, match="mine"), pruned(network, DENSE):
        raise RuntimeError("mine")
    assert (dict(vars(network)), network.config.text_config._attn_implementation) == before


def test_a_model_that_is_not_as_it_was_loaded_is_refused(zoo: Zoo) -> None:
    network = zoo["qwen2_5_vl"].network
    network.train()
    with pytest.raises(ValueError, match="training mode"), pruned(network, DENSE):
        pass
    assert network.eval().training is False
    network.forward = lambda **_: None
    with pytest.raises(ValueError, match="forward was replaced"), pruned(network, DENSE):
        pass
    del network.forward
