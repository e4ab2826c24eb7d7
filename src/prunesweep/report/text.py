"""What the terminal shows: numbers to text, nothing else."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from prunesweep.analysis.comparison import Difference
from prunesweep.analysis.significance import accuracy_interval
from prunesweep.analysis.summary import Accuracy, Failure, Naming, Summary, scores_of, task_accuracies
from prunesweep.results.records import Trial

SHARES = (
    *("start", "compose", "plan", "match", "load", "processes", "jobs"),
    *("prompts", "decode", "encode", "merge", "LLM", "store", "waiting", "race", "search", "measure", "records", "report"),
)
"""What the seconds of an evaluation went to, as docs/speed.md explains them, in the order in which they come."""
LONG_NUMBER = re.compile(r"\d+\.\d{5,}(e-?\d+)?")
"""Proposed by a search; the table shows three digits, the records have all."""
SMALLEST_P = 1e-12
"""Smaller p-values say nothing more: the normal approximation does not reach there."""
ALIKE = "[...]: exact 95 % interval where all answers are alike, each video counted once"
MOST_NAMED = 5
"""Samples named per error message."""


def accuracy_text(mean: float, error: float, samples: int, videos: int = 0, effective: float = math.nan) -> str:
    """`0.812 ± 0.014 (n=1000)`; `1.000 [0.964, 1.000] (n=100)`, an exact interval, where all answers are alike.

    Without either where too few videos allow none.
    """
    if samples == 0:
        return "not scored (n=0)"
    if mean in (0.0, 1.0) and videos:
        low, high = accuracy_interval(Accuracy(mean, error, samples, videos, effective))
        return f"{mean:.3f} [{low:.3f}, {high:.3f}] (n={samples})"
    spread = "± n/a" if math.isnan(error) else f"± {error:.3f}"
    return f"{mean:.3f} {spread} (n={samples})"


def summary_text(row: Summary) -> str:
    """As `accuracy_text`; of a stopped trial the interval of its race, because a standard error holds only without looking."""
    if row.accuracy_low is None:
        return accuracy_text(*scores_of(row))
    return f"{row.accuracy:.3f} [{row.accuracy_low:.3f}, {row.accuracy_high:.3f}] (n={row.samples})"


def difference_text(difference: Difference) -> str:
    """`-0.031 ± 0.007 (n=1000), 95 % interval -0.045 to -0.017, p = 0.000012; ...`."""
    d = difference
    alike = "no answer differs" if not (d.gained or d.lost) else "all videos changed alike" if d.error == 0 else ""
    return (
        f"{d.mean:+.3f} ± {d.error:.3f} (n={d.samples}), 95 % interval {d.low:+.3f} to {d.high:+.3f}, {p_text(d.p_value)}, "
        f"clustered by {d.videos} videos; gained {d.gained}, lost {d.lost}, exact McNemar {p_text(d.mcnemar)}"
        + (f"; {alike}, so the interval is exact, each video counted once" if alike else "")
    )


def p_text(p_value: float) -> str:
    """`p = 0.031`, with two digits; `p < 1e-12` below that."""
    if p_value < SMALLEST_P:
        return f"p < {SMALLEST_P:g}"
    return f"p = {p_value:.2g}"


def flops_text(flops: float) -> str:
    """With an SI prefix and three digits."""
    return "n/a" if math.isnan(flops) else f"{with_prefix(flops, 3)}FLOPs"


def with_prefix(value: float, digits: int) -> str:
    """`26.88 T`, `3.94 k`, `12 `: to be followed by a unit."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.{digits}g} {prefix}"
    return f"{value:.{digits}g} "


def _ratio(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.3f}x"


def count(number: int, noun: str) -> str:
    """`1 question`, `2,000 questions`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their longest cell, the first one and one of settings left-aligned."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    pads = [str.ljust if i == 0 or name == "settings" else str.rjust for i, name in enumerate(header)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join("  ".join(map(lambda pad, *cell: pad(*cell), pads, line, widths)).rstrip() for line in lines)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return ["| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *rows)]


def sweep(table: Sequence[Summary], cost: str) -> str:
    """One line a trial, cheapest first; Pareto-optimal ones carry a star."""
    generated = any(not math.isnan(row.unclear) for row in table)
    header = ["trial", "front", "accuracy ± SE", "tokens in", "at end", "LLM prefill", "of dense", "total of dense"]
    header += ["no option", "several"] if generated else []
    names, common = short_names(table)
    rows = [
        (
            name,
            "infeasible" if row.infeasible else "stopped" if row.stopped else "*" if row.pareto else "",
            "not run" if row.infeasible else summary_text(row),
            _ratio(row.entrance_ratio),
            _ratio(row.final_ratio),
            flops_text(row.llm_flops),
            _ratio(row.llm_flops_ratio),
            _ratio(row.total_flops_ratio),
            *((share_text(row.unclear), share_text(row.ambiguous)) if generated else ()),
        )
        for name, row in zip(names, table, strict=True)
    ]
    notes = [f"all {reducer} trials: {settings}" for reducer, settings in common.items()]
    if any(row.stopped for row in table):
        notes.append(
            "stopped by a race after n samples, for trials that cost no more are better: no candidates, whatever they show; "
            "[...]: 95 % interval on all samples"
        )
    if len({row.samples for row in table if not row.stopped and not row.infeasible}) > 1:
        notes.append("the trials differ in how many samples they answered: compare with care")
    if any(row.accuracy in (0.0, 1.0) for row in table):
        notes.append(ALIKE)
    notes.append(f"* on the Pareto front of accuracy against {cost}; SE: standard error, clustered by video")
    notes.append("tokens in, at end: visual tokens entering the LLM and in its last layer, of dense")
    if generated:
        notes.append("no option, several: generated answers that name none of the question's options, or more than one")
    notes += [f"of dense: of {name}" for name in dict.fromkeys(row.relative_to for row in table if row.relative_to)]
    return "\n".join([grid(header, rows), *notes])


def short_names(table: Sequence[Summary]) -> tuple[list[str], dict[str, str]]:
    """Trial names without what all trials of a reducer have in common, and what that is by reducer."""
    parts: dict[str, list[list[str]]] = {}
    for row in table:
        parts.setdefault(row.reducer, []).append(row.trial.split(" ")[1:])
    common = {name: [p for p in own[0] if len(own) > 1 and all(p in other for other in own)] for name, own in parts.items()}
    names = [" ".join(p for p in row.trial.split(" ") if p not in common[row.reducer]) for row in table]
    names = [LONG_NUMBER.sub(lambda number: f"{float(number[0]):.3g}", name) for name in names]
    return names, {reducer: " ".join(shared) for reducer, shared in common.items() if shared}


def single(row: Summary, trial: Trial) -> str:
    """A trial's numbers, then its accuracy by task."""
    lines = [
        f"trial       {row.trial} on {trial.info.benchmark}, {trial.info.model}",
        f"accuracy    {accuracy_text(*scores_of(row))}, standard error clustered by video",
        f"tokens      {_ratio(row.entrance_ratio)} of the visual tokens enter the LLM, {_ratio(row.final_ratio)} reach its end",
        f"FLOPs       {flops_text(row.llm_flops)} LLM prefill, {_ratio(row.llm_flops_ratio)} of dense",
        f"            {flops_text(row.total_flops)} in all with vision and decoding, {_ratio(row.total_flops_ratio)} of dense",
        f"            of dense: of {row.relative_to}",
    ]
    if trial.measured:
        lines += [
            f"measured    {line}" if i == 0 else f"            {line}" for i, line in enumerate(measured_lines(trial.measured))
        ]
    tasks = task_accuracies(trial.records)
    if len(tasks) > 1:
        macro = accuracy_text(row.macro_accuracy, row.macro_error, row.samples)
        scored = sum(scores.samples > 0 for scores in tasks.values())
        over = str(scored) if scored == len(tasks) else f"{scored} of {len(tasks)}"
        lines.insert(2, f"            {macro} as the mean over {over} tasks")
    if not math.isnan(row.unclear):
        lines.append(f"answers     {naming_text(row)}")
    lines += ["", _task_grid(tasks)] if len(tasks) > 1 else []
    alike = any(scores.mean in (0.0, 1.0) for scores in tasks.values())
    return "\n".join([*lines, *([ALIKE] if alike else [])])


def measured_lines(measured: Mapping[str, Any]) -> list[str]:
    """Medians with quartiles, and on what they were taken."""
    first, llm = (_with_quartiles(measured, name, 1e3, ".1f") for name in ("first_token_seconds", "llm_seconds"))
    speed = _with_quartiles(measured, "tokens_per_second", 1, ".1f")
    memory = _with_quartiles(measured, "peak_memory_bytes", 2**-20, ".0f")
    return [
        f"first token after {first} ms, of which the LLM {llm} ms",
        f"{speed} tokens/s decoding, peak memory {memory} MiB",
        f"median (quartiles) of {measured['samples']} samples x {measured['repeats']} repeats, alone, {measured['device']}",
    ]


def _with_quartiles(measured: Mapping[str, Any], name: str, unit: float, digits: str) -> str:
    median, low, high = (measured[name + end] * unit for end in ("", "_low", "_high"))
    return f"{median:{digits}} ({low:{digits}} to {high:{digits}})"


def share_text(share: float) -> str:
    """`12.5 %`."""
    return "n/a" if math.isnan(share) else f"{100 * share:.1f} %"


def naming_text(row: Summary | Naming) -> str:
    """How many of a trial's generated answers say what is meant."""
    return f"{share_text(row.unclear)} of the generated ones name no option, {share_text(row.ambiguous)} several"


def _task_grid(tasks: Mapping[str, Accuracy]) -> str:
    return grid(("task", "accuracy ± SE"), [(task, accuracy_text(*scores)) for task, scores in tasks.items()])


def time_line(entries: Sequence[Mapping[str, Any]], total: float) -> str:
    """Where the time went, and what sharing saved in stage runs."""
    seconds = {share: sum(entry["seconds"].get(share, 0.0) for entry in entries) for share in SHARES}
    other = total - sum(seconds.values())
    parts = [f"{name} {value:.1f} s" for name, value in (*seconds.items(), ("other", other)) if value >= 0.05]
    run, alone = (sum(entry[key] for entry in entries) for key in ("run", "alone"))
    shared = f"; sharing ran {run:,} stages instead of {alone:,}" if run < alone else ""
    return f"time        {total:.1f} s: {', '.join(parts)}{shared}"


def failure_lines(found: Sequence[Failure], trials: int) -> list[str]:
    """How many samples lack an answer; then a line for each kind of error, with those of the sweep's trials that have it."""
    if not found:
        return []
    samples = {sample for one in found for sample in one.samples}
    lines = [f"{count(len(samples), 'sample')} without an answer:"]
    return [*lines, *(f"  {few(one.samples)}: {failure_text(one, trials)}" for one in found)]


def failure_text(one: Failure, trials: int) -> str:
    """The message on one line, how often its kind occurred where the samples do not say it, and in which of all trials."""
    notes = [f"{one.messages} such messages"] if one.messages > 1 else []
    if trials > 1:
        own = f"all {trials} trials" if len(one.trials) == trials else f"{count(len(one.trials), 'trial')}: {few(one.trials)}"
        notes.append(f"{count(one.records, 'answer')} of {own}")
    return " ".join(one.error.split()) + (f" ({', '.join(notes)})" if notes else "")


def few(names: Sequence[str]) -> str:
    """The first of many, and how many there are besides."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(names[:MOST_NAMED])}{more}"
