"""Figures where a notebook shows them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def shown(figure: Figure) -> Figure:
    """The figure, drawn by Jupyter at the end of a cell.

    Jupyter learns how from `%matplotlib` or from pyplot, which would keep every figure; what either has taught it stays.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None and not any(type(figure) in one.type_printers for one in shell.display_formatter.formatters.values()):
        from IPython.core.pylabtools import select_figure_formats

        select_figure_formats(shell, {"png"})
    return figure
