"""A small random checkpoint of every model family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prunesweep.models import llava_video, pllava, qwen2_5_vl, stllm
from prunesweep.models.convert import examine, finish_llava_video, finish_stllm, read_qformer_tokenizer, write
from support import networks
from support.zoo import Zoo, save


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints as released, and ST-LLM's converted."""
    root = tmp_path_factory.mktemp("networks")
    made = {"qwen": save("qwen2_5_vl", root / "qwen"), "pllava": networks.pllava_checkpoint(root / "pllava")}
    for variant in ("qa", "conversation"):
        released = networks.stllm_checkpoint(root / f"stllm_{variant}_released", variant)
        found, config = examine("stllm", released, variant)
        assert found.faults == []
        out = root / f"stllm_{variant}"
        write(found, config, released, out)
        finish_stllm(out, read_qformer_tokenizer(str(released)), networks.SIDE)
        made |= {f"stllm_{variant}_released": released, f"stllm_{variant}": out}
    released = networks.llava_video_checkpoint(root / "llava_video_released")
    found, config = examine("llava_video", released)
    assert found.faults == []
    out = root / "llava_video"
    write(found, config, released, out)
    finish_llava_video(out, config["vision_config"]["image_size"])
    return made | {"llava_video_released": released, "llava_video": out}


@pytest.fixture(scope="session")
def models(folders: dict[str, Path]) -> dict[str, Any]:
    return {
        "qwen": qwen2_5_vl.load("qwen", str(folders["qwen"])),
        "llava_video": llava_video.load("llava_video", str(folders["llava_video"])),
        "pllava": pllava.load("pllava", str(folders["pllava"])),
        **{name: stllm.load(name, str(folders[name])) for name in ("stllm_qa", "stllm_conversation")},
    }


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return Zoo(tmp_path_factory.mktemp("zoo"))
