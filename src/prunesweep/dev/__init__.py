"""Maintainers' scripts: `python -m prunesweep.dev.NAME`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prunesweep.console import layout


def parser_of(file: str, description: str | None, **more: Any) -> argparse.ArgumentParser:
    """Of a script by its `__file__`, called in its help and its errors as it is run; Python itself says so from 3.14 on."""
    return argparse.ArgumentParser(prog=f"python -m prunesweep.dev.{Path(file).stem}", description=description, **more)


def write_page(path: Path, lines: Iterable[str]) -> None:
    """As Markdown whose prose fits a screen; says where."""
    path.write_text(layout.prose("\n".join(lines)) + "\n", encoding="utf-8")
    print(path)
