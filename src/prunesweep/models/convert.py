"""Checkpoints that transformers cannot read, as safetensors folders that `prunesweep` reads.

Every tensor of the model must be found exactly once, in the shape expected; what is missing, left over or doubled is listed
and nothing is written.  PLLaVA's LoRA matrices stay apart, so that their alpha can be chosen when the model is loaded.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunesweep.models.loading import require_bounded, told

if TYPE_CHECKING:
    from torch import Tensor

    from prunesweep.models.checkpoints import Manifest, Source

SHARD_BYTES = 4 * 2**30
COPIED = (
    "tokenizer*",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "preprocessor_config.json",
    "generation_config.json",
)
PARTIAL = ".partial"
"""How the name of a folder ends that is not finished."""
BERT_MARK = "[DEC]"
"""The word that BLIP-2 adds to BERT's vocabulary."""


def examine(family: str, folder: Path, variant: str = "qa") -> tuple[Manifest, dict[str, Any]]:
    """The manifest of a checkpoint, and the configuration of its conversion.

    Raises ValueError for another family's, and for what is none: it may have been made by anybody.
    """
    if (file := folder / "config.json").is_file():
        require_bounded(file)
    with told(f"{folder} cannot be read as a checkpoint of {family}"):
        return _examine(family, folder, variant)


def _examine(family: str, folder: Path, variant: str) -> tuple[Manifest, dict[str, Any]]:
    import torch

    from prunesweep.models import checkpoints, llava_video, pllava, stllm

    if family == "llava_video":
        config = llava_video.converted_config(folder)
        with torch.device("meta"):
            parts = llava_video.Network(config)
        sources = checkpoints.safetensors_sources(checkpoints.require_shards(folder))
        return llava_video.read_manifest(sources, parts, released=True), config
    if family == "pllava":
        config = pllava.read_config(folder)
        with torch.device("meta"):
            network: Any = pllava.Network(config)
        return pllava.read_manifest(checkpoints.safetensors_sources(checkpoints.require_shards(folder)), network), config
    config = {"model_type": stllm.MODEL_TYPE, **stllm.FULL_SIZE, **stllm.VARIANTS[variant], **_own_sizes(folder)}
    with torch.device("meta"):
        network = stllm.Network(config)
    return stllm.read_manifest(_weights(folder), network, released=True), config


def _own_sizes(folder: Path) -> dict[str, Any]:
    """Sizes of the LLM from the released configuration, and any others that are given beside it."""
    from prunesweep.models.checkpoints import require_family

    released = require_family(folder, "st_llm_hf")
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "rms_norm_eps")
    sizes: dict[str, Any] = {"text_config": {name: released[name] for name in names if name in released}}
    return {**sizes, **{key: released[key] for key in ("vision_config", "qformer_config", "num_query_tokens") if key in released}}


def _weights(folder: Path) -> Iterator[Source]:
    from prunesweep.models import checkpoints

    if list(folder.glob("*.safetensors")):
        return checkpoints.safetensors_sources(checkpoints.require_shards(folder))
    files = sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise ValueError(f"{folder} has neither *.safetensors nor pytorch_model*.bin weights")
    checkpoints.require_indexed(folder, "pytorch_model.bin.index.json")
    return checkpoints.pickled_sources(files)


def shards(found: Manifest) -> Iterator[dict[str, Tensor]]:
    """All tensors under the model's names, in portions of at most SHARD_BYTES (or a single tensor)."""
    portion: dict[str, Tensor] = {}
    size = 0
    for name, source in found.used.items():
        tensor = source.read().contiguous()
        if portion and size + tensor.nbytes > SHARD_BYTES:
            yield portion
            portion, size = {}, 0
        portion[name] = tensor
        size += tensor.nbytes
    yield portion


def write(found: Manifest, config: dict[str, Any], folder: Path, out: Path) -> int:
    """Safetensors shards, the configuration, tokenizer and image processor; returns the number of shards.

    Raises ValueError for a file that is a link out of `folder`.
    """
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    (out / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    number = 0
    for number, portion in enumerate(shards(found), 1):
        save_file(portion, out / f"model-{number:05d}.safetensors", metadata={"format": "pt"})
    for file in _matching(folder, COPIED):
        _require_own(file, folder)
        shutil.copy(file, out / file.name)
    return number


def _require_own(file: Path, folder: Path) -> None:
    """Raises ValueError for a link out of the checkpoint: what it leads to would be copied, and perhaps handed on.

    The hub's cache links a snapshot's files to the blobs beside the snapshots.
    """
    own = folder.resolve()
    own = own.parents[1] if own.parent.name == "snapshots" else own
    if not file.resolve().is_relative_to(own):
        raise ValueError(f"{file} is a link out of the checkpoint's folder; put the file itself there")


def _matching(folder: Path, patterns: Iterable[str]) -> Iterator[Path]:
    return (file for pattern in patterns for file in folder.glob(pattern) if file.is_file())


def read_qformer_tokenizer(place: str) -> Any:
    """BERT's with its extra word.  Raises ValueError if it cannot be read."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"--qformer-tokenizer {place!r} is no folder or hub name of a tokenizer") from error
    tokenizer.add_special_tokens({"bos_token": BERT_MARK})
    return tokenizer


def finish_stllm(out: Path, qformer_tokenizer: Any, image_size: int) -> None:
    """The Q-Former's tokenizer and the image processor: neither is part of the release."""
    from transformers import CLIPImageProcessor

    from prunesweep.models.stllm import QFORMER_TOKENIZER

    qformer_tokenizer.save_pretrained(out / QFORMER_TOKENIZER)
    size = {"height": image_size, "width": image_size}
    CLIPImageProcessor(size={"shortest_edge": image_size}, crop_size=size).save_pretrained(out)


def finish_llava_video(out: Path, image_size: int) -> None:
    """The image processor, which is not part of the release."""
    from transformers import SiglipImageProcessor

    SiglipImageProcessor(size={"height": image_size, "width": image_size}).save_pretrained(out)


def report(found: Manifest) -> str:
    lines = [f"{len(found.used)} tensors fit, {len(found.ignored)} are not needed, {len(found.faults)} faults"]
    return "\n".join([*lines, *(f"  {fault}" for fault in found.faults)])
