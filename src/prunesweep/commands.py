"""How every command ends: what went wrong on one line, and an exit code that is not zero."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prunesweep.checks import EvaluationError

WANTS_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1"


def one_line(error: Exception) -> str:
    """Expected errors say it themselves; of others the type is named."""
    text = " ".join(str(error).split())
    if isinstance(error, (ValueError, OSError, EvaluationError)):
        return text
    return f"unexpected {type(error).__name__}: {text}; HYDRA_FULL_ERROR=1 shows where"


@contextmanager
def reported(
    program: str = "prunesweep", explain: Callable[[Exception], str] = one_line, interrupted: str = "interrupted"
) -> Iterator[None]:
    """Turns any exception into one line and exit code 1; with HYDRA_FULL_ERROR=1 the traceback is shown."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough; Python would complain once more while it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if WANTS_TRACEBACK:
            raise
        sys.exit(f"{program}: {explain(error)}")
    except KeyboardInterrupt:
        sys.exit(f"{program}: {interrupted}")
