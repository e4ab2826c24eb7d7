"""What a benchmark's folder lacks, found before a long run; and submission files."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prunesweep.benchmarks import WHOLE, remarks, unasked
from prunesweep.checks import require_at_least, require_seconds
from prunesweep.console.layout import count, grid, visible
from prunesweep.console.waiting import doing
from prunesweep.paths import CONF, expand_home, typed
from prunesweep.sweep.schema import require_known_keys
from prunesweep.types import Sample, Sampling
from prunesweep.video.reader import DECODE_SECONDS, VideoError, read_clip, seen_otherwise

MOST_NAMED = 5
"""Examples of each fault."""


@dataclass
class Findings:
    """What is wrong with a benchmark's folder."""

    samples: int = 0
    videos: int = 0
    tasks: Counter[str] = field(default_factory=Counter)
    miscounted: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    """Of questions that are asked as they are, as an evaluation says it before it runs; no faults."""
    missing: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    short: int = 0
    """Videos or parts with fewer frames than are asked for, which are repeated; no fault."""
    otherwise: int | None = None
    """Videos or parts of which decord shows other pictures, where that was asked; no fault of the folder."""
    silent: int | None = None
    """Videos without subtitles, where these are asked for; no fault: not everyone speaks."""
    unlabelled: int = 0
    """Questions that cannot be scored here; no fault."""

    @property
    def faults(self) -> int:
        return len(self.miscounted) + len(self.problems) + len(self.missing) + len(self.unreadable)


@dataclass(frozen=True)
class Look:
    """What an evaluation would read of each video."""

    frames: int = 1
    sampling: Sampling = "even"
    seconds: float = DECODE_SECONDS
    decord: bool = False
    """Whether to compare with what the field's harnesses would read."""


ONE_FRAME = Look()


def check(samples: Sequence[Sample], counts: dict[str, int], look: Look | None = ONE_FRAME, subtitled: bool = False) -> Findings:
    """Every question and every video; what a look takes is decoded as in an evaluation, and nothing without one.

    `counts` are the published numbers of questions of the tasks that should be there.
    """
    found = Findings(samples=len(samples))
    found.tasks.update(sample.task for sample in samples)
    for task, number in counts.items():
        there = found.samples if task == WHOLE else found.tasks[task]
        if there != number:
            found.miscounted.append(f"{task} has {there} questions, {number} were published")
    found.problems = unasked(samples)
    found.remarks = remarks(samples)
    found.unlabelled = sum(sample.target is None and not sample.answer and not sample.problem for sample in samples)
    ranges = {(s.path, s.start, s.end): s for s in samples if not s.problem}
    found.videos = len({path for path, *_ in ranges})
    if subtitled:
        found.silent = len({sample.path for sample in ranges.values() if not sample.subtitles})
    found.otherwise = 0 if look is not None and look.decord else None
    for number, sample in enumerate(ranges.values(), start=1):
        with doing(f"reading video {number:,} of {len(ranges):,}"):
            text, there, otherwise = _video_fault(sample, look)
        found.short += look is not None and look.sampling != "per_second" and 0 < there < look.frames
        if found.otherwise is not None:
            found.otherwise += otherwise
        if text:
            gone = text.endswith(("no such file", "no folder of numbered frames"))
            (found.missing if gone else found.unreadable).append(text)
    return found


def _video_fault(sample: Sample, look: Look | None) -> tuple[str | None, int, bool]:
    """What is wrong with a video, how many different frames were read of it, and whether decord shows others."""
    if not sample.path.exists():
        return f"{sample.path}: no such file", 0, False
    if look is None:
        return None, 0, False
    part = (sample.start, sample.end)
    try:
        clip = read_clip(sample.path, sample.video_id, look.frames, *part, look.sampling, sample.frame_rate, look.seconds)
    except VideoError as error:
        return f"{sample.path.parent.name}/{error}", 0, False
    otherwise = look.decord and seen_otherwise(clip, sample, look.sampling, look.seconds) > 0
    return None, len(set(clip.timestamps)), otherwise


def report(found: Findings) -> str:
    lines = [f"{count(found.samples, 'question')} on {count(found.videos, 'video')}", ""]
    lines += [grid(("task", "questions"), [(visible(task), str(number)) for task, number in sorted(found.tasks.items())]), ""]
    for title, texts in (
        ("tasks with another number of questions than published", found.miscounted),
        ("questions that cannot be asked", found.problems),
        ("videos missing", found.missing),
        ("videos or parts of videos that cannot be read", found.unreadable),
    ):
        lines += [f"{len(texts)} {title}", *(f"  {visible(' '.join(text.split()))}" for text in texts[:MOST_NAMED])]
        if len(texts) > MOST_NAMED:
            lines.append(f"  and {len(texts) - MOST_NAMED} more")
    lines += [visible(text) for text in found.remarks]
    if found.short:
        lines.append(f"{found.short} videos or parts of videos have fewer frames than video.frames asks for: some are repeated")
    if found.otherwise is not None:
        lines.append(f"{found.otherwise} videos or parts of videos show other pictures to decord, which most harnesses read by")
    if found.silent is not None:
        lines.append(f"{count(found.silent, 'video')} without subtitles")
    if found.unlabelled:
        lines.append(f"{found.unlabelled} questions have no public answer: they are answered, not scored")
    return "\n".join(lines)


def run_check(overrides: Sequence[str], decord: bool = False, config_dir: Path | None = None) -> int:
    """Composes the configuration as `prunesweep` does, loads its benchmark, prints what is wrong; the number of faults.

    `config_dir` is a folder of further YAML files.  Raises ValueError if it does not exist.
    """
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from prunesweep.targets import instantiate

    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("eval", [*_searched(config_dir), *typed(overrides)], return_hydra_config=True)
    expand_home(config)
    require_known_keys(config)
    for key in config.benchmark:
        if OmegaConf.is_missing(config.benchmark, key):
            raise ValueError(f"benchmark.{key} must be given: benchmark.{key}=...")
    settings: Any = OmegaConf.to_container(config.benchmark, resolve=True, throw_on_missing=True)
    samples = instantiate(settings["load"])
    require_at_least("video.frames", config.video.frames, 1)
    require_seconds("video.seconds", config.video.seconds)
    look = Look(config.video.frames, instantiate(config.protocol).sampling, config.video.seconds, decord)
    found = check(samples, expected_counts(settings), look, subtitled=settings.get("subtitles", "none") != "none")
    print(report(found))
    return found.faults


def _searched(folder: Path | None) -> list[str]:
    if folder is None:
        return []
    if not folder.is_dir():
        raise ValueError(f"--config-dir {str(folder)!r} is no folder")
    return [f"hydra.searchpath=[{json.dumps(f'file://{folder.resolve()}')}]"]


CHOICES = ("tasks", "durations", "parts")
"""Settings of benchmarks that name the tasks to load."""
SPLITS = ("split", "by", "part")
"""Settings of benchmarks, one within the other, that say which table of `COUNTS` holds."""


def expected_counts(settings: Mapping[str, Any]) -> dict[str, int]:
    """Published numbers of questions of the tasks that a benchmark's settings ask for; none where there is a limit."""
    module = importlib.import_module(settings["load"]["_target_"].rpartition(".")[0])
    counts: dict[str, Any] = getattr(module, "COUNTS", {}) if settings.get("limit") is None else {}
    for name in SPLITS:
        counts = counts[value] if isinstance(counts.get(value := settings["load"].get(name)), dict) else counts
    chosen = next((settings[name] for name in CHOICES if settings.get(name)), None)
    return {task: number for task, number in counts.items() if chosen is None or task in chosen}


def run_submission(trial: Path, out: Path) -> None:
    """Raises ValueError if an answer is not one option: the server counts only what it gets."""
    from prunesweep.benchmarks.egoschema import COUNTS, submission
    from prunesweep.results.read import read_folder
    from prunesweep.results.records import RECORDS

    if not (trial / RECORDS).is_file():
        raise ValueError(f"{trial} holds no {RECORDS}; name the folder of a trial")
    read = read_folder(trial)
    if read.info.benchmark != "egoschema":
        raise ValueError(f"{trial} is a trial on {read.info.benchmark}; submissions are for egoschema")
    failed = read.records.drop_nulls("error").select("sample_id", "error").rows()
    if failed:
        name, why = failed[0]
        raise ValueError(
            f"{len(failed)} of {len(read.records)} questions have an error instead of an answer, such as {name} ({why}); mend "
            "what is wrong and run again with retry_errors=true"
        )
    rows = read.records.select("sample_id", "chosen").rows()
    unclear = [name for name, chosen in rows if chosen is None]
    if unclear:
        raise ValueError(
            f"{len(unclear)} of {len(rows)} answers name no option or several, such as that to {unclear[0]}; "
            "use protocol.answering=choose, which always picks one"
        )
    out.write_text(json.dumps(submission(rows)), encoding="utf-8")
    print(f"{len(rows)} answers written to {out}")
    if len(rows) < (every := sum(COUNTS["full"].values())):
        print(f"the server expects {every}; run all of them with benchmark.split=full and without a limit")
