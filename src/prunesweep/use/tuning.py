"""Runs what `tune` describes: candidates on one half of the videos, the chosen one on the other, and the preset that says so."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prunesweep.analysis.table import rows_of
from prunesweep.checks import require_at_least, require_number, require_ratio
from prunesweep.console.layout import count
from prunesweep.disk.foreign import read_yaml
from prunesweep.paths import CONF
from prunesweep.results.infeasible import infeasible_folders
from prunesweep.results.keys.fingerprint import digest
from prunesweep.results.records import Trial, TrialInfo, read_trials
from prunesweep.sweep.overrides import override
from prunesweep.sweep.session import composed, require_code_as_written, run_sweep
from prunesweep.use.preset import SUFFIX, Preset, write_preset
from prunesweep.use.tune import FLOPS, LEAST, LOSS, SECONDS, Confirmed, Goal, chosen_among, confirm, goal_of, grids, statement

OWN = CONF / "tune.yaml"
SEARCH, CONFIRM = "search", "confirm"
DENSE = {"reducer": "none"}
MATCHED = ("reducer.match", "reducer.knob")
"""Settings of a candidate that say how it was solved, not what it is."""


@dataclass(frozen=True)
class Tuned:
    """What was chosen, and what is known of it."""

    preset: Preset
    path: Path
    search: Path
    """The sweep of the candidates."""
    confirm: Path
    """That of the chosen one beside the dense model."""

    def __str__(self) -> str:
        return self.preset.statement


def defaults() -> dict[str, Any]:
    return dict(read_yaml(OWN))


def settings_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """With those of conf/tune.yaml.  Raises ValueError for a setting that it does not have, and for a value that cannot be."""
    from prunesweep.console.meant import unknown

    own = defaults()
    for name in given:
        if name not in own:
            raise ValueError(unknown("setting of tune", name, list(own)))
    settings = {**own, **_loss_as_margin(given)}
    if isinstance(settings["methods"], str):
        settings["methods"] = [settings["methods"]]
    require_at_least("rounds", settings["rounds"], 1)
    _require_split(settings["share"], settings["seed"])
    _require_candidates(settings["candidates"], settings["ladder"], settings["tolerance"])
    goal_of(settings["budget"], settings["margin"])
    return settings


def _require_split(share: Any, seed: Any) -> None:
    """Raises ValueError, in the words of tune's own settings, for what parts no videos."""
    require_number("share", share)
    if not 0 < share < 1:
        raise ValueError(f"share must be in (0, 1), so that both parts have videos, got {share:g}")
    require_at_least("seed", seed, 0)


def _require_candidates(candidates: Any, ladder: Any, tolerance: Any) -> None:
    """Raises ValueError for what makes no candidate of a method, and no cost to solve one for."""
    named = isinstance(candidates, list) and all(isinstance(one, dict) and "reducer" in one for one in candidates)
    if not named or not candidates:
        raise ValueError(f"candidates must be a list of {{reducer: NAME, ...}}, as in conf/tune.yaml, got {candidates!r}")
    if not isinstance(ladder, list) or not ladder:
        raise ValueError(f"ladder must be a list of shares of the dense LLM prefill, such as [0.2,0.4], got {ladder!r}")
    require_ratio("tolerance", tolerance)
    for value in ladder:
        require_ratio("each share of ladder", value)


def _loss_as_margin(given: Mapping[str, Any]) -> dict[str, Any]:
    """`accuracy>=dense-0.01` as a budget is the least cost at that margin.  Raises ValueError for another margin beside it."""
    found = LOSS.fullmatch(str(given.get("budget", "")).strip())
    if found is None:
        return dict(given)
    margin = float(found[1])
    if given.get("margin", margin) != margin:
        raise ValueError(f"margin={given['margin']} and {found[0]} are two margins; give one of them")
    return {**given, "budget": LEAST, "margin": margin}


OWN_WAYS = {
    "reducer": "methods=[NAME,...] says among which methods it chooses",
    "questions": "share and seed say how videos are parted",
    "race": "rounds says how often hopeless candidates are stopped",
    "hydra.sweep.dir": "folder says where its sweeps go",
    "hydra/sweeper": "it has a sweeper of its own",
}
"""What tune sets itself, and how it is told."""


def _require_no_own(task: Sequence[str]) -> None:
    """Raises ValueError for an override of what tune sets itself: it would be lost."""
    for one in task:
        key = one.lstrip("+~").partition("=")[0]
        for name, way in OWN_WAYS.items():
            if key == name or key.startswith(f"{name}."):
                raise ValueError(f"{one} cannot be given to tune; {way}")


def tune(task: Sequence[str], given: Mapping[str, Any], progress: bool = True, say: Callable[[str], None] = print) -> Tuned:
    """`task` are overrides of model, benchmark and machine, as an evaluation has them; `given` are settings of conf/tune.yaml.

    Raises ValueError for what cannot be, before anything runs; and for a budget below what any candidate takes.
    """
    settings = settings_of(given)
    goal = goal_of(settings["budget"], settings["margin"])
    _require_no_own(task)
    config = composed(list(task))
    folder = Path(settings["folder"] or _folder(config, goal, task, settings)).expanduser()
    path = Path(settings["out"] or folder / "preset.yaml").expanduser()
    _require_places(folder, path)
    candidates = grids(goal, settings, config.model.get("prune_layer", 1))
    composing = [one for one in task if not one.startswith("hydra") or one.startswith("hydra.searchpath")]
    require_code_as_written([[*composing, f"reducer={name}"] for name in dict.fromkeys(one["reducer"] for one in candidates)])
    common = [*task, *_split(settings), *([] if any(one.startswith("logger=") for one in task) else ["logger=none"])]
    measuring = ["engine.measure=true"] if goal.cost == SECONDS else []
    rounds = 1 if measuring else settings["rounds"]  # a race compares what the ledger counts
    measured = [*measuring, f"race.rounds={rounds}", f"analysis.cost={goal.cost}"]
    among = count(len(candidates), "candidate")
    wanted = "the least cost" if goal.most is None else goal.text
    say(f"choosing   {among} for {wanted}, on {settings['share']:.0%} of the videos: {folder / SEARCH}")
    searched = _swept([*common, *measured], SEARCH, folder, [DENSE, *candidates], goal, progress)
    index = chosen_among(searched, goal)
    overrides = plain_overrides(searched[index].info)
    say(f"confirming {' '.join(overrides)}, on the other videos: {folder / CONFIRM}")
    both = [DENSE, dict(one.split("=", 1) for one in overrides)]
    pair = _swept([*common, *measuring], CONFIRM, folder, both, goal, progress)
    return _told(pair, overrides, goal, folder, path)


def _require_places(folder: Path, preset: Path) -> None:
    """Raises ValueError, before hours of work, for places that cannot be written, and for a preset that no command would know."""
    if preset.suffix != SUFFIX:
        raise ValueError(f"out must end in {SUFFIX}, by which commands know a preset, got {str(preset)!r}")
    if preset.is_dir():
        raise ValueError(f"{preset} is a folder; out is the preset's file")
    for place in (folder, preset.parent):
        try:
            place.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=place).close()
        except OSError as error:
            raise ValueError(f"{place} cannot be written: {error.strerror or error}; name a place that can be") from error


def _folder(config: Any, goal: Goal, task: Sequence[str], settings: Mapping[str, Any]) -> str:
    name = digest([sorted(task), {key: value for key, value in settings.items() if key not in ("folder", "out")}])[:8]
    return f"tune/{config.model.name}-{config.benchmark.name}-{goal.text.replace('/', '_')}-{name}"


def _split(settings: Mapping[str, Any]) -> list[str]:
    return [f"questions.share={settings['share']}", f"questions.seed={settings['seed']}"]


def _swept(
    common: Sequence[str], part: str, folder: Path, candidates: Sequence[Mapping[str, str]], goal: Goal, progress: bool
) -> list[Trial]:
    """Finished trials of one part of the questions."""
    where = override("hydra.sweep.dir", folder.absolute() / part)
    ended = run_sweep([*common, f"questions.part={part}", where, "hydra/sweeper=grids"], {"grids": list(candidates)}, progress)
    trials = read_trials(ended.folder)
    if all(one.info.reducer == DENSE["reducer"] for one in trials):
        raise ValueError(ended.failed or _none_ran(ended.folder, goal))
    return trials


def _none_ran(folder: Path, goal: Goal) -> str:
    """With the least of the cost that any comes to, where reasons say how far they came."""
    reasons = [(one.reducer, one.reason) for _, one in infeasible_folders(folder)]
    name, reason = min(reasons, key=lambda one: _reached(one[1]), default=("", f"{folder} says why"))
    least = _reached(reason)
    if goal.cost == FLOPS and goal.most is not None and math.isfinite(least) and least > goal.most:
        return f"budget={goal.text} is below what any candidate takes; the least is {least:g}x ({name}: {reason})"
    return f"no candidate could be run: {reason}"


def _reached(reason: str) -> float:
    found = REACHES.search(reason)
    return float(found[1]) if found else math.inf


REACHES = re.compile(r"\(it reaches ([\d.]+) to")
"""How `engine.budget` says what a method can do."""


def plain_overrides(info: TrialInfo) -> tuple[str, ...]:
    """Of a trial, with what was solved for it in place of what it was solved for."""
    kept = [one for one in info.overrides if one.startswith("reducer") and not one.startswith(MATCHED)]
    if matched := info.settings.get("matched"):
        knob = f"reducer.{matched['knob']}"
        kept = [one for one in kept if one.partition("=")[0] != knob] + [override(knob, matched["value"])]
    return tuple(sorted(kept, key=lambda one: not one.startswith("reducer=")))


def _told(pair: Sequence[Trial], overrides: tuple[str, ...], goal: Goal, folder: Path, path: Path) -> Tuned:
    dense = next((one for one in pair if one.info.reducer == "none"), None)
    own = next((one for one in pair if one.info.reducer != "none"), None)
    if dense is None or own is None:
        raise ValueError(f"the chosen setting or the dense model has no answer on the other videos; {folder / CONFIRM} says why")
    found = confirm(own, dense, goal.margin)
    row = rows_of(pair)[pair.index(own)]
    shown = " ".join(one.removeprefix("reducer=").removeprefix("reducer.") for one in overrides)
    preset = Preset(
        overrides=overrides,
        model=own.info.model,
        benchmark=own.info.benchmark,
        goal=f"budget={goal.text} margin={goal.margin:g}",
        statement=statement(shown, row, goal, found),
        confirmed=found.within,
        keys={"model": own.info.model_key, "questions": own.info.samples_key},
        shape=asdict(own.info.shape),
        made_with=dict(own.info.versions),
        numbers=_numbers(found, goal, row),
    )
    write_preset(preset, path)
    return Tuned(preset, path, folder / SEARCH, folder / CONFIRM)


def _numbers(found: Confirmed, goal: Goal, row: Any) -> dict[str, Any]:
    return {
        **found.difference._asdict(),
        "accuracy": row.accuracy,
        "accuracy_error": row.accuracy_error,
        goal.cost: getattr(row, goal.cost),
        "margin": goal.margin,
        "margin_p_value": found.p_value,
        "questions_needed": found.needed,
    }
