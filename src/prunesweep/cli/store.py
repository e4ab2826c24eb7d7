"""`prunesweep store`: look at a store, check it, merge stores, thin one out, hand its records on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prunesweep.cli.shared import Verbs
from prunesweep.console.layout import visible_lines
from prunesweep.console.terminal import Painted, say
from prunesweep.paths import user_path

if TYPE_CHECKING:
    from prunesweep.results.store import Store

app = Verbs(
    "prunesweep store list --reducer prunevid",
    help="Look at a store, check it, merge stores of several machines, thin one out, hand its records on.",
)
Place = Annotated[Path, typer.Option("--store", parser=user_path, metavar="FOLDER", help="Of the store.")]
STORE = Path("store")
Key = Annotated[str | None, typer.Option(metavar="KEY", help="Beginning of a trial's key.")]
Reducer = Annotated[str | None, typer.Option(metavar="NAME", help="Only trials with this reducer.")]
Model = Annotated[str | None, typer.Option(metavar="NAME", help="Only trials with this model.")]
Benchmark = Annotated[str | None, typer.Option(metavar="NAME", help="Only trials with this benchmark.")]


@app.command("list", example="prunesweep store list --model tiny")
def list_trials(
    store: Place = STORE, key: Key = None, reducer: Reducer = None, model: Model = None, benchmark: Benchmark = None
) -> None:
    """List the trials and how many records each has."""
    from prunesweep.sweep.upkeep import Wanted, listed

    _print(listed(_existing(store), Wanted(key, reducer, model, benchmark)))


@app.command(example="prunesweep store verify")
def verify(store: Place = STORE) -> None:
    """Name every damaged, foreign or unfinished file; exit code 1 if there is one."""
    from prunesweep.sweep.upkeep import verified

    _print(verified(_existing(store)))


@app.command(example="prunesweep store merge /from/another/machine/store")
def merge(
    sources: Annotated[
        list[Path], typer.Argument(parser=user_path, metavar="STORE...", help="To copy from; they stay as they are.")
    ],
    store: Place = STORE,
) -> None:
    """Copy the records of other stores into this one, which may be new."""
    from prunesweep.results.store import Store
    from prunesweep.sweep.upkeep import merged

    others = [Store.existing(source) for source in sources]  # before a store is made for them
    _print(merged(Store.open(store), others))


@app.command(example="prunesweep store migrate --checkpoint CHECKPOINT_FOLDER")
def migrate(
    store: Place = STORE,
    code: Annotated[
        list[Path] | None,
        typer.Option(parser=user_path, metavar="FOLDER", help="src of the version that made the records, if not the last one."),
    ] = None,
    checkpoint: Annotated[
        list[str] | None, typer.Option(metavar="FOLDER|NAME", help="That made records, besides the embedded one.")
    ] = None,
) -> None:
    """Give records of the format before the keys of today, as far as that can be verified."""
    from prunesweep.sweep.upkeep import migrated

    _print(migrated(_existing(store), code or [], checkpoint or []))


@app.command(example="prunesweep store prune --outdated --yes")
def prune(
    store: Place = STORE,
    key: Key = None,
    reducer: Reducer = None,
    model: Model = None,
    benchmark: Benchmark = None,
    outdated: Annotated[bool, typer.Option("--outdated", help="Trials of other code or libraries than installed.")] = False,
    damaged: Annotated[bool, typer.Option("--damaged", help="Files that verify names.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Really do it.")] = False,
) -> None:
    """Remove trials or damaged files; without --yes only say which."""
    from prunesweep.sweep.upkeep import Wanted, pruned

    _print(pruned(_existing(store), Wanted(key, reducer, model, benchmark), outdated, damaged, yes))


@app.command(example="prunesweep store export records.parquet --benchmark blocks")
def export(
    file: Annotated[Path, typer.Argument(parser=user_path, metavar="FILE", help="NAME.csv or NAME.parquet.")],
    store: Place = STORE,
    key: Key = None,
    reducer: Reducer = None,
    model: Model = None,
    benchmark: Benchmark = None,
) -> None:
    """Write all records to one CSV or parquet file."""
    from prunesweep.sweep.upkeep import Wanted, exported

    _print(exported(_existing(store), Wanted(key, reducer, model, benchmark), file))


def _existing(folder: Path) -> Store:
    from prunesweep.results.store import Store

    return Store.existing(folder)


def _print(lines: Iterable[str]) -> None:
    """Names come from other people's stores, so what cannot be printed is not."""
    for line in lines:
        say(line if isinstance(line, Painted) else visible_lines(line))
