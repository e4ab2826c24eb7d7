"""`prunesweep model`: checkpoints that transformers cannot read, checked and converted."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from prunesweep.cli.shared import HELP_NAMES, example
from prunesweep.paths import user_path

app = typer.Typer(
    help="Check and convert checkpoints that transformers cannot read.",
    rich_markup_mode="rich",
    epilog=example("prunesweep model check pllava FOLDER"),
    context_settings=HELP_NAMES,
    no_args_is_help=True,
)
Family = Annotated[Literal["pllava", "stllm"], typer.Argument(help="Of the model.")]
Folder = Annotated[Path, typer.Argument(parser=user_path, metavar="FOLDER", help="The checkpoint as released.")]
Variant = Annotated[Literal["qa", "conversation"], typer.Option(help="Of ST-LLM.")]


@app.command(epilog=example("prunesweep model check stllm FOLDER --variant conversation"))
def check(family: Family, folder: Folder, variant: Variant = "qa") -> None:
    """Say what fits a model and what is missing, left over or doubled; nothing is written."""
    _examined(family, folder, variant)


@app.command(epilog=example("prunesweep model convert stllm FOLDER OUT --qformer-tokenizer BERT_FOLDER"))
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
    from prunesweep.models.convert import PARTIAL, finish_stllm, read_qformer_tokenizer, write

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
