"""What cannot be served is said in one line: value, bound, way out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from prunesweep.cli import app
from prunesweep.engine.selfcheck import check_once, require_alike, self_check
from prunesweep.models import adapter, families, llava_onevision
from prunesweep.models.decoder import Decoder
from prunesweep.results.store import MODELS
from support.zoo import Zoo, clip_of


@pytest.fixture
def checkpoint(zoo: Zoo, tmp_path: Path) -> Path:
    """A folder to spoil."""
    name = "qwen3_vl"
    zoo[name]  # which writes it
    return Path(shutil.copytree(zoo.folder / name, tmp_path / name))


def change(folder: Path, file: str, **values: Any) -> None:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_an_unknown_family_lists_those_that_are_known(checkpoint: Path) -> None:
    for kind, said in (
        ("blip_2", "unknown family 'blip_2'; known: glm46v, .*qwen3_vl_moe"),
        ("gemma3", "see a sliding window, in which pruned tokens have no agreed meaning; known: glm46v"),
    ):
        change(checkpoint, "config.json", model_type=kind)
        with pytest.raises(ValueError, match=said):
            adapter.load("m", str(checkpoint))


@pytest.mark.parametrize(
    ("kind", "instead"),
    [("internvl_chat", "InternVLForConditionalGeneration"), ("llava_qwen", "model convert"), ("other", "one of glm46v")],
)
def test_code_of_a_checkpoint_is_never_run(checkpoint: Path, kind: str, instead: str) -> None:
    (checkpoint / "modeling.py").write_text("raise SystemExit('it ran')")
    change(checkpoint, "config.json", model_type=kind, auto_map={"AutoModel": "modeling.Model"})
    with pytest.raises(ValueError, match=f"brings code of its own, which is never run; use .*{instead}"):
        adapter.load("m", str(checkpoint))


def test_another_version_of_transformers_is_refused(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("5.22.1", "6.0.0"):
        monkeypatch.setattr(families.transformers, "__version__", version)
        with pytest.raises(ValueError, match=f"transformers {version} is not tested; install 5.23 to 5.24"):
            adapter.load("m", str(checkpoint))


def test_a_class_that_transformers_does_not_have_is_named() -> None:
    with pytest.raises(ValueError, match="has no FutureForConditionalGeneration; install 5.24"):
        _ = families.Family("future", "FutureForConditionalGeneration").network_class


def test_a_processor_without_a_video_part(zoo: Zoo) -> None:
    model = zoo["qwen3_vl"]
    with pytest.raises(ValueError, match="the processor of m has no video part"):
        adapter.StockModel("m", model.family, model.network, model.processor.tokenizer)


def test_sliding_layers_are_refused(zoo: Zoo) -> None:
    model = zoo["internvl"]
    model.network.config.text_config.layer_types = ["full_attention"] * 5 + ["sliding_attention"]
    try:
        with pytest.raises(ValueError, match="layer 5 of Qwen2Model has sliding_attention; only full and linear"):
            adapter.StockModel("m", model.family, model.network, model.processor)
    finally:
        model.network.config.text_config.layer_types = ["full_attention"] * 6


def test_settings_that_a_family_does_not_have(zoo: Zoo) -> None:
    zoo["internvl"], zoo["qwen3_vl"]  # which writes them
    folder = {name: str(zoo.folder / name) for name in ("internvl", "qwen3_vl")}
    with pytest.raises(ValueError, match="text_after_video=largest is a rule of Qwen2-VL and Qwen2.5-VL"):
        adapter.load("m", folder["qwen3_vl"], text_after_video="largest")
    with pytest.raises(ValueError, match="brings every frame to its own size; leave model.most_pixels=null"):
        adapter.load("m", folder["internvl"], most_pixels=1000)
    with pytest.raises(ValueError, match="model.most_pixels must be at least 1, got 0"):
        adapter.load("m", folder["qwen3_vl"], most_pixels=0)


def test_bounds_of_pixels_are_settings(zoo: Zoo) -> None:
    zoo["qwen3_vl"]
    few, more = (
        adapter.load("m", str(zoo.folder / "qwen3_vl"), most_pixels=most).encode(clip_of()).x.shape[1] for most in (8192, 32768)
    )
    assert few < more


def test_a_chat_template_that_spells_otherwise_around_a_video(zoo: Zoo) -> None:
    model = zoo["internvl"]
    template = model.processor.chat_template
    model.processor.chat_template = template.replace("<video>\n", "<video> and <video>\n")
    try:
        with pytest.raises(ValueError, match="gives 2 video tokens, expected 1"):
            model.prompt("what ?")
    finally:
        model.processor.chat_template = template


# The self-check.


class Naive(llava_onevision.LlavaOnevision):
    """What `Decoder` made of any network: the visual tokens between the text, and nothing that the stock forward adds."""

    def __init__(self, model: adapter.StockModel):
        Decoder.__init__(self, model.language_model, model.head)
        self.stock, self.network, self.name, self.processor = model, model.network, "naive", model.processor
        self.shape = model.shape

    def encode(self, clip: Any, *_: Any, **__: Any) -> Any:
        return self.stock.encode(clip)

    def prompt(self, text: str, system: str = "", prefix: str = "") -> Any:
        return self.stock.prompt(text, system, prefix)

    def run(self, *arguments: Any, given: Any = None, **named: Any) -> Any:
        return super().run(*arguments, **named)

    def text_position(self, start: int, count: int) -> Any:
        return self.stock.text_position(start, count)

    def _rotations(self, *arguments: Any) -> Any:
        return self.stock._rotations(*arguments)

    def stock_logits(self, clip: Any, text: str) -> Any:
        return self.stock.stock_logits(clip, text)


@pytest.mark.parametrize("name", ["qwen3_vl", "qwen3_vl_moe", "molmo2"])
def test_a_network_whose_forward_does_more_is_refused_with_the_numbers(zoo: Zoo, name: str, tmp_path: Path) -> None:
    """Those of which a loop without deep-stack, or without visual tokens that see each other, was silently wrong."""
    naive = Naive(zoo[name])
    found = self_check(naive)
    assert found.one_pass > 0.01 * found.largest
    with pytest.raises(
        ValueError, match=r"naive cannot be served: .* is not the stock forward \(\d+ tokens, .* apart in one pass"
    ):
        check_once(naive, {"weights": name}, tmp_path)
    assert not (tmp_path / MODELS).exists()
    require_alike(zoo[name], self_check(zoo[name]))


def test_a_stock_forward_that_gives_nan_is_said_to_do_so(zoo: Zoo) -> None:
    zoo["molmo2"]
    model = adapter.load("m", str(zoo.folder / "molmo2"), "float16")
    found = self_check(model)
    assert not found.alike
    with pytest.raises(ValueError, match="the stock forward of m gives NaN or infinity in float16; set model.dtype to another"):
        require_alike(model, found)


@pytest.mark.parametrize("name", ["qwen3_vl", "internvl", "glm4v"])
def test_half_precision_is_the_stock_forward_to_the_bit_as_well(zoo: Zoo, name: str) -> None:
    zoo[name]
    found = self_check(adapter.load(name, str(zoo.folder / name), "bfloat16"))
    assert found.dtype == "bfloat16"
    assert found.bits
    assert found.alike


def test_a_check_is_remembered_until_something_changes(zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = zoo["internvl"], []
    monkeypatch.setattr("prunesweep.engine.selfcheck.self_check", lambda m: asked.append(m) or self_check(m))
    for made_of in ({"weights": 1}, {"weights": 1}, {"weights": 2}):
        check_once(model, made_of, tmp_path)
    assert len(asked) == 2
    (tmp_path / MODELS).write_text("{ half")
    check_once(model, {"weights": 1}, tmp_path)
    assert len(asked) == 3
    assert [one["model"] for one in json.loads((tmp_path / MODELS).read_text()).values()] == ["internvl"]


def test_the_command_says_whether_a_checkpoint_can_be_served(
    zoo: Zoo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    zoo["glm4v"]
    monkeypatch.setattr("sys.argv", ["prunesweep", "model", "check", str(zoo.folder / "glm4v")])
    app.main()
    said = capsys.readouterr().out
    assert "Glm4vForConditionalGeneration" in said
    assert "the same to the bit in one pass" in said
    assert "GiB of weights" in said
    assert f"it can be served: model=auto model.checkpoint={zoo.folder / 'glm4v'}" in said
