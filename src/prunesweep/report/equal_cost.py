"""Methods at equal cost, shown: a table, a list of every entry, a picture."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from prunesweep.analysis.equal_cost import SHOWN_WHOLE, SIGNIFICANT, Budget, Entry, Row, budgets_asked, by_method, shown
from prunesweep.analysis.outcomes import Outcomes
from prunesweep.analysis.significance import accuracies, accuracy_interval
from prunesweep.analysis.wording import accuracy_text, p_text
from prunesweep.console.layout import markdown, prose
from prunesweep.report.style import COLOURS, COLUMN, PAGE, PALE, SOFT, canvas, headed, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


TABLE, ALL, PICTURE = "methods_table.md", "methods.csv", "methods.png"


HEADER = ("#", "method", "solved", "LLM prefill", "at end", "spent", "accuracy ± SE", "difference (95 %)", "p (Holm)")


def cells(row: Row) -> tuple[str, ...]:
    e, g = row.entry, row.gap
    name = e.name + (f" ({e.seeds} seeds)" if e.seeds > 1 else "")
    spent = "–" if math.isnan(e.spent) else f"{e.spent:.3f}x"
    own = (e.numbers, name, e.solved, f"{e.cost:.3f}x", f"{e.final_ratio:.3f}x", spent, accuracy_text(*e.scores))
    if g is None:
        return (*own, "–", "–")
    return (*own, f"{g.mean:+.3f} ({g.low:+.3f} to {g.high:+.3f})", p_text(row.holm).removeprefix("p ").removeprefix("= "))


def table(outcomes: Outcomes, rows: Sequence[Row], chosen: dict[Budget, Entry]) -> str:
    """Markdown: one table a budget, of the rows that are shown, and what all of them say."""
    lines = [f"{outcomes.model} on {outcomes.benchmark}; {_dense(outcomes)}."]
    if not chosen:
        lines[0] += " No differences: there is no prunevid here; --reference names another method."
    for asked in dict.fromkeys((row.entry.budget.cost, row.entry.budget.asked) for row in rows):
        lines += ["", *overview([row for row in rows if (row.entry.budget.cost, row.entry.budget.asked) == asked], chosen)]
    for budget in dict.fromkeys(row.entry.budget for row in rows):
        own = [row for row in rows if row.entry.budget == budget]
        reference = f"; differences to {chosen[budget].name}" if budget in chosen else ""
        lines += ["", f"**{budget}**{reference}", ""]
        lines += markdown(HEADER, [cells(row) for row in shown(own)])
        if budget in chosen:
            lines += ["", tally(own)]
    return prose("\n".join(lines)) + "\n"


NOTABLE = 0.1
"""Of a budget that was missed by more, relative to it, a table says what was spent."""


def overview(rows: Sequence[Row], chosen: dict[Budget, Entry]) -> list[str]:
    """Every method's best setting at each budget of one cost."""
    budgets = sorted({row.entry.budget for row in rows})
    samples = {row.entry.scores.samples for row in rows}
    questions = f"{min(samples)}" if len(samples) == 1 else f"{min(samples)} to {max(samples)}"
    what = f"Accuracy ± SE on {questions} questions at shares of {str(budgets[0]).partition(' of ')[2]}"
    marks = ". Marks ↓ and ↑ are below and above the reference at the same budget (p < 0.05, Holm)" if chosen else ""
    missed = f". In brackets (…x) stands what was spent, where that is over {NOTABLE:.0%} off"
    header = ("method, its best setting", *(f"{budget.target:g}x" for budget in budgets))
    lines = [
        (name, *(_cell(own[budget]) if budget in own else "–" for budget in budgets)) for name, own in by_method(rows).items()
    ]
    return [f"{what}{marks}{missed}.", "", *markdown(header, lines)]


def _cell(row: Row) -> str:
    entry, off = row.entry, abs(row.entry.spent - row.entry.target)
    spent = f" ({entry.spent:.3f}x)" if off > NOTABLE * entry.target else ""
    sure = row.gap is not None and row.holm < SIGNIFICANT
    mark = "" if row.gap is None or not sure else " ↓" if row.gap.mean < 0 else " ↑"
    said = accuracy_text(*entry.scores).removesuffix(f" (n={entry.scores.samples})")
    return f"{said}{mark}{spent}"


def tally(rows: Sequence[Row]) -> str:
    """How many settings differ from the reference for sure."""
    tested = [row for row in rows if row.gap is not None]
    sure = [row.gap.mean for row in tested if row.gap is not None and row.holm < SIGNIFICANT]
    worse, better = sum(mean < 0 for mean in sure), sum(mean > 0 for mean in sure)
    return f"Of {len(tested)} other settings {worse} are less accurate and {better} more (p < {SIGNIFICANT}, Holm)."


def _dense(outcomes: Outcomes) -> str:
    scores = accuracies(outcomes)
    asked = budgets_asked(outcomes)
    dense = [
        accuracy_text(*scores[i]) + (f" with {asked[i]}" if asked[i] else "")
        for i, info in enumerate(outcomes.infos)
        if info.reducer == "none"
    ]
    return f"the dense model has {', '.join(dense)}" if dense else "the dense model was not evaluated"


COLUMNS = (
    *(
        "#",
        "budget",
        "budget_of",
        "asked",
        "reducer",
        "settings",
        "solved",
        "llm_flops_ratio",
        "final_ratio",
        "spent",
        "accuracy",
        "error",
        "samples",
        "seeds",
    ),
    *("difference", "low", "high", "p", "p_holm"),
)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Every entry, with its numbers unrounded."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            e, g = row.entry, row.gap
            against = ["", "", "", "", ""] if g is None else [*g, row.holm]
            own = [
                e.numbers,
                *e.budget,
                e.reducer,
                e.label,
                e.solved,
                e.cost,
                e.final_ratio,
                e.spent,
                e.scores.mean,
                e.scores.error,
                e.scores.samples,
            ]
            writer.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in (*own, e.seeds, *against)])


PANELS = 4
"""In a row."""


@styled
def figure(outcomes: Outcomes, rows: Sequence[Row], chosen: dict[Budget, Entry]) -> Figure:
    """Accuracy against cost, a panel per method before all others; of other methods the best setting at each budget."""
    lines = _lines(rows, chosen)
    best = sorted(lines, key=lambda name: -max(e.scores.mean for e in lines[name]))
    columns = min(PANELS, len(best))
    height = -(-len(best) // columns)
    size = PAGE if columns > 2 else COLUMN
    drawn, panels = canvas(size, 1.15 * height + 0.75, height, columns, sharex=True, sharey=True)
    dense = [summary.accuracy for summary in outcomes.table if summary.reducer == "none"]
    for axes, name in zip(panels, best, strict=False):
        _panel(axes, lines, name)
        for accuracy in dense:
            axes.axhline(accuracy, color=SOFT, linewidth=0.6, linestyle=":")
        axes.set_title("\n".join(wrap(name, 26)), loc="left", fontsize=6.5)
    if dense:
        panels[0].annotate("dense", (1, max(dense)), xycoords=("axes fraction", "data"), xytext=(-1, 1), ha="right", va="bottom",
                           textcoords="offset points", fontsize=6, color=SOFT)  # fmt: skip
    for axes in panels[len(best) :]:
        axes.remove()
    for axes in panels[max(0, len(best) - columns) : len(best)]:
        axes.tick_params(labelbottom=True)  # the last one of each column, also above a gap
    drawn.supxlabel("LLM prefill FLOPs, relative to the dense model on the same frames and prompts", fontsize=7)
    drawn.supylabel("accuracy", fontsize=7)
    also = "; dark: the reference" if chosen else ""
    title = f"{outcomes.model} on {outcomes.benchmark}, n = {len(outcomes.samples)}; bars: 95 % intervals"
    headed(drawn, f"{title}{also}; grey: all others")
    return drawn


def _panel(axes: Axes, lines: dict[str, list[Entry]], name: str) -> None:
    """One method before all others."""
    for other in lines:
        axes.plot(*_points(lines[other]), color=PALE, linewidth=0.7, zorder=1)
    for reference in (other for other in lines if other.endswith(REFERENCE)):
        axes.plot(*_points(lines[reference]), color=SOFT, linewidth=1, zorder=2)
    own = sorted(lines[name], key=lambda e: e.cost)
    for e in own:
        axes.vlines(e.cost, *accuracy_interval(e.scores), color=COLOURS[0], linewidth=0.8, zorder=3)
    axes.plot(*_points(own), color=COLOURS[0], marker="o", markersize=2.5, linewidth=1, zorder=3)


REFERENCE = " (reference)"


def _lines(rows: Sequence[Row], chosen: dict[Budget, Entry]) -> dict[str, list[Entry]]:
    names = {id(e): f"{e.reducer}{REFERENCE}" for e in chosen.values()}
    lines: dict[str, list[Entry]] = {}
    for row in rows:
        e = row.entry
        lines.setdefault(names.get(id(e), e.name if e.reducer.startswith(SHOWN_WHOLE) else e.reducer), []).append(e)
    return lines


def _points(entries: Sequence[Entry]) -> tuple[list[float], list[float]]:
    ordered = sorted(entries, key=lambda e: e.cost)
    return [e.cost for e in ordered], [e.scores.mean for e in ordered]
