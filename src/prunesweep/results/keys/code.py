"""Which code computes an answer, and its fingerprint: what a record's key holds of source code.

From a method's class and the functions that answer, names are followed to the definitions that they stand for, and from
there on, through packages, relative imports, imports inside functions and `importlib.import_module("a name")`:

- Of this package, the definitions that are reached; of it, what is BOOKKEEPING is not followed.
- Of any other module, all of it: a helper beside somebody's own method, and what that imports.
- Of an installed distribution, its name and version.  Of the standard library, nothing.
- Of a module without source (compiled by hand, say), its bytes.

A fingerprint is of syntax trees.  Comments, formatting, docstrings and the annotations of functions are not in it, nor where
a module lies or what it is called: moving a file changes nothing.  Where code of somebody else mentions `__doc__` or `getdoc`,
docstrings are data: those of all that it reaches are in it.  Code that cannot be followed is named in `unfollowed`.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

from prunesweep.results.keys import syntax
from prunesweep.results.keys.alike import counts_as
from prunesweep.results.keys.opaque import unknown
from prunesweep.results.keys.syntax import (
    DEFINITIONS,
    PACKAGE,
    Module,
    Names,
    Place,
    dotted_name,
    executed,
    find_installed,
    is_text,
    never_run,
    targets,
)

ANSWERING = (
    f"{PACKAGE}.engine.plan.plan",
    f"{PACKAGE}.engine.prefix_tree.evaluate_jobs",
    f"{PACKAGE}.engine.prefix_tree.LastStages",
    f"{PACKAGE}.engine.scoring.score",
    f"{PACKAGE}.engine.scoring.failure",
)
"""What answers for every method; a method's own classes and its model's `load` come besides."""
BOOKKEEPING = (
    f"{PACKAGE}.results.keys",
    f"{PACKAGE}.engine.encoder_cache",
    f"{PACKAGE}.checks",
    f"{PACKAGE}.engine.prefix_tree.Clock",
    f"{PACKAGE}.disk.files",
    f"{PACKAGE}.disk.foreign",
    f"{PACKAGE}.reducers.Match",
    f"{PACKAGE}.results.store",
    f"{PACKAGE}.sweep.work",
    f"{PACKAGE}.targets",
)
"""Modules and definitions that keep, count or refuse, and never make an answer another."""


def hashed(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Code:
    """What computes an answer."""

    digest: str
    parts: Mapping[str, str]
    """Fingerprint by module, to name what changed."""
    distributions: tuple[str, ...]
    """Installed ones that it imports."""
    foreign: tuple[str, ...]
    """Of these, what others than this package import."""
    unfollowed: tuple[str, ...]
    """Why not all of it is known."""


class Item(NamedTuple):
    """A definition, by name; a module's statements without a name of their own (EFFECTS); or ALL of a module."""

    module: str
    name: str


EFFECTS, ALL = "", "*"


class Reader:
    """Follows names through modules; every module is read once."""

    def __init__(self, find: Callable[[str], Place], bookkeeping: Sequence[str] = BOOKKEEPING):
        self.find, self.bookkeeping = find, bookkeeping
        self._modules: dict[str, Module | None] = {}
        self._first: dict[tuple[Item, bool], str] = {}
        self._visits: dict[Item, Visit] = {}

    def code(self, roots: Iterable[str]) -> Code:
        """Of the definitions (dotted names) where answering begins."""
        begin = Visit(self)
        firsts = [first for root in roots for first in begin.begin(root)]
        reached: dict[Item, Visit] = {}
        waiting = [*begin.opened]
        while waiting:
            item = waiting.pop()
            if item not in reached:
                reached[item] = self.visit(item)
                waiting += reached[item].opened
        return self._code(firsts, reached, [begin, *reached.values()])

    def _code(self, roots: Sequence[str], reached: Mapping[Item, Visit], visits: Sequence[Visit]) -> Code:
        texts = self._with_texts(reached)
        second = {
            item: hashed([self.first(item, item in texts), *map(list, sorted(visit.uses))]) for item, visit in reached.items()
        }
        filled = {item: value for item, value in second.items() if self._holds_something(item, item in texts)}
        modules: dict[str, list[str]] = {}
        for item, value in filled.items():
            modules.setdefault(item.module, []).append(value)
        return Code(
            digest=hashed([list(roots), sorted(filled.values())]),
            parts={name: hashed(sorted(own))[:16] for name, own in sorted(modules.items())},
            distributions=tuple(sorted(set().union(*(visit.distributions for visit in visits)))),
            foreign=tuple(sorted(set().union(*(visit.foreign for visit in visits)))),
            unfollowed=tuple(sorted(set().union(*(visit.unfollowed for visit in visits)))),
        )

    def _with_texts(self, reached: Mapping[Item, Visit]) -> set[Item]:
        """Items whose docstrings count: all that others' modules reach, where one of these mentions docstrings at all.

        Which text it reads cannot be told: `helper.__doc__` may be read through a name that was handed on.
        """
        others = [item for item in reached if not _is_own(item.module)]
        if not any((module := self.module(item.module)) and module.reads_texts for item in others):
            return set()
        found: set[Item] = set()
        while others:
            item = others.pop()
            if item not in found:
                found.add(item)
                others += reached[item].opened
        return found

    def _holds_something(self, item: Item, texts: bool = False) -> bool:
        return bool(self.statements(item, texts)) or self.find(item.module).kind == "compiled"

    def visit(self, item: Item) -> Visit:
        """What an item refers to; the same whoever reaches it, so that the next method's code costs only what is new in it."""
        if item not in self._visits:
            self._visits[item] = visit = Visit(self, item.module)
            visit.look(item)
        return self._visits[item]

    def module(self, name: str) -> Module | None:
        """None if it has no source to follow, or no name: `split` found none."""
        if not name:
            return None
        if name not in self._modules:
            place = self.find(name)
            package = name if place.is_package else name.rpartition(".")[0]
            self._modules[name] = Module(name, place.text, package) if place.kind == "source" else None
        return self._modules[name]

    def is_bookkeeping(self, dotted: str) -> bool:
        return any(dotted == kept or dotted.startswith(f"{kept}.") for kept in self.bookkeeping)

    def split(self, dotted: str) -> tuple[str, list[str]]:
        """A dotted name as the longest module in it, and what is left; no module if the first part is none."""
        parts = dotted.split(".")
        found = 0
        while found < len(parts) and self.find(".".join(parts[: found + 1])).kind != "missing":
            found += 1
            if self.find(".".join(parts[:found])).kind in ("standard", "distribution", "compiled"):
                break
        return ".".join(parts[:found]), parts[found:]

    def stands_for(self, dotted: str) -> tuple[str, str]:
        """The kind of module that a dotted name lies in, and the name there, through what other modules import."""
        seen = {dotted}
        while True:
            name, left = self.split(dotted)
            module = self.module(name)
            if module is None or not left or left[0] in module.definitions or left[0] not in module.imports:
                return (self.find(name).kind if name else "missing"), dotted
            dotted = ".".join([module.imports[left[0]], *left[1:]])
            if dotted in seen:
                return "source", dotted
            seen.add(dotted)

    def first(self, item: Item, texts: bool = False) -> str:
        """An item's own fingerprint, whatever it refers to; with `texts` its docstrings are in it."""
        if (item, texts) not in self._first:
            module, path = self.module(item.module), self.find(item.module).path
            if module is not None:
                self._first[item, texts] = hashed(Dump(self, module, texts).of(self.statements(item, texts)))
            elif path is not None:
                self._first[item, texts] = hashlib.sha256(path.read_bytes()).hexdigest()[:32]
        return self._first[item, texts]

    def statements(self, item: Item, texts: bool = False) -> list[ast.stmt]:
        module = self.module(item.module)
        if module is None:
            return []
        if item.name == ALL:
            return [statement for statement in module.statements if texts or module.keeps_texts or not is_text(statement)]
        if item.name == EFFECTS:
            return [*(filter(is_text, module.statements) if texts else ()), *module.effects]
        return module.definitions[item.name]


class Dump:
    """A syntax tree as lists, alike in all versions of Python."""

    def __init__(self, reader: Reader, module: Module, texts: bool = False):
        self.reader, self.module, self.texts = reader, module, texts or module.keeps_texts

    def of(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self.of(item) for item in node if not self._is_left_out(item)]
        if not isinstance(node, ast.AST):
            return node if node is None or isinstance(node, (str, int, bool)) else repr(node)
        if isinstance(node, ast.Attribute) and (place := self._of_module(node)):
            return ["Name", place]
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and self._is_own_module(node.value):
            return ["Module"]
        return [type(node).__name__, *([name, value] for name, value in self._fields(node) if value not in (None, []))]

    def _fields(self, node: ast.AST) -> Iterator[tuple[str, Any]]:
        for name, value in ast.iter_fields(node):
            if name in ("ctx", "kind", "type_comment", "type_ignores"):
                continue
            of_function = name in ("annotation", "returns") and isinstance(node, (ast.arg, *DEFINITIONS))
            if of_function and self.module.lazy_annotations:
                continue
            if isinstance(node, ast.Constant) and name == "value":
                yield name, [type(value).__name__, value if isinstance(value, (str, bool, int)) else repr(value)]
            else:
                yield name, self.of(value)

    def _is_left_out(self, item: Any) -> bool:
        if isinstance(item, (ast.Import, ast.ImportFrom)) or (isinstance(item, ast.AST) and never_run(item)):
            return True
        return is_text(item) and not self.texts

    def _of_module(self, node: ast.Attribute) -> str | None:
        """What is left of `module.name` without the module: it may be called otherwise tomorrow."""
        dotted = dotted_name(node)
        if dotted is None or dotted.partition(".")[0] not in self.module.imports:
            return None
        head, _, rest = dotted.partition(".")
        name, left = self.reader.split(f"{self.module.imports[head]}.{rest}")
        return ".".join(["<module>", *left]) if left and self.reader.module(name) else None

    def _is_own_module(self, text: str) -> bool:
        return text.startswith(f"{PACKAGE}.") and text.isascii() and self.reader.find(text).kind == "source"


class Visit:
    """What one item refers to, or the roots of a search."""

    def __init__(self, reader: Reader, by: str = "whoever wrote the method"):
        self.reader, self.by = reader, by
        self.opened: dict[Item, None] = {}
        """Items that it reaches, in order."""
        self.uses: set[tuple[str, str]] = set()
        """What its names stand for: an item's own fingerprint, or a name outside of what is followed."""
        self.distributions: set[str] = set()
        self.foreign: set[str] = set()
        self.unfollowed: set[str] = set()

    # from names to items

    def begin(self, root: str) -> list[str]:
        """As `reach`; what answers must be in a file."""
        if not self.reader.split(root)[0]:
            self.unfollowed.add(f"{root} is in no module that can be found")
        return self.reach(root)

    def reach(self, dotted: str) -> list[str]:
        """Opens what a dotted name stands for; returns what it is known by."""
        name, left = self.reader.split(dotted)
        if not name:
            return [dotted]
        if self.reader.is_bookkeeping(".".join([name, *left[:1]])):
            return ["bookkeeping"]
        place = self.reader.find(name)
        if place.kind in ("standard", "distribution"):
            self._note_distribution(place)
            return [dotted]
        if place.kind == "compiled":
            return [self._open(Item(name, ALL))]
        self._import(name)
        if not _is_own(name):
            return [self._open(Item(name, ALL))]
        return self._reach_own(name, left)

    def _reach_own(self, name: str, left: Sequence[str]) -> list[str]:
        module = self.reader.module(name)
        assert module is not None
        if not left:
            return [self._open(Item(name, ALL))]
        if left[0] in module.definitions:
            return [self._open(Item(name, left[0]))]
        handed_on = ".".join([module.imports.get(left[0], name), *left[1:]])
        if left[0] in module.imports and handed_on != ".".join([name, *left]):
            return self.reach(handed_on)
        return [self._open(Item(name, ALL))]

    def _open(self, item: Item) -> str:
        self.opened[item] = None
        return self.reader.first(item)

    def _import(self, name: str) -> None:
        """What importing a module runs: the module's own statements, and those of the packages that it is in."""
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            prefix = ".".join(parts[:count])
            if self.reader.module(prefix) is not None and not self.reader.is_bookkeeping(prefix):
                self._open(Item(prefix, EFFECTS if _is_own(prefix) else ALL))

    def _note_distribution(self, place: Place) -> None:
        if place.kind == "distribution":
            self.distributions.add(place.text)
            if not _is_own(self.by):
                self.foreign.add(place.text)

    # from items to names

    def look(self, item: Item) -> None:
        module = self.reader.module(item.module)
        if module is None:
            return
        if item.name in (EFFECTS, ALL):
            for target in module.imported:
                self._follow_import(target)
        for statement in self.reader.statements(item):
            for name in Names(module).of(statement):
                self._use(name, module, item)
            for node in executed(statement):
                self._look_for_dynamic(node, module)
            if not _is_own(module.name):
                found = unknown(statement, module, self.reader.stands_for)
                self.unfollowed.update(f"{module.name}, line {line}, {reason}" for line, reason in found)

    def _follow_import(self, target: str) -> None:
        """Of an import at the top of a module: what it runs; of another's module all that is imported."""
        name, left = self.reader.split(target)
        if not name or self.reader.is_bookkeeping(".".join([name, *left[:1]])):
            return
        place = self.reader.find(name)
        if place.kind in ("standard", "distribution"):
            self._note_distribution(place)
        elif place.kind == "compiled":
            self._open(Item(name, ALL))
        else:
            self._import(name)

    def _use(self, dotted: str, module: Module, item: Item) -> None:
        head, _, rest = dotted.partition(".")
        if head in module.imports:
            target = module.meant(dotted)
            local = dotted if self.reader.module(self.reader.split(target)[0]) is None else rest.partition(".")[0] or head
            self.uses.update((local, found) for found in self.reach(target))
        elif head in module.definitions:
            if _is_own(module.name) and item.name != ALL:
                self.uses.add((head, self._open(Item(module.name, head))))
        else:
            for star in module.stars:
                self._follow_star(star, head)

    def _follow_star(self, star: str, name: str) -> None:
        other = self.reader.module(star)
        if other is not None and (name in other.definitions or name in other.imports or other.stars):
            self.uses.update((name, found) for found in self.reach(f"{star}.{name}"))

    def _look_for_dynamic(self, node: ast.AST, module: Module) -> None:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for target in targets(node, module.package):
                self._follow_import(target)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value.startswith(f"{PACKAGE}.") and self.reader.find(node.value).kind == "source":  # run with -m
                self.uses.update(("-m", found) for found in self.reach(node.value))
        elif isinstance(node, ast.Call):
            self._follow_call(node, module)

    def _follow_call(self, node: ast.Call, module: Module) -> None:
        """`importlib.import_module` and `__import__`."""
        if module.meant(dotted_name(node.func) or "") not in ("importlib.import_module", "__import__"):
            return
        literal = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
        if not isinstance(literal, str):
            return
        name = importlib.util.resolve_name(literal, module.package) if literal.startswith(".") else literal
        self.uses.update(("import", found) for found in self.reach(name))


def _is_own(name: str) -> bool:
    return name.partition(".")[0] == PACKAGE


@cache
def installed() -> Reader:
    return Reader(find_installed)


@cache
def code_of(roots: tuple[str, ...]) -> Code:
    """The code behind methods and models of these dotted names, and behind answering as such; see `alike`."""
    found = installed().code([*ANSWERING, *roots])
    return replace(found, digest=counts_as(found.digest))


def forget() -> None:
    """For whoever changes code while it runs."""
    syntax.forget()
    installed.cache_clear()
    code_of.cache_clear()
