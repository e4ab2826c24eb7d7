"""What pages tell a reader to type can be typed: the verb is there, its options are, settings have a place; nothing is run.

`test_guides.py` runs what takes seconds; this reads all the rest, long searches and real checkpoints among them.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep

from prunesweep.cli import app, sweep
from prunesweep.cli.run import require_options
from prunesweep.cli.tune import parted
from prunesweep.paths import CONF, SWEEPS
from prunesweep.sweep.schema import require_known_keys
from prunesweep.sweep.session import composed
from support.places import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^```(\w*).*?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
IN_LINE = re.compile(r"`((?:prunesweep|python -m prunesweep\.dev\.)[^`\n]*)`")
SHELL = ("sh", "text")
BETWEEN = ("&&", "||", "|", ";", "&", ">", ">>", "<", "2>")
"""What ends a command."""
SAID = re.compile(r"^(\.\.\.|…|[A-Z_]+|KEY=VALUE|GROUP=CHOICE|\[.*\]|[\w/.]+=(\.\.\.|…))\.*$")
"""Words that stand for others."""
OWN_CODE = ("hydra.searchpath", "--config-dir", "--config-path", "-cd")
"""Settings of somebody's own are found there only."""
CLICK: Any = typer.main.get_command(app.app)


class Typed(NamedTuple):
    words: tuple[str, ...]
    where: str

    def __str__(self) -> str:
        return f"{self.where}: {' '.join(self.words)}"


def typed(page: Path) -> Iterator[Typed]:
    """Commands of ours on a page: in blocks of a shell, after a prompt, and in a line of text."""
    text = page.read_text(encoding="utf-8")
    lines = [line for language, block in FENCED.findall(text) if language in SHELL for line in _lines(block, language)]
    for line in [*lines, *IN_LINE.findall(FENCED.sub("", text))]:
        for words in commands(line):
            yield Typed(words, page.name)


def _lines(block: str, language: str) -> list[str]:
    lines = re.sub(r"\\\n\s*", " ", block).split("\n")
    return lines if language == "sh" else [line[2:] for line in lines if line.startswith("$ ")]


def commands(line: str) -> Iterator[tuple[str, ...]]:
    """Words of each of our commands in a line of shell, from the program's name on."""
    parser = shlex.shlex(re.sub(r"\$\(.*\)|\$\{[^}]*\}|\$\w+", "x", line), posix=True, punctuation_chars="|&;<>")
    parser.whitespace_split = True
    command: list[str] = []
    for word in [*parser, ";"]:
        if word not in BETWEEN:
            command.append(word)
            continue
        while command and re.match(r"[A-Z_]+=", command[0]):
            command.pop(0)
        if command[:1] == ["prunesweep"] or (command[:2] == ["python", "-m"] and command[2].startswith("prunesweep.")):
            yield tuple(command)
        command = []


def test_commands_are_found_in_a_line_of_shell() -> None:
    line = "A=1 prunesweep -m 'a=1, 2' x=$B && cd x; python -m prunesweep.dev.bench > out | prunesweep show latest  # why"
    assert list(commands(line)) == [
        ("prunesweep", "-m", "a=1, 2", "x=x"),
        ("python", "-m", "prunesweep.dev.bench"),
        ("prunesweep", "show", "latest"),
    ]


def require_typed(words: Sequence[str]) -> None:
    """Raises an exception for a command that could not begin."""
    if words[0] == "python":
        assert words[2].endswith(".NAME") or importlib.util.find_spec(words[2]), words[2]
    elif app.is_hydras(words[1:]):
        require_options(words[1:])
        stray = get_args_parser().parse_args(list(words[1:])).overrides
        strange = [one for one in stray if sweep.is_name(one) and not SAID.match(one)]
        assert not strange, f"{strange} are no settings"
        _require_composed(words[1:], ("eval", CONF))
    elif words[1] not in app.OURS and not SAID.match(words[1]):
        _require_verb(list(words[1:]))


def _require_verb(words: list[str]) -> None:
    command, name = CLICK, ""
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        name = f"{name} {words.pop(0)}".strip()
        assert name.split()[-1] in command.commands, f"there is no prunesweep {name}"
        command = command.commands[name.split()[-1]]
    context = command.context_class(command, info_name=name)
    given, more, _ = command.make_parser(context).parse_args(list(words))
    assert not more or context.ignore_unknown_options, f"prunesweep {name} does not take {more}"
    for one in command.params:
        if (allowed := getattr(getattr(one, "type", None), "choices", None)) and isinstance(given.get(one.name), str):
            assert SAID.match(given[one.name]) or given[one.name] in allowed, f"{one.name} is one of {allowed}"
    if name in COMPOSED:
        _require_composed(words, COMPOSED[name](words))


def _named(words: Sequence[str]) -> tuple[str, Path]:
    """The sweep that a command names."""
    if not words or not sweep.is_name(words[0]) or words[0].endswith(".yaml") or SAID.match(words[0]):
        return "search", SWEEPS
    assert words[0] in sweep.names(), f"there is no sweep {words[0]}"
    return words[0], SWEEPS


COMPOSED: dict[str, Any] = {
    **dict.fromkeys(("run", "data check", "ask", "tune"), lambda _: ("eval", CONF)),
    **dict.fromkeys(("sweep", "search"), _named),
    "cost": lambda _: ("cost", CONF),
}
"""Verbs that take settings, and the configuration that these are of."""


def _require_composed(words: Sequence[str], primary: tuple[str, Path]) -> None:
    """Raises an exception for a setting without a place.  Of several values the first is tried."""
    if any(word.startswith(OWN_CODE) for word in words):
        return
    settings = [word for word in words if "=" in word and not word.startswith("--") and not SAID.match(word)]
    settings = [word for word in settings if not re.match(r"reducer=.*\.yaml", word)]
    if primary == ("eval", CONF):
        _, task = parted(settings)
        composed([_first(word) for word in (task if len(task) < len(settings) else settings) if not word.startswith("hydra")])
        return
    with initialize_config_dir(str(primary[1]), version_base="1.3"):
        config = compose(primary[0], [*map(_first, settings), f"hydra.searchpath=[{CONF},{SWEEPS}]"], return_hydra_config=True)
    require_known_keys(config, primary=primary[0] if primary[0] == "cost" else "eval")


def _first(word: str) -> str:
    override = OverridesParser.create().parse_override(word)
    if not override.is_sweep_override():
        return word
    value = override.value()
    if isinstance(value, IntervalSweep):
        return f"{override.key_or_group}={value.start}"
    assert isinstance(value, ChoiceSweep) or override.is_range_sweep()
    return f"{override.get_key_element()}={next(override.sweep_string_iterator())}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_tells_to_type_can_be_typed(page: Path) -> None:
    wrong = []
    for one in dict.fromkeys(typed(page)):
        try:
            require_typed(one.words)
        except (Exception, SystemExit) as error:
            wrong.append(f"{one}: {type(error).__name__} {str(error)[:300]}")
    assert not wrong, "\n".join(wrong)
