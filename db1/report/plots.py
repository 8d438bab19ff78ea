"""The two figures of a report, as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOUR = "#3465a4"
MAX_NAMED_TASKS = 120
"""Above this number of tasks the bars of the score plot carry no names."""


def threshold_plot(results: Mapping[str, Any]) -> bytes:
    """Number of tasks at or above each percentage of expert score (Gato's figure 5)."""
    from matplotlib.figure import Figure

    curve = results["summary"]["threshold_curve"]
    num_tasks = results["summary"]["num_tasks"]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.bar(curve["thresholds"], curve["num_tasks"], width=4, color=COLOUR)
    axes.axvline(50, color="0.4", linestyle="--", linewidth=1)
    axes.set_xlabel("at or above this percentage of expert score")
    axes.set_ylabel(f"tasks (of {num_tasks})")
    axes.set_xticks(range(0, 101, 10))
    axes.set_ylim(0, num_tasks * 1.05)
    axes.yaxis.get_major_locator().set_params(integer=True)
    return _png(figure)


def score_plot(results: Mapping[str, Any]) -> bytes:
    """Normalised score of each task that has a reference, with its 95 % interval, best first."""
    from matplotlib.figure import Figure

    scored = [(t, e) for t, e in results["tasks"].items() if e["normalised"] is not None]
    tasks = sorted(scored, key=lambda item: item[1]["normalised"])
    scores = [100 * entry["normalised"] for _, entry in tasks]
    low = [100 * (entry["normalised"] - entry["interval"][0]) for _, entry in tasks]
    high = [100 * (entry["interval"][1] - entry["normalised"]) for _, entry in tasks]
    named = len(tasks) <= MAX_NAMED_TASKS
    height = min(24.0, 1.2 + 0.22 * len(tasks)) if named else 16.0
    figure = Figure(figsize=(7, height), layout="constrained")
    axes = figure.subplots()
    rows = range(len(tasks))
    if named:
        errors = [[max(0.0, value) for value in side] for side in (low, high)]
        axes.barh(rows, scores, xerr=errors, color=COLOUR, ecolor="0.3", capsize=2)
    else:  # hundreds of bars as one collection of lines
        axes.hlines(rows, 0, scores, color=COLOUR, linewidth=1)
        ends = [entry["interval"] for _, entry in tasks]
        axes.hlines(
            rows,
            [100 * end[0] for end in ends],
            [100 * end[1] for end in ends],
            color="0.3",
            linewidth=0.4,
        )
    axes.set_yticks(range(len(tasks)) if named else [])
    if named:
        axes.set_yticklabels([task for task, _ in tasks], fontsize=7)
    for percentage in (0, 50, 100):
        axes.axvline(percentage, color="0.4", linestyle="--", linewidth=1)
    axes.margins(y=0.01)
    axes.set_xlabel("% of expert score (0: random, 100: expert)")
    return _png(figure)


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
