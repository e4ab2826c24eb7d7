"""What a module of somebody else may do that no reading of it can follow, so that its records cannot be used again.

Of the standard library, what computes and nothing else is followed (PURE); whoever imports another part of it may read files,
the environment, the clock or the network, or run other programs.  Of installed libraries, functions are told by their names
(READS): `load`, `read_csv`, `get_object`.  Names are known by what they were imported as, through helpers as well.

Not seen are: code that a library is told to load by a name in a setting, attributes that are set from outside, and files of an
installed distribution that were edited by hand.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator

from prunesweep.results.keys.syntax import PACKAGE, Module, dotted_name, executed, targets

Resolve = Callable[[str], tuple[str, str]]
"""What a dotted name stands for, through the imports of helpers: the kind of its module's `Place`, and its own dotted name."""

FILE, TEXT, LIBRARY = "reads a file", "runs code that is not there to be read", "loads a compiled library"
COMPUTED, INDIRECT = "imports a module whose name is computed", "looks up a name that is not there to be read"
IMPORTERS = ("importlib.import_module", "__import__")
PURE = frozenset(
    {
        *("__future__", "abc", "array", "bisect", "cmath", "collections", "contextlib", "copy", "dataclasses", "decimal"),
        *("enum", "fractions", "functools", "graphlib", "heapq", "itertools", "keyword", "logging", "math", "numbers"),
        *("operator", "re", "statistics", "string", "struct", "textwrap", "types", "typing", "unicodedata", "warnings"),
    }
)
"""Parts of the standard library that read nothing from outside of a program."""
IMPURE = ("logging.config", "logging.handlers")
DOORS = frozenset({"builtins", "importlib", "io", "os", "pathlib", "subprocess", "sys"})
"""Parts of it that are within reach through other modules' own imports: `torch.os.environ`."""
BUILTINS = {
    **dict.fromkeys(("eval", "exec", "compile"), TEXT),
    **dict.fromkeys(("globals", "locals", "__builtins__", "__loader__", "__spec__"), INDIRECT),
    "open": FILE,
}
"""By these names alone: `model.eval()` and `re.compile()` are something else."""
LOOKUPS = ("getattr", "vars", "operator.attrgetter", "operator.methodcaller")
HIDDEN = ("__globals__", "__builtins__", "__subclasses__", "__getattribute__", "__loader__")
READS = re.compile(
    r"(?:^|_)(?:load|imread|open(?:$|_|[A-Z])|download)|^(?:read|scan|fetch)(?:$|_)"
    r"|^(?:from_?file|from_pretrained|from_url|memmap|genfromtxt|get_object|get_class|get_method|get_static_method|instantiate)$"
    r"|^(?:urlopen|dlopen|VideoReader|VideoCapture|exec_module|spec_from_file_location|SourceFileLoader|CDLL|LoadLibrary)$"
    r"|^(?:read_text|read_bytes|hf_hub_download)$"
)
"""Names of functions that bring something in from outside."""
HARMLESS = ("load_state_dict", "load_from_state_dict", "_load_from_state_dict")
"""Their tensors come from somewhere else, and that is seen there."""
OUTSIDE = frozenset({"aiohttp", "cpp_extension", "dotenv", "fsspec", "hub", "huggingface_hub", "httpx", "psutil", "requests"})
"""Modules of installed libraries of which any use does."""
REASONS = (
    (re.compile(r"get_object|get_class|get_method|get_static_method|instantiate|exec_module|spec_from|SourceFile|inline"), TEXT),
    (re.compile(r"cpp_extension"), TEXT),
    (re.compile(r"load_library|CDLL|LoadLibrary|dlopen"), LIBRARY),
)


def unknown(statement: ast.AST, module: Module, resolve: Resolve) -> Iterator[tuple[int, str]]:
    """Lines of a statement, and what is done there that cannot be followed."""
    nodes = list(executed(statement))
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    plain = {id(part) for call in calls if _is_plain_lookup(call, module) for part in ast.walk(call.func)}
    for node in nodes:
        if id(node) not in plain:
            yield from ((getattr(node, "lineno", 0), reason) for reason in _of_node(node, module, resolve))


def _is_plain_lookup(node: ast.Call, module: Module) -> bool:
    """Whether a module or an attribute is looked up by a name that stands there: as good as an import or an attribute."""
    called = module.meant(dotted_name(node.func) or "")
    literals = [isinstance(value, ast.Constant) and isinstance(value.value, str) for value in node.args]
    if called in IMPORTERS:
        return bool(literals) and literals[0]
    if called == "getattr":
        return len(literals) > 1 and literals[1] and not _is_module(node.args[0], module)
    if called == "vars":
        return bool(literals) and not _is_module(node.args[0], module)
    return called in LOOKUPS and bool(literals) and literals[0]


def _is_module(node: ast.AST, module: Module) -> bool:
    """Whether something was imported, and so may be a module."""
    return isinstance(node, (ast.Name, ast.Attribute)) and (dotted_name(node) or "").partition(".")[0] in module.imports


def _of_node(node: ast.AST, module: Module, resolve: Resolve) -> Iterator[str]:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from (reason for target in targets(node, module.package) if (reason := _of_import(target, resolve)))
    elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
        if isinstance(node, ast.Attribute) and node.attr in HIDDEN:
            yield INDIRECT
        yield from _of_name(dotted_name(node) or "", module, resolve)
    elif isinstance(node, ast.Call):
        yield from _of_call(node, module)


def _of_import(target: str, resolve: Resolve) -> str | None:
    kind, dotted = resolve(target)
    if kind == "missing":
        return f"imports {target}, which is not installed"
    top = dotted.partition(".")[0]
    if kind != "standard" or top == "importlib":
        return _through(dotted)
    if top not in PURE or dotted.startswith(IMPURE):
        return f"imports {top}, which can read what is not in the code"
    return _through(dotted)


def _through(dotted: str) -> str | None:
    """Of a module that is reached as an attribute of another."""
    top, *rest = dotted.split(".")
    found = next((part for part in rest if part.lstrip("_") in DOORS), None)
    within = top in PURE and next((part for part in rest if part.lstrip("_") in sys.stdlib_module_names - PURE), None)
    return f"reaches {found or within} through {top}, which can read what is not in the code" if found or within else None


def _of_name(dotted: str, module: Module, resolve: Resolve) -> Iterator[str]:
    head = dotted.partition(".")[0]
    if head in module.imports:
        yield from _of_imported(*resolve(module.meant(dotted)))
    elif head not in module.definitions:
        if dotted in IMPORTERS:
            yield COMPUTED
        elif dotted in BUILTINS or dotted in LOOKUPS:
            yield BUILTINS.get(dotted, INDIRECT)
        for star in module.stars if dotted else ():
            if resolve(star)[0] != "source":
                yield from _of_imported(*resolve(f"{star}.{dotted}"))


def _of_imported(kind: str, dotted: str) -> Iterator[str]:
    parts = dotted.split(".")
    own = parts[0] == PACKAGE
    if dotted in IMPORTERS:
        yield COMPUTED
    elif dotted in LOOKUPS:
        yield INDIRECT
    elif parts[0] == "importlib" and len(parts) > 1:
        yield TEXT
    elif reason := _through(dotted):
        yield reason
    elif own:
        yield from [_reason(dotted)] if _reads(parts[-1]) and parts[-1] != "load" else []  # a model's `load` is followed
    elif kind != "source" and (_reads(parts[-1]) or not OUTSIDE.isdisjoint(parts)):  # the text of a helper is looked at
        yield _reason(dotted)


def _of_call(node: ast.Call, module: Module) -> Iterator[str]:
    """Of methods: of what they are called on, nothing is known; a name given as text is as good as one that stands there."""
    func = node.func
    called = module.meant(dotted_name(func) or "")
    named = [value.value for value in node.args[:2] if isinstance(value, ast.Constant) and isinstance(value.value, str)]
    if called in LOOKUPS:
        yield from (_reason(name) for name in named if _reads(name.rpartition(".")[2]))
    if called in ("input", "breakpoint"):
        yield "asks whoever runs it"
    if not isinstance(func, ast.Attribute) or (dotted_name(func) or "").partition(".")[0] in module.imports:
        return
    of_itself = isinstance(func.value, ast.Name) and func.value.id in ("self", "cls")
    if _reads(func.attr) and not of_itself and func.attr not in module.functions:
        yield _reason(func.attr)


def _reads(name: str) -> bool:
    return name not in HARMLESS and READS.search(name) is not None


def _reason(dotted: str) -> str:
    return next((reason for pattern, reason in REASONS if pattern.search(dotted)), FILE)
