"""Training curves of a tiny model, from the `accuracies.jsonl` that training writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunesweep.report.style import COLOURS, PAGE, canvas, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMOOTHED = 5
"""Points of 50 steps that are averaged."""


def read_curves(path: Path) -> dict[tuple[int, str], tuple[list[int], list[float]]]:
    """Steps and accuracies by number of frames and family; of steps that were run again after a kill, the last run counts."""
    points: list[dict[str, Any]] = []
    for point in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        points = [earlier for earlier in points if earlier["step"] < point["step"]] + [point]
    curves: dict[tuple[int, str], tuple[list[int], list[float]]] = {}
    for point in points:
        for key, value in point.items():
            if key.startswith("train_accuracy/"):
                _, frames, task = key.split("/")
                steps, values = curves.setdefault((int(frames.removesuffix("f")), task), ([], []))
                steps.append(point["step"])
                values.append(value)
    return curves


@styled
def curves_figure(path: Path) -> Figure:
    """One panel per family: share of right free-form answers on training batches, one line per number of frames."""
    curves = read_curves(path)
    lengths = sorted({frames for frames, _ in curves})
    tasks = sorted({task for _, task in curves})
    figure, panels = canvas(PAGE, 3, 2, max(1, -(-len(tasks) // 2)), sharex=True, sharey=True)
    for axes, task in zip(panels, tasks, strict=False):
        for frames, colour in zip(lengths, COLOURS, strict=False):
            steps, values = curves.get((frames, task), ([], []))
            smooth = [sum(part := values[max(0, i + 1 - SMOOTHED) : i + 1]) / len(part) for i in range(len(values))]
            axes.plot(steps, smooth, color=colour, label=f"{frames} frame{'s' if frames > 1 else ''}")
        axes.set_title(task.replace("_", " "))
        axes.set_ylim(0, 1.03)
    figure.axes[-1].legend(loc="lower right")
    figure.supxlabel("training step", fontsize=7)
    figure.supylabel("accuracy on training batches", fontsize=7)
    return figure
