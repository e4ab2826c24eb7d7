"""Wrong copies of a method's source, made by rules: one mistake each, of those that people make."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

LEFT_OUT = ("__post_init__",)
"""Bounds of settings: `tests/reducers` has them."""
BUILDERS = ("Merged", "keep_tokens", "summed", "placed", "kept_in_order_of")
BUDGETS = ("ceil_share", "floor_share", "nearest_share", "truncated_share", "rounded_share", "round", "ceil", "floor", "share_of")
TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Lt: ast.LtE, ast.LtE: ast.Lt}
REDUCING = ("mean", "sum", "amax", "amin", "max", "min", "sort", "argsort", "softmax", "var", "argmax", "any", "all", "cumsum")
OPPOSITE = {"argmax": "argmin", "argmin": "argmax", "topk": "topk"}

HELPERS = """
def __mutant_groups__(merged):
    from dataclasses import replace
    return replace(merged, group=merged.group * 0)
def __mutant_positions__(merged):
    from dataclasses import replace
    return replace(merged, position=merged.position.flip(0))
def __mutant_contributions__(merged):
    from dataclasses import replace
    return replace(merged, contributions=None)
"""


@dataclass(frozen=True)
class Mutant:
    """One mistake in one place."""

    rule: str
    line: int
    before: str
    """The code in that place."""
    source: str
    """The whole module with the mistake."""


Change = Callable[[ast.AST], ast.AST | None]
"""What a place becomes; None where the rule has nothing to do with it."""


def mutants_of(source: str) -> list[Mutant]:
    """One for each place that a rule finds, in the order of the rules, without those that are no other code."""
    plain = ast.unparse(ast.parse(source))
    found: list[Mutant] = []
    for rule, change in RULES.items():
        for index, (line, before) in enumerate(_places(source, change)):
            mutated = _with_change(source, change, index)
            if mutated != plain:
                found.append(Mutant(rule, line, before, mutated + HELPERS))
    return found


def _nodes(tree: ast.AST, inside: tuple[str, ...] = ()) -> Iterator[tuple[ast.AST, str, Any, ast.AST]]:
    """Every node of code that runs, with its parent, its place there and in which functions it stands."""
    for name, value in ast.iter_fields(tree):
        for index, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST) or name in ("annotation", "returns", "decorator_list"):
                continue
            if isinstance(child, ast.Raise) or (isinstance(child, ast.FunctionDef) and child.name in LEFT_OUT):
                continue
            if isinstance(child, ast.If) and _guards(child):
                continue
            yield tree, name, index if isinstance(value, list) else None, child
            yield from _nodes(child)


def _guards(node: ast.If) -> bool:
    """Whether it is there to refuse, or for type checkers."""
    return any(isinstance(line, ast.Raise) for line in node.body) or ast.unparse(node.test) == "TYPE_CHECKING"


def _places(source: str, change: Change) -> Iterator[tuple[int, str]]:
    for _, _, _, node in _nodes(ast.parse(source)):
        if change(copy.deepcopy(node)) is not None:
            yield getattr(node, "lineno", 0), ast.unparse(node).splitlines()[0][:100]


def _with_change(source: str, change: Change, wanted: int) -> str:
    tree = ast.parse(source)
    seen = -1
    for parent, name, index, node in _nodes(tree):
        changed = change(copy.deepcopy(node))
        if changed is None:
            continue
        seen += 1
        if seen == wanted:
            if index is None:
                setattr(parent, name, changed)
            else:
                getattr(parent, name)[index] = changed
            break
    return ast.unparse(ast.fix_missing_locations(tree))


# Rules


def _name(node: ast.AST) -> str:
    """Of what is called."""
    called = node.func if isinstance(node, ast.Call) else None
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


def _plus(node: Any, number: int) -> ast.BinOp:
    return ast.BinOp(node, ast.Add(), ast.Constant(number))


def _wrapped(function: str, node: Any) -> ast.Call:
    return ast.Call(ast.Name(function), [node], [])


def _returning(name: str, change: Callable[[Any], Any]) -> Change:
    """What a function of this name returns."""

    def apply(node: ast.AST) -> ast.AST | None:
        if not isinstance(node, ast.FunctionDef) or node.name != name:
            return None
        returned = [line for line in ast.walk(node) if isinstance(line, ast.Return) and line.value is not None]
        real = [line for line in returned if not (isinstance(line.value, ast.Constant) and line.value.value is None)]
        for line in real:
            line.value = change(line.value)
        return node if real else None

    return apply


def _falsely(value: Any) -> Any:
    if isinstance(value, ast.Call) and _name(value) == "Left":
        value.args[0] = _plus(value.args[0], 1)
        return value
    if isinstance(value, ast.Call) and _name(value) == "even_grids":
        return ast.parse(f"(lambda said: said and said._replace(tokens=said.tokens + 1))({ast.unparse(value)})", mode="eval").body
    if isinstance(value, ast.IfExp):
        value.orelse = _plus(value.orelse, 1)
        return value
    return _plus(value, 1)


def _keyword(name: str, change: Callable[[Any], Any]) -> Change:
    def apply(node: ast.AST) -> ast.AST | None:
        if not isinstance(node, ast.keyword) or node.arg != name or _is_nothing(node.value):
            return None
        node.value = change(node.value)
        return node

    return apply


def _is_nothing(value: ast.AST) -> bool:
    return isinstance(value, ast.Constant) and value.value in (None, 0)


def _of_builders(helper: str) -> Change:
    def apply(node: ast.AST) -> ast.AST | None:
        return _wrapped(helper, node) if isinstance(node, ast.Call) and _name(node) in BUILDERS else None

    return apply


def _drop_contributions(node: ast.AST) -> ast.AST | None:
    return _wrapped("__mutant_contributions__", node) if isinstance(node, ast.Call) and _name(node) == "summed" else None


def _evicted_flops(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.Call) and _name(node) == "Evicted" and len(node.args) == 3 and not _is_nothing(node.args[2]):
        node.args[2] = ast.Constant(0)
        return node
    return None


def _flipped(node: ast.AST) -> ast.AST | None:
    """The most similar, or the least attended to, in place of the others."""
    if isinstance(node, ast.keyword) and node.arg == "descending":
        node.value = ast.Constant(False)
        return node
    if not isinstance(node, ast.Call):
        return None
    name = _name(node)
    if name == "best" and node.args:
        node.args[0] = ast.UnaryOp(ast.USub(), node.args[0])
        return node
    if (
        name in ("argsort", "sort")
        and not any(word.arg == "descending" for word in node.keywords)
        and any(word.arg == "stable" for word in node.keywords)
    ):
        node.keywords.append(ast.keyword("descending", ast.Constant(True)))
        return node
    if name in ("argmax", "argmin") and isinstance(node.func, ast.Attribute):
        node.func.attr = OPPOSITE[name]
        return node
    if name == "topk":
        node.keywords.append(ast.keyword("largest", ast.Constant(False)))
        return node
    return None


def _turned(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in TURNED:
        node.ops = [TURNED[type(node.ops[0])]()]
        return node
    return None


def _off_by_one(node: ast.AST) -> ast.AST | None:
    if not isinstance(node, ast.Call):
        return None
    product = any(isinstance(part, (ast.Mult, ast.Div)) for arg in node.args for part in ast.walk(arg))
    return _plus(node, 1) if _name(node) in BUDGETS or (_name(node) == "int" and product) else None


def _not_normalised(node: ast.AST) -> ast.AST | None:
    if not isinstance(node, ast.Call):
        return None
    if _name(node) in ("normalize", "unit") and node.args:
        return node.args[0]
    if _name(node) == "paired_cosine":
        return ast.parse(f"({ast.unparse(node.args[0])} * {ast.unparse(node.args[1])}).sum(-1)", mode="eval").body
    if _name(node) == "softmax" and isinstance(node.func, ast.Attribute) and not ast.unparse(node.func.value).startswith("F"):
        return node.func.value
    return None


AXES = {0: 1, 1: 0, 2: 1, -1: -2}


def _wrong_axis(node: ast.AST) -> ast.AST | None:
    if not isinstance(node, ast.Call) or _name(node) not in REDUCING or not isinstance(node.func, ast.Attribute):
        return None
    values = [*node.args[:1], *(word.value for word in node.keywords if word.arg == "dim")]
    for value in values:
        number = _number(value)
        if number in AXES:
            text = ast.unparse(node)
            changed = copy.deepcopy(node)
            if node.args and value is node.args[0]:
                changed.args[0] = ast.Constant(AXES[number])
            else:
                for word in changed.keywords:
                    if word.arg == "dim":
                        word.value = ast.Constant(AXES[number])
            return changed if ast.unparse(changed) != text else None
    return None


def _number(value: ast.AST) -> int | None:
    try:
        found = ast.literal_eval(value)
    except (ValueError, TypeError):
        return None
    return found if isinstance(found, int) and not isinstance(found, bool) else None


FALSE: dict[Any, Any] = {"whole": "cut", "cut": "whole", True: False, False: True, "causal": None, "queries": None}
TOLD = ("earlier_caches", "reads_question", "in_order", "attention")


def _told_falsely(node: ast.AST) -> ast.AST | None:
    """What a class says of itself for all its settings."""
    name = node.targets[0].id if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) else ""
    value: Any = getattr(node, "value", None)
    if name in TOLD and isinstance(value, ast.Constant) and value.value in FALSE:
        value.value = FALSE[value.value]
        return node
    if name in ("needs", "reads") and isinstance(value, ast.Tuple) and value.elts:
        value.elts = value.elts[:-1]
        return node
    if isinstance(node, ast.FunctionDef) and node.name in ("reads_question", "in_order"):
        return _returning(node.name, lambda value: ast.UnaryOp(ast.Not(), value))(node)
    return None


def _zero(_: Any) -> Any:
    return ast.Constant(0)


RULES: dict[str, Change] = {
    "fewest doubled": _returning("fewest", lambda value: ast.BinOp(ast.Constant(2), ast.Mult(), value)),
    "left told falsely": _returning("left", _falsely),
    "FLOPs forgotten": _keyword("flops", _zero),
    "FLOPs of an eviction forgotten": _evicted_flops,
    "positions reversed": _of_builders("__mutant_positions__"),
    "groups all zero": _of_builders("__mutant_groups__"),
    "contributions dropped": _drop_contributions,
    "the others kept": _flipped,
    "comparison turned": _turned,
    "off by one": _off_by_one,
    "not normalised": _not_normalised,
    "wrong axis": _wrong_axis,
    "told falsely": _told_falsely,
}
