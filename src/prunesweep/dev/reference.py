"""The pages of the documentation that are written from the code: commands, settings, columns of tables, fields of files.

    python -m prunesweep.dev.reference FOLDER      writes them, to be read without a site

A build of the site (`make docs`) asks for them itself and keeps nothing in `docs/`.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, NamedTuple, get_args

from prunesweep.dev import parser_of, settings
from prunesweep.disk.files import replace_file
from prunesweep.errors import write_anywhere
from prunesweep.paths import user_path

FOLDER = "reference"
MARKUP = re.compile(r"\[/?(?:bold|cyan|dim)\]")
WRITTEN = "Written from the code when this site is built."


def main() -> None:
    write_anywhere()
    parser = parser_of(__file__, __doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=user_path, help=f"{FOLDER}/*.md are written here")
    folder = parser.parse_args().folder
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    for name, write in PAGES.items():
        replace_file(folder / name, write().encode())
        print(folder / name)


# Commands


class Command(NamedTuple):
    """A verb, or a part of one."""

    name: str
    panel: str
    command: Any
    """Typer's."""


def commands() -> list[Command]:
    """All that `prunesweep` has, panel by panel, in the order of its help."""
    import typer

    from prunesweep.cli.app import app

    found = []
    for name, verb in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        parts = getattr(verb, "commands", None)
        own = [(name, verb)] if parts is None else [(f"{name} {part}", one) for part, one in parts.items()]
        found += [Command(full, verb.rich_help_panel or "", one) for full, one in own]
    panels = list(dict.fromkeys(one.panel for one in found))
    return sorted(found, key=lambda one: panels.index(one.panel))


def commands_page() -> str:
    """Every verb with its arguments, options and example."""
    lines = ["# Commands", "", WRITTEN, "", "Without a verb, `prunesweep KEY=VALUE` evaluates one setting, and `-m` several.", ""]
    panel = ""
    for one in commands():
        lines += [f"## {one.panel}", ""] if one.panel != panel else []
        panel = one.panel
        lines += [f"### prunesweep {one.name}", "", plain(one.command.help or ""), "", *_parameters(one.command), *_example(one)]
    return "\n".join(lines)


def plain(text: str) -> str:
    """Help without the marks of a terminal, as Markdown that shows its signs."""
    return re.sub(r"([<>|*_])", r"\\\1", MARKUP.sub("", text)).strip()


def _example(one: Command) -> list[str]:
    text = MARKUP.sub("", getattr(one.command, "epilog", "") or "").replace("Example", "", 1).strip()
    return ["```text", text, "```", ""] if text else []


def _parameters(command: Any) -> list[str]:
    shown = [one for one in command.params if not one.hidden and one.name != "help"]
    rows = [f"| `{_name(one)}` | {_values(one)} | {_default(one)} | {plain(one.help or '')} |" for one in shown]
    return ["| | takes | by default | |", "|---|---|---|---|", *rows, ""] if rows else []


def _name(one: Any) -> str:
    flags = [*one.opts, *one.secondary_opts]
    return ", ".join(flags) if flags[0].startswith("-") else one.metavar or one.name.upper()


def _values(one: Any) -> str:
    if getattr(one, "is_flag", False):
        return ""
    kind = one.type_descriptor.annotation
    choices = [str(choice) for choice in get_args(kind) if isinstance(choice, str)]
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    return one.metavar if one.opts[0].startswith("-") and one.metavar else getattr(kind, "__name__", str(kind))


def _default(one: Any) -> str:
    if one.required:
        return "has to be given"
    return "" if one.default in (None, False, [], ()) or callable(one.default) else f"`{one.default}`"


# Fields of dataclasses


def meanings(cls: type) -> dict[str, str]:
    """What the docstrings below the fields of a class say, by field; empty where there is none."""
    (body,) = ast.parse(inspect.getsource(cls).lstrip()).body
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for statement, following in zip(body.body, [*body.body[1:], ast.Pass()], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            found[statement.target.id] = " ".join(_text(following).split())
    return found


def _text(statement: ast.AST) -> str:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""


def fields_table(cls: type, hidden: Sequence[str] = ()) -> Iterator[str]:
    """The fields of a dataclass with their types and meanings."""
    said = meanings(cls)
    yield from ("| field | type | meaning |", "|---|---|---|")
    for one in fields(cls):
        if one.name not in hidden:
            kind = one.type if isinstance(one.type, str) else getattr(one.type, "__name__", str(one.type))
            yield f"| `{one.name}` | `{kind.replace('|', 'or')}` | {said[one.name].replace('|', ' or ')} |"


def columns_page() -> str:
    """Of `summary.csv` and `.parquet`."""
    from prunesweep.analysis.summary import Summary

    said = (inspect.getdoc(Summary) or "").split("\n\n")
    text = ["Settings that vary between the trials are columns, too. [Metrics](metrics.md) has the formulas."]
    return "\n".join(["# Columns of summary.csv", "", WRITTEN, "", *said, "", *text, "", *fields_table(Summary), ""])


def files_page() -> str:
    """What is in the files that commands leave."""
    from prunesweep.cost import Usage
    from prunesweep.results import store
    from prunesweep.types import Record, Sample
    from prunesweep.use.preset import Preset

    layout = (store.__doc__ or "").split("\n\n")
    lines = ["# Files", "", WRITTEN, "", FILES, "## Records", "", "`records.parquet` of a trial, a line for each question.", ""]
    lines += [*fields_table(Record), "", "`usage` is spread over columns of its own:", "", *fields_table(Usage), ""]
    lines += ["## The store", "", layout[0], "", "```text", inspect.cleandoc(layout[1]), "```", "", *layout[2:], ""]
    lines += ["## Presets", "", *(inspect.getdoc(Preset) or "").split("\n"), "", *fields_table(Preset), ""]
    lines += ["## Questions", "", "What a benchmark is read into; `questions.jsonl` has some of these.", ""]
    return "\n".join([*lines, *fields_table(Sample), ""])


FILES = """## A sweep's folder

| file | holds |
|---|---|
| `summary.csv`, `summary.parquet` | a line for each trial ([columns](columns.md)) |
| `pareto.png` | the front |
| `timing.jsonl` | what the seconds went to |
| `multirun.yaml` | the command as it was given |
| `NUMBER/config.yaml` | a trial's whole configuration |
| `NUMBER/trial.json` | what its records are made of |
| `NUMBER/records.parquet` | its records |
| `NUMBER/prunesweep.log` | its log |
| `wandb/` | runs of W&B, offline |
"""


PAGES: dict[str, Callable[[], str]] = {
    f"{FOLDER}/commands.md": commands_page,
    f"{FOLDER}/columns.md": columns_page,
    f"{FOLDER}/files.md": files_page,
    f"{FOLDER}/sweeps.md": settings.sweeps_page,
    **{f"{FOLDER}/{name}.md": partial(settings.page, name) for name in settings.PAGES},
}
"""What writes each page."""

if __name__ == "__main__":
    main()
