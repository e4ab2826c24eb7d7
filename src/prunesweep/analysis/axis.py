"""One axis of relative costs: the dense run that the costs of all trials of one model and benchmark are shares of.

A share of the trial's own dense model, at its own number of frames, compares nothing across trials: half of twelve frames
is dearer than all of four.  So there is one denominator per model and benchmark, the dearest dense run, and its name goes
where the shares go.  Without a dense run it is counted: what the dearest setting would have cost without reduction.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunesweep.analysis.costs import ABSOLUTE, Denominator, counted, measured
from prunesweep.analysis.summary import Summary
from prunesweep.disk.files import replace_file

if TYPE_CHECKING:
    from prunesweep.results.records import TrialInfo

BASELINE = "baseline-"
"""How the names of the folders of a search's baselines begin."""


def frames_of(info: TrialInfo) -> int | None:
    """What was asked for; None if the trial's description does not say."""
    return (info.settings.get("video") or {}).get("frames")


def counted_name(info: TrialInfo) -> str:
    frames = frames_of(info)
    return f"the dense model{f' at {frames} frames' if frames else ''}, counted without a run"


def run_name(info: TrialInfo) -> str:
    frames = frames_of(info)
    return f"the dense run {info.name}{f' ({frames} frames)' if frames else ''}"


def common(infos: Sequence[TrialInfo], rows: Sequence[Summary], folders: Sequence[Path | None] = ()) -> Denominator | None:
    """Of trials of one model and benchmark; None if no trial has a cost.

    The dearest dense run, of equally dear ones one called `none`, then the first; of a search that has dense baselines the
    dearest of these, as in its objectives.  A run that a race stopped is none: it saw some of the questions.
    """
    known = [i for i, row in enumerate(rows) if not math.isnan(row.llm_flops)]
    runs = [i for i in known if rows[i].dense and not rows[i].stopped]
    runs = [i for i in runs if folders and (folder := folders[i]) and folder.name.startswith(BASELINE)] or runs
    if runs:
        dearest = min(runs, key=lambda i: (-rows[i].llm_flops, -rows[i].total_flops, rows[i].reducer != "none", i))
        return measured(_numbers(rows[dearest]), run_name(infos[dearest]))
    if known:
        dearest = min(known, key=lambda i: (rows[i].stopped, -rows[i].dense_llm_flops, i))
        return counted(_numbers(rows[dearest]), counted_name(infos[dearest]))
    return None


def relative(row: Summary, denominator: Denominator | None) -> Summary:
    """The row with its relative costs as shares of the denominator; as it is without one."""
    if denominator is None:
        return row
    ratios: dict[str, Any] = dict(denominator.ratios(_numbers(row)))
    return replace(row, **ratios, relative_to=denominator.name)


def on_one_axis(infos: Sequence[TrialInfo], rows: Sequence[Summary], folders: Sequence[Path | None] = ()) -> list[Summary]:
    """The rows of trials of one model and benchmark, relative to their common denominator."""
    chosen = common(infos, rows, folders)
    return [relative(row, chosen) for row in rows]


def kept(path: Path, own: Denominator) -> Denominator:
    """What the file holds, or `own`, which it holds from then on if its costs are known.

    Sweepers that are not ours take numbers trial by trial: the first trial's dense model is the denominator of all.
    """
    if path.exists():
        return Denominator(**json.loads(path.read_text(encoding="utf-8")))
    if not any(map(math.isnan, own.costs.values())):
        replace_file(path, json.dumps(asdict(own), indent=1).encode())
    return own


def without_ratios(row: Summary) -> Summary:
    """Where the dense run of the trials beside it is not known."""
    unknown: dict[str, Any] = dict.fromkeys(ABSOLUTE, math.nan)
    return replace(row, **unknown, relative_to="")


def _numbers(row: Summary) -> Mapping[str, Any]:
    return vars(row)
