"""PruneVid's figures 3 a to c on `scenes`, and its settings at equal cost: a page from finished sweeps.

    prunesweep sweep scenes_equal hydra.sweep.dir=FOLDER/scenes_equal
    prunesweep sweep NAME model=tiny_scenes benchmark=scenes hydra.sweep.dir=FOLDER/NAME
    python -m prunesweep.dev.scenes_figures FOLDER docs

NAME is paper_ablation_alpha_by_layer, paper_ablation_tau_by_segments and paper_ablation_tau_by_cluster.  The figures are curves
without numbers (arXiv 2412.16117v1), so what the text says of them is compared, claim by claim.  Differences are paired by
question, clustered by video, and Holm-corrected over a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from prunesweep.analysis.accuracy import accuracy
from prunesweep.analysis.comparison import paired
from prunesweep.analysis.equal_cost import SIGNIFICANT
from prunesweep.analysis.table import rows_of
from prunesweep.analysis.wording import summary_text
from prunesweep.console.layout import markdown
from prunesweep.dev import parser_of, write_page
from prunesweep.dev.scenes_results import said_together
from prunesweep.errors import reported, write_anywhere
from prunesweep.paths import user_path
from prunesweep.results.read import settings
from prunesweep.results.records import Trial, read_trials

FIGURES_PAGE = "scenes_figures.md"
TAU, GAMMA, BETA = (f"reducer.merge.{name}" for name in ("static_threshold", "segment_ratio", "cluster_ratio"))
ALPHA, LAYER = "reducer.prune.keep_ratio", "reducer.prune.layer"
PAPER = {TAU: 0.8, GAMMA: 0.25, BETA: 0.5, ALPHA: 0.4, LAYER: 4}
"""The paper's settings; its layer 10 of 32 is 4 of the tiny model's 8."""
SYMBOL = {TAU: "static threshold", GAMMA: "segment ratio", BETA: "cluster ratio", ALPHA: "keep ratio", LAYER: "layer"}


class Claim(NamedTuple):
    """What the paper says of its figure: `better` against `worse`, or that the two are alike."""

    said: str
    better: Mapping[str, float]
    worse: Mapping[str, float]


class Figure(NamedTuple):
    name: str
    sweep: str
    rows: str
    columns: str
    claims: tuple[Claim, ...]


FIGURES = (
    Figure(
        "3 a: keep ratio by layer",
        "paper_ablation_alpha_by_layer",
        ALPHA,
        LAYER,
        (
            Claim("layer 10 is better than 5", {LAYER: 4}, {LAYER: 2}),
            Claim("layer 15 is as good as 10", {LAYER: 6}, {LAYER: 4}),
            Claim("at layer 10 a keep ratio of 0.4 beats 0.5", {ALPHA: 0.4}, {ALPHA: 0.5}),
        ),
    ),
    Figure(
        "3 b: static threshold by segment ratio",
        "paper_ablation_tau_by_segments",
        TAU,
        GAMMA,
        (
            Claim("a threshold of 0.8 is better than 0.6", {TAU: 0.8}, {TAU: 0.6}),
            Claim("0.8 is as good as 0.9", {TAU: 0.8}, {TAU: 0.9}),
            Claim("the segment ratio does not matter: 0.25 against 0.75", {GAMMA: 0.25}, {GAMMA: 0.75}),
        ),
    ),
    Figure(
        "3 c: static threshold by cluster ratio",
        "paper_ablation_tau_by_cluster",
        TAU,
        BETA,
        (
            Claim("a threshold of 0.8 is slightly above 0.9", {TAU: 0.8}, {TAU: 0.9}),
            Claim("a cluster ratio of 0.5 is better than 0.25", {BETA: 0.5}, {BETA: 0.25}),
            Claim("a cluster ratio of 0.5 is better than 1", {BETA: 0.5}, {BETA: 1}),
        ),
    ),
)
EQUAL = "scenes_equal"
INTRODUCTION = """# The paper's figures on `scenes`

The [embedded benchmark](scenes.md) and its tiny model, not a 7B model: shapes are compared, not values. Written by
`python -m prunesweep.dev.scenes_figures`, from {questions:,} test questions on {videos} videos{limit}.{missing}
"""
NOT_RUN = " Not run yet: {missing}."
CLAIMS = """## What the paper says, and what comes out here

The paper prints curves without numbers. These are its sentences about them, each as one pair of settings of `prunevid_official`.
All other settings are the paper's. Layers are of 32 as there; the tiny model's are in proportion. Points: the first less the
second.
"""
AT_EQUAL_COST = """## Settings at equal cost

`prunesweep sweep scenes_equal`: each setting over the paper's range, while the share of clusters is solved for 0.23x of the
dense LLM prefill. An optimum inside of a range shows here, not along the front. Reference: the paper's settings with {own}.
{best}
"""


def found(trials: Sequence[Trial], reducer: str, changed: Mapping[str, float]) -> Trial:
    """The trial with the paper's settings but these.  Raises ValueError where the sweep has none."""
    wanted = {**PAPER, **changed}
    for trial in trials:
        own = settings(trial.info)
        if trial.info.reducer == reducer and all(own.get(name) == value for name, value in wanted.items()):
            return trial
    raise ValueError(f"the sweep has no trial of {reducer} with {', '.join(f'{k}={v:g}' for k, v in wanted.items())}")


def claims_table(sweeps: Mapping[str, Sequence[Trial]]) -> Iterator[str]:
    told = [(figure, claim) for figure in FIGURES if figure.sweep in sweeps for claim in figure.claims]
    pairs = [[found(sweeps[f.sweep], "prunevid_official", side) for side in (c.better, c.worse)] for f, c in told]
    said = said_together([paired(first.records, second.records) for first, second in pairs])
    rows = [(figure.name.partition(":")[0], claim.said, *one) for (figure, claim), one in zip(told, said, strict=True)]
    yield from markdown(("figure", "the paper", "points here", "p"), rows)


def grid_table(figure: Figure, trials: Sequence[Trial]) -> Iterator[str]:
    """Accuracies of the release's form, the first setting down, the second across."""
    own = [trial for trial in trials if trial.info.reducer == "prunevid_official"]
    cells = {(settings(t.info)[figure.rows], settings(t.info)[figure.columns]): accuracy(t.records) for t in own}
    columns = sorted({column for _, column in cells})
    yield f"Figure {figure.name}, accuracy ± standard error (n={accuracy(own[0].records).samples}):\n"
    head = (f"{SYMBOL[figure.rows]} \\ {SYMBOL[figure.columns]}", *(f"{column:g}" for column in columns))
    lines = [
        (f"{row:g}", *(f"{cells[row, column].mean:.3f} ± {cells[row, column].error:.3f}" for column in columns))
        for row in sorted({row for row, _ in cells})
    ]
    yield from (*markdown(head, lines), "")


def equal_table(trials: Sequence[Trial]) -> Iterator[str]:
    """Each setting's values beside the paper's own, at one cost."""
    rows = dict(zip((trial.info.name for trial in trials), rows_of(trials), strict=True))
    own = [trial for trial in trials if trial.info.reducer == "prunevid"]
    reference = next(t for t in own if all(settings(t.info)[name] == PAPER[name] for name in (TAU, GAMMA, ALPHA, LAYER)))
    others = [trial for trial in own if trial is not reference]
    said = said_together([paired(trial.records, reference.records) for trial in others])
    told = sum(one.significant for one in said)
    significant = f"{told or 'none'} {'are' if told > 1 else 'is'} significant (corrected p below {SIGNIFICANT:g})"
    yield AT_EQUAL_COST.format(
        own=summary_text(rows[reference.info.name]), best=f"Of the {len(others)} differences {significant}."
    )
    own_rows = [rows[trial.info.name] for trial in others]
    lines = [
        (row.trial.partition(" match=")[0].removeprefix("prunevid "), summary_text(row), f"{row.llm_flops_ratio:.3f}x", *one)
        for row, one in zip(own_rows, said, strict=True)
    ]
    yield from markdown(("setting", "accuracy", "LLM prefill", "points from the paper's", "p"), lines)


def page_of(folder: Path) -> Iterator[str]:
    """Of the sweeps that are there.  Raises ValueError for none, or one that lacks a setting."""
    names = (EQUAL, *(figure.sweep for figure in FIGURES))
    sweeps = {name: trials for name in names if (folder / name).is_dir() and (trials := read_trials(folder / name))}
    if not sweeps:
        raise ValueError(f"{folder} holds none of the sweeps {', '.join(names)}")
    info, records, *_ = next(iter(sweeps.values()))[0]
    limits = [override for override in info.overrides if "benchmark.limit=" in override]
    missing = [figure.name for figure in FIGURES if figure.sweep not in sweeps] + ["at equal cost"] * (EQUAL not in sweeps)
    yield INTRODUCTION.format(
        questions=len(records),
        videos=records["video_id"].n_unique(),
        limit=f" (`{limits[0]}` besides the sweep's name)" if limits else "",
        missing=NOT_RUN.format(missing="; ".join(missing)) if missing else "",
    )
    if set(sweeps) - {EQUAL}:
        yield from (CLAIMS, *claims_table(sweeps), "")
    for figure in FIGURES:
        if figure.sweep in sweeps:
            yield from grid_table(figure, sweeps[figure.sweep])
    if EQUAL in sweeps:
        yield from equal_table(sweeps[EQUAL])


def main() -> None:
    write_anywhere()
    parser = parser_of(__file__, __doc__)
    parser.add_argument("sweeps", type=user_path, help="holds the sweeps' folders, by their names")
    parser.add_argument("folder", type=user_path, help=f"{FIGURES_PAGE} is written here")
    arguments = parser.parse_args()
    with reported():
        write_page(arguments.folder / FIGURES_PAGE, page_of(arguments.sweeps))


if __name__ == "__main__":
    main()
