"""What to say of words that a verb does not take: on one line, with what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prunesweep.console.meant import closest

NOT_ONE_OF = re.compile(r"'(?P<given>[^']*)' is not one of (?P<known>'.+')")
NOT_AS_IT_SHOULD_BE = re.compile(r"Input should be (?P<bound>[^,]+)")
PLACE = re.compile(r"Invalid value for '(?P<name>[^']+)'")
SURPLUS = re.compile(r"Got unexpected extra arguments?(?:\(s\))? \((?P<words>.+)\)")
ASKED = {"help": "--help", "version": "--version"}
"""What other commands have verbs for."""


def verb_of(command: Any, arguments: Sequence[str]) -> tuple[Any, list[str]]:
    """The verb, or the part of one, that was called, and its names."""
    names: list[str] = []
    for word in arguments:
        if word not in getattr(command, "commands", {}):
            break
        command = command.commands[word]
        names.append(word)
    return command, names


def usage(error: Any, command: Any, arguments: Sequence[str], sweeps: Iterable[str]) -> str:
    """A usage error of Typer's, and whose help says more; empty for a verb without its part, which has shown its help."""
    called, names = verb_of(command, arguments)
    text = " ".join(error.format_message().split()).rstrip(".")
    word = arguments[len(names)] if len(names) < len(arguments) else ""
    if getattr(called, "commands", None) and word and not word.startswith("-"):
        said = no_verb(word, command, sweeps) if called is command else _no_part(word, called, " ".join(names))
    elif (option := getattr(error, "option_name", None)) and hasattr(error, "possibilities"):
        said = _no_option(option, " ".join(names), options(command))
    else:
        said = _value(error, text, " ".join(names)) if text else ""
    help_of = " ".join(["prunesweep", *names])
    return said and f"{said}{' ' if said[-1] == '?' else '; '}{help_of} --help shows what it takes"


def no_verb(word: str, command: Any, sweeps: Iterable[str]) -> str:
    """Of the command's own verbs: with the one, the part of one, or the sweep that was probably meant."""
    verbs = list(command.commands)
    parts = {part: f"{name} {part}" for name, verb in command.commands.items() for part in getattr(verb, "commands", ())}
    meant: Mapping[str, str] = {**parts, **{name: f"sweep {name}" for name in sweeps}, **ASKED, **{name: name for name in verbs}}
    close = closest(word, verbs) if word not in meant else word
    close = close or closest(word, meant)
    return f"no verb {word!r}; {f'did you mean {meant[close]}?' if close else 'there are ' + ', '.join(verbs)}"


def _no_part(word: str, verb: Any, name: str) -> str:
    close = closest(word, verb.commands)
    return f"{name} has no verb {word!r}; {f'did you mean {close}?' if close else 'it has ' + ', '.join(verb.commands)}"


def no_option(option: str, own: Iterable[str], verb: str) -> str:
    """Of an option that a verb, or the command itself, does not have: with what was probably meant."""
    close = closest(option.lstrip("-"), [name.lstrip("-") for name in own])
    return f"{f'{verb} has ' if verb else ''}no option {option}{f'; did you mean --{close}?' if close else ''}"


def _no_option(option: str, verb: str, known: Mapping[str, Sequence[str]]) -> str:
    """The same with who else has it, else what was probably meant, else what there is."""
    if others := [name for name, theirs in known.items() if option in theirs]:
        return f"{verb} has no option {option}, which is one of {', '.join(others)}"
    own = known.get(verb, [])
    said = no_option(option, own, verb)
    return said if said[-1] == "?" else f"{said}; it has {', '.join(own)}"


def options(command: Any, path: str = "") -> dict[str, list[str]]:
    """Of each verb, and of each part of one, the long options that are shown."""
    found: dict[str, list[str]] = {}
    for name, inner in getattr(command, "commands", {}).items():
        found |= options(inner, f"{path} {name}".strip())
    shown = [one for one in command.params if not getattr(one, "hidden", False)]
    names = [name for one in shown for name in one.opts if name.startswith("--")]
    return {**found, path: [*names, "--help"]} if path else found


def _value(error: Any, text: str, verb: str) -> str:
    """Of an argument that is there: the bound, what was given, and what was probably meant."""
    place = PLACE.match(text)
    name = place["name"] if place else ""
    if name and (choice := NOT_ONE_OF.search(text)):
        known = re.findall(r"'(.+?)'", choice["known"])
        close = closest(choice["given"], known)
        return f"{name} must be one of {', '.join(known)}, got {choice['given']!r}{f'; did you mean {close}?' if close else ''}"
    if name and (wrong := NOT_AS_IT_SHOULD_BE.search(text)):
        given = [one.get("input") for one in getattr(error.__cause__, "errors", list)()]
        return f"{name} must be {wrong['bound']}{f', got {given[0]!r}' if given else ''}"
    if surplus := SURPLUS.search(text):
        return f"{verb} does not take {surplus['words']!r}"
    return text.removeprefix("Invalid value: ")
