"""The store's key changes with the package's code that answers, and with nothing else."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from prunesweep.paths import PACKAGE
from prunesweep.results.keys import code as answering
from prunesweep.results.keys import syntax
from prunesweep.results.keys.code import ANSWERING, BOOKKEEPING, Code, Reader, code_of
from prunesweep.results.keys.syntax import Folder, dotted_name, find_installed
from support.stored import ROOTS


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of this package's code that may be changed."""
    target = tmp_path / "src"
    shutil.copytree(
        PACKAGE, target / "prunesweep", ignore=lambda _, names: [n for n in names if "." in n and not n.endswith(".py")]
    )
    shutil.rmtree(target / "prunesweep" / "data", ignore_errors=True)
    return target


def of(source: Path, bookkeeping: tuple[str, ...] = BOOKKEEPING, answering: tuple[str, ...] = (*ANSWERING, *ROOTS)) -> Code:
    return Reader(Folder(source), bookkeeping).code(answering)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new))


def test_names_of_what_answers_and_of_bookkeeping_exist() -> None:
    reader = Reader(find_installed)
    for name in (*ANSWERING, *BOOKKEEPING, *ROOTS):
        module, left = reader.split(name)
        assert not left or left[0] in reader.module(module).definitions, name


def test_what_is_reached_answers_and_all_that_answers_is_reached() -> None:
    reached = set(code_of(ROOTS).parts)
    assert {
        "prunesweep.engine.stages.llm",
        "prunesweep.engine.prefix_tree",
        "prunesweep.video.reader",
        "prunesweep.video.decoder",
        "prunesweep.reducers.parts.clustering",
    } <= reached
    assert {"prunesweep.reducers.fastv", "prunesweep.models.llava_onevision", "prunesweep.models.decoder"} <= reached
    bookkeeping = {"answering", "cache", "checks", "fingerprint", "store", "work", "sweep", "analysis", "main", "evaluate"}
    assert not {f"prunesweep.{name}" for name in bookkeeping} & reached
    assert not {"prunesweep.reducers.lookm", "prunesweep.models.pllava"} & reached, "another method's and another model's"
    assert code_of(ROOTS).unfollowed == ()


class Unlike(ast.NodeTransformer):
    """Other docstrings everywhere."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return ast.Expr(ast.Constant("another text"))
        return node


def test_no_docstring_comment_or_layout_of_any_module_is_in_the_key(source: Path) -> None:
    before = of(source)
    for path in source.rglob("*.py"):
        changed = ast.unparse(Unlike().visit(ast.parse(path.read_text())))
        future, mark, rest = changed.partition("from __future__ import annotations\n")
        path.write_text(f"# A comment.\n{future}{mark}\n\n# Another.\n{rest}\n" if mark else f"# A comment.\n{changed}\n")
    assert of(source) == before


CONSTANTS = {
    "engine/stages/answer.py": ("found.index(max(found))", "found.index(min(found))"),
    "reducers/parts/clustering.py": ("import torch", "import torch\n\ntorch.set_default_dtype(torch.float64)"),
    "models/looks.py": ("ROWS_AT_ONCE = 512", "ROWS_AT_ONCE = 256"),
    "video/reader.py": ('"-m", "prunesweep.video.decoder"', '"-O", "-m", "prunesweep.video.decoder"'),
    "engine/prefix_tree.py": ("return [Job(", "return [] and [Job("),
    "engine/protocol.py": ("LETTERS", "LETTERZ"),
    "engine/together.py": ("if len(group) > 1:", "if len(group) > 2:"),
    "models/branches.py": ("self.filled += 1", "self.filled += 2"),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_change_of_what_answers_is_in_the_key(source: Path, name: str) -> None:
    before = of(source)
    change(source / "prunesweep" / name, *CONSTANTS[name])
    assert of(source).digest != before.digest


def _numbers(path: Path) -> Iterator[tuple[int, int, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            yield node.lineno, node.col_offset, node.end_col_offset or 0


def _with_every_number_changed(path: Path) -> None:
    lines = [line.encode() for line in path.read_text().split("\n")]
    for line, start, end in sorted(_numbers(path), reverse=True):
        text = lines[line - 1]
        lines[line - 1] = text[:start] + b"(7 + " + text[start:end] + b")" + text[end:]
    path.write_text(b"\n".join(lines).decode())


def test_every_number_of_a_method_is_in_the_key_and_none_of_bookkeeping(source: Path) -> None:
    before = of(source)
    for name in (
        "results/store",
        "results/keys/fingerprint",
        "engine/encoder_cache",
        "sweep/work",
        "sweep/batch",
        "sweep/groups",
        "sweep/configs",
        "sweep/evaluate",
        "sweep/racing",
        "analysis/summary",
        "analysis/table",
        "analysis/significance",
        "report/html",
    ):
        _with_every_number_changed(source / "prunesweep" / f"{name}.py")
    assert of(source) == before
    for name in ("reducers/fastv", "reducers/prunevid", "reducers/parts/clustering", "engine/stages/llm", "video/decoder"):
        path = source / "prunesweep" / f"{name}.py"
        text = path.read_text()
        _with_every_number_changed(path)
        assert of(source).digest != before.digest, name
        path.write_text(text)


def test_adding_a_definition_that_nothing_answering_uses_changes_nothing(source: Path) -> None:
    before = of(source)
    for name in ("types/__init__", "cost", "engine/protocol", "results/records", "reducers/__init__", "models/checkpoints"):
        path = source / "prunesweep" / f"{name}.py"
        path.write_text(path.read_text() + "\n\ndef unused():\n    return 3\n")
    assert of(source) == before


class Moved(ast.NodeTransformer):
    """Modules of other names in imports and in texts that name one."""

    def __init__(self, moves: dict[str, str]):
        self.moves = moves

    def _new(self, name: str) -> str:
        return next((new + name[len(old) :] for old, new in self.moves.items() if f"{name}.".startswith(f"{old}.")), name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        moved = {self._new(f"{node.module}.{alias.name}") for alias in node.names}
        if node.module == "prunesweep" and len(node.names) == 1 and (new := moved.pop()) != f"prunesweep.{node.names[0].name}":
            base, _, name = new.rpartition(".")
            return ast.ImportFrom(base, [ast.alias(name, node.names[0].asname or node.names[0].name)], 0)
        return ast.ImportFrom(self._new(node.module or ""), node.names, node.level)

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.Constant(self._new(node.value)) if isinstance(node.value, str) else node


MOVES = {
    "prunesweep.engine.stages.llm": "prunesweep.engine2.steps",
    "prunesweep.engine.prefix_tree": "prunesweep.engine2.prefix_tree",
    "prunesweep.reducers.parts.clustering": "prunesweep.reducers.clusters",
    "prunesweep.video.decoder": "prunesweep.pictures.decoder",
    "prunesweep.video.reader": "prunesweep.pictures.reader",
    "prunesweep.engine.protocol": "prunesweep.engine2.asking",
    "prunesweep.reducers.fastv": "prunesweep.reducers.fast_v",
    "prunesweep.checks": "prunesweep.bounds",
}


def test_moving_and_renaming_files_changes_nothing(source: Path) -> None:
    before = of(source)
    for path in source.rglob("*.py"):
        path.write_text(ast.unparse(Moved(MOVES).visit(ast.parse(path.read_text()))))
    for old, new in MOVES.items():
        target = source.joinpath(*new.split(".")).with_suffix(".py")
        target.parent.mkdir(exist_ok=True)
        (target.parent / "__init__.py").touch()
        source.joinpath(*old.split(".")).with_suffix(".py").rename(target)
    moved = Moved(MOVES)
    names = [tuple(moved._new(name) for name in one) for one in (BOOKKEEPING, (*ANSWERING, *ROOTS))]
    assert of(source, *names).digest == before.digest


def test_a_chain_of_attributes_is_read_as_one_name() -> None:
    assert dotted_name(ast.parse("a.b.c", mode="eval").body) == "a.b.c"
    assert dotted_name(ast.parse("f().b", mode="eval").body) is None


def test_the_package_is_known_by_its_source_also_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store serves a checkout and an installation of the same code, and an installation of other code gets nothing of it."""
    roots = ("prunesweep.reducers.prunevid.Merge", "prunesweep.models.llava_onevision.load")
    here = code_of(roots)
    monkeypatch.setattr(syntax, "_distribution", lambda path, name: name.partition(".")[0])
    answering.forget()
    try:
        installed = code_of(roots)
    finally:
        monkeypatch.undo()
        answering.forget()
    assert installed.digest == here.digest
    assert "prunesweep" not in installed.distributions


GUARDS = {
    'if __name__ != "__main__":\n    PERIOD = 2\n': True,
    'if __name__ == "helper":\n    PERIOD = 2\n': True,
    'if __name__ == "__main__":\n    pass\nelse:\n    PERIOD = 2\n': True,
    'if __name__ == "__main__":\n    PERIOD = 2\n': False,
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    PERIOD = 2\n": False,
    "from typing import TYPE_CHECKING\nif not TYPE_CHECKING:\n    PERIOD = 2\n": True,
}


@pytest.mark.parametrize("text", GUARDS, ids=lambda text: text.splitlines()[0])
def test_what_runs_on_import_is_in_the_key_whatever_guards_it(source: Path, text: str) -> None:
    path = source / "prunesweep" / "reducers" / "fastv.py"
    own = path.read_text() + "\n\nPERIOD = 1\n\n\n"
    use = own.replace("importance = rows.mean(dim=(0, 1))", "importance = PERIOD * rows.mean(dim=(0, 1))")
    assert use != own
    path.write_text(use + text)
    before = of(source)
    path.write_text(use + text.replace("PERIOD = 2", "PERIOD = 8"))
    assert (of(source).digest != before.digest) == GUARDS[text]


def test_a_package_installed_in_a_virtual_environment_has_the_key_of_its_source(tmp_path: Path) -> None:
    """There `sysconfig` says that site-packages lies in the library's own folder."""
    venv.create(tmp_path / "v", with_pip=False, symlinks=True)
    (site,) = (tmp_path / "v").glob("lib/python*/site-packages")
    (site / "base.pth").write_text("\n".join(path for path in sys.path if Path(path).name in syntax.SITES))
    shutil.copytree(PACKAGE, site / "prunesweep")
    code = f"from prunesweep.results.keys.code import code_of, __file__ as f; print(f, code_of({ROOTS}).digest)"
    command = [str(tmp_path / "v" / "bin" / "python"), "-c", code]
    where, digest = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()
    assert Path(where).is_relative_to(site)
    assert digest == code_of(ROOTS).digest


def test_installed_modules_are_none_of_python_s_own_library() -> None:
    """In a virtual environment they lie below what `sysconfig` calls the library's folder there."""
    library = Path(sysconfig.get_paths()["platstdlib"])
    assert not syntax._is_standard(library / "site-packages" / "prunesweep" / "engine" / "scoring.py")
    assert not syntax._is_standard(library / "dist-packages" / "loose.py")
    assert syntax._is_standard(Path(ast.__file__))
