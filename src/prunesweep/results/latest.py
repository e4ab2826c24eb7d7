"""The link `latest` beside folders that are named after the time: another name of the one whose run began last."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from prunesweep.disk.files import PARTIAL
from prunesweep.results.records import LATEST

NOT_BEGUN = ".not-begun"
"""In a folder whose run may yet be refused: says where the link is to be."""


def await_begin(root: Path, own: Path) -> None:
    """Notes that `latest` in `root` is to lead to the folder once its run has begun: one that is refused leaves it alone."""
    with suppress(OSError):
        (own / NOT_BEGUN).write_text(os.path.relpath(root, own), encoding="utf-8")


def begun(folder: Path) -> None:
    """Now there is something to read, so that `latest` is the folder, if it is named after the time."""
    note = folder / NOT_BEGUN
    with suppress(OSError):
        link_latest(Path(os.path.normpath(folder / note.read_text(encoding="utf-8"))), folder)
        note.unlink()


def link_latest(root: Path, own: Path) -> None:
    """Makes `latest` in `root` another name of the folder; no run fails where links, or this one, cannot be made."""
    link, partial = root / LATEST, root / f".{LATEST}.{secrets.token_hex(4)}{PARTIAL}"
    with suppress(OSError, NotImplementedError):
        if link.exists() and not link.is_symlink():
            return  # something of the user's own
        partial.symlink_to(os.path.relpath(own, root), target_is_directory=True)
        try:
            partial.replace(link)
        except OSError:
            partial.unlink()
            raise
