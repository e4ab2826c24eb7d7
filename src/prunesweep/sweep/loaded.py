"""Is the code that runs the code that is written?

A command reads its code and runs it.  A notebook's process goes on: a file may be edited after it was imported, or between two
evaluations, and records would then be kept as those of other code than made them.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from prunesweep.results.keys.code import code_of, forget

PLAIN = (bool, int, float, str, bytes, tuple, type(None))
"""Of constants: what nobody changes in place."""


def require_as_written(roots: Sequence[str]) -> None:
    """Raises ValueError if a module that answers (see `code_of`) was edited after this process imported it."""
    forget()
    for name in code_of(tuple(roots)).parts:
        module = sys.modules.get(name)
        path = Path(getattr(module, "__file__", None) or "")
        if module is None or path.suffix != ".py" or not path.is_file():
            continue
        if edited := first_edited(module, path.read_text(encoding="utf-8")):
            raise ValueError(
                f"{path} was edited after it was imported ({edited}): its records would be taken for those of other code; "
                f"start Python anew, or importlib.reload({name}) and make its methods anew"
            )


def first_edited(module: ModuleType, text: str) -> str | None:
    """The name of a function or constant of a module in use that is not as the text has it; None if all are."""
    tree = ast.parse(text)
    written = {code.co_qualname: code for code in _within(compile(tree, str(module.__file__), "exec", dont_inherit=True))}
    for function in _functions(module, module.__name__):
        code = function.__code__
        if code.co_filename == module.__file__ and _essence(code) != _essence(written.get(code.co_qualname)):
            return code.co_qualname
    there = [node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))]
    lacking = next((name for name in there if not hasattr(module, name)), None)
    return lacking or next(_changed_constants(tree.body, module), None)


def _within(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _within(constant)


def _essence(code: CodeType | None) -> Any:
    """What a function does, wherever it stands."""
    if code is None:
        return None
    constants = tuple(_essence(one) if isinstance(one, CodeType) else (type(one), one) for one in code.co_consts)
    return code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_flags, constants


def _functions(holder: Any, module: str) -> Iterator[FunctionType]:
    """Those of a module and of its classes."""
    for value in list(vars(holder).values()):
        if isinstance(value, type):
            if value.__module__ == module and value is not holder:
                yield from _functions(value, module)
            continue
        yield from _plain(value)


def _plain(value: Any) -> Iterable[FunctionType]:
    if isinstance(value, property):
        found = [value.fget, value.fset]
    elif isinstance(value, cached_property):
        found = [value.func]
    else:
        found = [getattr(value, "__func__", value)]
    return [own for one in found if isinstance(own := inspect.unwrap(one) if callable(one) else one, FunctionType)]


def _changed_constants(body: Sequence[ast.stmt], holder: Any, prefix: str = "") -> Iterator[str]:
    """Names given once, to a literal, that have another value now."""
    given = [pair for statement in body for pair in _given(statement)]
    times = Counter(name for name, _ in given)
    for name, node in given:
        have = getattr(holder, name, None)
        try:
            literal = ast.literal_eval(node) if node and times[name] == 1 else have
        except ValueError:
            continue
        if isinstance(have, PLAIN) and isinstance(literal, PLAIN) and (type(have), have) != (type(literal), literal):
            yield f"{prefix}{name}"
    for statement in body:
        inner = getattr(holder, statement.name, None) if isinstance(statement, ast.ClassDef) else None
        if isinstance(inner, type) and isinstance(statement, ast.ClassDef):
            yield from _changed_constants(statement.body, inner, f"{prefix}{statement.name}.")


def _given(statement: ast.stmt) -> Iterator[tuple[str, ast.expr | None]]:
    """Names that a statement gives a value; None for one that is worked out."""
    if isinstance(statement, ast.Assign):
        for target in statement.targets:
            alone = isinstance(target, ast.Name)
            yield from ((node.id, statement.value if alone else None) for node in ast.walk(target) if isinstance(node, ast.Name))
    elif isinstance(statement, (ast.AnnAssign, ast.AugAssign)) and isinstance(statement.target, ast.Name):
        yield statement.target.id, statement.value if isinstance(statement, ast.AnnAssign) else None
    elif isinstance(statement, (ast.If, ast.Try, ast.With, ast.For, ast.While)):
        inner = (node for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
        yield from ((node.id, None) for node in inner)
