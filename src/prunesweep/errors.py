"""How every command ends: what went wrong on one line, and an exit code that is not zero."""

from __future__ import annotations

import codecs
import io
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prunesweep.checks import EvaluationError
from prunesweep.console.layout import visible_lines

WANTS_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1"


def one_line(error: Exception) -> str:
    """Expected errors say it themselves; of others the type is named."""
    text = " ".join(str(error).split())
    if isinstance(error, (ValueError, OSError, EvaluationError)):
        return text
    return f"unexpected {type(error).__name__}: {text}; HYDRA_FULL_ERROR=1 shows where"


PLAIN = {
    **{"±": "+-", "×": "x", "·": "*", "→": "->", "←": "<-", "↑": "^", "↓": "v", "…": "...", "≤": "<=", "≥": ">=", "≈": "~"},
    **{"–": "-", "—": "-", "−": "-", "“": '"', "”": '"', "‘": "'", "’": "'", "★": "*", "²": "^2", "√": "sqrt", "█": "#"},
}
"""How signs are written where a terminal, a pipe or a scheduler's log takes no others than ASCII's."""


def plain(error: UnicodeError) -> tuple[str, int]:
    """For `codecs`: what stands for characters that cannot be written; of letters the one beneath the accent, else the code."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_written, error.object[error.start : error.end])), error.end


def _written(character: str) -> str:
    letter = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return PLAIN.get(character) or letter or character.encode("ascii", "backslashreplace").decode()


def write_anywhere() -> None:
    """From here on stdout and stderr take every character, whatever their encoding: results never end with a codec's error."""
    codecs.register_error("prunesweep", plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="prunesweep")


@contextmanager
def reported(
    program: str = "prunesweep", explain: Callable[[Exception], str] = one_line, interrupted: str = "interrupted"
) -> Iterator[None]:
    """Turns any exception into one line and exit code 1; with HYDRA_FULL_ERROR=1 the traceback is shown."""
    write_anywhere()
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough; Python would complain once more while it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if WANTS_TRACEBACK:
            raise
        sys.exit(visible_lines(f"{program}: {explain(error)}"))
    except KeyboardInterrupt:
        sys.exit(f"{program}: {interrupted}")
