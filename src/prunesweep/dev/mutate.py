"""How many wrong copies of each method the laws and its reference cases find.

    python -m prunesweep.dev.mutate [METHOD...] [--jobs 2] [--all] [--each 5]

`dev/mutants.py` makes the copies by rules; a METHOD is a module of `prunesweep.reducers`.  Each copy stands in for the module
in a process of its own, where `prunesweep.testing` and then the method's reference cases in `tests/` run.  A copy that changes
no output of any of the laws' inputs counts as equivalent.  `--each` draws that many copies of each method, the same each time.
In a checkout.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import functools
import hashlib
import importlib.util
import io
import multiprocessing
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table

import prunesweep.reducers as methods
from prunesweep.checks import require_at_least
from prunesweep.dev import parser_of
from prunesweep.dev.mutants import Mutant, mutants_of
from prunesweep.errors import reported
from prunesweep.paths import PACKAGE

ROOT = PACKAGE.parents[1]
REFERENCES = (
    "reducers/test_reference_*.py",
    "reducers/test_rivals.py",
    "reducers/test_baselines.py",
    "reducers/test_shares.py",
    "laws/test_prunevid.py",
    "laws/test_released_rivals.py",
    "laws/test_released_runs.py",
)
BY_NAME = "test_reference_"
"""Files with cases of many methods, told by their names."""
LIMIT = 120
"""Seconds of processor time for one copy; one that does not end is found."""


class Found(NamedTuple):
    """What became of a copy."""

    by: str
    """What found it; empty if nothing did."""
    digest: str
    """Of its outputs, where nothing did."""


class Fate(NamedTuple):
    mutant: Mutant
    found: Found
    kind: str
    """caught, survived or equivalent."""


@functools.cache
def composed() -> list[dict[str, Any]]:
    """Every reducer of `conf/reducer`, as plain values."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    names = [path.stem for path in sorted((ROOT / "conf" / "reducer").glob("*.yaml"))]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        nodes: list[Any] = [OmegaConf.to_container(compose("eval", [f"reducer={name}"]).reducer, resolve=True) for name in names]
    return nodes


def configured(module: str) -> list[dict[str, Any]]:
    """The reducers of which a part is of this module, with that part alone."""
    found = []
    for node in composed():
        parts = {slot: part for slot, part in node.items() if isinstance(part, dict) and "_target_" in part}
        own = {slot for slot, part in parts.items() if part["_target_"].startswith(f"{module}.")}
        if own:
            knob = node.get("knob") if str(node.get("knob")).partition(".")[0] in own else None
            found.append({**node, **dict.fromkeys(parts.keys() - own), "knob": knob})
    return found


def stand_in(module: str, source: str) -> None:
    """Has the source run as that module."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[module] = made
    exec(compile(source, str(spec.origin), "exec"), made.__dict__)
    package, _, name = module.rpartition(".")
    if package:
        setattr(sys.modules[package], name, made)


def references_of(module: str) -> dict[Path, bool]:
    """Test files that import the method, and whether its cases are to be told by its name."""
    name = module.rpartition(".")[2]
    files = (path for pattern in REFERENCES for path in sorted((ROOT / "tests").glob(pattern)))
    return {path: path.name.startswith(BY_NAME) for path in files if _imports(path, module, name)}


def _imports(path: Path, module: str, name: str) -> bool:
    lines = [line for line in ast.walk(ast.parse(path.read_text())) if isinstance(line, ast.ImportFrom)]
    package = module.rpartition(".")[0]
    return any(line.module == module or (line.module == package and name in {a.name for a in line.names}) for line in lines)


def failing_laws(nodes: Iterable[dict[str, Any]], but: frozenset[str] = frozenset()) -> Iterator[str]:
    from prunesweep.targets import instantiate
    from prunesweep.testing import laws_of

    for node in nodes:
        for law in laws_of(instantiate(node)):
            name = f"{node['name']}: {law}"
            if name in but:
                continue
            try:
                law()
            except AssertionError:
                yield name


def failing_references(module: str) -> str:
    import pytest

    for path, by_name in references_of(module).items():
        name = module.rpartition(".")[2]
        chosen = ["-k", f"{name} or {name.rpartition('_')[0] or name}"] if by_name else []
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            code = pytest.main([str(path), "-x", "-q", "--tb=no", "-p", "no:cacheprovider", f"--rootdir={ROOT}", *chosen])
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            return f"reference: {path.name}"
    return ""


def digest_of(nodes: Iterable[dict[str, Any]]) -> str:
    """Of all that the laws see of a method."""
    from prunesweep.targets import instantiate
    from prunesweep.testing.outputs import outputs

    whole = hashlib.sha256()
    for node in nodes:
        for line in outputs(instantiate(node)):
            whole.update(line)
    return whole.hexdigest()


def tried(task: tuple[str, str | None, list[dict[str, Any]], frozenset[str]]) -> Found:
    """In a process of its own: a copy that stands in, or the module itself."""
    module, source, nodes, but = task
    torch.set_num_threads(1)
    signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, LIMIT)
    try:
        if source is not None:
            stand_in(module, source)
        failed = next(failing_laws(nodes, but), "") or failing_references(module)
        return Found(failed, "" if failed else digest_of(nodes))
    except Exception as error:  # it does not even begin, or breaks where nobody expects it
        return Found(f"{type(error).__name__}: {error}"[:80], "")


def baseline(task: tuple[str, list[dict[str, Any]]]) -> tuple[frozenset[str], str, str]:
    """Laws that the method itself does not hold, what else fails, and the digest of its outputs."""
    module, nodes = task
    torch.set_num_threads(1)
    return frozenset(failing_laws(nodes)), failing_references(module), digest_of(nodes)


def _too_long(*_: Any) -> None:
    raise TimeoutError(f"more than {LIMIT} s")


def fates(module: str, jobs: int, each: int | None = None) -> list[Fate]:
    nodes = configured(module)
    spec = importlib.util.find_spec(module)
    if not nodes or spec is None or spec.origin is None:
        return []
    mutants = drawn(mutants_of(Path(spec.origin).read_text()), each)
    with multiprocessing.get_context("fork").Pool(jobs, maxtasksperchild=1) as pool:
        but, failed, own = pool.apply(baseline, ((module, nodes),))
        if failed:
            raise SystemExit(f"{module} fails {failed} as it is; mend that first")
        tasks = [(module, mutant.source, nodes, but) for mutant in mutants]
        found = pool.map(tried, tasks, chunksize=1)
    kinds = ["caught" if one.by else "equivalent" if one.digest == own else "survived" for one in found]
    return [Fate(*row) for row in zip(mutants, found, kinds, strict=True)]


def drawn(mutants: Sequence[Mutant], count: int | None) -> list[Mutant]:
    """So many of them, in their order and the same each time; None: all."""
    if count is None or count >= len(mutants):
        return list(mutants)
    chosen = sorted(random.Random(0).sample(range(len(mutants)), count))
    return [mutants[index] for index in chosen]


def module_names(chosen: Sequence[str]) -> list[str]:
    folder = Path(str(methods.__file__)).parent
    every = [path.stem for path in sorted(folder.glob("*.py")) if path.stem != "__init__"]
    unknown = [name for name in chosen if name not in every]
    if unknown:
        raise SystemExit(f"no method {unknown[0]!r} among modules of prunesweep.reducers; known: {', '.join(every)}")
    return [f"{methods.__name__}.{name}" for name in chosen or every]


def preload() -> ModuleType:
    """What every copy's process needs, and no method: those come with their copies."""

    import prunesweep.models.decoder
    import prunesweep.testing.outputs

    loaded = [name for name in sys.modules if name.startswith(f"{methods.__name__}.")]
    for name in loaded:
        del sys.modules[name]
    return prunesweep.testing.outputs


def main() -> None:
    parser = parser_of(__file__, __doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="default: all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one for each core)")
    parser.add_argument("--all", action="store_true", help="name the caught copies, too")
    parser.add_argument("--each", type=int, help="copies of each method, drawn at random (default: all)")
    given = parser.parse_args()
    with reported():
        if given.each is not None:
            require_at_least("--each", given.each, 1)
        run(given.methods, given.jobs, given.all, given.each)


def run(chosen: Sequence[str], jobs: int, name_all: bool, each: int | None = None) -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    preload()
    console, table = Console(width=130), Table("method", "copies", "effective", "caught", "survived", "equivalent", "by laws")
    total: Counter[str] = Counter()
    for module in module_names(chosen):
        rows = fates(module, jobs, each)
        if not rows:
            continue
        count = counted(rows)
        total.update(count)
        name = module.rpartition(".")[2]
        table.add_row(name, *numbers(count))
        print(f"{name}: {count['caught']} of {count['caught'] + count['survived']} effective copies caught", flush=True)
        for fate in rows:
            if fate.kind != "caught" or name_all:
                where = f"{name}.py:{fate.mutant.line} {fate.mutant.rule}: {fate.mutant.before}"
                print(f"{fate.kind}: {where}", f"  {fate.found.by}", sep="\n" if fate.found.by else "", flush=True)
    table.add_row("all", *numbers(total))
    console.print(table)


def counted(rows: Sequence[Fate]) -> Counter[str]:
    """How many copies of each kind, and how many of the caught ones a law found before a reference case had to."""
    laws = sum(fate.kind == "caught" and not fate.found.by.startswith("reference") for fate in rows)
    return Counter(fate.kind for fate in rows) + Counter(laws=laws)


def numbers(count: Counter[str]) -> list[str]:
    effective = count["caught"] + count["survived"]
    columns = (effective + count["equivalent"], effective, count["caught"], count["survived"], count["equivalent"], count["laws"])
    return [str(n) for n in columns]


if __name__ == "__main__":
    main()
