"""Search: the space and its constraints, the Optuna study, costs known beforehand.  Hydra's side is the sweeper plugin.

`space` and `constraints` read what a user writes, `study` keeps the proposals in Optuna, `workers` tells the living from
the dead, `bounds` knows costs before anything runs, `loop` puts them together.
"""

import importlib
import sys
from types import ModuleType
from typing import Any


class _Searches(ModuleType):
    """The package, and what `prunesweep.search(...)` calls: Python has one name for both."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """`prunesweep.api.search`."""
        return importlib.import_module("prunesweep.api").search(*arguments, **options)


sys.modules[__name__].__class__ = _Searches
