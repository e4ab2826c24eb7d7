"""Weights & Biases: what the runs of a sweep hold, as functions of its records, and how they are made.

One run per trial and one that sums up the sweep.  Records stay the truth and nothing here is read back, so all of it can be
made anew at any time (`prunesweep.report.wandb_process`).  A run's id follows from its group and its trial: making it again
replaces it.
Works without account or network: offline unless `logger.mode` or WANDB_MODE says otherwise, and WANDB_MODE wins.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from prunesweep.analysis.accuracy import task_accuracies
from prunesweep.analysis.axis import without_ratios
from prunesweep.analysis.costs import MEASURED_COSTS
from prunesweep.analysis.outcomes import Outcomes
from prunesweep.analysis.summary import Summary
from prunesweep.analysis.table import summarize, table_frame
from prunesweep.analysis.varied import varied
from prunesweep.report.given import given_to, presets
from prunesweep.report.redact import public, public_override
from prunesweep.report.text import SHARES
from prunesweep.results.keys.fingerprint import digest
from prunesweep.results.records import Trial, parquet_bytes
from prunesweep.results.timing import read_timing

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure
    from omegaconf import DictConfig

MODES = ("online", "offline", "disabled")
OLD_MODES = {"run": "online", "dryrun": "offline"}
"""Names that WANDB_MODE still takes."""
INIT_SECONDS = 15.0
"""After which a server counts as out of reach."""
ID_LENGTH = 12
DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
TEXTS = ("trial", "sample_id", "video_id", "error", "relative_to")
"""Columns of records in which folders of this machine may stand."""
SWEEPS_ID = "WANDB_SWEEP_ID"
"""Set by an agent of W&B Sweeps; it has chosen id, project and group of the run then."""
MOST_PICTURES = 24
PICTURES, MOVIES = (".png",), (".gif", ".mp4")


@dataclass(frozen=True)
class Destination:
    """Where runs go."""

    project: str
    mode: str
    group: str
    """What the runs of a sweep have in common."""
    folder: Path
    """Gets a folder `wandb` with all that W&B writes."""

    @property
    def offline(self) -> bool:
        return self.mode == "offline"


class Content(NamedTuple):
    """What a run holds besides pictures and files; plain values, nothing about this machine."""

    name: str
    job_type: str
    identity: str
    """What the run is about: equal for the same trial, whenever the run is made."""
    config: dict[str, Any]
    metrics: dict[str, float]
    notes: str = ""


def mode(logger: DictConfig) -> str:
    """online, offline or disabled; raises ValueError for another one."""
    chosen = os.environ.get("WANDB_MODE") or logger.mode
    chosen = OLD_MODES.get(chosen, chosen)
    if chosen not in MODES:
        raise ValueError(f"logger.mode and WANDB_MODE must be one of {', '.join(MODES)}, got {chosen!r}")
    return chosen


def group_name(folder: Path) -> str:
    """Of a sweep's folder: its date and time, or its own name."""
    folder = folder.absolute()
    return f"{folder.parent.name}-{folder.name}" if DATE.fullmatch(folder.parent.name) else folder.name


# What runs hold


def trial_content(trial: Trial, summary: Summary) -> Content:
    """Settings; accuracy with its error, overall and by task; the cost ledger; times, if the trial was measured."""
    info = trial.info
    config = {
        **info.settings,
        "model": info.model,
        "benchmark": info.benchmark,
        "overrides": [public_override(one) for one in info.overrides],
        "fingerprint": info.key,
        **_preset(trial),
    }
    by_task = {
        f"task/{task}/{name}": value
        for task, scores in task_accuracies(trial.records).items()
        for name, value in scores._asdict().items()
    }
    metrics = _numbers(asdict(summary)) | _numbers(by_task)
    metrics |= {f"measured/{name}": metrics[name] for name in MEASURED_COSTS if name in metrics}
    return Content(public(info.name), "trial", f"{info.name} {info.key}", public(config), metrics, _axis_note(summary))


def _preset(trial: Trial) -> dict[str, Any]:
    """What was said of the setting when it was chosen, where it came from a preset."""
    folders = dict.fromkeys([trial.folder, trial.folder.parent]) if trial.folder else ()
    found = given_to(trial.info, [one for folder in folders for one in presets(folder)])
    return {"preset": {"name": found.name, "statement": found.statement, "fingerprint": found.fingerprint}} if found else {}


def _axis_note(summary: Summary) -> str:
    return f"ratios are of {public(summary.relative_to)}" if summary.relative_to else ""


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Those that are numbers; NaN is left out."""
    return {
        public(k): v for k, v in values.items() if isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v)
    }


def sweep_content(found: Sequence[Outcomes], timing: Mapping[str, float], command: str | None) -> Content:
    """The statistics in numbers and words; metrics of several models or benchmarks carry their names."""
    from prunesweep.report.verdict import text, verdict

    verdicts = [verdict(one, with_importance=False) for one in found]
    metrics: dict[str, float] = {f"seconds/{name}": value for name, value in timing.items()}
    for outcomes, one in zip(found, verdicts, strict=True):
        prefix = f"{outcomes.model} on {outcomes.benchmark}/" if len(found) > 1 else ""
        own = {
            "trials": len(outcomes.table),
            "on_front": sum(row.pareto for row in outcomes.table),
            "hypervolume": one.front.hypervolume,
            "most_unclear": max((row.unclear for row in outcomes.table if not math.isnan(row.unclear)), default=math.nan),
            "most_ambiguous": max((row.ambiguous for row in outcomes.table if not math.isnan(row.ambiguous)), default=math.nan),
            "best_accuracy": max((row.accuracy for row in outcomes.table if row.samples), default=math.nan),
        }
        if one.against:
            own["dense_accuracy"] = outcomes.table[one.against.dense].accuracy
            own["margin"] = one.against.margin
            own["within_margin"] = len(one.against.within_margin)
            own["worse_than_dense"] = len(one.against.worse)
            own["cannot_tell"] = len(one.against.unclear)
            own["detectable_effect"] = one.against.detectable
        metrics |= {f"{prefix}{name}": value for name, value in _numbers(own).items()}
    config = {
        "models": sorted({one.model for one in found}),
        "benchmarks": sorted({one.benchmark for one in found}),
        "cost": found[0].cost,
        "relative_to": {f"{one.model} on {one.benchmark}": one.relative_to for one in found},
        "command": command,
    }
    return Content("summary", "summary", "summary", public(config), metrics, public("\n\n".join(map(text, verdicts))))


def sweep_seconds(source: Path) -> dict[str, float]:
    """What the sweep's parts took, summed over its batches; trials that share work have no times of their own."""
    seconds: dict[str, float] = {}
    for entry in read_timing(source):
        for name, value in (entry.get("seconds") or {}).items():
            seconds[name] = seconds.get(name, 0.0) + float(value)
    return {name: seconds[name] for name in (*(s for s in SHARES if s in seconds), *(s for s in seconds if s not in SHARES))}


def public_records(records: pl.DataFrame, texts: Sequence[str] = TEXTS) -> pl.DataFrame:
    """The same records without folders of this machine in these columns."""
    import polars as pl

    return records.with_columns(
        pl.col(name).map_elements(public, return_dtype=pl.String, skip_nulls=True) for name in texts if name in records.columns
    )


# Making runs


def quiet() -> Any:
    """W&B settings: nothing on the terminal, nothing about this machine or its files in the run."""
    import wandb

    return wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        save_code=False,
        host="",
        init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT") or INIT_SECONDS),
        x_disable_stats=True,
        x_disable_meta=True,
        x_save_requirements=False,
    )


def forget() -> None:
    """Ends W&B's own process, which holds on to the ids of runs that it could not start."""
    import wandb

    wandb.teardown()


def run_id(content: Content, destination: Destination) -> str:
    return digest([destination.group, content.identity])[:ID_LENGTH]


@contextmanager
def _started(content: Content, destination: Destination) -> Iterator[Any]:
    """A run, closed at the end; a run of the same id that was made offline before is replaced."""
    import wandb

    own: dict[str, Any] = {}
    if SWEEPS_ID not in os.environ:
        identity = run_id(content, destination)
        for old in (destination.folder / "wandb").glob(f"offline-run-*-{identity}"):
            shutil.rmtree(old)
        own = {"project": destination.project, "id": identity, "group": destination.group}
        own |= {} if destination.offline else {"resume": "allow"}
    where: Any = {"dir": str(destination.folder.absolute()), "mode": destination.mode}
    run = wandb.init(
        name=content.name,
        job_type=content.job_type,
        config=content.config,
        notes=content.notes or None,
        settings=quiet(),
        reinit="create_new",
        **where,
        **own,
    )
    try:
        if content.metrics:
            run.log(content.metrics)
        yield run
    finally:
        run.finish()


def publish_trial(trial: Trial, destination: Destination, row: Summary | None = None) -> None:
    """The run of one trial, with its records as an artifact; `row` is its line of the sweep's table.

    Without one it holds no relative costs: while a sweep runs its dearest dense run is not known.
    """
    content = trial_content(trial, row or without_ratios(summarize(trial)))
    with _started(content, destination) as run:
        run.log_artifact(_records_artifact(trial, content, destination))


def _records_artifact(trial: Trial, content: Content, destination: Destination) -> Any:
    """Equal records make equal artifacts, so W&B keeps one version of them."""
    import wandb

    metadata = {"trial": content.name, "fingerprint": trial.info.key, "samples": len(trial.records)}
    artifact = wandb.Artifact(f"records-{run_id(content, destination)}", type="records", metadata=metadata)
    with artifact.new_file("records.parquet", "wb") as file:
        file.write(parquet_bytes(public_records(trial.records)))
    with artifact.new_file("trial.json") as file:
        json.dump({"config": content.config, "shape": asdict(trial.info.shape)}, file, indent=1)
    return artifact


def publish_sweep(source: Path, trials: Iterator[Trial], found: Sequence[Outcomes], destination: Destination) -> None:
    """The run that sums up: Pareto chart, table, parallel coordinates, importance, token maps, and the results as an artifact.

    The artifact descends from the trials' records; offline, where W&B refuses inputs, its metadata names them.
    """
    from prunesweep.report.html import command_of

    content = sweep_content(found, sweep_seconds(source), command_of(source))
    with _started(content, destination) as run:
        run.log({**_charts(source, found), **_token_maps(source)})
        results = _results_artifact(source, found, destination)
        for trial in trials:
            artifact = _records_artifact(trial, trial_content(trial, summarize(trial)), destination)
            results.metadata["records"][artifact.name] = artifact.digest
            if not destination.offline:
                run.use_artifact(artifact)
        run.log_artifact(results)


def _charts(source: Path, found: Sequence[Outcomes]) -> dict[str, Any]:
    """By name; of several models or benchmarks, each its own."""
    import wandb

    from prunesweep.analysis.ablation import ablations, importances
    from prunesweep.report import figures, plots
    from prunesweep.report.html import render_report

    logged: dict[str, Any] = {"report": wandb.Html(render_report(found, source), inject=False)}
    for outcomes in found:
        where = f"{outcomes.model} on {outcomes.benchmark}"
        suffix = f" ({where})" if len(found) > 1 else ""
        table = trials_table(outcomes)
        logged[f"trials{suffix}"] = table
        logged[f"pareto{suffix}"] = wandb.plot.scatter(table, outcomes.cost, "accuracy", title=f"Accuracy against cost, {where}")
        figure = plots.pareto_figure({where: plots.pareto_points(outcomes.table, outcomes.cost)})
        logged[f"pareto_front{suffix}"] = _picture(figure)
        for coordinates in figures.parallel_coordinates(outcomes):
            name = f"parallel_coordinates {coordinates.reducer}{suffix}"
            logged[name] = _picture(figures.parallel_figure(coordinates))
        for ablation in ablations(outcomes):
            logged[f"effects {ablation.reducer}{suffix}"] = _picture(figures.effects_figure(ablation))
        for one in importances(outcomes):
            shares = wandb.Table(columns=["setting", "share"], data=[list(pair) for pair in one.shares.items()])
            title = f"Importance for {one.target}, {one.reducer}, {one.trials} trials"
            logged[f"importance {one.reducer}{suffix}"] = wandb.plot.bar(shares, "setting", "share", title=title)
    return logged


def _picture(figure: Figure) -> Any:
    import wandb
    from PIL import Image

    from prunesweep.report.style import DPI

    content = io.BytesIO()
    figure.savefig(content, dpi=DPI)
    return wandb.Image(Image.open(content))


def trials_table(outcomes: Outcomes) -> Any:
    """All trials with their settings, cheapest first, as a W&B table."""
    import wandb

    from prunesweep.results.read import IGNORED, settings

    flat = [settings(info) for info in outcomes.infos]
    names = [name for name in dict.fromkeys(name for own in flat for name in own) if not name.endswith(IGNORED)]
    varying = [name for name in names if len({str(own.get(name)) for own in flat}) > 1]
    columns = list(asdict(outcomes.table[0]))
    rows = []
    for index in sorted(range(len(flat)), key=lambda i: outcomes.costs[i]):
        values = [public(value) for value in asdict(outcomes.table[index]).values()]
        rows.append([*map(_cell, values), *(_text(flat[index].get(name)) for name in varying)])
    return wandb.Table(columns=[*columns, *varying], data=rows, allow_mixed_types=True)


def _cell(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(value: Any) -> Any:
    return public(value) if value is None or isinstance(value, (str, bool, int, float)) else str(public(value))


def _token_maps(source: Path) -> dict[str, Any]:
    """Pictures and movies that `prunesweep tokens` left in the sweep's folder."""
    import wandb

    from prunesweep.report.html import TOKEN_MAPS

    logged: dict[str, Any] = {}
    drawn = sorted(path for path in (source / TOKEN_MAPS).rglob("*") if path.suffix in (*PICTURES, *MOVIES))
    for path in drawn[:MOST_PICTURES]:
        name = path.relative_to(source).with_suffix("").as_posix()
        picture = path.suffix in PICTURES
        logged[name] = wandb.Image(str(path)) if picture else wandb.Video(str(path), format=path.suffix[1:])
    return logged


def _results_artifact(source: Path, found: Sequence[Outcomes], destination: Destination) -> Any:
    import wandb

    trials = [
        (folder, info) for outcomes in found for folder, info in zip(outcomes.folders, outcomes.infos, strict=True) if folder
    ]
    table = table_frame([row for outcomes in found for row in outcomes.table], varied(trials))
    clean = public_records(table)
    artifact = wandb.Artifact(f"results-{digest(destination.group)[:ID_LENGTH]}", type="results", metadata={"records": {}})
    with artifact.new_file("summary.parquet", "wb") as file:
        file.write(parquet_bytes(clean))
    with artifact.new_file("summary.csv") as file:
        file.write(clean.write_csv())
    return artifact
