"""The gallery of pictures, `python -m prunesweep.dev.gallery SWEEP MATCHED docs`: one of each kind, drawn from finished sweeps.

Writes `gallery.md` and `images/*.png`.  The screenshot of the report needs Chromium, and is left as it is without.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from prunesweep.console.layout import prose
from prunesweep.dev.browser import browser, chromium
from prunesweep.errors import reported
from prunesweep.paths import user_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from prunesweep.analysis.outcomes import Outcomes

MOST_BYTES = 150_000
"""Of a picture in the documentation."""
REPORT, SCREEN = "report", (1440, 860)
SAMPLERS, SEARCHES, TRIALS, BATCH = ("tpe", "random"), 3, 18, 3
"""Of the searches that are replayed among the sweep's trials."""

INTRODUCTION = """# Gallery

Every picture that PruneSweep draws, with the command that draws it. All but one are of one sweep: {said}.
They are as wide as a column or a page of a two-column paper, {column:g} and {page:g} inches, in one style sheet.
Sweeps, `prunesweep methods` and `prunesweep tokens` write each as PNG, PDF and SVG; a command that is given a file's name writes
what its ending says. `prunesweep.report.style.save` writes any of them.
Error bars are 95 % intervals everywhere. Written by `python -m prunesweep.dev.gallery SWEEP MATCHED docs`.
"""


class Picture(NamedTuple):
    """One entry of the page."""

    name: str
    title: str
    words: str
    command: str
    figure: Figure | None


def pictures(sweep: Path) -> Iterator[Picture]:
    """What can be drawn of a sweep.  Raises ValueError for one of several models or benchmarks."""
    from prunesweep.analysis.outcomes import read_outcomes
    from prunesweep.analysis.resampling import front
    from prunesweep.report import figures, plots

    found = read_outcomes(sweep)
    if len(found) != 1:
        raise ValueError(f"{sweep} has {len(found)} pairs of model and benchmark; the gallery takes one")
    (outcomes,) = found
    where = f"{outcomes.model} on {outcomes.benchmark}"
    yield Picture(
        REPORT,
        "The report",
        "One page that opens without a network. Every trial can be chosen.",
        "prunesweep report latest",
        None,
    )
    yield Picture(
        "pareto",
        "Accuracy against cost",
        "Every sweep leaves it as `pareto.png`, `.pdf` and `.svg`.",
        "prunesweep sweep demo",
        plots.pareto_figure({where: plots.pareto_points(outcomes.table, outcomes.cost)}),
    )
    yield Picture(
        "front",
        "The front and its band",
        "How far chance moves the front.",
        "figures.front_figure(outcomes, front)",
        figures.front_figure(outcomes, front(outcomes)),
    )
    yield from _settings(outcomes)
    yield from _searches(sweep, outcomes)
    yield from _token_maps(sweep, outcomes)


def _settings(outcomes: Outcomes) -> Iterator[Picture]:
    """What settings do, one by one and together; of the method with most trials."""
    from prunesweep.analysis.ablation import ablations, importances
    from prunesweep.report import figures

    largest = max(ablations(outcomes), key=lambda one: one.trials, default=None)
    if largest is not None:
        title = f"{largest.reducer}, n = {largest.samples} questions"
        yield Picture(
            "effects",
            "Effects of settings",
            "One scale, the significant ones first; what is not is grey.",
            "figures.effects_figure(ablation)",
            figures.effects_figure(largest),
        )
        if pairs := sorted(largest.interactions, key=lambda pair: pair.adjusted)[:3]:
            yield Picture(
                "interactions",
                "Pairs of settings",
                "Mean accuracies of each pair of values.",
                "figures.interactions_figure(ablation.interactions, title)",
                figures.interactions_figure(pairs, title),
            )
    if told := importances(outcomes):
        yield Picture(
            "importance",
            "Importance of settings",
            "What each setting explains alone (fANOVA).",
            "figures.importance_figure(importances)",
            figures.importance_figure(told),
        )
    if lines := figures.parallel_coordinates(outcomes):
        most = max(lines, key=lambda one: len(one.lines))
        yield Picture(
            "parallel",
            "Lines through the settings",
            "A line per trial, the yellower the more accurate.",
            "figures.parallel_figure(coordinates)",
            figures.parallel_figure(most),
        )


def _searches(sweep: Path, outcomes: Outcomes) -> Iterator[Picture]:
    """Searches among the trials of the method that has most of them, as if they had not been run."""
    from prunesweep.search.curves import by_sampler, volumes_figure
    from prunesweep.search.replay import read_grid, replay

    counts = Counter(info.reducer for info in outcomes.infos)
    method = counts.most_common(1)[0][0]
    with tempfile.TemporaryDirectory() as folder:
        for info, own in zip(outcomes.infos, outcomes.folders, strict=True):
            if own is not None and info.reducer == method:
                (Path(folder) / own.name).symlink_to(own.absolute())
        whole = read_grid(Path(folder), outcomes.cost)
    curves = [replay(whole, name, seed, TRIALS, BATCH, 1.0) for name in SAMPLERS for seed in range(SEARCHES)]
    best = float(whole.curve(list(whole.found), 1.0)[-1])
    drawn = volumes_figure(by_sampler(curves), best, f"searches among {len(whole.found)} settings of {method}")
    command = f"prunesweep replay search GRID --trials {TRIALS} --picture search.png"
    words = "What is missing of the best front after so many trials."
    yield Picture("search", "Searches, sampler by sampler", words, command, drawn)


def _token_maps(sweep: Path, outcomes: Outcomes) -> Iterator[Picture]:
    """Of the knee, on a question whose answer flipped."""
    from prunesweep.analysis.resampling import front
    from prunesweep.analysis.significance import dense_trial
    from prunesweep.report.token_maps import flipped, load_trials, trace_trial
    from prunesweep.report.token_pictures import overlap_figure, trace_figure

    knee, dense = front(outcomes).knee, dense_trial(outcomes)
    if knee is None or dense is None or knee == dense:
        return
    folders = [folder for index in (knee, dense) if (folder := outcomes.folders[index])]
    gained, lost = flipped(*folders)
    trials = load_trials(folders)
    sample = next(iter([*lost, *gained, *trials[0].samples]))
    one = trace_trial(trials[0], sample)
    yield Picture(
        "tokens",
        "Where the tokens go",
        "The frames, and what each stage of the method did to them.",
        f"prunesweep tokens {outcomes.table[knee].number}",
        trace_figure(one),
    )
    rival = _rival(outcomes, knee)
    if rival is None or (folder := outcomes.folders[rival]) is None:
        return
    (trial,) = load_trials([folder])
    yield Picture(
        "overlap",
        "Two methods on one video",
        "What each keeps, and where they agree.",
        f"prunesweep tokens {outcomes.table[knee].number} {outcomes.table[rival].number}",
        overlap_figure(one, trace_trial(trial, sample)),
    )


def _rival(outcomes: Outcomes, trial: int) -> int | None:
    """Of another method, the trial that costs most nearly as much; the dense model keeps all, which shows nothing."""
    table, cost = outcomes.table, outcomes.cost
    own = getattr(table[trial], cost)
    others = [i for i, row in enumerate(table) if row.reducer != table[trial].reducer and not row.dense and row.samples]
    return min(others, key=lambda i: abs(getattr(table[i], cost) - own), default=None)


def _methods(sweep: Path) -> Picture:
    """Methods at equal cost, of a sweep with `reducer.match`."""
    from prunesweep.analysis.equal_cost import compared, entries, references
    from prunesweep.analysis.outcomes import read_outcomes
    from prunesweep.report.equal_cost import figure, shown

    (outcomes,) = read_outcomes(sweep)
    every = entries(outcomes)
    chosen = references(every, [])
    rows = compared(every, chosen, outcomes.video)
    words = f"A panel a method, all others behind it in grey. This one is of another sweep: {_said(sweep)}."
    drawn = figure(outcomes, shown(rows), chosen)
    return Picture("methods", "Methods at equal cost", words, "prunesweep methods SWEEP", drawn)


def photograph(sweep: Path, path: Path) -> None:
    """The first screen of a sweep's report."""
    from prunesweep.analysis.outcomes import read_outcomes
    from prunesweep.report.html import write_report

    with tempfile.TemporaryDirectory() as folder, browser() as page:
        write_report(read_outcomes(sweep), sweep, Path(folder) / "report.html")
        page.screen(*SCREEN)
        page.open((Path(folder) / "report.html").as_uri())
        page.photograph(path)
    shrink(path.read_bytes(), path)


def shrink(content: bytes, path: Path, most: int = MOST_BYTES) -> None:
    """A PNG of so many bytes at most: all colours if they fit, else 256 that keep rare ones, then fewer pixels."""
    from PIL import Image

    image = Image.open(io.BytesIO(content)).convert("RGB")
    image.save(path, optimize=True)
    while path.stat().st_size > most:
        image.quantize(256, kmeans=6, dither=Image.Dither.NONE).save(path, optimize=True)
        image = image.resize([round(0.9 * side) for side in image.size], Image.Resampling.LANCZOS)


def write_gallery(sweep: Path, matched: Path, docs: Path) -> list[Path]:
    """Writes the page and its pictures; returns the pictures."""
    from prunesweep.report.style import COLUMN, PAGE, save

    images = docs / "images"
    images.mkdir(parents=True, exist_ok=True)
    parts, written = [], []
    for picture in (*pictures(sweep), _methods(matched)):
        path = images / f"{picture.name}.png"
        if picture.figure is not None:
            save(picture.figure, path)
            shrink(path.read_bytes(), path)
        elif chromium():
            photograph(sweep, path)
        if path.is_file():
            written.append(path)
            parts.append(f"## {picture.title}\n\n{picture.words} `{picture.command}`\n\n![{picture.title}](images/{path.name})\n")
    text = "\n".join([INTRODUCTION.format(said=_said(sweep), column=COLUMN, page=PAGE), *parts])
    (docs / "gallery.md").write_text(prose(text).rstrip() + "\n", encoding="utf-8")
    return written


def _said(sweep: Path) -> str:
    from prunesweep.report.html import command_of
    from prunesweep.results.read import read_infos

    return f"`{command_of(sweep) or 'from Python'}`, {len(read_infos(sweep))} trials"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m prunesweep.dev.gallery", description="Draw the gallery of the documentation."
    )
    parser.add_argument("sweep", type=user_path, help="a finished sweep of one model and benchmark, such as the demo")
    parser.add_argument("matched", type=user_path, help="one with reducer.match, of several methods")
    parser.add_argument("docs", type=user_path, help="gallery.md and images/*.png are written here")
    arguments = parser.parse_args()
    with reported():
        for path in write_gallery(arguments.sweep, arguments.matched, arguments.docs):
            print(f"{path} ({path.stat().st_size / 1000:.0f} kB)")
        if not chromium():
            print("no Chromium here: the screenshot of the report is as it was")


if __name__ == "__main__":
    main()
