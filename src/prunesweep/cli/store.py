"""`prunesweep-store`: look at a store, check it, merge stores of several machines, thin one out, hand its records on."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunesweep.errors import reported
from prunesweep.files import PARTIAL, replace_file
from prunesweep.paths import user_path
from prunesweep.results.keys.code import code_of
from prunesweep.results.keys.fingerprint import LENGTH, RECORD_FORMAT, versions
from prunesweep.results.records import TRIAL, parquet_bytes
from prunesweep.results.store import (
    FILES,
    FORMAT,
    SHARDS,
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
            and path.relative_to(store.folder).parts not in ((FORMAT,), (FILES,), (SPEED,))
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


def merge(target: Store, source: Store) -> list[Problem]:
    """Copies what the source has and the target has not; returns the source's files that were not fit to copy."""
    bad = {problem.path: problem for problem in problems(source)}
    for path in sorted(source.folder.rglob("*")):
        place = path.relative_to(source.folder)
        if path.is_file() and path not in bad and place.parts[0] in (SHARDS, TRIALS) and not (target.folder / place).exists():
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


def chosen(store: Store, arguments: argparse.Namespace) -> list[StoredTrial]:
    """The trials that fit all of --key, --reducer, --model, --benchmark.

    Raises ValueError if these are given and none does, but for a list.
    """
    fitting = [
        trial
        for trial in store.trials()
        if trial.key.startswith(arguments.key or "")
        and all(getattr(arguments, name) in (None, trial.about.get(name)) for name in NAMES)
    ]
    given = [f"--{name} {value}" for name in ("key", *NAMES) if (value := getattr(arguments, name))]
    if given and not fitting and arguments.command != "list":
        raise ValueError(f"no trial of {store.folder} fits {' '.join(given)}; prunesweep-store list shows all")
    return fitting


def do_list(store: Store, arguments: argparse.Namespace) -> Iterator[str]:

    from prunesweep.layout import grid

    trials = chosen(store, arguments)
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
        yield grid(("key", *NAMES, "records", "errors", "last", "settings"), lines)
    records, errors = (sum(count[column] for count in counts.values()) for column in (0, 1))
    size = sum(path.stat().st_size for path in store.folder.rglob("*.parquet"))
    yield (
        f"{len(trials)} trials, {records:,} records ({errors:,} errors), {size / 2**20:.1f} MiB; "
        f"{len(store.shards())} shards of sweeps that run or were interrupted"
    )


def _short(
    settings: Any, keep: Sequence[str] = ("layer", "keep_ratio", "static_threshold", "cluster_ratio", "segment_ratio")
) -> str:
    """The settings that sweeps vary most; `prunesweep-store export` has all."""
    found: list[str] = [f"frames={settings.get('frames')}"] if isinstance(settings, dict) else []

    def look(value: Any) -> None:
        for name, item in value.items() if isinstance(value, dict) else ():
            if name in keep:
                found.append(f"{name}={item}")
            look(item)

    look(settings)
    return " ".join(found)


def do_verify(store: Store, arguments: argparse.Namespace) -> Iterator[str]:
    bad = problems(store)
    for path, reason in bad:
        yield f"{path}: {reason}"
    if bad:
        yield "damaged files are left out wherever records are read; prunesweep-store prune --damaged --yes removes them"
        raise SystemExit(1)
    yield f"{len(store.trials())} trials and {len(store.shards())} shards, all as they should be"


def do_merge(store: Store, arguments: argparse.Namespace) -> Iterator[str]:
    sources = [Store.existing(folder) for folder in arguments.sources]
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


def do_migrate(store: Store, arguments: argparse.Namespace) -> Iterator[str]:
    from prunesweep.results.migration import migrate

    carried, reasons = 0, Counter[str]()
    for trial, became in migrate(store, arguments.code, arguments.checkpoint):
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


def do_prune(store: Store, arguments: argparse.Namespace) -> Iterator[str]:
    names = any(getattr(arguments, name) for name in ("key", *NAMES))
    if not (names or arguments.outdated or arguments.damaged):
        raise ValueError("say what to prune: --damaged, --outdated, --key, --reducer, --model or --benchmark")
    doomed = (
        [t for t in chosen(store, arguments) if is_outdated(t) or not arguments.outdated] if names or arguments.outdated else []
    )
    bad = [problem for problem in problems(store) if _is_abandoned(problem.path)] if arguments.damaged else []
    verb = "removed" if arguments.yes else "would remove"
    for trial in doomed:
        yield f"{verb} trial {trial.key[:SHOWN]} ({', '.join(str(trial.about.get(name)) for name in NAMES)})"
    for path, reason in bad:
        yield f"{verb} {path}: {reason}"
    if not arguments.yes:
        yield "nothing was changed; --yes does it"
        return
    store.commit([trial.key for trial in store.trials()])  # so that no shard brings a removed trial back
    for path, _ in bad:
        path.unlink(missing_ok=True)
    for trial in doomed:
        shutil.rmtree(store.folder / TRIALS / trial.key)


def _is_abandoned(path: Path) -> bool:
    return not path.name.endswith(PARTIAL) or time.time() - path.stat().st_mtime > ABANDONED_SECONDS


def do_export(store: Store, arguments: argparse.Namespace) -> Iterator[str]:
    import polars as pl

    kinds = {".csv": _csv, ".parquet": parquet_bytes}
    if arguments.file.suffix not in kinds:
        raise ValueError(f"the file must end in .csv or .parquet, got {str(arguments.file)!r}")
    if not arguments.file.absolute().parent.is_dir():
        raise ValueError(f"folder {arguments.file.parent} does not exist; make it, or name another file")
    frame = rows(store, chosen(store, arguments)).with_columns(at=pl.from_epoch(pl.col("at").cast(pl.Int64)))
    replace_file(arguments.file, kinds[arguments.file.suffix](frame))
    yield f"{len(frame):,} records written to {arguments.file}"


def _csv(frame: pl.DataFrame) -> bytes:
    """Lists as JSON: a CSV has none."""
    import polars as pl

    lists = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List)]
    texts = [pl.Series(name, [None if v is None else json.dumps(v.to_list()) for v in frame[name]], pl.String) for name in lists]
    return frame.with_columns(texts).write_csv().encode()


COMMANDS: dict[str, tuple[Callable[[Store, argparse.Namespace], Iterable[str]], str]] = {
    "list": (do_list, "the trials and how many records each has"),
    "verify": (do_verify, "names every damaged, foreign or unfinished file; exit code 1 if there is one"),
    "merge": (do_merge, "copies the records of other stores into this one"),
    "migrate": (do_migrate, "gives records of the format before the keys of today, as far as that can be verified"),
    "prune": (do_prune, "removes trials or damaged files"),
    "export": (do_export, "writes all records to one CSV or parquet file"),
}


CODE_HELP = "folder src of the version that made the records, if it is not the last one of that format; may be repeated"
CHECKPOINT_HELP = "a checkpoint that made records, besides the embedded one; may be repeated"


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="prunesweep-store", description=__doc__.split(": ", 1)[1] if __doc__ else None)
    parts = result.add_subparsers(dest="command", required=True)
    for name, (_, text) in COMMANDS.items():
        part = parts.add_parser(name, help=text, description=text)
        part.add_argument("--store", type=user_path, default=Path("store"), help="folder of the store (default: store)")
        if name in ("list", "prune", "export"):
            part.add_argument("--key", help=f"beginning of a trial's key ({LENGTH} hexadecimal digits)")
            for option in NAMES:
                part.add_argument(f"--{option}", metavar="NAME", help=f"only trials with this {option}")
        if name == "merge":
            part.add_argument(
                "sources", type=user_path, nargs="+", metavar="STORE", help="stores to copy from; they stay as they are"
            )
        if name == "migrate":
            part.add_argument("--code", type=user_path, action="append", default=[], metavar="FOLDER", help=CODE_HELP)
            part.add_argument("--checkpoint", action="append", default=[], metavar="FOLDER_OR_NAME", help=CHECKPOINT_HELP)
        if name == "prune":
            part.add_argument("--outdated", action="store_true", help="trials of other code or library versions than installed")
            part.add_argument("--damaged", action="store_true", help="files that verify names")
            part.add_argument("--yes", action="store_true", help="really do it")
        if name == "export":
            part.add_argument("file", type=user_path, help="NAME.csv or NAME.parquet")
    return result


def main() -> None:
    arguments = parser().parse_args()
    with reported("prunesweep-store"):
        for source in getattr(arguments, "sources", ()):  # before a store is made for them
            Store.existing(source)
        # merging may make a new store; everything else needs one
        store = (Store.open if arguments.command == "merge" else Store.existing)(arguments.store)
        for line in COMMANDS[arguments.command][0](store, arguments):
            print("".join(c if c.isprintable() or c == "\n" else "?" for c in line))  # names come from other people's stores


if __name__ == "__main__":
    main()
