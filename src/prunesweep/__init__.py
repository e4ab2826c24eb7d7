"""Sweep, search and compare token reduction settings of video LLMs: accuracy against FLOPs, with error bars.

    import prunesweep as ps
    sweep = ps.evaluate("tiny", ps.load_benchmark("blocks", limit=200), ["none", "prunevid"])

Everything is in `prunesweep.api`, which is imported when something of it is first used.
"""

import sys
from typing import TYPE_CHECKING, Any

from prunesweep.targets import FormerModules

if TYPE_CHECKING:
    from prunesweep.api import evaluate as evaluate
    from prunesweep.api import prune as prune
    from prunesweep.api import read as read
    from prunesweep.api import search as search
    from prunesweep.api import tune as tune
    from prunesweep.choices import Choice as Choice
    from prunesweep.choices import grid as grid
    from prunesweep.choices import load_benchmark as load_benchmark
    from prunesweep.choices import load_model as load_model
    from prunesweep.choices import reducer as reducer
    from prunesweep.report.finished import Comparison as Comparison
    from prunesweep.report.finished import Front as Front
    from prunesweep.report.finished import Sweep as Sweep
    from prunesweep.use.tuning import Tuned as Tuned

    __version__: str

__all__ = [  # imported when asked for
    "Choice",
    "Comparison",
    "Front",
    "Sweep",
    "Tuned",
    "evaluate",
    "grid",
    "load_benchmark",
    "load_model",
    "prune",
    "read",
    "reducer",
    "search",
    "tune",
]

sys.meta_path.append(FormerModules())  # the last one: it finds only what is nowhere else


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    if name in __all__:
        import importlib

        if name == "search":  # a package, too, which can be called
            return importlib.import_module("prunesweep.search")
        return getattr(importlib.import_module("prunesweep.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    """What is meant to be used, imported or not."""
    return sorted({*__all__, "__version__", *(name for name in globals() if name.startswith("__"))})
