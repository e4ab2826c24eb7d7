"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

PARTIAL = ".partial"
"""How the names of unfinished files end."""


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file so that it is there whole or not at all, also after a power cut; OSError if there is no space.

    The temporary name is unlike any other writer's.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _flush_names(path.parent)


def unwritten(error: OSError, place: Path) -> ValueError:
    """What to say of a file or folder that cannot be written: which, why, and the way out."""
    return ValueError(f"{error.filename or place} cannot be written: {error.strerror or error}; name a place that can be")


def _flush_names(folder: Path) -> None:
    """A renamed file may be gone after a power cut unless its folder is flushed, too; not every system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
