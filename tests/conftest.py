"""A small random model, drawn clips, and nothing downloaded."""

from __future__ import annotations

import os
import sys
from itertools import takewhile
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of commands that tests start: several run at once
os.environ["TERM"] = "dumb"  # as of no terminal; tests of colours set their own
os.environ.pop("NO_COLOR", None)

from prunesweep.benchmarks import jsonl
from prunesweep.cli import run as command
from prunesweep.embedded.build import draw_split
from prunesweep.embedded.network import TinyShape, build_network, build_processor
from prunesweep.models.llava_onevision import LlavaOnevision, load
from prunesweep.types import Sample

SMALL = TinyShape(layers=8, hidden=48, mlp=96, vision_hidden=32, vision_layers=1, vision_mlp=64)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random LLaVA-OneVision with eight layers, as a checkpoint folder.

    Its layers speak louder than its embeddings, or it would only ever repeat the last token.
    """
    folder = tmp_path_factory.mktemp("checkpoint")
    network = build_network(SMALL, seed=0)
    with torch.no_grad():
        for layer in network.model.language_model.layers:
            for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
                projection.weight.normal_(std=0.5, generator=torch.Generator().manual_seed(layer.self_attn.layer_idx))
    network.save_pretrained(folder)
    build_processor(SMALL).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model(checkpoint: Path) -> LlavaOnevision:
    return load("small", str(checkpoint))


@pytest.fixture(scope="session")
def benchmark_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blocks")
    draw_split(first_seed=900_000, folder=folder, per_family=2)
    return folder


@pytest.fixture(scope="session")
def samples(benchmark_folder: Path) -> list[Sample]:
    return jsonl.load(str(benchmark_folder))


@pytest.fixture
def run(checkpoint: Path, benchmark_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture):
    """Runs the command in this process, in an empty folder, on the small model; returns exit code and output."""

    def call(*arguments: str, defaults: bool = True, wandb: bool = False) -> tuple[object, str, str]:
        GlobalHydra.instance().clear()
        common = [
            f"model.checkpoint={checkpoint}",
            "benchmark=jsonl",
            f"benchmark.path={benchmark_folder}",
            "model.frames=8",
            "trainer.progress=false",
        ]
        logger = [] if wandb else ["logger=none"]
        monkeypatch.chdir(tmp_path)
        flags = list(takewhile(lambda argument: "=" not in argument, arguments))
        overrides = arguments[len(flags) :]
        monkeypatch.setattr(sys, "argv", ["prunesweep", *flags, *(common + logger if defaults else []), *overrides])
        code: object = 0
        try:
            command.main()
        except SystemExit as stop:
            code = stop.code
        out, err = capfd.readouterr()
        return code, out, err

    return call
