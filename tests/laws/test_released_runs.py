"""Whole runs of released code, stage by stage: FastV with its caches, and PruneVid on PLLaVA (origin: data/README.md)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPImageProcessor

from prunesweep.embedded.language import build_tokenizer
from prunesweep.engine.stages import Ask, Embed, Encode, Generate, Layers, Prune, Reduce, greedy
from prunesweep.models import pllava
from prunesweep.reducers.fastv import Prune as FastV
from prunesweep.types import Clip, Prefix
from support.places import DATA
from support.trials import reducer_of

RELEASED = DATA / "released"
SIDE = 48
"""Pixels of the small PLLaVA's tower."""
FASTV = json.loads((RELEASED / "fastv.json").read_text())
PLLAVA = json.loads((RELEASED / "pllava.json").read_text())
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint as released, LoRA unmerged."""
    folder = tmp_path_factory.mktemp("pllava")
    shutil.copy(RELEASED / "pllava_config.json", folder / "config.json")
    shutil.copy(RELEASED / "pllava_weights_fp16.safetensors", folder / "model.safetensors")
    build_tokenizer().save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


def loaded(folder: Path, lora_alpha: float) -> pllava.Pllava:
    return pllava.load("small", str(folder), lora_alpha=lora_alpha, dtype="float32")


class Asked:
    """A model, and the embeddings of a question that has no token ids."""

    question = (-1,)

    def __init__(self, model: pllava.Pllava, rows: torch.Tensor):
        self.model, self.rows = model, rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def embed(self, ids: tuple[int, ...]) -> torch.Tensor:
        return self.rows if ids == self.question else self.model.embed(ids)


def lengths(prefix: Prefix) -> list[int]:
    return [kv.key.shape[2] for kv in prefix.kv]


# FastV, the version with caches.


@pytest.fixture(scope="module")
def fastv_arrays() -> dict[str, torch.Tensor]:
    return load_file(RELEASED / "fastv.safetensors")


@pytest.fixture(scope="module")
def vicuna(folder: Path) -> pllava.Pllava:
    return loaded(folder, lora_alpha=0)


def read_by_fastv(case: dict[str, Any], embeds: torch.Tensor, vicuna: pllava.Pllava, pruner: FastV) -> tuple[Prefix, Asked]:
    """The whole prompt, video first, question late."""
    video = slice(case["before"], case["before"] + case["N"])
    visual = torch.zeros(video.stop, dtype=torch.bool)
    visual[video] = True
    index = torch.arange(video.stop)
    group = torch.zeros(case["N"], dtype=torch.long)
    prefix = Prefix("video", embeds[: video.stop], index, visual, group, next_position=video.stop)
    model = Asked(vicuna, embeds[video.stop :])
    stages = (
        Layers(0, case["K"]),
        Ask(model.question, pruner.attention),
        Prune(pruner),
        Layers(case["K"], vicuna.layers),
    )
    for stage in stages:
        prefix = stage(prefix, model)
    return prefix, model


@torch.inference_mode()
@pytest.mark.parametrize("case", FASTV, ids=lambda case: f"case {case['n']}")
def test_fastv_keeps_says_and_goes_on_as_released(
    case: dict[str, Any], fastv_arrays: dict[str, torch.Tensor], vicuna: pllava.Pllava
) -> None:
    own = {name: fastv_arrays[f"{case['n']}.{name}"] for name in ("embeds", "positions", "logits", "second", "ids")}
    prefix, model = read_by_fastv(case, own["embeds"], vicuna, FastV(case["K"], 1 - case["R"]))
    assert prefix.position.tolist() == own["positions"].tolist()
    assert prefix.visual.sum() == case["rank"]
    assert lengths(prefix) == case["kv"]
    assert [n + case["before"] + case["after"] for n in prefix.usage.cached_tokens] == case["kv"]
    torch.testing.assert_close(model.logits(prefix.hidden[-1:])[0], own["logits"], **CLOSE)
    first, *_ = own["ids"].tolist()
    step = model.run(model.embed((first,)), model.text_position(prefix.next_position, 1), 0, model.layers, prefix.kv)
    torch.testing.assert_close(model.logits(step.hidden)[0], own["second"], **CLOSE)
    generated = greedy(prefix, model)
    assert [next(generated) for _ in own["ids"]] == own["ids"].tolist()


@torch.inference_mode()
def test_with_earlier_caches_cut_only_the_first_token_is_the_released_one(
    fastv_arrays: dict[str, torch.Tensor], vicuna: pllava.Pllava
) -> None:
    """So the test above could fail."""
    for case in FASTV:
        own = {name: fastv_arrays[f"{case['n']}.{name}"] for name in ("embeds", "logits", "second", "ids")}
        pruner = FastV(case["K"], 1 - case["R"], earlier_caches="cut")
        prefix, model = read_by_fastv(case, own["embeds"], vicuna, pruner)
        assert set(lengths(prefix)) == {case["kv"][-1]}
        torch.testing.assert_close(model.logits(prefix.hidden[-1:])[0], own["logits"], **CLOSE)
        hidden = model.embed((int(own["ids"][0]),))
        step = model.run(hidden, model.text_position(prefix.next_position, 1), 0, model.layers, prefix.kv)
        assert (model.logits(step.hidden)[0] - own["second"]).abs().max() > 100 * CLOSE["atol"]


# PruneVid on PLLaVA.


@torch.inference_mode()
@pytest.mark.parametrize("case", PLLAVA, ids=lambda case: case["case"])
def test_prunevid_on_pllava_is_as_released_at_every_stage(
    case: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = load_file(RELEASED / "pllava.safetensors")
    own = {name.partition(".")[2]: value for name, value in arrays.items() if name.startswith(f"{case['case']}.")}
    model = loaded(folder, case["lora_alpha"])
    reducer = reducer_of(
        "prunevid_official",
        merge__segment_ratio=case["gamma"],
        merge__static_threshold=case["tau"],
        merge__cluster_ratio=case["beta"],
        merge__density_noise=0.0,
        prune__keep_ratio=case["alpha"],
        prune__layer=case["layer"],
    )
    tokens = Encode()(Clip("video", own["frames"], tuple(map(float, range(case["frames"])))), model)
    torch.testing.assert_close(tokens.x.flatten(0, 1), own["tokens"], **CLOSE)
    assert reducer.merge.segment_lengths(tokens.x) == case["windows"]
    merged = Reduce(reducer.merge)(tokens, model)
    torch.testing.assert_close(merged.x, own["merged"], **CLOSE)
    before, after = (tuple(own[name].tolist()) for name in ("before", "after"))
    full = reducer.prune.full_layers
    asked = Ask(after, reducer.prune.attention)(Layers(0, full)(Embed(before)(merged, model), model), model)
    torch.testing.assert_close(asked.attention.amax((0, 1)), own["importance"], atol=1e-6, rtol=1e-4)
    assert reducer.prune(asked).tolist() == own["kept"].tolist()
    prefix = Layers(full, model.layers)(Prune(reducer.prune)(asked, model), model)
    assert lengths(prefix) == case["kv_lengths"]
    torch.testing.assert_close(model.logits(prefix.hidden[-1:])[0], own["logits"], **CLOSE)
    monkeypatch.setattr(model, "logits", without_image_token(model.logits))
    generated = Generate(len(own["generated"]))(prefix, model)
    assert generated.token_ids == tuple(own["generated"].tolist())


def without_image_token(logits: Any) -> Any:
    """The released run suppressed it."""

    def suppressed(hidden: torch.Tensor) -> torch.Tensor:
        found = logits(hidden).clone()
        found[:, 4] = float("-inf")
        return found

    return suppressed
