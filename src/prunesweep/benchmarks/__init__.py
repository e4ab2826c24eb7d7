"""Benchmarks: each is one file with a `load` function that returns samples, and one YAML in `conf/benchmark/`.

A file of a real benchmark also has `COUNTS`, how many questions each task has as published; `prunesweep data check` compares.
Where splits differ it holds one such table for each value of the setting that names them.
An item that cannot be asked becomes a sample with a `problem`, so that it is counted and named instead of left out.
"""

from __future__ import annotations

import csv
import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Literal

from prunesweep.checks import require_at_least, require_choice, require_number
from prunesweep.console.layout import count
from prunesweep.types import Sample

WHOLE = "the whole"
"""In `COUNTS`, of all questions together, where those of each task are not known."""


def by_video(samples: Sequence[Sample]) -> list[tuple[Sample, ...]]:
    """Samples that ask about one video together, in order of first appearance."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.video_id, []).append(sample)
    return [tuple(group) for group in groups.values()]


@dataclass(frozen=True)
class Part:
    """Some of a benchmark's questions: whole videos, so that what is chosen on one part meets unseen videos on the other."""

    part: Literal["all", "search", "confirm"] = "all"
    share: float = 0.5
    """Of the videos that `search` has; `confirm` has the others."""
    seed: int = 0
    """Of the order of the videos, of which `search` has the first ones."""

    def __post_init__(self) -> None:
        require_choice("questions.part", self.part, Literal["all", "search", "confirm"])
        require_at_least("questions.seed", self.seed, 0)
        require_number("questions.share", self.share)
        if not 0 < self.share < 1:
            raise ValueError(f"questions.share must be in (0, 1), got {self.share:g}")

    def __call__(self, samples: Sequence[Sample]) -> tuple[Sample, ...]:
        """In their order.  Raises ValueError if there are too few videos to give both parts one."""
        if self.part == "all":
            return tuple(samples)
        searched = self.searched({sample.video_id for sample in samples})
        return tuple(sample for sample in samples if (sample.video_id in searched) == (self.part == "search"))

    def searched(self, videos: Iterable[str]) -> set[str]:
        """Those of these videos that `search` has.  Raises ValueError as above."""
        order = sorted(set(videos), key=self._place)
        first = round(self.share * len(order))
        if not 0 < first < len(order):
            videos = count(len(order), "video")
            raise ValueError(f"{videos} cannot be parted with questions.share={self.share:g}; both parts need one, so take more")
        return set(order[:first])

    def _place(self, video: str) -> str:
        """By a hash: whatever else a benchmark has, two videos keep their order."""
        return hashlib.sha256(f"{self.seed} {video}".encode()).hexdigest()


def take_evenly(samples: Sequence[Sample], limit: int | None) -> list[Sample]:
    """At most `limit` samples, the same number of each task as far as they go, in the order of the file.

    Raises ValueError if the limit is below 1.
    """
    if limit is None:
        return list(samples)
    require_at_least("benchmark.limit", limit, 1)
    tasks: dict[str, list[Sample]] = {}
    for sample in samples:
        tasks.setdefault(sample.task, []).append(sample)
    rounds = chain.from_iterable(zip_longest(*tasks.values()))
    chosen = {sample.id for sample in [s for s in rounds if s is not None][:limit]}
    return [sample for sample in samples if sample.id in chosen]


def of_tasks(samples: Sequence[Sample], tasks: Sequence[str] | None, known: Sequence[str]) -> list[Sample]:
    """Samples of the tasks asked for, and those that have none of the known ones; None: all.

    Raises ValueError for a task that is unknown.
    """
    if tasks is None:
        return list(samples)
    for name in tasks:
        if name not in known:
            raise ValueError(f"unknown task {name!r} in benchmark.tasks; known: {', '.join(known)}")
    return [sample for sample in samples if sample.task in tasks or sample.task not in known]


def root_folder(path: str, name: str) -> Path:
    """Raises ValueError if the folder does not exist."""
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"benchmark folder {str(root)!r} does not exist; set benchmark.path to the folder of {name}")
    return root


def read_json(file: Path) -> Any:
    """Raises ValueError, naming the file, if it is missing or no JSON."""
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise ValueError(f"{file} does not exist; docs/benchmarks.md has the layout") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not JSON: {error}; download it again") from error


def read_items(file: Path) -> list[dict[str, Any]]:
    """The objects of a JSON list.  Raises ValueError, naming the file, for anything else."""
    items = read_json(file)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError(f"{file} must hold a list of objects")
    return items


def read_parquet(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Rows of parquet files, in the order of their names.  Raises ValueError, naming the file, if one cannot be read."""
    import polars as pl

    rows: list[dict[str, Any]] = []
    for file in sorted(files):
        try:
            rows += pl.read_parquet(file, glob=False).to_dicts()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise ValueError(f"{file} is no readable parquet file ({str(error).splitlines()[0]}); download it again") from error
    return rows


def read_csv(file: Path, fields: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a table of comma-separated values with a heading.

    Raises ValueError, naming the file, if it is missing or damaged, has a row with more or fewer values, or lacks a field.
    """
    rows = []
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            heading = next(reader, [])
            if missing := [name for name in fields if name not in heading]:
                raise ValueError(f"{file} has no column {missing[0]!r}; needed are {', '.join(fields)}")
            for row in reader:
                if row and len(row) != len(heading):
                    raise ValueError(
                        f"{file}, line {reader.line_num}: {len(row)} values under {len(heading)} headings; download it again"
                    )
                rows += [dict(zip(heading, row, strict=True))] if row else []
    except FileNotFoundError as error:
        raise ValueError(f"{file} does not exist; docs/benchmarks.md has the layout") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is no table of comma-separated values: {error}; download it again") from error
    return rows


def choice_sample(item: dict[str, Any], question: str = "question", answer: str = "answer", **known: Any) -> Sample:
    """A multiple-choice sample of an item with candidates, whose answer is the text of one of them, or null.

    What is wrong with the item becomes the sample's problem.
    """
    candidates = item.get("candidates")
    texts = tuple(str(c) for c in candidates) if isinstance(candidates, list) else ()
    asked, right = item.get(question), item.get(answer)
    problem = None
    if not isinstance(asked, str) or is_blank(asked):
        problem = f"no text in {question!r}"
    elif len(texts) < 2 or len(set(texts)) < len(texts):
        problem = f"'candidates' must be at least two different texts, got {candidates!r}"
    elif right is not None and str(right) not in texts:
        problem = f"answer {right!r} is not among the candidates {list(texts)!r}"
    target = texts.index(str(right)) if problem is None and right is not None else None
    return Sample(question=str(asked), choices=texts, target=target, problem=problem, **known)


def numbered_sample(question: Any, options: Any, answer: Any, **known: Any) -> Sample:
    """A multiple-choice sample whose answer is the number of an option, from 0, as a number or as text; None: not public.

    What is wrong with the item becomes the sample's problem.
    """
    sample = choice_sample({"question": question, "candidates": options, "answer": None}, **known)
    if answer is None or sample.problem is not None:
        return sample
    number = int(str(answer)) if str(answer).isdecimal() else -1
    if not 0 <= number < len(sample.choices):
        return replace(sample, problem=f"answer {answer!r} is no number of one of the {len(sample.choices)} options")
    return replace(sample, target=number)


def inside(root: Path, name: Any) -> tuple[Path, str | None]:
    """A file below `root`, and what is wrong with its name.

    Names decide, not where links lead: a lab's videos lie on a disk of their own, and whoever has the folder made the links.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        return root, f"no file name in 'video', got {name!r}"
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return root, f"video {name!r} lies outside the benchmark's folder; put it or a link to it inside"
    return root / name, None


SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".webm")


def on_disk(file: Path) -> Path:
    """A video by its name, with a suffix or without: where no such file is there, the one in another container.

    The file as it is named if there is none, or `NAME.mp4` if it is named without a suffix.
    """
    bare = file.with_suffix("") if file.suffix.lower() in SUFFIXES else file
    named = file if bare != file else file.with_name(f"{file.name}.mp4")
    others = (bare.with_name(bare.name + suffix) for lower in SUFFIXES for suffix in (lower, lower.upper()))
    return next((path for path in (named, *others) if path.is_file()), named)


LONG = 10_000
"""Characters of a question with its options: some 2,500 tokens, more than most videos have, and ten times a usual question."""


def is_blank(text: str) -> bool:
    """Whether there is nothing to be read: spaces, also those without width, control and formatting characters."""
    return all(c.isspace() or c in FILLERS or unicodedata.category(c) in UNSEEN for c in text)


UNSEEN = ("Cc", "Cf", "Mn", "Zs", "Zl", "Zp")
FILLERS = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and signs by their categories, drawn as nothing."""


def unasked(samples: Sequence[Sample]) -> list[str]:
    """Questions that cannot be asked, by their ids, with the reason."""
    return [f"{sample.id}: {sample.problem}" for sample in samples if sample.problem]


def remarks(samples: Sequence[Sample]) -> list[str]:
    """What to say of questions that are asked, though they are suspiciously long or nothing is to be read in them."""
    asked = [sample for sample in samples if not sample.problem]
    sizes = {sample.id: len(sample.question) + sum(map(len, sample.choices)) for sample in asked}
    said = []
    if blank := [sample.id for sample in asked if is_blank(sample.question)]:
        said.append(f"{len(blank)} of {len(samples)} questions have no text, such as {blank[0]}: they are asked as they are")
    if long := [name for name, size in sizes.items() if size > LONG]:
        said.append(
            f"{len(long)} of {len(samples)} questions have more than {LONG:,} characters with their options, such as {long[0]} "
            f"with {sizes[long[0]]:,}: they are asked as they are, at the price of some {sizes[long[0]] // 4:,} text tokens"
        )
    return said


def warnings(samples: Sequence[Sample]) -> list[str]:
    """What to say before anything runs: the same, and which questions cannot be asked."""
    mute = unasked(samples)
    first = [f"{len(mute)} of {len(samples)} questions cannot be asked, such as {mute[0]}"] if mute else []
    return [*first, *remarks(samples)]


def require_unique(samples: Iterable[Sample], where: str) -> None:
    """Raises ValueError for ids that occur more than once: records could not be told apart."""
    twice = [name for name, count in Counter(sample.id for sample in samples).items() if count > 1]
    if twice:
        raise ValueError(f"{where}: {len(twice)} ids occur more than once, such as {twice[0]!r}; remove the doubled questions")


def seconds(item: dict[str, Any], name: str) -> float | None:
    """Raises ValueError for a bound that is no number."""
    value = item.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{name!r} must be a number of seconds, got {value!r}")
    return float(value)
