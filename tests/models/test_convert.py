"""Checkpoints that transformers cannot read: every tensor exactly once, or a list of what is wrong and nothing written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from prunesweep.cli import app
from prunesweep.models import checkpoints, convert, pllava, stllm
from support import networks

INDEX = "model.safetensors.index.json"


@pytest.fixture
def released(tmp_path: Path) -> Path:
    return networks.pllava_checkpoint(tmp_path / "pllava")


@pytest.fixture
def stllm_released(tmp_path: Path) -> Path:
    return networks.stllm_checkpoint(tmp_path / "stllm", "qa")


def rewrite(folder: Path, change: dict[str, torch.Tensor | None]) -> None:
    """The checkpoint with tensors added, replaced, or (None) left out."""
    state = {k: v for file in sorted(folder.glob("*.safetensors")) for k, v in load_file(file).items()}
    for file in folder.glob("*.safetensors"):
        file.unlink()
    state = {k: v for k, v in {**state, **change}.items() if v is not None}
    (folder / INDEX).unlink(missing_ok=True)
    save_file(state, folder / "model.safetensors")


Q = "language_model.base_model.model.model.layers.2.self_attn.q_proj"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"multi_modal_projector.linear_1.bias": None}, "missing: multi_modal_projector.linear_1.bias"),
        ({"multi_modal_projector.linear_3.bias": torch.zeros(3)}, "extra: multi_modal_projector.linear_3.bias"),
        ({f"{Q}.weight": torch.zeros(48, 48)}, f"doubled: {Q}.weight and {Q}.base_layer.weight"),
        ({"multi_modal_projector.linear_1.bias": torch.zeros(3)}, "linear_1.bias is 3, expected 48"),
        ({f"{Q}.lora_A.default.weight": None}, "missing: language_model.model.layers.2.self_attn.q_proj.lora_A"),
        (
            {f"{Q}.lora_{which}.default.weight": None for which in "AB"},
            "missing: language_model.model.layers.2.self_attn.q_proj.lora_A",
        ),
        ({f"{Q}.lora_A.default.weight": torch.zeros(3, 48)}, "LoRA of language_model.model.layers.2.self_attn.q_proj: "),
        ({"language_model.base_model.model.x.lora_A.default.weight": torch.zeros(4, 4)}, "missing: language_model.x.lora_B"),
    ],
)
def test_every_tensor_is_used_exactly_once(released: Path, change: dict, fault: str) -> None:
    rewrite(released, change)
    found, _ = convert.examine("pllava", released)
    assert any(fault in text for text in found.faults), found.faults
    with pytest.raises(ValueError, match="does not fit the model: "):
        pllava.load("p", str(released))


def test_a_pllava_without_lora_is_incomplete_unless_its_names_say_that_it_is_merged(
    released: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = {k: v for file in sorted(released.glob("*.safetensors")) for k, v in load_file(file).items()}
    lora = {name: None for name in state if ".lora_" in name}
    rewrite(released, lora)
    found, _ = convert.examine("pllava", released)
    assert len(found.missing) == len(lora)
    whole = {name: state[name] for name in lora}
    rewrite(released, {**whole, f"{Q}.lora_A.default.weight": None})
    found, _ = convert.examine("pllava", released)
    assert found.missing == ["language_model.model.layers.2.self_attn.q_proj.lora_A"], "the half that is missing, once"
    rewrite(released, lora)
    wrapped = {name: tensor for name, tensor in state.items() if ".base_layer." in name}
    rewrite(released, {**dict.fromkeys(wrapped), **{name.replace(".base_layer.", "."): t for name, t in wrapped.items()}})
    pllava.load("p", str(released), lora_alpha=4)
    assert "has no LoRA matrices, so model.lora_alpha does nothing" in caplog.text


def test_the_variants_of_st_llm_are_told_apart(stllm_released: Path, tmp_path: Path) -> None:
    found, config = convert.examine("stllm", stllm_released, "qa")
    convert.write(found, config, stllm_released, tmp_path / "out")
    with pytest.raises(ValueError, match="holds the qa variant of ST-LLM; choose model=stllm_7b_qa, not that of conversation"):
        stllm.load("s", str(tmp_path / "out"), variant="conversation")


def test_what_is_wrong_with_a_configuration_names_the_file(released: Path) -> None:
    path = released / "config.json"
    whole = json.loads(path.read_text())
    for content, said in (
        ([], "config.json must hold a JSON object"),
        ({**whole, "pooling_shape": "abc"}, "config.json: pooling_shape must be three whole numbers above 0, got 'abc'"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=said):
            pllava.load("p", str(released))
    path.write_text(json.dumps(whole))
    (released / INDEX).write_text("{ half")
    with pytest.raises(ValueError, match=f"{INDEX} is not JSON"):
        pllava.load("p", str(released))
    with pytest.raises(ValueError, match="is a file; set model.checkpoint to its folder"):
        pllava.load("p", str(path))
    with pytest.raises(ValueError, match="model.dtype must be one of auto, float32, float16, bfloat16, got 'int3'"):
        checkpoints.dtype_name("int3")


def test_a_converted_pllava_is_the_same_model_with_its_lora_still_apart(released: Path, tmp_path: Path) -> None:
    found, config = convert.examine("pllava", released)
    assert (found.faults, len(found.ignored)) == ([], 1)
    out = tmp_path / "converted"
    assert convert.write(found, config, released, out) == 1
    for alpha in (4.0, 14.0):
        before, after = (pllava.load("p", str(folder), lora_alpha=alpha).network.state_dict() for folder in (released, out))
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_large_checkpoints_are_written_in_portions(released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "SHARD_BYTES", 100_000)
    found, config = convert.examine("pllava", released)
    assert convert.write(found, config, released, tmp_path / "out") > 1
    pllava.load("p", str(tmp_path / "out"))


def test_half_downloaded_shards_are_named(released: Path) -> None:
    second = released / "model-00002-of-00002.safetensors"
    content = second.read_bytes()
    second.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"00002-of-00002.safetensors': \d+ of \d+ bytes are there; download it again"):
        pllava.load("p", str(released))
    second.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match="no safetensors header"):
        pllava.load("p", str(released))
    second.unlink()
    with pytest.raises(ValueError, match="lacks 1 of 2 shards, such as model-00002-of-00002.safetensors"):
        pllava.load("p", str(released))


def test_a_shard_of_pickles_is_missed(stllm_released: Path) -> None:
    index = {"weight_map": {"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"}}
    (stllm_released / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    convert.examine("stllm", stllm_released)
    (stllm_released / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(ValueError, match="lacks 1 of 2 shards"):
        convert.examine("stllm", stllm_released)


class Malicious:
    """Would create a file if it were unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def test_pickles_are_read_with_weights_only(stllm_released: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    torch.save({"x": Malicious(mark)}, stllm_released / "pytorch_model-00002-of-00002.bin")
    with pytest.raises(ValueError, match="cannot load checkpoint file"):
        convert.examine("stllm", stllm_released)
    assert not mark.exists()
    torch.save({"x": 3}, stllm_released / "pytorch_model-00002-of-00002.bin")
    with pytest.raises(ValueError, match="holds no table of tensors"):
        convert.examine("stllm", stllm_released)


def test_the_other_variant_of_st_llm_does_not_fit(stllm_released: Path) -> None:
    found, _ = convert.examine("stllm", stllm_released, "conversation")
    assert any(name.startswith("model.stllm_model.visual_encoder.BTAdapter") for name in found.extra)
    assert "down_proj.weight" in found.missing


def test_names_of_st_llm_s_parts() -> None:
    for released, ours in (
        ("model.layers.3.mlp.up_proj.weight", "language_model.model.layers.3.mlp.up_proj.weight"),
        ("model.stllm_model.visual_encoder.blocks.0.attn.proj.bias", "vision_model.encoder.layers.0.self_attn.projection.bias"),
        ("model.stllm_model.visual_encoder.BTAdapter_T.1.temporal_fc.bias", "branch.temporal.1.temporal_fc.bias"),
        (
            "model.stllm_model.Qformer.bert.encoder.layer.0.crossattention.self.key.weight",
            "qformer.encoder.layer.0.crossattention.attention.key.weight",
        ),
        ("model.stllm_model.llama_proj.weight", "llama_proj.weight"),
        ("model.stllm_model.mvm_decoder.norm.bias", None),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", None),
    ):
        assert stllm.rename(released) == ours


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """`prunesweep model convert` in this process; returns its exit code and what it prints."""

    def call(*arguments: str) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["prunesweep", "model", *([] if arguments[0] == "check" else ["convert"]), *arguments])
        try:
            app.main()
            code: object = 0
        except SystemExit as stop:
            code = stop.code
        return code, capsys.readouterr().out

    return call


def test_the_command_converts_and_says_what_is_wrong(command, released: Path, stllm_released: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, printed = command("stllm", str(stllm_released), str(out), "--qformer-tokenizer", str(stllm_released))
    assert code == 0
    assert "0 faults" in printed
    assert stllm.load("s", str(out)).layers == 6
    assert command("pllava", str(released), str(out))[0] == f"prunesweep: {out} exists; name a folder that does not"
    assert command("check", "pllava", str(released)) == (0, printed_fit(released))


def printed_fit(released: Path) -> str:
    found, _ = convert.examine("pllava", released)
    return f"{len(found.used)} tensors fit, 1 are not needed, 0 faults\n"


def test_a_broken_checkpoint_is_listed_and_not_written(command, released: Path, tmp_path: Path) -> None:
    rewrite(released, {"multi_modal_projector.linear_1.bias": None, "more": torch.zeros(1)})
    code, printed = command("pllava", str(released), str(tmp_path / "out"))
    assert code == 1
    assert "2 faults\n  missing: multi_modal_projector.linear_1.bias\n  extra: more" in printed
    assert not (tmp_path / "out").exists()


def test_a_folder_is_told_from_a_name_on_the_hub() -> None:
    assert checkpoints.looks_like_hub_name("ermu2001/pllava-7b")
    assert not any(map(checkpoints.looks_like_hub_name, ("/data/pllava-7b", "./pllava/7b", "pllava-7b", "a/b/c")))
