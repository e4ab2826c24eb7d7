"""Whatever a checkpoint's files hold, loading ends with one line that names it; nothing is built that is not there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunesweep.cli import app
from prunesweep.models.checkpoints import stated_layers
from prunesweep.models.loading import MOST_SAID, require_legible
from prunesweep.results.keys.fingerprint import Files
from prunesweep.sweep.kept import Kept
from support.zoo import ZOO, save

LONGEST = 3 * MOST_SAID
"""Characters of a message, with the checkpoint's path in it."""


@pytest.fixture
def spoiled(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "spoiled"))


def load(folder: Path, module: str = "adapter") -> Any:
    """As a sweep does."""
    given = {"_target_": f"prunesweep.models.{module}.load", "name": "m", "checkpoint": str(folder)}
    stated_layers(given)
    return Kept().model(given, Files(folder.parent / "files.json"))


def refused(folder: Path, module: str = "adapter") -> str:
    with pytest.raises(ValueError, match=folder.name) as error:
        load(folder, module)
    said = str(error.value)
    assert len(said) < LONGEST
    assert "\n" not in said
    return said


ODD = {
    "a list": "[]",
    "a number": "3",
    "text": '"x"',
    "nothing": "null",
    "NaN": "NaN",
    "empty": "",
    "half": '{"a": ',
    "a mark of bytes": "\ufeff{}",
    "bottomless": "[" * 100_000,
    "bottomless mappings": '{"a": ' * 50_000,
}
JSON_FILES = ("config.json", "generation_config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json")


@pytest.mark.parametrize("file", JSON_FILES)
def test_a_file_that_holds_no_object_is_named(file: str, spoiled: Path) -> None:
    for content in ODD.values():
        (spoiled / file).write_text(content)
        for module in ("adapter", "llava_onevision"):
            assert str(spoiled / file) in refused(spoiled, module)
    (spoiled / file).write_bytes(b"\xff\xfe\x00")
    assert f"{spoiled / file} is no text in UTF-8" in refused(spoiled)


def test_an_index_of_shards_that_holds_no_object_is_named(spoiled: Path) -> None:
    (spoiled / "model.safetensors.index.json").write_text("[]")
    assert "model.safetensors.index.json must hold a JSON object" in refused(spoiled)


def test_objects_that_lack_what_is_read_are_said_to_be_unfit(spoiled: Path) -> None:
    for file in ("tokenizer.json", "processor_config.json", "config.json"):
        kept = (spoiled / file).read_text()
        (spoiled / file).write_text("{}")
        refused(spoiled)
        (spoiled / file).write_text(kept)
    load(spoiled)


WRONG: dict[str, list[Any]] = {
    "model_type": [None, [], 3, float("nan")],
    "text_config": [[], "x", 0, float("nan"), True],
    "vision_config": [[], "x", 2.5],
    "text_config.num_hidden_layers": [None, "x", 0, -1, float("nan"), 10**9],
    "text_config.hidden_size": [None, [], 0, -1, 2.5, 10**12],
    "text_config.num_key_value_heads": ["x", 0, -1],
    "text_config.model_type": [None, "x", {}],
    "text_config.layer_types": [[], {}, "x"],
    "vision_config.patch_size": [None, [], 0, -1],
    "vision_feature_layer": [None, {}, "x"],
    "quantization_config": [[], "x", 3],
    "dtype": [[], "x"],
}


@pytest.mark.parametrize("key", WRONG)
def test_fields_that_no_network_has(key: str, spoiled: Path) -> None:
    written = (spoiled / "config.json").read_text()
    for value in WRONG[key]:
        config = json.loads(written)
        section, _, name = key.rpartition(".")
        (config[section] if section else config)[name] = value
        (spoiled / "config.json").write_text(json.dumps(config))
        refused(spoiled)


def without_text(config: dict[str, Any]) -> None:
    """For which transformers has the sizes of a model of 7 billion parameters."""
    del config["text_config"]


def wider(config: dict[str, Any]) -> None:
    config["text_config"]["hidden_size"] = 2**16


@pytest.mark.parametrize("change", [without_text, wider])
def test_a_network_that_is_not_there_is_not_built(change: Callable[[dict[str, Any]], None], spoiled: Path) -> None:
    """It would be filled with random numbers, and the process ended for its memory, before a weight is compared."""
    config = json.loads((spoiled / "config.json").read_text())
    change(config)
    (spoiled / "config.json").write_text(json.dumps(config))
    for module in ("adapter", "llava_onevision"):
        assert "numbers, and the weights beside it hold" in refused(spoiled, module)


HEADERS = {"a list": [1], "no offsets": {"x": {}}, "an entry that is text": {"x": "y"}}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_weights_whose_header_is_none(header: Any, spoiled: Path) -> None:
    text = json.dumps(header).encode()
    (spoiled / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"0000")
    refused(spoiled)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_weights_that_are_cut_short(share: float, spoiled: Path) -> None:
    whole = (spoiled / "model.safetensors").read_bytes()
    (spoiled / "model.safetensors").write_bytes(whole[: int(share * len(whole))])
    assert "model.safetensors" in refused(spoiled)


@pytest.mark.parametrize("name", ZOO)
def test_a_checkpoint_of_every_family_is_legible(name: str, tmp_path: Path) -> None:
    require_legible(save(name, tmp_path / name))


def test_converted_checkpoints_are_legible(folders: dict[str, Path]) -> None:
    for folder in folders.values():
        require_legible(folder)


def test_settings_that_a_loader_does_not_take_are_hydras_to_explain(checkpoint: Path) -> None:
    from hydra.errors import InstantiationException

    given = {"_target_": "prunesweep.models.adapter.load", "name": "m", "checkpoint": str(checkpoint), "colour": "red"}
    with pytest.raises(InstantiationException, match="unexpected keyword argument 'colour'"):
        Kept().model(given, Files(None))


def test_the_check_of_a_checkpoint_ends_with_the_same_line(
    spoiled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (spoiled / "tokenizer_config.json").write_text("[]")
    monkeypatch.setattr("sys.argv", ["prunesweep", "model", "check", str(spoiled)])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert "tokenizer_config.json must hold a JSON object; download it again" in str(ended.value)


def test_a_folder_without_a_configuration_is_said_to_have_none(spoiled: Path) -> None:
    """And one whose configuration says no family: not that the family is unknown."""
    config = json.loads((spoiled / "config.json").read_text())
    config.pop("model_type")
    (spoiled / "config.json").write_text(json.dumps(config))
    assert f"{spoiled / 'config.json'} has no model_type, so its family is not known" in refused(spoiled)
    (spoiled / "config.json").unlink()
    assert "has no config.json (the model's configuration); name the folder that has" in refused(spoiled)


def test_layers_with_a_sliding_window_are_refused_before_loading(spoiled: Path) -> None:
    config = json.loads((spoiled / "config.json").read_text())
    config["text_config"]["layer_types"] = ["full_attention", "full_attention", "sliding_attention"]
    (spoiled / "config.json").write_text(json.dumps(config))
    (spoiled / "model.safetensors").write_bytes(b"never read")
    assert "config.json: layer 2 has sliding_attention, in which pruned tokens have no agreed meaning" in refused(spoiled)


def test_a_processor_without_a_video_part_is_refused_before_loading(spoiled: Path) -> None:
    file = spoiled / "processor_config.json"
    own = json.loads(file.read_text())
    video = own.pop("video_processor")
    file.write_text(json.dumps(own))
    assert f"{file} has no video_processor, nor is there a video_preprocessor_config.json" in refused(spoiled)
    (spoiled / "video_preprocessor_config.json").write_text(json.dumps(video))
    assert load(spoiled).layers
