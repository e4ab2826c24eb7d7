"""Tables in the layout of PruneVid's paper, as Markdown, LaTeX or CSV; published numbers stand beside ours where they exist."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from prunesweep.analysis import judge, resampling, significance
from prunesweep.analysis.accuracy import Accuracy
from prunesweep.analysis.counterparts import wanted
from prunesweep.analysis.outcomes import Outcomes
from prunesweep.analysis.summary import Summary, scores_of
from prunesweep.analysis.wording import accuracy_text, p_text
from prunesweep.layout import count as counted
from prunesweep.layout import grid, markdown, share_text, visible
from prunesweep.paths import DATA
from prunesweep.report.grades import score_text
from prunesweep.report.plots import column_name
from prunesweep.report.text import ALIKE, short_names

PUBLISHED = DATA / "published.json"
SAME_RETAINED = 3.0
"""Points between our share of tokens in the last layer and the published one up to which a row is the same experiment."""
ERRORS = f"accuracy ± standard error clustered by video (n = samples); {ALIKE}"
TICK, DASH = "✓", "–"


class Cell(str):
    """What a cell shows, and the numbers behind it for a CSV: by what is added to the column's name, "" for nothing."""

    numbers: dict[str, float]

    def __new__(cls, text: str, numbers: dict[str, float]) -> Cell:
        cell = super().__new__(cls, text)
        cell.numbers = numbers
        return cell


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


@dataclass(frozen=True)
class Table:
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


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


def methods_table(found: Sequence[Outcomes], tasks: bool = False) -> Table:
    """Table 1 of the paper: a row per model and method, a column per benchmark; with `tasks` a column per task, too."""
    data = published()
    cells: dict[tuple[str, str], dict[str, str]] = {}
    summaries: dict[tuple[str, str], list[Summary]] = {}
    columns: list[str] = []
    for outcomes in found:
        by_task = significance.by_task(outcomes) if tasks else {}
        scores = significance.accuracies(outcomes)
        for index, row in enumerate(outcomes.table):
            key = (outcomes.model, _merged([row]).trial)
            summaries.setdefault(key, []).append(row)
            own = _judged(outcomes, index) or {outcomes.benchmark: _scores(scores[index])}
            own |= {f"{outcomes.benchmark}/{task}": _scores(values[index]) for task, values in by_task.items()}
            cells.setdefault(key, {}).update(own)
            columns += [column for column in own if column not in columns]
    rows = {key: _merged(own) for key, own in summaries.items()}
    matched = {key: _published_row(key[0], row, data) for key, row in rows.items()}
    printed = [c for c in columns if any(entry and _score(entry, c, data) != DASH for entry in matched.values())]
    several = len({model for model, _ in rows}) > 1
    names = dict(zip(rows, short_names(list(rows.values()))[0], strict=True))
    common = short_names(list(rows.values()))[1]
    header = (
        *(("model",) if several else ()),
        "method",
        "retained",
        "FLOPs",
        *columns,
        *(("published retained", "published FLOPs") if printed else ()),
        *(f"published {name}" for name in printed),
    )
    body = [
        (
            *((key[0],) if several else ()),
            names[key],
            _percent(_retained(rows[key])),
            _times(rows[key].llm_flops_ratio),
            *(cells[key].get(column, DASH) for column in columns),
            *(_costs(matched[key]) if printed else ()),
            *(_score(matched[key], name, data) for name in printed),
        )
        for key in sorted(rows, key=lambda k: (k[0], rows[k].reducer != "none", rows[k].reducer, rows[k].llm_flops_ratio))
    ]
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
    if printed:
        notes.append(f"published: {data['source']}; beside trials that retain as much to within {SAME_RETAINED:g} points")
    return Table("Methods", header, tuple(body), tuple(notes))


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
        ours = (names[index], _percent(row.final_ratio), _times(row.llm_flops_ratio), _scores(scores[index]))
        theirs = (*_costs(entry), _score(entry, outcomes.benchmark, data)) if printed else ()
        rows.append((parts, (*(TICK if part else DASH for part in parts), *ours, *theirs)))
    header = ["time", "space", "attention", "trial", "retained", "FLOPs", outcomes.benchmark]
    if printed:
        header += ["published retained", "published FLOPs", f"published {outcomes.benchmark}"]
    ordered = [cells for _, cells in sorted(rows, key=lambda row: (sum(row[0]), [not part for part in row[0]]))]
    return Table("Components of PruneVid", tuple(header), tuple(ordered), (ERRORS,))


def against_table(outcomes: Outcomes) -> Table:
    """Every trial against the dense model.  Raises ValueError without one."""
    against = significance.against_dense(outcomes)
    if against is None:
        if not any(row.samples for row in outcomes.table):
            raise ValueError("no trial has an answer, so there is nothing to compare")
        raise ValueError(f"the sweep has no trial without reduction; add {wanted(outcomes)} to compare with it")
    probability = resampling.front(outcomes).probability
    names, d = short_names(outcomes.table)[0], against.difference
    order = [i for i in np.argsort(outcomes.costs, kind="stable") if outcomes.table[i].samples]
    generated = any(not math.isnan(outcomes.table[i].unclear) for i in order)
    rows = [
        (
            names[i],
            _number(f"{outcomes.costs[i]:.4g}", float(outcomes.costs[i])),
            _scores(scores_of(outcomes.table[i])),
            _number(f"{probability[i]:.2f}", float(probability[i])),
            *(("the dense model", *[DASH] * 5) if i == against.own[i] else
              ("no dense trial", *[DASH] * 5) if not d.samples[i] else
              (_with_interval(d.mean[i], d.error[i], d.low[i], d.high[i], "+"),
               Cell(f"{d.gained[i]}/{d.lost[i]}", {"gained": int(d.gained[i]), "lost": int(d.lost[i])}),
               *(_p(p[i]) for p in (d.p_value, against.holm, against.fdr, d.mcnemar)))),
            *(_named(outcomes.table[i]) if generated else ()),
        )
        for i in order
    ]  # fmt: skip
    header = (
        "trial",
        column_name(outcomes.cost),
        "accuracy ± SE",
        "on front",
        "against dense (95 %)",
        "gained/lost",
        "p",
        "Holm",
        "FDR",
        "McNemar",
        *(("no option", "several") if generated else ()),
    )
    notes = (
        "against dense: the dense trial on the same frames and prompts; paired by question, Student's t, errors clustered by "
        "video; McNemar takes questions for independent",
        *(f"no dense trial for {counted(count, 'trial')}: add {what}" for what, count in against.missing.items()),
        *((f"cost: of {outcomes.relative_to}",) if outcomes.cost.endswith("ratio") else ()),
        f"Holm, FDR: p corrected over {sum(~np.isnan(against.holm))} trials",
        f"on front: share of {resampling.REPLICATES} draws of the videos",
    )
    return Table(f"Against the dense model, {outcomes.model} on {outcomes.benchmark}", header, tuple(rows), notes)


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
    rows = tuple((names[i], *(_scores(scores[i]) for scores in by_task.values())) for i in order)
    return Table(f"By task, {outcomes.model} on {outcomes.benchmark}", ("trial", *by_task), rows)


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
    return Table(f"Main effects, {outcomes.model} on {outcomes.benchmark}", header, tuple(rows), notes)


def to_text(table: Table) -> str:
    return "\n".join([table.title, "", grid(table.header, table.rows), *table.notes])


def to_markdown(table: Table) -> str:
    """With the characters escaped that end a cell or start markup; names are shown as typed."""
    header, *rows = (tuple(_markdown_cell(cell) for cell in line) for line in (table.header, *table.rows))
    return "\n".join(
        [f"**{_markdown_cell(table.title)}**", "", *markdown(header, rows), "", *(f"{_markdown_cell(n)}  " for n in table.notes)]
    )


def _markdown_cell(cell: str) -> str:
    return re.sub(r"([\\|*_`<>\[\]])", r"\\\1", " ".join(cell.split()))


LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", TICK: r"\checkmark", DASH: "--"}
LATEX |= {character: f"\\{character}" for character in "&%$#_{}"} | {"±": r"$\pm$"}
LATEX |= {character: f"${character}$" for character in "<>|"}


def to_latex(table: Table) -> str:
    r"""A booktabs `tabular` in a `table`, to be `\input`; needs the packages booktabs and amssymb (for the tick)."""
    body = [" & ".join(map(_latex_cell, row)) + r" \\" for row in table.rows]
    notes = r" \\ ".join(map(_latex_cell, table.notes))
    return "\n".join(
        [
            r"% needs \usepackage{booktabs,amssymb}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex_cell(table.title)}.}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
            r"\toprule",
            " & ".join(map(_latex_cell, table.header)) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            *([rf"\par\footnotesize {notes}"] if notes else []),
            r"\end{table}",
        ]
    )


def _latex_cell(cell: str) -> str:
    return "".join(LATEX.get(character, character) for character in visible(" ".join(cell.split())))


def _known(cell: str, key: str) -> float | None:
    number = cell.numbers.get(key, math.nan) if isinstance(cell, Cell) else math.nan
    return None if math.isnan(number) else number


def _column(name: str, key: str) -> str:
    """`accuracy`, `accuracy SE`; of `gained/lost` each is a column."""
    return key if key in name.split("/") else f"{SHOWN_BESIDE.sub('', name)} {key}".rstrip()


SHOWN_BESIDE = re.compile(r" (± SE|\(95 %\))$")


def to_csv(table: Table) -> str:
    """Every number in a column of its own, with all its digits; what is no number is empty there."""
    columns: list[list[Any]] = []
    for name, cells in zip(table.header, zip(*table.rows, strict=True), strict=False):
        keys = dict.fromkeys(key for cell in cells if isinstance(cell, Cell) for key in cell.numbers)
        if not keys:
            columns.append([*map(visible, (name, *cells))])
        for key in keys:
            columns.append([visible(_column(name, key)), *(_known(cell, key) for cell in cells)])
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(zip(*columns, strict=True) if columns else [[*map(visible, table.header)]])
    return out.getvalue().rstrip("\n")


FORMATS: dict[str, Callable[[Table], str]] = {"text": to_text, "markdown": to_markdown, "latex": to_latex, "csv": to_csv}
