"""What the terminal shows: numbers to text, nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from prunesweep.analysis.accuracy import Accuracy, Naming, task_accuracies
from prunesweep.analysis.failures import Failure
from prunesweep.analysis.summary import Summary, scores_of
from prunesweep.analysis.wording import accuracy_text
from prunesweep.console.layout import count, grid, share_text, short_numbers, visible, with_prefix
from prunesweep.results.records import Trial

SHARES = (
    *("start", "compose", "plan", "match", "load", "processes", "jobs"),
    *("prompts", "decode", "encode", "merge", "LLM", "store", "waiting", "race", "search", "measure", "records", "report"),
)
"""What the seconds of an evaluation went to, as docs/speed.md explains them, in the order in which they come."""
ALIKE = "[...]: exact 95 % interval where all answers are alike, each video counted once"
SHOWN_SECONDS = 0.05
"""That are not zero when they are shown."""
MOST_NAMED = 5
"""Samples named per error message."""


def flops_text(flops: float) -> str:
    """With an SI prefix and three digits."""
    return "n/a" if math.isnan(flops) else f"{with_prefix(flops, 3)}FLOPs"


def times(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.3f}x"


def short_names(table: Sequence[Summary]) -> tuple[list[str], dict[str, str]]:
    """Trial names without what all trials of a reducer have in common, and what that is by reducer."""
    parts: dict[str, list[list[str]]] = {}
    for row in table:
        parts.setdefault(row.reducer, []).append(row.trial.split(" ")[1:])
    common = {name: [p for p in own[0] if len(own) > 1 and all(p in other for other in own)] for name, own in parts.items()}
    names = [" ".join(p for p in row.trial.split(" ") if p not in common[row.reducer]) for row in table]
    return [short_numbers(name) for name in names], {reducer: " ".join(shared) for reducer, shared in common.items() if shared}


def single(row: Summary, trial: Trial) -> str:
    """A trial's numbers, then its accuracy by task."""
    lines = [
        f"trial       {row.trial} on {trial.info.benchmark}, {trial.info.model}",
        f"accuracy    {accuracy_text(*scores_of(row))}, standard error clustered by video",
        f"tokens      {times(row.entrance_ratio)} of the visual tokens enter the LLM, {times(row.final_ratio)} reach its end",
        f"FLOPs       {flops_text(row.llm_flops)} LLM prefill, {times(row.llm_flops_ratio)} of dense",
        f"            {flops_text(row.total_flops)} in all with vision and decoding, {times(row.total_flops_ratio)} of dense",
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
    if not math.isnan(row.exact_match):
        exact = accuracy_text(row.exact_match, row.exact_error, row.samples)
        f1 = accuracy_text(row.token_f1, row.token_f1_error, row.samples)
        lines.append(f"            {exact} are the right one word by word, F1 {f1}")
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


def naming_text(row: Summary | Naming) -> str:
    """How many of a trial's generated answers say what is meant."""
    return f"{share_text(row.unclear)} of the generated ones name no option, {share_text(row.ambiguous)} several"


def _task_grid(tasks: Mapping[str, Accuracy]) -> str:
    return grid(("task", "accuracy ± SE"), [(task, accuracy_text(*scores)) for task, scores in tasks.items()])


def time_line(entries: Sequence[Mapping[str, Any]], total: float, least: float = SHOWN_SECONDS) -> str:
    """Where the time went, and what sharing saved in stage runs; what took fewer than `least` seconds is not named."""
    seconds = {share: sum(entry["seconds"].get(share, 0.0) for entry in entries) for share in SHARES}
    named = {name: value for name, value in seconds.items() if value >= least}
    other = total - sum(named.values())
    parts = [f"{name} {value:.1f} s" for name, value in (*named.items(), ("other", other)) if value >= SHOWN_SECONDS]
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
    return visible(" ".join(one.error.split())) + (f" ({', '.join(notes)})" if notes else "")


def few(names: Sequence[str]) -> str:
    """The first of many, and how many there are besides."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"{', '.join(map(visible, names[:MOST_NAMED]))}{more}"
