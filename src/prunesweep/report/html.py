"""`prunesweep report SWEEP`: one self-contained report.html of a finished sweep.

The charts are drawn by a few hundred lines of script of our own inside the page: a plotting library's bundle would be 4 to
5 MB in every report and bring its own markup, where this needs points that take the keyboard, names for screen readers,
and text that can never become markup.  The page's content policy allows this one script, by its hash, and no network.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from shlex import quote
from string import Template
from typing import Any

import numpy as np

from prunesweep.analysis import resampling, significance
from prunesweep.analysis.outcomes import UNANSWERED, Outcomes
from prunesweep.disk.files import unwritten
from prunesweep.disk.foreign import read_yaml
from prunesweep.paths import SWEEPS
from prunesweep.report.given import presets
from prunesweep.report.page import group
from prunesweep.report.redact import public, public_override
from prunesweep.report.terms import TERMS
from prunesweep.report.verdict import Verdict, verdict
from prunesweep.results.infeasible import all_infeasible

WEB = Path(__file__).parent / "web"
REPORT = "report.html"
TOKEN_MAPS = "tokens"
"""Where `prunesweep tokens` leaves its pictures in a sweep's folder."""
MOST_MAPS = 12
VERSIONS = ("prunesweep", "torch", "transformers", "numpy", "polars", "scipy", "optuna")


def report_data(found: Sequence[Outcomes], sweep: Path) -> dict[str, Any]:
    """Everything that the page shows, as plain values; NaN is None.  Folders and secrets of this machine are left out."""
    return page_data([verdict(outcomes) for outcomes in found], sweep)


def page_data(verdicts: Sequence[Verdict], sweep: Path) -> dict[str, Any]:
    """Likewise, of what has been said already."""
    found = [one.outcomes for one in verdicts]
    trials = sum(len(outcomes.table) for outcomes in found)
    given = presets(sweep)
    return _plain(
        {
            "lead": f"{trials} trial{'s' if trials > 1 else ''}; every number below is a function of their records.",
            "replicates": resampling.REPLICATES,
            "terms": TERMS,
            "groups": [group(one, given) for one in verdicts],
            "notRun": [{"name": public(one.name), "reason": public(one.reason)} for one in all_infeasible(sweep)],
            "tokens": list(_token_maps(sweep)),
            "provenance": list(_provenance(found, sweep)),
        }
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


def _token_maps(sweep: Path) -> Iterator[dict[str, str]]:
    """Pictures that `prunesweep tokens` left in the sweep's folder, inside the page."""
    kinds = {".png": "image/png", ".gif": "image/gif"}
    files = sorted(path for path in (sweep / TOKEN_MAPS).rglob("*") if path.suffix in kinds)
    for path in files[:MOST_MAPS]:
        content = base64.b64encode(path.read_bytes()).decode()
        yield {"src": f"data:{kinds[path.suffix]};base64,{content}", "caption": path.stem.replace("_", " ")}


def _provenance(found: Sequence[Outcomes], sweep: Path) -> Iterator[tuple[str, str]]:
    """What was run and what wrote this page."""
    if command := command_of(sweep):
        yield "sweep", command
    for outcomes in found:
        records = int((outcomes.correct != UNANSWERED).sum())
        where = f"{outcomes.model} on {outcomes.benchmark}"
        yield (
            f"records, {where}",
            f"{records:,} answers, {fingerprint(outcomes)} (SHA-256 of answers and samples, first 16 digits)",
        )
        yield f"model's shape, {where}", json.dumps(asdict(outcomes.infos[0].shape))
    made_with = dict.fromkeys(_listed(info.versions.items()) for outcomes in found for info in outcomes.infos if info.versions)
    for libraries in made_with:
        yield "records made with", libraries
    yield "page written with", _listed(_versions())
    yield (
        "statistics",
        (
            f"errors clustered by video; Student's t with one degree of freedom less than videos; {resampling.REPLICATES} "
            f"draws of the videos, seed 0; Holm over all trials but the dense one; level {1 - significance.CONFIDENCE:.2f}"
        ),
    )


def _listed(versions: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions)


def fingerprint(outcomes: Outcomes) -> str:
    """Of which trial had which sample right: equal for equal answers, whatever the order of records."""
    digest = hashlib.sha256()
    order = sorted(range(len(outcomes.table)), key=lambda i: outcomes.names[i])
    for text in (*(outcomes.names[i] for i in order), *outcomes.samples):
        digest.update(text.encode() + b"\0")
    digest.update(np.ascontiguousarray(outcomes.correct[order]).tobytes())
    return digest.hexdigest()[:16]


def _versions() -> Iterator[tuple[str, str]]:
    yield "Python", platform.python_version()
    for name in VERSIONS:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue


NOT_TYPED = ("hydra.sweep.dir=", "hydra.mode=")
"""Overrides that Hydra adds, or that only say where on this machine."""


def command_of(sweep: Path) -> str | None:
    """The command that ran the sweep, as Hydra noted it; None if the sweep has no such note."""
    noted = sweep / "multirun.yaml"
    if not noted.is_file():
        return None
    try:
        hydra = read_yaml(noted)["hydra"]
        name, typed = hydra["job"]["config_name"], hydra["overrides"]
        typed_here = [one for one in map(str, (*typed["hydra"], *typed["task"])) if not one.startswith(NOT_TYPED)]
        overrides = [public_override(one) for one in typed_here]
    except (KeyError, TypeError, OSError, ValueError):
        return None
    own = [f"sweep {name}"] if (SWEEPS / f"{name}.yaml").is_file() else [f"--config-dir FOLDER --config-name {name}"]
    return " ".join(["prunesweep", *(["-m"] if name == "eval" else own), *map(quote, overrides)])


SCRIPTS = ("base", "chart", "trials", "effects", "tasks", "page")
"""Files of the page's one script, in their order."""


def render(data: dict[str, Any], title: str) -> str:
    """The page.  The data cannot end its script element: every `<` in it is written as an escape."""
    script = "\n".join((WEB / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template((WEB / "report.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(title),
        style=(WEB / "report.css").read_text(encoding="utf-8"),
        script_hash=f"sha256-{digest}",
        script=script,
        data=json.dumps(data, allow_nan=False, ensure_ascii=True).replace("<", "\\u003c"),
    )


def render_report(found: Sequence[Outcomes], sweep: Path) -> str:
    """The whole page of a sweep or a store."""
    where = " and ".join(dict.fromkeys(f"{one.model} on {one.benchmark}" for one in found))
    return render(report_data(found, sweep), f"PruneSweep: {where}")


def write_report(found: Sequence[Outcomes], sweep: Path, path: Path) -> None:
    """Raises ValueError for a place where no file can be written."""
    page = render_report(found, sweep)
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise unwritten(error, path) from error
