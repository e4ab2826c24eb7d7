"""Tables in the layout of PruneVid's paper; published numbers stand beside ours where they exist."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from prunesweep.analysis import judge, resampling, significance
from prunesweep.analysis.accuracy import Accuracy
from prunesweep.analysis.counterparts import wanted
from prunesweep.analysis.outcomes import Outcomes
from prunesweep.analysis.significance import AgainstDense
from prunesweep.analysis.summary import Summary, scores_of
from prunesweep.analysis.wording import accuracy_text, p_text
from prunesweep.console.layout import count as counted
from prunesweep.console.layout import share_text
from prunesweep.paths import DATA
from prunesweep.report import official
from prunesweep.report.formats import DASH, NUMBER, TICK, Cell, Table
from prunesweep.report.grades import score_text
from prunesweep.report.plots import column_name
from prunesweep.report.text import ALIKE, short_names

PUBLISHED = DATA / "published.json"
SAME_RETAINED = 3.0
"""Points between our share of tokens in the last layer and the published one up to which a row is the same experiment."""
ERRORS = f"accuracy ± standard error clustered by video (n = samples); {ALIKE}"


def _scores(scores: Accuracy) -> Cell:
    numbers = {"": scores.mean, "SE": scores.error, "n": scores.samples}
    if not math.isnan(scores.mean):
        numbers |= significance.accuracy_interval(scores)._asdict()
    return Cell(accuracy_text(*scores), numbers)


def _number(text: str, value: float) -> Cell:
    return Cell(text, {"": value})


def _with_interval(value: float, error: float, low: float, high: float, sign: str = "") -> Cell:
    text = f"{value:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"
    return Cell(text, {"": float(value), "SE": float(error), "low": float(low), "high": float(high)})


def published() -> dict[str, Any]:
    return json.loads(PUBLISHED.read_text(encoding="utf-8"))


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _known_as(name: str, names: dict[str, str]) -> str | None:
    """The published name that ours contains: `pllava_7b` is `pllava`."""
    return next((known for known in names if known in _key(name)), None)


def _published_row(model: str, row: Summary, data: dict[str, Any]) -> dict[str, Any] | None:
    """Of table 1: same model and method, and about the same share of tokens retained."""
    known, method = _known_as(model, data["models"]), data["methods"].get(_key(row.reducer))
    for entry in data["table1"]:
        near = abs(100 * min(row.final_tokens, row.kv_tokens) / row.dense_tokens - entry["retained"]) <= SAME_RETAINED
        if (entry["model"], entry["method"]) == (known, method) and near:
            return entry
    return None


def _retained(row: Summary) -> float:
    """What the paper calls retained: of a method that evicts from the caches, what is left there."""
    return min(row.final_ratio, row.kv_ratio)


PLACES = ("model=", "benchmark=")
"""Parts of a trial's name that say on what it ran: rows and columns of the table."""


def _merged(rows: Sequence[Summary]) -> Summary:
    """One method's row: its costs are means over the benchmarks, for what merging leaves depends on the videos."""
    ratios = ("final_ratio", "kv_ratio", "llm_flops_ratio")
    known = [row for row in rows if not math.isnan(row.llm_flops_ratio)] or rows
    means = {name: sum(getattr(row, name) for row in known) / len(known) for name in ratios}
    name = " ".join(part for part in rows[0].trial.split(" ") if not part.startswith(PLACES))
    return replace(rows[0], trial=name, **means)


def _judged(outcomes: Outcomes, index: int) -> dict[str, Cell]:
    """What a judge gave a trial's free answers, by column; nothing if it has not been asked."""
    folder = outcomes.folders[index]
    judged = judge.read_scores(folder) if folder else {}
    return {
        f"{outcomes.benchmark} {name}": Cell(score_text(s), {"": s.mean, "SE": s.error, "n": s.graded})
        for name, s in judged.items()
    }


@dataclass
class _Line:
    """A method's row, as it is gathered from benchmark after benchmark."""

    summaries: list[Summary] = field(default_factory=list)
    cells: dict[str, str] = field(default_factory=dict)
    published: dict[str, Any] | None = None

    @property
    def merged(self) -> Summary:
        return _merged(self.summaries)

    @property
    def numbers(self) -> str:
        """One for each benchmark that it ran on."""
        return ", ".join(dict.fromkeys(row.number for row in self.summaries if row.number))


_Key = tuple[str, str]
"""Model and method."""


def methods_table(found: Sequence[Outcomes], tasks: bool = False) -> Table:
    """Table 1 of the paper: a row per model and method, a column per benchmark; with `tasks` a column per task, too."""
    data = published()
    lines, columns = _gathered(found, tasks)
    for (model, _), line in lines.items():
        line.published = _published_row(model, line.merged, data)
    printed = [c for c in columns if any(line.published and _score(line.published, c, data) != DASH for line in lines.values())]
    several = len({model for model, _ in lines}) > 1
    short, common = short_names([line.merged for line in lines.values()])
    names = dict(zip(lines, short, strict=True))
    body = [
        (
            lines[key].numbers,
            *((key[0],) if several else ()),
            names[key],
            _percent(_retained(lines[key].merged)),
            _times(lines[key].merged.llm_flops_ratio),
            *(lines[key].cells.get(column, DASH) for column in columns),
            *(_costs(lines[key].published) if printed else ()),
            *(_score(lines[key].published, name, data) for name in printed),
        )
        for key in sorted(lines, key=lambda key: _place(key, lines[key].merged))
    ]
    header = (NUMBER, *(("model",) if several else ()), "method", "retained", "FLOPs", *columns, *_printed_header(printed))
    notes = _methods_notes(found, columns, common, data["source"] if printed else None)
    return Table("Methods", header, tuple(body), tuple(notes), needed=("model", *columns[:1]))


def _gathered(found: Sequence[Outcomes], tasks: bool) -> tuple[dict[_Key, _Line], list[str]]:
    """Lines, and the columns that their cells are of, in the order in which they come."""
    lines: dict[_Key, _Line] = {}
    columns: dict[str, None] = {}
    for outcomes in found:
        by_task = significance.by_task(outcomes) if tasks else {}
        scores = significance.accuracies(outcomes)
        for index, row in enumerate(outcomes.table):
            line = lines.setdefault((outcomes.model, _merged([row]).trial), _Line())
            own = _judged(outcomes, index) or {outcomes.benchmark: _scores(scores[index])}
            own |= official.cells(outcomes.folders[index], outcomes.benchmark)
            own |= {f"{outcomes.benchmark}/{task}": _scores(values[index]) for task, values in by_task.items()}
            line.summaries.append(row)
            line.cells.update(own)
            columns.update(dict.fromkeys(own))
    return lines, list(columns)


def _place(key: _Key, row: Summary) -> tuple[Any, ...]:
    """The dense model first, then method by method, cheapest first."""
    return key[0], row.reducer != "none", row.reducer, row.llm_flops_ratio


def _printed_header(printed: Sequence[str]) -> tuple[str, ...]:
    costs = ("published retained", "published FLOPs") if printed else ()
    return (*costs, *(f"published {name}" for name in printed))


def _methods_notes(found: Sequence[Outcomes], columns: Sequence[str], common: Mapping[str, str], source: str | None) -> list[str]:
    """`source` is that of the published numbers beside ours, None without any."""
    several_benchmarks = "; means over the benchmarks" if len({one.benchmark for one in found}) > 1 else ""
    of = " and ".join(dict.fromkeys(one.relative_to for one in found if one.relative_to))
    notes = [
        ERRORS,
        "retained: visual tokens in the last layer, or in the KV caches of a method that evicts from them; FLOPs: LLM prefill; "
        f"both relative to {of}{several_benchmarks}",
    ]
    if any(column.endswith(f" {judge.MEAN}") for column in columns):
        notes.append("CI, DO, CU, TU, CO: a judge's scores from 0 to 5, as prunesweep judge left them")
    notes += [f"all {reducer} trials: {settings}" for reducer, settings in common.items()]
    if source:
        notes.append(f"published: {source}; beside trials that retain as much to within {SAME_RETAINED:g} points")
    return notes


def _costs(entry: dict[str, Any] | None) -> tuple[str, str]:
    return (_percent(entry["retained"] / 100), _times(entry["flops"])) if entry else (DASH, DASH)


def _score(entry: dict[str, Any] | None, benchmark: str, data: dict[str, Any]) -> str:
    dimension = benchmark.rpartition(" ")[2]
    judged = (
        entry["judged"] | {judge.MEAN: sum(entry["judged"].values()) / len(entry["judged"])}
        if entry and "judged" in entry
        else {}
    )
    if dimension in judged and "vcgbench" in _key(benchmark):
        return _number(f"{judged[dimension]:.2f}", judged[dimension])
    score = entry["scores"].get(_known_as(benchmark, data["benchmarks"])) if entry else None
    return DASH if score is None else _number(f"{score / 100:.3f}", score / 100)


def _percent(ratio: float) -> str:
    return DASH if math.isnan(ratio) else _number(f"{100 * ratio:.1f} %", ratio)


def _times(ratio: float) -> str:
    return DASH if math.isnan(ratio) else _number(f"{ratio:.2f}x", ratio)


def components(settings: dict[str, Any]) -> tuple[bool, bool, bool]:
    """Whether a trial merges over time, merges in space, and selects by attention."""
    reducer = settings["reducer"]
    merge, prune = reducer.get("merge") or {}, reducer.get("prune")
    return merge.get("static_threshold") is not None, merge.get("cluster_ratio", 1) != 1, prune is not None


def components_table(outcomes: Outcomes) -> Table:
    """Table 2 of the paper's ACL version: what merging over time, merging in space and attention selection add.

    Of the dense model's and PruneVid's trials.
    """
    data = published()
    model = _known_as(outcomes.model, data["models"])
    scores = significance.accuracies(outcomes)
    names = short_names(outcomes.table)[0]
    entries = {(e["time"], e["space"], e["attention"]): e for e in data["components"] if e["model"] == model}
    printed = bool(entries) and _known_as(outcomes.benchmark, data["benchmarks"]) is not None
    rows = []
    for index, (info, row) in enumerate(zip(outcomes.infos, outcomes.table, strict=True)):
        if row.reducer != "none" and "prunevid" not in row.reducer:
            continue
        parts = components(info.settings)
        entry = entries.get(parts)
        ours = (_percent(row.final_ratio), _times(row.llm_flops_ratio), _scores(scores[index]))
        theirs = (*_costs(entry), _score(entry, outcomes.benchmark, data)) if printed else ()
        ticks = (TICK if part else DASH for part in parts)
        rows.append((parts, (row.number, names[index], *ticks, *ours, *theirs)))
    header = [NUMBER, "trial", "time", "space", "attention", "retained", "FLOPs", outcomes.benchmark]
    if printed:
        header += ["published retained", "published FLOPs", f"published {outcomes.benchmark}"]
    ordered = [cells for _, cells in sorted(rows, key=lambda row: (sum(row[0]), [not part for part in row[0]]))]
    needed = ("time", "space", "attention", outcomes.benchmark)
    return Table("Components of PruneVid", tuple(header), tuple(ordered), (ERRORS,), needed)


def against_table(outcomes: Outcomes) -> Table:
    """Every trial against the dense model.  Raises ValueError without one."""
    against = significance.against_dense(outcomes)
    if against is None:
        if not any(row.samples for row in outcomes.table):
            raise ValueError("no trial has an answer, so there is nothing to compare")
        raise ValueError(f"the sweep has no trial without reduction; add {wanted(outcomes)} to compare with it")
    probability = resampling.front(outcomes).probability
    names = short_names(outcomes.table)[0]
    order = [i for i in np.argsort(outcomes.costs, kind="stable") if outcomes.table[i].samples]
    generated = any(not math.isnan(outcomes.table[i].unclear) for i in order)
    rows = [
        (
            outcomes.table[i].number,
            names[i],
            _number(f"{outcomes.costs[i]:.4g}", float(outcomes.costs[i])),
            _scores(scores_of(outcomes.table[i])),
            _number(f"{probability[i]:.2f}", float(probability[i])),
            *_tested(against, i),
            *(_named(outcomes.table[i]) if generated else ()),
        )
        for i in order
    ]
    usual = ("accuracy ± SE", "on front", "against dense (95 %)", "gained/lost", "p", "Holm", "FDR", "McNemar")
    header = (NUMBER, "trial", column_name(outcomes.cost), *usual, *(("no option", "several") if generated else ()))
    title = f"Against the dense model, {outcomes.model} on {outcomes.benchmark}"
    return Table(title, header, tuple(rows), _against_notes(outcomes, against), ("accuracy ± SE", "against dense (95 %)", "Holm"))


def _tested(against: AgainstDense, index: int) -> tuple[str, ...]:
    """The difference with its interval, answers gained and lost, and what tests say."""
    d = against.difference
    if index == against.own[index]:
        return "the dense model", *[DASH] * 5
    if not d.samples[index]:
        return "no dense trial", *[DASH] * 5
    gained, lost = int(d.gained[index]), int(d.lost[index])
    return (
        _with_interval(d.mean[index], d.error[index], d.low[index], d.high[index], "+"),
        Cell(f"{gained}/{lost}", {"gained": gained, "lost": lost}),
        *(_p(p[index]) for p in (d.p_value, against.holm, against.fdr, d.mcnemar)),
    )


def _against_notes(outcomes: Outcomes, against: AgainstDense) -> tuple[str, ...]:
    return (
        "against dense: the dense trial on the same frames and prompts; paired by question, Student's t, errors clustered by "
        "video; McNemar takes questions for independent",
        *(f"no dense trial for {counted(count, 'trial')}: add {what}" for what, count in against.missing.items()),
        *((f"cost: of {outcomes.relative_to}",) if outcomes.cost.endswith("ratio") else ()),
        f"Holm, FDR: p corrected over {sum(~np.isnan(against.holm))} trials",
        f"on front: share of {resampling.REPLICATES} draws of the videos",
    )


def _named(row: Summary) -> tuple[Cell, Cell]:
    """Shares of answers that name no option, and several."""
    return _number(share_text(row.unclear), row.unclear), _number(share_text(row.ambiguous), row.ambiguous)


def _p(value: float) -> str:
    return _number("n/a" if math.isnan(value) else p_text(value).removeprefix("p ").removeprefix("= "), float(value))


def tasks_table(outcomes: Outcomes) -> Table:
    """Accuracy of every trial on every task."""
    by_task = significance.by_task(outcomes)
    names = short_names(outcomes.table)[0]
    order = [i for i in np.argsort(outcomes.costs, kind="stable") if outcomes.table[i].samples]
    rows = tuple((outcomes.table[i].number, names[i], *(_scores(own[i]) for own in by_task.values())) for i in order)
    return Table(f"By task, {outcomes.model} on {outcomes.benchmark}", (NUMBER, "trial", *by_task), rows)


def effects_table(outcomes: Outcomes) -> Table:
    """Adjusted mean accuracy of every setting's values."""
    from prunesweep.analysis.ablation import ablations

    rows = [
        (ablation.reducer, effect.factor, str(level.value), str(level.trials),
         _with_interval(*level.accuracy), _with_interval(*level.effect, "+"), _p(effect.adjusted))
        for ablation in ablations(outcomes) for effect in ablation.main for level in effect.levels
    ]  # fmt: skip
    header = ("reducer", "setting", "value", "trials", "mean accuracy (95 %)", "effect (95 %)", "Holm p of setting")
    notes = (
        "means over the other settings' values (additive model); effect: against the mean of the values, paired by question",
    )
    needed = ("setting", "value", "effect (95 %)", "Holm p of setting")
    return Table(f"Main effects, {outcomes.model} on {outcomes.benchmark}", header, tuple(rows), notes, needed)
