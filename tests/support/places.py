"""Where things lie in a checkout."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
DATA = ROOT / "tests" / "data"
REDUCERS = sorted(path.stem for path in (CONF / "reducer").glob("*.yaml"))


def only_folder(pattern: str) -> Path:
    """The only match in the working folder, by its own name."""
    (folder,) = (path for path in Path.cwd().glob(pattern) if "latest" not in path.parts)
    return folder
