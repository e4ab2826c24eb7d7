"""`python -m prunesweep.dev.evidence FOLDER`: does pruning mean something on the embedded benchmark with the embedded model?

Runs `sweeps/evidence.yaml` on three splits and `sweeps/search.yaml` on two, then tests five claims on the records and
writes `evidence.md`.  PruneVid's settings are chosen on the validation split; what is reported is the shipped test split and
the final split, which was drawn for this report only.  Of a baseline the setting that does best on the reported split is
taken, which favours the baseline.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from prunesweep.analysis.accuracy import accuracy, task_accuracies
from prunesweep.analysis.comparison import Difference, paired
from prunesweep.analysis.front import pareto_front
from prunesweep.analysis.significance import holm
from prunesweep.analysis.summary import Summary
from prunesweep.analysis.table import rows_of
from prunesweep.analysis.wording import accuracy_text, p_text
from prunesweep.console.layout import markdown, prose
from prunesweep.dev import parser_of
from prunesweep.embedded.build import SPLIT_SEEDS, draw_split
from prunesweep.embedded.scene import FRAMES
from prunesweep.errors import write_anywhere
from prunesweep.paths import SWEEPS, user_path
from prunesweep.results.records import Trial, read_trials

PER_FAMILY = 100
REPORTED = ("test", "final")
BUDGETS = (2, 3, 4, 5)
"""Whole frames out of FRAMES; other methods are compared at what these cost."""
SAME_COST = 0.03
"""Relative difference of FLOPs up to which a baseline counts as equally expensive."""
LARGEST_LOSS = 0.03
LARGEST_FINAL_RATIO = 0.2
SIGNIFICANT = 0.01
SEARCH_TRIALS = 60
SEARCH_QUESTIONS = 300
FRONT_POINTS = 5
DENSE_ACCURACY = 0.9
MARGIN_OVER_CHANCE = 0.25
SWEPT = {
    "segment ratio": ("merge", "segment_ratio"),
    "static threshold": ("merge", "static_threshold"),
    "cluster ratio": ("merge", "cluster_ratio"),
    "layer": ("prune", "layer"),
    "keep ratio": ("prune", "keep_ratio"),
}
BASELINES = ("random", "frames", "pooling", "fastv")


class Row(NamedTuple):
    """A trial with its summary."""

    trial: Trial
    summary: Summary

    @property
    def name(self) -> str:
        return self.summary.trial

    @property
    def cost(self) -> float:
        return self.summary.llm_flops_ratio

    @property
    def accuracy(self) -> str:
        return accuracy_text(*accuracy(self.trial.records))

    @property
    def settings(self) -> dict[str, float | None]:
        """Of PruneVid, by the names in SWEPT; a static threshold of None merges nothing over time."""
        reducer = self.trial.info.settings["reducer"]
        return {name: reducer[slot][key] for name, (slot, key) in SWEPT.items()}

    def over(self, other: Row) -> Difference:
        return paired(self.trial.records, other.trial.records)


@dataclass(frozen=True)
class Claim:
    """What is claimed, whether it holds, and the numbers."""

    text: str
    holds: bool
    lines: tuple[str, ...]


def read_rows(sweep: Path) -> list[Row]:
    trials = read_trials(sweep)
    return [Row(*one) for one in zip(trials, rows_of(trials), strict=True)]


def of(rows: Sequence[Row], reducer: str) -> list[Row]:
    return [row for row in rows if row.trial.info.reducer == reducer]


def dense_of(rows: Sequence[Row]) -> Row:
    return of(rows, "none")[0]


def dense_is_good(rows: Sequence[Row], second: Row | None) -> Claim:
    dense = dense_of(rows)
    tasks = task_accuracies(dense.trial.records)
    chances = chance_levels(dense.trial)
    good = all(score.mean >= chances[task] + MARGIN_OVER_CHANCE for task, score in tasks.items())
    lines = [f"dense: {dense.accuracy}", ""]
    lines += markdown(("family", "chance", "accuracy"), [(t, f"{chances[t]:.2f}", accuracy_text(*s)) for t, s in tasks.items()])
    near = True
    if second:
        difference = second.over(dense)
        near = abs(difference.mean) <= LARGEST_LOSS
        lines += ["", f"second training seed: {second.accuracy}, {interval(difference)} against the first"]
    else:
        lines += ["", "second training seed: not evaluated (give its checkpoint with --second-seed)"]
    text = (
        f"The dense model reaches at least {DENSE_ACCURACY:.0%}, every family at least {MARGIN_OVER_CHANCE * 100:.0f} points "
        f"above chance{'; two training seeds agree within 3 points' if second else ''}."
    )
    return Claim(text, dense.summary.accuracy >= DENSE_ACCURACY and good and near, tuple(lines))


def chance_levels(trial: Trial) -> dict[str, float]:
    """Mean of one over the number of choices, by task."""
    import polars as pl

    levels = trial.records.group_by("task").agg((1 / pl.col("choices").list.len()).mean().alias("chance"))
    return dict(levels.sort("task").iter_rows())


def bare_p(p_value: float) -> str:
    """For a column of p-values: `0.031` or `< 1e-12`."""
    return p_text(p_value).removeprefix("p ").removeprefix("= ")


def interval(difference: Difference) -> str:
    return f"{difference.mean:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"


def loses_little(rows: Sequence[Row], validation: Sequence[Row]) -> Claim:
    """The best heavily pruned setting on the validation split, and its neighbours: one setting away in the grid."""
    chosen = max(heavily_pruned(validation), key=lambda row: (row.summary.accuracy, -row.cost))
    dense = dense_of(rows)
    candidates = heavily_pruned(rows)
    own = next((row for row in candidates if row.name == chosen.name), None)
    listed = [row for row in candidates if distance(row.settings, chosen.settings) <= 1]
    lines = markdown(
        ("", *SWEPT, "at end", "LLM prefill", "accuracy", "against dense (95 %)"),
        [
            (
                "chosen" if row is own else "",
                *map(shown, row.settings.values()),
                f"{row.summary.final_ratio:.3f}x",
                f"{row.cost:.3f}x",
                row.accuracy,
                interval(row.over(dense)),
            )
            for row in sorted(listed, key=lambda row: -row.summary.accuracy)
        ],
    )
    over_time = [row for row in heavily_pruned(validation) if row.settings["static threshold"] is not None]
    name = max(over_time, key=lambda row: (row.summary.accuracy, -row.cost)).name
    best = next(row for row in rows if row.name == name)
    lines += ["", f"Of those that merge over time, chosen likewise: {setting_text(best)}: {best.accuracy} at {best.cost:.3f}x, "]
    lines[-1] += f"{interval(best.over(dense))} against dense."
    near = sum(row.over(dense).mean >= -LARGEST_LOSS for row in candidates)
    lines += ["", f"{near} of {len(candidates)} settings that leave fewer than 20 % lose at most 3 points in this split."]
    lines += ["", "All of them keep original positions."]
    text = "PruneVid with over 80 % of the visual tokens pruned at the end loses at most 3 points (setting chosen on validation)."
    return Claim(text, own is not None and own.over(dense).mean >= -LARGEST_LOSS, tuple(lines))


def heavily_pruned(rows: Sequence[Row]) -> list[Row]:
    return [row for row in of(rows, "prunevid") if row.summary.final_ratio < LARGEST_FINAL_RATIO]


def shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def distance(a: Mapping[str, float | None], b: Mapping[str, float | None]) -> int:
    """In how many settings two trials differ."""
    return sum(a[name] != b[name] for name in a)


def beats_baselines(rows: Sequence[Row], validation: Sequence[Row]) -> Claim:
    """At each budget PruneVid's best affordable setting on validation against each baseline's best in this split."""
    lines, wins = [], []
    header = ("budget", "method", "setting", "LLM prefill", "accuracy", "PruneVid's lead (95 %)", "p (Holm)", "exact McNemar")
    found = list(contests(rows, validation))
    adjusted = holm([c.lead.p_value for c in found if c.lead]).tolist()
    for contest in found:
        cells = (
            f"{contest.frames} frames",
            contest.row.trial.info.reducer,
            setting_text(contest.row),
            f"{contest.row.cost:.3f}x",
        )
        if contest.lead is None:
            lines.append((*cells, contest.row.accuracy, "", "", ""))
            continue
        p_value = adjusted.pop(0)
        if contest.row.trial.info.reducer != "fastv":
            wins.append(contest.lead.mean > 0 and p_value < SIGNIFICANT)
        tests = (bare_p(p_value), bare_p(contest.lead.mcnemar))
        lines.append((*cells, contest.row.accuracy, interval(contest.lead), *tests))
    missing = [f"{n} frames" for n in BUDGETS if not affordable(rows, "fastv", budget(rows, n))]
    notes = ["", f"FastV has no setting at {', '.join(missing)}: a layer on all tokens costs more."] if missing else []
    text = (
        "At the FLOPs of 2, 3, 4 and 5 of 12 frames PruneVid beats random dropping, uniform frames and average pooling, "
        f"p < {SIGNIFICANT}."
    )
    return Claim(text, bool(wins) and all(wins), (*markdown(header, lines), *notes))


class Contest(NamedTuple):
    """A line of the comparison at equal FLOPs; PruneVid's own line has no lead."""

    frames: int
    row: Row
    lead: Difference | None


def contests(rows: Sequence[Row], validation: Sequence[Row]) -> Iterator[Contest]:
    for frames in BUDGETS:
        cheap = [row for row in of(validation, "prunevid") if row.cost <= budget(validation, frames)]
        chosen = max(cheap, key=lambda row: (row.summary.accuracy, -row.cost)).name
        own = next(row for row in rows if row.name == chosen)
        yield Contest(frames, own, None)
        for baseline in BASELINES:
            if within_budget := affordable(rows, baseline, budget(rows, frames)):
                best = max(within_budget, key=lambda row: row.summary.accuracy)
                yield Contest(frames, best, own.over(best))


def budget(rows: Sequence[Row], frames: int) -> float:
    """What the LLM's prefill costs on this many whole frames, of dense."""
    ratio = frames / FRAMES
    return next(row.cost for row in of(rows, "frames") if abs(row.summary.entrance_ratio - ratio) < 1e-6)


def affordable(rows: Sequence[Row], reducer: str, cost: float) -> list[Row]:
    return [row for row in of(rows, reducer) if abs(row.cost / cost - 1) <= SAME_COST]


def setting_text(row: Row) -> str:
    return " ".join(row.name.split(" ")[1:])


def settings_matter(rows: Sequence[Row]) -> Claim:
    """One setting at a time away from the paper's defaults, each against the defaults; and by family."""
    trials = of(rows, "prunevid")
    base = next(row for row in trials if row.name == "prunevid positions=original")
    moved = {name: [row for row in trials if only(row, base, name)] for name in SWEPT}
    changes = [(name, row, row.over(base)) for name, group in moved.items() for row in group]
    changes.sort(key=lambda change: (list(SWEPT).index(change[0]), change[1].settings[change[0]] or math.inf))
    adjusted = holm([difference.p_value for _, _, difference in changes]).tolist()
    lines = [
        f"defaults: {', '.join(f'{k} {shown(v)}' for k, v in base.settings.items())}: {base.accuracy} at {base.cost:.3f}x",
        "",
    ]
    lines += markdown(
        ("changed", "to", "LLM prefill", "accuracy", "against the defaults (95 %)", "p (Holm)"),
        [
            (
                name,
                shown(row.settings[name]),
                f"{row.cost:.3f}x",
                row.accuracy,
                interval(d),
                bare_p(p),
            )
            for (name, row, d), p in zip(changes, adjusted, strict=True)
        ],
    )
    significant = [(name, row) for (name, row, _), p in zip(changes, adjusted, strict=True) if p < SIGNIFICANT]
    values = {name: [shown(row.settings[name]) for other, row in significant if other == name] for name in SWEPT}
    matter = {name for name, found in values.items() if found}
    listed = "; ".join(f"{name} {', '.join(found) or 'nowhere'}" for name, found in values.items())
    lines += ["", f"Significantly different from the defaults (p < {SIGNIFICANT}): {listed}."]
    lines += ["A segment ratio of 1 and a static threshold of none are one setting: nothing is merged over time."]
    lines += ["", *sensitivity(base, changes)]
    text = f"{', '.join(SWEPT).capitalize()}: each has values that change accuracy significantly (p < {SIGNIFICANT})."
    return Claim(text, matter == set(SWEPT), tuple(lines))


def only(row: Row, base: Row, name: str) -> bool:
    return distance(row.settings, base.settings) == 1 and row.settings[name] != base.settings[name]


def sensitivity(base: Row, changes: Sequence[tuple[str, Row, Difference]]) -> list[str]:
    """How far accuracy ranges over the values of each setting, by family; the largest range of a family in bold."""
    ranges: dict[str, dict[str, float]] = {}
    for name in SWEPT:
        group = [base, *(row for other, row, _ in changes if other == name)]
        scores = [task_accuracies(row.trial.records) for row in group]
        ranges[name] = {task: max(s[task].mean for s in scores) - min(s[task].mean for s in scores) for task in scores[0]}
    body = []
    for task in next(iter(ranges.values())):
        values = {name: ranges[name][task] for name in SWEPT}
        largest = max(values.values())
        body.append((task, *(f"**{v:.2f}**" if v == largest else f"{v:.2f}" for v in values.values())))
    each = base.summary.samples // len(body)
    samples = f"n={each} a family and value; an accuracy of 0.5 has a standard error of about {0.5 / each**0.5:.2f}"
    return [f"Range of accuracy over the values above, by family ({samples}):", "", *markdown(("family", *SWEPT), body)]


def front_is_rich(rows: Sequence[Row]) -> Claim:
    front = pareto_front([(row.cost, row.summary.accuracy) for row in rows])
    on = sorted((row for row, yes in zip(rows, front, strict=True) if yes), key=lambda row: row.cost)
    lines = markdown(
        (*SWEPT, "positions", "LLM prefill", "accuracy"),
        [
            (
                *map(shown, row.settings.values()),
                row.trial.info.settings["reducer"]["merge"]["positions"],
                f"{row.cost:.3f}x",
                row.accuracy,
            )
            for row in on
        ],
    )
    selecting = sum((row.settings["keep ratio"] or 1) < 1 for row in on)
    lines += ["", f"{len(on)} of {len(rows)} trials are on the front, {selecting} of them with keep ratio below 1."]
    lines += ["They were chosen and are shown on the same questions, so their accuracies are optimistic."]
    text = f"The front of a {SEARCH_TRIALS}-trial search has at least {FRONT_POINTS} points, attention selection among them."
    return Claim(text, len(on) >= FRONT_POINTS and selecting > 0, tuple(lines))


def claims(folder: Path, split: str, second: bool) -> list[Claim]:
    rows, validation = read_rows(folder / split), read_rows(folder / "validation")
    repeat = dense_of(read_rows(folder / f"{split}-second-seed")) if second else None
    return [
        dense_is_good(rows, repeat),
        loses_little(rows, validation),
        beats_baselines(rows, validation),
        settings_matter(rows),
        front_is_rich([row for row in read_rows(folder / f"{split}-search") if row.trial.info.reducer == "prunevid"]),
    ]


def report(results: Mapping[str, Sequence[Claim]], command: str) -> str:
    """Markdown: a table of verdicts, then the numbers of each split."""
    first = next(iter(results.values()))
    verdicts = [
        (claim.text, *("holds" if found[index].holds else "**does not hold**" for found in results.values()))
        for index, claim in enumerate(first)
    ]
    lines = ["# Does pruning mean something here?", "", f"Written by `{command}`; do not edit.", ""]
    lines += [" ".join((__doc__ or "").split("\n\n")[1].split()), ""]
    lines += ["Accuracies: mean ± standard error. Differences: paired by question, 95 % interval. Both clustered by video.", ""]
    lines += markdown(("claim", *results), verdicts)
    for split, found in results.items():
        for index, claim in enumerate(found, start=1):
            lines += ["", f"## {split.capitalize()} split, claim {index}", "", claim.text, "", *claim.lines]
    return "\n".join(lines) + "\n"


def main() -> None:
    write_anywhere()
    parser = parser_of(__file__, "Test what the embedded benchmark and model are meant to show.")
    parser.add_argument("folder", type=user_path, help="results go here; sweeps that it already holds are not run again")
    parser.add_argument("--second-seed", type=user_path, metavar="CHECKPOINT", help="the model trained with another seed")
    parser.add_argument("--processes", type=_positive, default=2, help="evaluation processes of one thread each (default 2)")
    parser.add_argument("--limit", type=_positive, help="questions per sweep, for a try-out (default: all)")
    arguments = parser.parse_args()
    if not Path("sweeps/evidence.yaml").is_file():
        parser.error("sweeps/evidence.yaml not found; run this in a checkout of the project")
    if arguments.second_seed and not arguments.second_seed.is_dir():
        parser.error(f"--second-seed: {arguments.second_seed} is not a folder")
    run_sweeps(arguments)
    second = arguments.second_seed is not None
    results = {split: claims(arguments.folder, split, second) for split in REPORTED}
    command = "python -m prunesweep.dev.evidence FOLDER" + " --second-seed CHECKPOINT" * second
    if arguments.limit:
        command += f" --limit {arguments.limit}"
    text = report(results, command)
    (arguments.folder / "evidence.md").write_text(prose(text), encoding="utf-8")
    print(text)
    if not all(claim.holds for found in results.values() for claim in found):
        sys.exit("python -m prunesweep.dev.evidence: not every claim holds; see the table above")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def run_sweeps(arguments: argparse.Namespace) -> None:
    folder: Path = arguments.folder
    common = [f"trainer.devices={arguments.processes}", "logger=none", "trainer.progress=false"]
    some, few = (f"benchmark.limit={arguments.limit or default}" for default in ("null", SEARCH_QUESTIONS))
    for split in ("validation", *REPORTED):
        benchmark = ["benchmark=blocks"]
        if split != "test":
            clips = folder / f"{split}-clips"
            if not (clips / "questions.jsonl").exists():
                draw_split(SPLIT_SEEDS[split], clips, PER_FAMILY)
            benchmark = ["benchmark=jsonl", f"benchmark.path={clips.absolute()}", f"benchmark.name=blocks-{split}"]
        run = _runner([*common, *benchmark])
        run(folder / split, ["--config-dir", str(SWEEPS), "--config-name", "evidence", some])
        if split in REPORTED:
            search = ["--config-dir", str(SWEEPS), "--config-name", "search", f"hydra.sweeper.trials={SEARCH_TRIALS}"]
            run(folder / f"{split}-search", [*search, "hydra.sweeper.batch=6", few])
            if arguments.second_seed:
                model = f"model.checkpoint={arguments.second_seed.absolute()}"
                run(folder / f"{split}-second-seed", ["-m", "reducer=none", model, some])


def _runner(overrides: Sequence[str]) -> Callable[[Path, Sequence[str]], Any]:
    """Runs `prunesweep` in a process of its own, unless the sweep is there already."""

    def run(sweep: Path, own: Sequence[str]) -> None:
        if (sweep / "summary.csv").exists():
            print(f"{sweep}: there already", file=sys.stderr)
            return
        command = [sys.executable, "-m", "prunesweep.cli.run", *own, *overrides, f"hydra.sweep.dir={sweep.absolute()}"]
        print(f"{sweep}: {' '.join(own)}", file=sys.stderr)
        log = sweep.with_name(f"{sweep.name}.log")
        with log.open("w") as file:
            done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=file, check=False)
        if done.returncode:
            sys.exit(
                f"python -m prunesweep.dev.evidence: the sweep {sweep} failed; the reason is above this line, its output in {log}"
            )

    return run


if __name__ == "__main__":
    main()
