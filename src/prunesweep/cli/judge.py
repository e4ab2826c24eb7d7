"""`prunesweep judge`: free answers graded by a language model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from prunesweep.cli.shared import trial_folder
from prunesweep.paths import user_path

KEY_VARIABLE = "OPENAI_API_KEY"
INTERRUPTED = "interrupted; the verdicts so far are cached, and the same command goes on from there"


def judge(
    trials: Annotated[
        list[Path],
        typer.Argument(parser=trial_folder, metavar="TRIAL...", help="On vcgbench: folders, or latest/7."),
    ],
    url: Annotated[str, typer.Option(help="Of an OpenAI-compatible endpoint, such as http://localhost:8000/v1.")],
    model: Annotated[str, typer.Option(help="The judge; the paper used gpt-3.5-turbo-0125.")],
    key_variable: Annotated[str, typer.Option(help="Environment variable that holds the key.")] = KEY_VARIABLE,
    tries: Annotated[int, typer.Option(help="Of each verdict.")] = 3,
    timeout: Annotated[float, typer.Option(help="Seconds per try.")] = 60.0,
    concurrency: Annotated[int, typer.Option(help="Questions at a time.")] = 8,
    cache: Annotated[
        Path | None, typer.Option(parser=user_path, metavar="FILE", help="Of verdicts; judge_cache.jsonl beside the first trial.")
    ] = None,
    failures: Annotated[
        Literal["leave_out", "zero"], typer.Option(help="What a verdict that cannot be had counts.")
    ] = "leave_out",
    price_in: Annotated[float, typer.Option(min=0, help="Per million tokens.")] = 0.0,
    price_out: Annotated[float, typer.Option(min=0, help="Per million tokens.")] = 0.0,
) -> None:
    """Grade the free answers of trials from 0 to 5 with a language model (VideoChatGPT-Bench's five scores)."""
    from prunesweep.analysis.judge import CACHE, Cache, Judge
    from prunesweep.errors import reported
    from prunesweep.report import grades

    with reported(interrupted=INTERRUPTED):
        asked = Judge(url, model, tries, timeout, concurrency)
        beside = trials[0].absolute().parent / CACHE
        if cache is None and beside.is_symlink():
            raise ValueError(f"{beside} is a link, and verdicts would be added to what it leads to; --cache FILE names another")
        kept = Cache(cache or beside)
        key = os.environ.get(key_variable)
        if key and not (key.isascii() and key.isprintable()):
            raise ValueError(f"the key in {key_variable} holds characters that no HTTP header may have")
        verdicts = [v for folder in trials for v in grades.judge_trial(folder, asked, kept, key, failures)]
        print(grades.costs(verdicts, price_in, price_out))
        if all(verdict.score is None for verdict in verdicts):
            raise ValueError("no verdict could be had; the reasons are listed above")
