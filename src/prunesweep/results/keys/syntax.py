"""Python modules as syntax trees: where they are, what they define, what they import, which names a statement reads.

Nothing is imported by looking: a module is found as Python would find it, and read as text.
"""

from __future__ import annotations

import ast
import importlib.machinery
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import PathDistribution
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import Path as ZipPath

from prunesweep.targets import MOVED, FormerModules

PACKAGE = __name__.partition(".")[0]
HARMLESS = {"cache", "cached_property", "contextmanager", "dataclass", "lru_cache", "no_grad", "overload", "runtime_checkable"}
"""Decorators that keep no list of what they decorate."""
SITES = ("site-packages", "dist-packages")


READ_TEXTS = ("__doc__", "getdoc")
"""Words of whoever takes docstrings for data, whatever they are of."""


@dataclass
class Module:
    """A module's statements, sorted by what they are reached through."""

    name: str
    text: str
    package: str
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    effects: list[ast.stmt] = field(default_factory=list)
    """Run whenever the module is imported."""
    imports: dict[str, str] = field(default_factory=dict)
    """Dotted name by the name that it is bound to, wherever in the module."""
    imported: list[str] = field(default_factory=list)
    """Dotted names that importing the module imports."""
    stars: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tree = ast.parse(self.text)
        self.lazy_annotations = "annotations" in self._from_future()
        self.keeps_texts = "__doc__" in self.text  # a docstring that is read is no docstring
        self.reads_texts = any(word in self.text for word in READ_TEXTS)
        for statement in self.tree.body:
            self._sort(statement)
        for node in executed(self.tree):
            for bound, target in bindings(node, self.package):
                self.imports.setdefault(bound, target)

    @cached_property
    def functions(self) -> set[str]:
        """Names of all functions in it, methods included."""
        return {node.name for node in ast.walk(self.tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}

    @property
    def statements(self) -> list[ast.stmt]:
        return [statement for statement in self.tree.body if not never_run(statement)]

    def meant(self, dotted: str) -> str:
        """A dotted name of this module with what its first part was imported as."""
        head, _, rest = dotted.partition(".")
        return ".".join([self.imports.get(head, head), *([rest] if rest else [])])

    def _from_future(self) -> set[str]:
        found = [n for n in self.tree.body if isinstance(n, ast.ImportFrom) and n.module == "__future__"]
        return {alias.name for node in found for alias in node.names}

    def _sort(self, statement: ast.stmt) -> None:
        if never_run(statement) or is_text(statement):
            return
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            self._note_import(statement)
            return
        if not isinstance(statement, DEFINITIONS):
            for node in executed(statement):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    self._note_import(node)
        names = _defined(statement)
        for name in names:
            self.definitions.setdefault(name, []).append(statement)
        if not names or (isinstance(statement, DEFINITIONS) and not all(map(_is_harmless, statement.decorator_list))):
            self.effects.append(statement)

    def _note_import(self, node: ast.Import | ast.ImportFrom) -> None:
        self.imported += targets(node, self.package)
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            self.stars.append(_base(node, self.package))


DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def is_text(node: ast.AST) -> bool:
    """A docstring, or a text that stands below a field."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def never_run(node: ast.AST) -> bool:
    """For a type checker, or for a module that is a program; not if there is something for when it is not."""
    if not isinstance(node, ast.If) or node.orelse:
        return False
    test = node.test
    name = test.id if isinstance(test, ast.Name) else getattr(test, "attr", "")
    return name == "TYPE_CHECKING" or ast.unparse(test) in ("__name__ == '__main__'", "'__main__' == __name__")


def executed(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below it that can run."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        yield one
        for name in one._fields:  # as `ast.iter_child_nodes`, in half the time
            value = getattr(one, name, None)
            for child in value if isinstance(value, list) else (value,):
                if isinstance(child, ast.AST) and not never_run(child):
                    waiting.append(child)


def _is_harmless(decorator: ast.expr) -> bool:
    node = decorator.func if isinstance(decorator, ast.Call) else decorator
    return (node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")) in HARMLESS


def _defined(statement: ast.stmt) -> list[str]:
    """The names that a statement defines and does nothing else."""
    if isinstance(statement, DEFINITIONS):
        return [statement.name]
    if isinstance(statement, ast.Assign):
        targets: list[ast.expr] = statement.targets
    elif isinstance(statement, (ast.AnnAssign, ast.AugAssign)):
        targets = [statement.target]
    else:
        name = getattr(statement, "name", None)  # of `type X = ...`
        return [name.id] if isinstance(name, ast.Name) else []
    inner = [name for target in targets for name in (target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target])]
    return [name.id for name in inner if isinstance(name, ast.Name)] if all(isinstance(n, ast.Name) for n in inner) else []


def _base(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parent = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1])
    return ".".join(part for part in (parent, node.module) if part)


def bindings(node: ast.AST, package: str) -> Iterator[tuple[str, str]]:
    """Names that an import binds, with the dotted names that they stand for."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield (alias.asname, alias.name) if alias.asname else ((top := alias.name.partition(".")[0]), top)
    elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
        for alias in node.names:
            if alias.name != "*":
                yield alias.asname or alias.name, f"{_base(node, package)}.{alias.name}"


def targets(node: ast.Import | ast.ImportFrom, package: str) -> list[str]:
    """Dotted names of what an import imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [_base(node, package) if alias.name == "*" else f"{_base(node, package)}.{alias.name}" for alias in node.names]


class Names:
    """The names that a statement reads, each with the attributes behind it."""

    def __init__(self, module: Module):
        self.module = module

    def of(self, node: ast.AST) -> set[str]:
        found: set[str] = set()
        self._look(node, found)
        return found

    def _look(self, node: ast.AST, found: set[str]) -> None:
        if never_run(node):
            return
        if isinstance(node, ast.Attribute) and (dotted := dotted_name(node)):
            found.add(dotted)
            return
        if isinstance(node, ast.Name):
            found.add(node.id)
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns") and self.module.lazy_annotations:
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    self._look(child, found)


def dotted_name(node: ast.AST) -> str | None:
    """`a.b.c` as text; None for anything that does not begin with a name."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


class Place(NamedTuple):
    """Where a module is."""

    kind: str
    """`source`, `compiled`, `distribution`, `standard` or `missing`."""
    path: Path | None = None
    text: str = ""
    """Source, or a distribution's name."""
    is_package: bool = False


@cache
def find_installed(name: str) -> Place:
    """A module as this process would import it."""
    spec = _spec(name)
    if spec is None:
        return Place("missing")
    if isinstance(spec.loader, FormerModules):
        return find_installed(MOVED[name])
    is_package = spec.submodule_search_locations is not None
    if spec.origin in ("built-in", "frozen"):
        return Place("standard")
    if spec.origin is None:
        return Place("source", is_package=is_package)  # a folder without code of its own
    path = Path(spec.origin)
    own = name.partition(".")[0] == PACKAGE  # by its source, wherever it is installed: one version may have several codes
    if not own and (distribution := _distribution(path, name)):
        return Place("distribution", path, distribution)
    if _is_standard(path):
        return Place("standard")
    if isinstance(spec.loader, importlib.machinery.SourceFileLoader):
        return Place("source", path, path.read_text(encoding="utf-8"), is_package)
    source = getattr(spec.loader, "get_source", lambda _: None)(name)
    return Place("source", path, source, is_package) if source else Place("compiled", path)


@cache
def _spec(name: str) -> importlib.machinery.ModuleSpec | None:
    """As `importlib.util.find_spec`, which imports the packages above a module; this imports nothing."""
    parent = name.rpartition(".")[0]
    above = _spec(parent) if parent else None
    if parent and (above is None or above.submodule_search_locations is None):
        return None
    path = _folders(above) if above else None
    for finder in sys.meta_path:
        look = getattr(finder, "find_spec", None)
        if look and (spec := look(name, path)):
            return spec
    return None


def _folders(package: importlib.machinery.ModuleSpec) -> list[str]:
    locations: Any = package.submodule_search_locations
    return list(getattr(locations, "_path", locations))  # a namespace's own list asks for the imported package above it


def _is_standard(path: Path) -> bool:
    """Of Python's own library; what is installed may lie in a folder below it."""
    own = (Path(sysconfig.get_paths()[key]) for key in ("stdlib", "platstdlib"))
    return any(path.is_relative_to(folder) and not set(SITES) & set(path.relative_to(folder).parts) for folder in own)


def _distribution(path: Path, name: str) -> str | None:
    site = next((parent for parent in path.parents if parent.name in SITES), None)
    return distribution_of(name.partition(".")[0], site) if site else None


@cache
def distribution_of(module: str, site: Path) -> str | None:
    """The distribution installed in a folder that a module belongs to; None for a file that somebody put there."""
    top = module.partition(".")[0]
    own = [site / name for name in (f"{top}.py", top)]
    for record in sorted(site.glob("*.dist-info/RECORD"), key=lambda path: not path.parent.name.startswith(f"{top}-")):
        lines = "\n" + record.read_text(encoding="utf-8")
        if any(f"\n{path.name}{end}" in lines for path, end in zip(own, (",", "/"), strict=True)) or f"\n{top}." in lines:
            return PathDistribution(record.parent).metadata["Name"]
    return None


class Folder:
    """This package's modules as they are in another folder `src`; all others as installed."""

    def __init__(self, source: Path | ZipPath):
        self.source = source
        self._found: dict[str, Place] = {}

    def __call__(self, name: str) -> Place:
        if name not in self._found:
            self._found[name] = self._place(name)
        return self._found[name]

    def _place(self, name: str) -> Place:
        if name.partition(".")[0] != PACKAGE:
            return find_installed(name)
        base = name.replace(".", "/")
        for place, is_package in ((f"{base}/__init__.py", True), (f"{base}.py", False)):
            path = self.source / place
            if path.is_file():
                return Place("source", None, path.read_text(encoding="utf-8"), is_package)
        return Place("missing")


def forget() -> None:
    """For whoever changes modules while they are in use."""
    for memory in (find_installed, _spec, distribution_of):
        memory.cache_clear()
