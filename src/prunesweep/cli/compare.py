"""`prunesweep compare`: is one trial better than another?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from prunesweep.cli.shared import Trial
from prunesweep.paths import user_path


def compare(
    trial: Trial,
    baseline: Annotated[Path, typer.Argument(parser=user_path, metavar="BASELINE", help="Folder of the trial to compare with.")],
) -> None:
    """Compare two trials on the questions that both answered: the difference with its error, and tests."""
    from prunesweep.analysis.accuracy import accuracy, naming
    from prunesweep.analysis.comparison import QUESTION, paired
    from prunesweep.analysis.wording import accuracy_text, difference_text
    from prunesweep.report.text import naming_text
    from prunesweep.results.read import read_folder

    columns = ("sample_id", "correct", "named", "generated_tokens", *QUESTION)
    trials = [read_folder(folder, columns) for folder in (trial, baseline)]
    difference = paired(trials[0].records, trials[1].records)
    for one in trials:
        said = naming(one.records)
        answers = "" if math.isnan(said.unclear) else f"; {naming_text(said)}"
        print(f"{accuracy_text(*accuracy(one.records))}  {one.info.name} on {one.info.benchmark}, {one.info.model}{answers}")
    print(difference_text(difference))
