"""The figure of `db1 bench few-shot`, as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

COLOURS = {"pretrained": "#3465a4", "scratch": "#888a85", "lora": "#c17d11"}
LABELS = {"pretrained": "pre-trained", "scratch": "from scratch", "lora": "pre-trained, LoRA"}
SPREAD = 0.03
"""Places the seeds of neighbouring starts side by side, as a share of the number of episodes."""


def curve_plot(results: Mapping[str, Any]) -> bytes:
    """Score by number of episodes: means with their intervals, and every seed as a dot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    starts = list(dict.fromkeys(entry["start"] for entry in results["curve"]))
    for place, start in enumerate(starts):
        factor = 1 + SPREAD * (place - (len(starts) - 1) / 2)
        rows = sorted(
            (row for row in results["curve"] if row["start"] == start),
            key=lambda row: row["episodes"],
        )
        x = [row["episodes"] * factor for row in rows]
        y = [row["score"]["mean"] for row in rows]
        errors = [_half(row["score"]) for row in rows]
        style = {"color": COLOURS[start], "marker": "o", "capsize": 3, "label": LABELS[start]}
        axes.errorbar(x, y, yerr=errors, **style)
        dots = [point for point in results["points"] if point["start"] == start]
        axes.scatter(
            [point["episodes"] * factor for point in dots],
            [point["score"] for point in dots],
            s=9,
            alpha=0.5,
            color=COLOURS[start],
        )
    numbers = sorted({row["episodes"] for row in results["curve"]})
    axes.set_xscale("log")
    axes.set_xticks(numbers, [str(number) for number in numbers])
    axes.minorticks_off()
    axes.set_xlim(numbers[0] / 1.6, numbers[-1] * 1.6)
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.axhline(1, color="0.6", linewidth=0.8, linestyle="--")
    axes.set_xlabel("demonstrations of the new task")
    axes.set_ylabel("score (0 random, 1 expert)")
    axes.legend(frameon=False)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _half(value: Mapping[str, Any]) -> float:
    return 0.0 if value["interval"] is None else value["interval"][1] - value["mean"]
