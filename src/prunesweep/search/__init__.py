"""Search: the space and its constraints, the Optuna study, costs known beforehand.  Hydra's side is the sweeper plugin.

`space` and `constraints` read what a user writes, `study` keeps the proposals in Optuna, `workers` tells the living from
the dead, `bounds` knows costs before anything runs, `loop` puts them together.
"""

import importlib
import inspect
import sys
from types import ModuleType
from typing import Any


class _Searches(ModuleType):
    """The package, and what `prunesweep.search(...)` calls: Python has one name for both."""

    @property
    def _called(self) -> Any:
        return importlib.import_module("prunesweep.api").search

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """`prunesweep.api.search`."""
        return self._called(*arguments, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._called)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return self._called.__doc__


sys.modules[__name__].__class__ = _Searches
