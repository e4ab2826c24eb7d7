"""Where the package's own files lie: in the source tree while developing, inside the package once installed; and the user's."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig, ListConfig

PACKAGE = Path(__file__).parent
DATA = PACKAGE / "data"


def _shipped(name: str) -> Path:
    return PACKAGE / name if (PACKAGE / name).is_dir() else PACKAGE.parents[1] / name


CONF = _shipped("conf")
SWEEPS = _shipped("sweeps")
"""Named sweeps."""

HOME = re.compile(r"(?:^|(?<=,))~(?=/|$)")
"""In a value: at its beginning, or at that of another in a list of them."""
TYPED_HOME = re.compile(r"(?<=[=,'\"\[ ])~(?=/)|^~(?=/)")
"""In an argument: Hydra's own language has no such sign, and a shell leaves it alone behind a key with a dot."""
NO_PATHS = (("protocol",), ("hydra", "overrides"), ("hydra", "help"), ("hydra", "hydra_help"))
"""Parts of a configuration whose texts are something else."""


def user_path(text: str) -> Path:
    """A path that somebody typed."""
    return Path(os.path.expanduser(text))  # pathlib's raises for the home of nobody


def from_here(path: Path) -> str:
    """As somebody would type it: without the way to the folder that they are in."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def is_there(text: str) -> bool:
    """Whether something typed is a path to a file or folder that exists; text that can be none (too long) is not."""
    return os.path.exists(os.path.expanduser(text))  # pathlib's raises for a name that is too long


def typed(arguments: Sequence[str]) -> list[str]:
    """A command's arguments with the home folder in place of ~/, also where the shell or Hydra would not see one."""
    home = str(Path.home())
    return [TYPED_HOME.sub(lambda _: home, argument) for argument in arguments]


def expand_home(config: DictConfig) -> bool:
    """Puts the home folder in place of ~/ in every value of a configuration, wherever it was written; whether it was anywhere."""
    from omegaconf import open_dict, read_write

    with read_write(config), open_dict(config):
        return _expand(config, (), str(Path.home()))


def _expand(node: DictConfig | ListConfig, place: tuple[str, ...], home: str) -> bool:
    from omegaconf import DictConfig, ListConfig

    found = False
    keys: Any = list(node.keys()) if isinstance(node, DictConfig) else range(len(node))
    for key in keys:
        child: Any = node._get_node(key)
        here = (*place, str(key))
        if here in NO_PATHS or child is None:
            continue
        if isinstance(child, (DictConfig, ListConfig)):
            if not (child._is_none() or child._is_missing() or child._is_interpolation()):
                found |= _expand(child, here, home)
        elif isinstance(text := child._value(), str) and HOME.search(text):
            node[key] = HOME.sub(lambda _: home, text)
            found = True
    return found
