"""torch, imported when something of it is first used.

It takes seconds, and what can be said without it is said before: settings out of bounds, and what a sweep is about to do.
Modules that only define methods and stages import it from here; a method of one's own may import it as usual.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch as torch
    from torch.nn import functional as F
else:

    class _Lazy:
        """Stands for a module until an attribute of it is asked for."""

        def __init__(self, name: str):
            self.__name__ = name

        def __getattr__(self, attribute: str) -> Any:
            return getattr(importlib.import_module(self.__name__), attribute)

    torch = _Lazy("torch")
    F = _Lazy("torch.nn.functional")

__all__ = ["F", "torch"]
