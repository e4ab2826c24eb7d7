"""`prunesweep compare`: is one trial better than another?"""

from __future__ import annotations

import math
from typing import Annotated

import typer

from prunesweep.cli.shared import TrialName, sweep_path, trial_path


def compare(
    trial: TrialName,
    baseline: Annotated[str, typer.Argument(metavar="BASELINE", help="The trial to compare with, likewise, of the same sweep.")],
    third: Annotated[str | None, typer.Argument(hidden=True)] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Free answers are right word by word, to the end.")] = False,
) -> None:
    """Compare two trials on the questions that both answered: the difference with its error, and tests.

    prunesweep compare SWEEP TRIAL BASELINE names the sweep first.
    """
    from prunesweep.analysis.accuracy import accuracy, naming
    from prunesweep.analysis.comparison import QUESTION, paired
    from prunesweep.analysis.free import scored_exactly
    from prunesweep.analysis.naming import require_two
    from prunesweep.analysis.wording import accuracy_text, difference_text, numbered
    from prunesweep.console.terminal import say
    from prunesweep.report.text import naming_text
    from prunesweep.results.read import number, read_one, whole_of

    columns = ("sample_id", "correct", "named", "generated_tokens", "prediction", *QUESTION)
    if third is None:
        first = trial_path(trial)
        second = trial_path(baseline, whole_of(first))
    else:
        sweep = sweep_path(trial)
        first, second = trial_path(baseline, sweep), trial_path(third, sweep)
    require_two((first, second))
    trials = [read_one(folder, columns) for folder in (first, second)]
    if exact:
        trials = [one._replace(records=scored_exactly(one.records)) for one in trials]
    difference = paired(trials[0].records, trials[1].records)
    for folder, one in zip((first, second), trials, strict=True):
        said = naming(one.records)
        answers = "" if math.isnan(said.unclear) else f"; {naming_text(said)}"
        name = f"{numbered(number(folder), one.info.name)} on {one.info.benchmark}, {one.info.model}"
        say(f"{accuracy_text(*accuracy(one.records))}  {name}{answers}")
    say(difference_text(difference))
