"""Keeping a store: look at it, check it, merge stores of several machines, thin one out, hand its records on."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunesweep.console.layout import short_numbers
from prunesweep.console.terminal import table
from prunesweep.disk.files import PARTIAL, replace_file
from prunesweep.disk.foreign import read_json
from prunesweep.results.keys.code import code_of
from prunesweep.results.keys.fingerprint import RECORD_FORMAT, digest, versions
from prunesweep.results.records import TRIAL, parquet_bytes
from prunesweep.results.store import (
    FILES,
    FORMAT,
    MODELS,
    SHARDS,
    SOLVED,
    SPEED,
    TRIALS,
    DamagedError,
    Problem,
    Store,
    StoredTrial,
    read_description,
    read_file,
)
from prunesweep.sweep.work import ONCE
from prunesweep.targets import today

if TYPE_CHECKING:
    import polars as pl

ABANDONED_SECONDS = 3600.0
"""An unfinished file older than this belongs to a process that was killed: writing one takes milliseconds."""
SHOWN = 12
"""Digits of a key that a list shows; --key takes any beginning."""


def problems(store: Store) -> list[Problem]:
    """Every file that is not what it should be: damaged, foreign, misplaced, or left unfinished."""
    found: list[Problem] = []
    for path in sorted(store.folder.rglob("*")):
        if (
            path.is_file()
            and path.relative_to(store.folder).parts not in ((FORMAT,), (FILES,), (SPEED,), (MODELS,))
            and (reason := _wrong(path, store))
        ):
            found.append(Problem(path, reason))
    return found


def _wrong(path: Path, store: Store) -> str | None:
    place = path.relative_to(store.folder).parts
    if path.is_symlink():
        return "a link: a store has none, and what it leads to may be anything"
    if path.name.endswith(PARTIAL):
        return "unfinished: its writer was killed, or is still at it; holds nothing that counts"
    if len(place) == 3 and place[0] == TRIALS and place[2] == TRIAL:
        trial = read_description(path)
        return None if trial and trial.key == place[1] else "not the description that its folder is named after"
    if len(place) == 2 and place[0] == SOLVED and path.suffix == ".json":
        return None if _is_named_after_origin(path) else "not the solution that it is named after"
    in_place = (len(place), place[0]) in ((2, SHARDS), (3, TRIALS))
    if path.suffix != ".parquet" or not in_place:
        return "foreign: no file of a store"
    try:
        rows = read_file(path)
    except DamagedError as error:
        return str(error)
    except FileNotFoundError:  # gathered by a sweep that runs
        return None
    if place[0] == TRIALS and set(rows["key"]) - {place[1]}:
        return "holds records of another trial than its folder's"
    return None


def _is_named_after_origin(path: Path) -> bool:
    try:
        return bool(digest(read_json(path)["made_of"]) == path.stem)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def merge(target: Store, source: Store) -> list[Problem]:
    """Copies what the source has and the target has not; returns the source's files that were not fit to copy."""
    bad = {problem.path: problem for problem in problems(source)}
    for path in sorted(source.folder.rglob("*")):
        place = path.relative_to(source.folder)
        if (
            path.is_file()
            and path not in bad
            and place.parts[0] in (SHARDS, TRIALS, SOLVED)
            and not (target.folder / place).exists()
        ):
            (target.folder / place).parent.mkdir(parents=True, exist_ok=True)
            replace_file(target.folder / place, path.read_bytes())
    target.commit([trial.key for trial in target.trials()])
    return list(bad.values())


def is_outdated(trial: StoredTrial) -> bool:
    """Whether the installed version would not use its records: an earlier format, other code, or other libraries."""
    made_of = trial.made_of
    if made_of.get("format") != RECORD_FORMAT or ONCE in made_of:
        return True
    parts = trial.about.get("parts", {})
    code = code_of(tuple(today(str(root)) for root in parts.get("roots", ())))
    unknown = bool(code.unfollowed)  # its method is not installed here, so nobody can tell
    return not unknown and (made_of.get("versions") != versions(code) or made_of.get("code") != code.digest)


def rows(store: Store, trials: Sequence[StoredTrial]) -> pl.DataFrame:
    """One row per record: what the trial is, as far as people call it by names, then the record."""
    import polars as pl

    about = pl.DataFrame(
        [
            {"key": t.key, **{name: t.about.get(name) for name in NAMES}, "settings": json.dumps(t.about.get("settings"))}
            for t in trials
        ],
        schema={"key": pl.String, **dict.fromkeys(NAMES, pl.String), "settings": pl.String},
    )
    found = store.records([trial.key for trial in trials]).drop("trial")
    return about.join(found, on="key").sort("key", "sample_id")


NAMES = ("reducer", "model", "benchmark")


@dataclass(frozen=True)
class Wanted:
    """Which trials of a store are meant: those that fit all that is given."""

    key: str | None = None
    """Its beginning."""
    reducer: str | None = None
    model: str | None = None
    benchmark: str | None = None

    def given(self) -> str:
        """As it was typed; empty where all trials are meant."""
        return " ".join(f"--{name} {value}" for name, value in vars(self).items() if value)

    def fits(self, trial: StoredTrial) -> bool:
        names = all(getattr(self, name) in (None, trial.about.get(name)) for name in NAMES)
        return trial.key.startswith(self.key or "") and names


ALL = Wanted()


def chosen(store: Store, wanted: Wanted) -> list[StoredTrial]:
    """The trials that are meant; raises ValueError if some are and there are none."""
    fitting = [trial for trial in store.trials() if wanted.fits(trial)]
    if wanted.given() and not fitting:
        raise ValueError(f"no trial of {store.folder} fits {wanted.given()}; prunesweep store list shows all")
    return fitting


def listed(store: Store, wanted: Wanted = ALL) -> Iterator[str]:
    """The trials and how many records each has, as lines; none is no error."""
    trials = [trial for trial in store.trials() if wanted.fits(trial)]
    counts: dict[str, tuple[int, int, Any]] = {
        key: (len(rows), rows["error"].count(), rows["at"].max())
        for key, rows in store.each([trial.key for trial in trials], ("error", "at"))
    }
    lines: list[tuple[str, ...]] = []
    for trial in sorted(trials, key=lambda t: tuple(str(t.about.get(name)) for name in NAMES)):
        count, errors, at = counts.get(trial.key, (0, 0, None))
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(at)) if at else "never"
        settings = _short(trial.made_of.get("trial", {}))
        lines.append((trial.key[:SHOWN], *(str(trial.about.get(n)) for n in NAMES), str(count), str(errors), when, settings))
    if lines:
        yield table(("key", *NAMES, "records", "errors", "last", "settings"), lines, needed=("records",))
    records, errors = (sum(count[column] for count in counts.values()) for column in (0, 1))
    size = sum(path.stat().st_size for path in store.folder.rglob("*.parquet"))
    yield (
        f"{len(trials)} trials, {records:,} records ({errors:,} errors), {size / 2**20:.1f} MiB; "
        f"{len(store.shards())} shards of sweeps that run or were interrupted"
    )


def _short(
    settings: Any, keep: Sequence[str] = ("layer", "keep_ratio", "static_threshold", "cluster_ratio", "segment_ratio")
) -> str:
    """The settings that sweeps vary most; `prunesweep store export` has all."""
    found: list[str] = [f"frames={settings.get('frames')}"] if isinstance(settings, dict) else []

    def look(value: Any) -> None:
        for name, item in value.items() if isinstance(value, dict) else ():
            if name in keep:
                found.append(f"{name}={item}")
            look(item)

    look(settings)
    return short_numbers(" ".join(found))


def verified(store: Store) -> Iterator[str]:
    """Names every damaged, foreign or unfinished file; SystemExit if there is one."""
    bad = problems(store)
    for path, reason in bad:
        yield f"{path}: {reason}"
    if bad:
        yield "damaged files are left out wherever records are read; prunesweep store prune --damaged --yes removes them"
        raise SystemExit(1)
    yield f"{len(store.trials())} trials and {len(store.shards())} shards, all as they should be"


def merged(store: Store, sources: Sequence[Store]) -> Iterator[str]:
    """Copies the records of other stores into this one, which may be new; SystemExit if some files were not fit."""
    if any(source.folder.resolve() == store.folder.resolve() for source in sources):
        raise ValueError(f"{store.folder} cannot be merged into itself; --store names the store that gets the others' records")
    bad = []
    for source in sources:
        bad += merge(store, source)
        yield f"{source.folder}: merged into {store.folder}"
    for path, reason in bad:
        yield f"{path}: not merged, {reason}"
    if bad:
        raise SystemExit(1)


def migrated(store: Store, code: Sequence[Path], checkpoint: Sequence[str]) -> Iterator[str]:
    """Gives records of the format before the keys of today, as far as that can be verified."""
    from prunesweep.results.migration import migrate

    carried, reasons = 0, Counter[str]()
    for trial, became in migrate(store, code, checkpoint):
        names = ", ".join(str(trial.about.get(name)) for name in NAMES)
        if isinstance(became, str):
            reasons[became] += 1
            yield f"left as it is: trial {trial.key[:SHOWN]} ({names})"
        else:
            carried += 1
            yield f"carried over: trial {trial.key[:SHOWN]} ({names}) is now {became.key[:SHOWN]}"
    for reason, count in reasons.items():
        yield f"{count} left: {reason}"
    yield f"{carried} of {carried + reasons.total()} trials of the earlier format carried over; what is left stays readable"


def pruned(store: Store, wanted: Wanted, outdated: bool, damaged: bool, really: bool) -> Iterator[str]:
    """Removes trials or damaged files, or only says which it would."""
    if not (wanted.given() or outdated or damaged):
        raise ValueError("say what to prune: --damaged, --outdated, --key, --reducer, --model or --benchmark")
    doomed = [t for t in chosen(store, wanted) if is_outdated(t) or not outdated] if wanted.given() or outdated else []
    bad = [problem for problem in problems(store) if _is_abandoned(problem.path)] if damaged else []
    verb = "removed" if really else "would remove"
    for trial in doomed:
        yield f"{verb} trial {trial.key[:SHOWN]} ({', '.join(str(trial.about.get(name)) for name in NAMES)})"
    for path, reason in bad:
        yield f"{verb} {path}: {reason}"
    if not really:
        yield "nothing was changed; --yes does it"
        return
    store.require_own_folders()
    store.commit([trial.key for trial in store.trials()])  # so that no shard brings a removed trial back
    for path, _ in bad:
        path.unlink(missing_ok=True)
    for trial in doomed:
        shutil.rmtree(store.folder / TRIALS / trial.key)


def _is_abandoned(path: Path) -> bool:
    return not path.name.endswith(PARTIAL) or time.time() - path.stat().st_mtime > ABANDONED_SECONDS


def exported(store: Store, wanted: Wanted, file: Path) -> Iterator[str]:
    """Writes all records to one CSV or parquet file."""
    import polars as pl

    kinds = {".csv": _csv, ".parquet": parquet_bytes}
    if file.suffix not in kinds:
        raise ValueError(f"the file must end in .csv or .parquet, got {str(file)!r}")
    if not file.absolute().parent.is_dir():
        raise ValueError(f"folder {file.parent} does not exist; make it, or name another file")
    frame = rows(store, chosen(store, wanted)).with_columns(at=pl.from_epoch(pl.col("at").cast(pl.Int64)))
    replace_file(file, kinds[file.suffix](frame))
    yield f"{len(frame):,} records written to {file}"


def _csv(frame: pl.DataFrame) -> bytes:
    """Lists as JSON: a CSV has none."""
    import polars as pl

    lists = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List)]
    texts = [pl.Series(name, [None if v is None else json.dumps(v.to_list()) for v in frame[name]], pl.String) for name in lists]
    return frame.with_columns(texts).write_csv().encode()
