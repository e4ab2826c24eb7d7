"""LLaVA-Video, converted, against a plain reading of the published structure and the stock Qwen2."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from prunesweep.cli import app
from prunesweep.cost import vision_flops
from prunesweep.dev.bench_engine import operator_counter
from prunesweep.engine.selfcheck import self_check
from prunesweep.engine.stages import Ask, Embed, Generate, Layers, Reduce
from prunesweep.models import convert, llava_video
from prunesweep.reducers.random import Drop
from support.published import LLAVA_VIDEO_7B, configured
from support.zoo import clip_of

QUESTION = "what color is the block ?"


def released_state(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


@torch.inference_mode()
def test_a_frame_is_its_pooled_rows_each_with_a_newline(models: dict[str, Any], folders: dict[str, Path]) -> None:
    model, state, clip = models["llava_video"], released_state(folders["llava_video_released"]), clip_of()
    seen = model.network.vision_tower(model._pixels(clip, 56), output_hidden_states=True).hidden_states[-1]
    x = F.gelu(seen @ state["model.mm_projector.0.weight"].T + state["model.mm_projector.0.bias"])
    x = x @ state["model.mm_projector.2.weight"].T + state["model.mm_projector.2.bias"]
    expected = []
    for frame in x.view(6, 7, 7, -1):
        for row in range(3):  # of seven rows and columns the last go
            for column in range(3):
                expected.append(frame[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean((0, 1)))
            expected.append(state["model.image_newline"])
    prefix = Embed(model.prompt(QUESTION)[0])(Reduce(None)(model.encode(clip), model), model)
    start = len(model.prompt(QUESTION)[0])
    torch.testing.assert_close(prefix.hidden[start:], torch.stack(expected), atol=1e-5, rtol=1e-4)
    assert int(prefix.visual.sum()) == 6 * 9
    kept = Embed(model.prompt(QUESTION)[0])(Reduce(Drop(0.3))(model.encode(clip), model), model)
    assert int((~kept.visual).sum()) == start + 6 * 3, "newlines stay"


@torch.inference_mode()
def test_logits_and_greedy_tokens_are_those_of_the_stock_qwen2(models: dict[str, Any]) -> None:
    model = models["llava_video"]
    assert self_check(model).bits
    for clip in (clip_of(), clip_of(9, 13.0)):
        before, after = model.prompt(QUESTION)
        prefix = Embed(before)(Reduce(None)(model.encode(clip), model), model)
        asked = Ask(after, None)(Layers(0, model.layers)(prefix, model), model)
        embedded = torch.cat([prefix.hidden, model.embed(after)])[None]
        stock = model.network.language_model.generate(
            inputs_embeds=embedded, max_new_tokens=8, do_sample=False, eos_token_id=None
        )
        assert Generate(8)(asked, model).token_ids[:8] == tuple(stock[0].tolist())


@torch.inference_mode()
def test_its_vision_is_counted(models: dict[str, Any]) -> None:
    model = models["llava_video"]
    with operator_counter() as seen:
        model.encode(clip_of())
    assert vision_flops(model.shape, 6) == pytest.approx(seen.get_total_flops(), rel=0.01)


def test_the_published_one_has_169_tokens_and_13_newlines_a_frame() -> None:
    with torch.device("meta"):
        network = llava_video.Network({**LLAVA_VIDEO_7B, "vision_config": llava_video.VISION})
        seen = network.vision_tower(torch.zeros(4, 3, 384, 384), output_hidden_states=True).hidden_states[-1]
        x = llava_video.pooled(network.multi_modal_projector(seen))
    assert x.shape == (4, 169, 3584)
    assert llava_video.shape_of(network) == configured("llava_video_7b")
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(8.03e9, rel=0.01)


def test_what_does_not_fit_is_said(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    released = folders["llava_video_released"]
    with pytest.raises(ValueError, match="as released; convert it first: prunesweep model convert llava_video"):
        llava_video.load("m", str(released))
    with pytest.raises(ValueError, match="holds a qwen2_5_vl model, expected prunesweep_llava_video"):
        llava_video.load("m", str(folders["qwen"]))
    other = tmp_path / "other"
    other.mkdir()
    for file in released.iterdir():
        (other / file.name).symlink_to(file)
    config = (released / "config.json").read_text()
    (other / "config.json").unlink()
    (other / "config.json").write_text(config.replace('"average"', '"bilinear"'))
    with pytest.raises(ValueError, match="mm_spatial_pool_mode is 'bilinear'; only 'average' is known"):
        convert.examine("llava_video", other)
    (other / "config.json").write_text(config.replace('"num_hidden_layers": 6', '"num_hidden_layers": 7'))
    assert "missing: language_model.model.layers.6.self_attn.q_proj.weight" in convert.examine("llava_video", other)[0].faults
    monkeypatch.setattr(sys, "argv", ["prunesweep", "model", "convert", "llava_video", str(released), str(tmp_path / "out")])
    app.main()
    assert "0 faults" in capsys.readouterr().out
    assert llava_video.load("m", str(tmp_path / "out")).layers == 6
