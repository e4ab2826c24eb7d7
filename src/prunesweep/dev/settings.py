"""Every setting of the YAML files in `conf/` and `sweeps/` as Markdown, with the comment that stands beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from prunesweep.paths import CONF, SWEEPS

PLACED = re.compile(r"# @package (\S+)")
COMMENT = re.compile(r"\s*#\s?(.*)")
PAGES = {
    "settings": ("Settings", ("", "video", "trainer", "logger", "sampler", "hydra/launcher")),
    "reducers": ("Settings of reducers", ("reducer", "step")),
    "models": ("Settings of models", ("model",)),
    "benchmarks": ("Settings of benchmarks and protocols", ("benchmark", "protocol")),
}
"""Title and groups of each page; the group of the files in `conf/` itself has no name."""
WRITTEN = "Written from the comments in `{}` when this site is built."
LONGEST_VALUE = 60
"""Characters of a value in a table; longer ones are cut."""


class Setting(NamedTuple):
    """One line of a table."""

    key: str
    """As a command has it."""
    value: str
    comment: str


def page(name: str) -> str:
    """One of PAGES."""
    title, groups = PAGES[name]
    lines = [f"# {title}", "", WRITTEN.format("conf/"), ""]
    for group in groups:
        lines += [f"## {group}=", ""] if group and len(groups) > 1 else []
        for path in files_of(group):
            lines += [f"### {path.stem}", "", *section(path, group.replace("/", "."))]
    return "\n".join(lines) + "\n"


def sweeps_page() -> str:
    """What each named sweep is for, and all of its file."""
    lines = ["# Named sweeps", "", WRITTEN.format("sweeps/"), ""]
    for path in sorted(SWEEPS.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        lines += [f"## {path.stem}", "", " ".join(header(text)), "", "```yaml", text.strip(), "```", ""]
    return "\n".join(lines)


def files_of(group: str) -> list[Path]:
    """The choices of a group."""
    return sorted((CONF / group).glob("*.yaml"))


def section(path: Path, prefix: str) -> list[str]:
    """What a file says of itself, and a table of its settings."""
    text = path.read_text(encoding="utf-8")
    table = [_row(f"`{key}`", f"`{_short(value)}`", comment) for key, value, comment in settings(text, prefix)]
    head = [_row("setting", "value", "meaning"), "|---|---|---|"] if table else []
    return ["  \n".join(header(text)), "", *head, *table, ""]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _short(value: str) -> str:
    flat = " ".join(value.split())
    return flat if len(flat) <= LONGEST_VALUE else f"{flat[: LONGEST_VALUE - 3]}..."


def header(text: str) -> list[str]:
    """The comment at a file's beginning, line by line, as Markdown that shows its signs."""
    found = []
    for line in text.split("\n"):
        if not line.startswith("#"):
            break
        if not PLACED.match(line):
            found.append(re.sub(r"([<>*_\[\]|])", r"\\\1", line.removeprefix("#").strip()))
    return found


def settings(text: str, prefix: str = "") -> list[Setting]:
    """Of a YAML file, in order; lists and mappings in one line are one setting.  Defaults lists are none."""
    import yaml

    placed = PLACED.match(text)
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    place = placed[1] if placed else prefix
    lines = text.split("\n")
    return [Setting(key, _source(node, text), _comment(node, lines)) for key, node in _leaves(root, place) if key]


def _leaves(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    import yaml

    if not isinstance(node, yaml.MappingNode) or node.flow_style or not node.value:
        yield prefix, node
        return
    for key, value in node.value:
        if key.value != "defaults":
            yield from _leaves(value, ".".join(filter(None, (prefix, key.value))))


def _source(node: Any, text: str) -> str:
    return text[node.start_mark.index : node.end_mark.index].strip() or "null"


def _comment(node: Any, lines: Sequence[str]) -> str:
    """Behind the value on its line, and on lines of nothing else that follow."""
    end = node.end_mark
    if not getattr(node, "flow_style", True) or end.line >= len(lines):  # a list of lines ends where the next key begins
        return ""
    behind = COMMENT.match(lines[end.line][end.column :])
    said = [behind[1]] if behind else []
    for line in lines[end.line + 1 :]:
        follows = COMMENT.fullmatch(line)
        if not said or not follows or not line.startswith(" "):
            break
        said.append(follows[1])
    return " ".join(said).strip()
