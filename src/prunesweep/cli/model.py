"""`prunesweep model`: what a checkpoint can do here; those that transformers cannot read, converted."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from prunesweep.cli.shared import Verbs
from prunesweep.paths import user_path

app = Verbs("prunesweep model check FOLDER", help="Check checkpoints, and convert those that transformers cannot read.")
Family = Annotated[Literal["pllava", "stllm", "llava_video"], typer.Argument(help="Of the model.")]
Folder = Annotated[Path, typer.Argument(parser=user_path, metavar="FOLDER", help="The checkpoint as released.")]
Variant = Annotated[Literal["qa", "conversation"], typer.Option(help="Of ST-LLM.")]


CONVERTED = ("pllava", "stllm", "llava_video")
"""Families whose released checkpoints transformers cannot read."""


@app.command(example="prunesweep model check FOLDER")
def check(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT|FAMILY", help="Folder or hub name of a stock family; or one of pllava, stllm, llava_video."
        ),
    ],
    folder: Annotated[
        Path | None, typer.Argument(parser=user_path, metavar="FOLDER", help="As released, of such a family.")
    ] = None,
    variant: Variant = "qa",
    dtype: Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")] = "auto",
) -> None:
    """Say whether a checkpoint can be served: its layers against the stock forward on a short prompt, memory and seconds.

    Of pllava, stllm and llava_video as released: what fits the model, and what is missing, left over or doubled.
    """
    if checkpoint in CONVERTED:
        if folder is None:
            raise typer.BadParameter(f"{checkpoint} needs the folder of the released checkpoint")
        _examined(checkpoint, folder, variant)
        return
    if folder is not None:
        raise typer.BadParameter(f"{checkpoint} is none of {', '.join(CONVERTED)}; give one checkpoint")
    _self_checked(checkpoint, dtype)


def _self_checked(checkpoint: str, dtype: str) -> None:
    """Ends the command where the loop over the layers is not the stock forward."""
    import time

    from prunesweep.engine.latency import accelerator_device, device_name
    from prunesweep.engine.selfcheck import require_alike, self_check
    from prunesweep.models.adapter import load
    from prunesweep.models.loading import legible

    begin = time.perf_counter()
    with legible({"_target_": f"{load.__module__}.load", "checkpoint": checkpoint}):
        model = load(Path(checkpoint).name, checkpoint, dtype)
    device = accelerator_device("auto")
    model.network.to(device)
    loaded = time.perf_counter() - begin
    found = self_check(model)
    weights = sum(p.numel() * p.element_size() for p in model.network.parameters()) / 2**30
    numbers = sum(p.numel() for p in model.network.parameters())
    print(f"{type(model.network).__name__}: {numbers / 1e9:.3g} billion parameters, {found.dtype}, on {device_name(device)}")
    print(f"{found}")
    print(
        f"{weights:.2f} GiB of weights, at most {_peak(device):.2f} GiB; {loaded:.1f} s to load, {found.seconds:.1f} s to check"
    )
    require_alike(model, found)
    print(f"it can be served: model=auto model.checkpoint={checkpoint}")


def _peak(device: Any) -> float:
    """Most memory so far in GiB: of the device, or of this process."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


@app.command(example="prunesweep model convert stllm FOLDER OUT --qformer-tokenizer BERT_FOLDER")
def convert(
    family: Family,
    folder: Folder,
    out: Annotated[Path, typer.Argument(parser=user_path, metavar="OUT", help="For the converted one; must not exist.")],
    variant: Variant = "qa",
    qformer_tokenizer: Annotated[
        str | None, typer.Option(metavar="FOLDER|NAME", help="Of ST-LLM: folder or hub name of bert-base-uncased's tokenizer.")
    ] = None,
) -> None:
    """Write a checkpoint as a safetensors folder that prunesweep reads; PLLaVA's LoRA matrices stay apart."""
    from prunesweep.models.convert import PARTIAL, finish_llava_video, finish_stllm, read_qformer_tokenizer, write

    if out.exists():
        raise ValueError(f"{out} exists; name a folder that does not")
    tokenizer = None
    if family == "stllm":
        if qformer_tokenizer is None:
            raise typer.BadParameter("stllm needs --qformer-tokenizer, the folder of bert-base-uncased's tokenizer")
        tokenizer = read_qformer_tokenizer(qformer_tokenizer)
    found, config = _examined(family, folder, variant)
    unfinished = out.with_name(f"{out.name}{PARTIAL}")
    shutil.rmtree(unfinished, ignore_errors=True)  # of an attempt that was killed
    number = write(found, config, folder, unfinished)
    if tokenizer is not None:
        from transformers import InstructBlipVisionConfig

        finish_stllm(unfinished, tokenizer, InstructBlipVisionConfig(**config["vision_config"]).image_size)
    if family == "llava_video":
        finish_llava_video(unfinished, config["vision_config"]["image_size"])
    unfinished.rename(out)
    print(f"{number} shard{'s' if number > 1 else ''} written to {out}")


def _examined(family: str, folder: Path, variant: str) -> tuple[Any, dict[str, Any]]:
    """Ends the command where the checkpoint is not the model's."""
    from prunesweep.models.convert import examine, report

    found, config = examine(family, folder, variant)
    print(report(found))
    if found.faults:
        raise typer.Exit(1)
    return found, config
