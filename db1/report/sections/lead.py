"""Headline numbers, right below the title."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from db1.metrics.episodes import METRICS
from db1.report.blocks import Block, Cell, Column, Shares, Table, Tile, Tiles
from db1.report.material import Material
from db1.report.wording import count, duration, figure, figure_interval, interval, percent

_STATISTICS = ("share_at_least_50", "interquartile_mean", "mean_normalised", "median_normalised")
_MEANINGS = {
    "retrieval": "the action of the nearest demonstrated step",
    "random": "uniformly random actions",
    "no-prompt": "the model without its prompt",
    "no-instruction": "the model that is not told what to do",
    "no-memory": "the model that sees the present step only",
    "random-weights": "the model untrained",
}
_SIDES = ("model", "control", "neither")
_EDGES = (0.0, 0.25, 0.5, 0.75, 1.0)
_NAMES = ("below random", "0 to 25 %", "25 to 50 %", "50 to 75 %", "75 to 100 %", "expert or more")


def lead(material: Material) -> tuple[Block, ...]:
    """The headline numbers and how the scores are spread."""
    results = material.results
    tiles = (*_score_tiles(results["summary"]), *_metric_tiles(results["summary"]))
    tiles += (*_text_tile(results.get("text")), _work(results))
    scores = [
        entry["normalised"]
        for entry in results["tasks"].values()
        if entry["normalised"] is not None
    ]
    if not scores:
        return (Tiles(tiles=tiles),)
    beside = _controls(material)
    counts = np.bincount(np.digitize(scores, _EDGES), minlength=len(_NAMES)).tolist()
    spread = Shares(
        title="Tasks by normalised score", parts=tuple(zip(_NAMES, counts, strict=True))
    )
    return Tiles(tiles=tiles), *beside, spread


def _controls(material: Material) -> tuple[Table, ...]:
    """The headline numbers of the model and of every control; no table without controls."""
    if not material.controls:
        return ()
    played = {"model": material.results, **material.controls}
    rows = tuple(_control_row(name, results) for name, results in played.items())
    table = Table(
        name="controls",
        caption="Beside controls on the same tasks and seeds: "
        + "; ".join(f"{name}: {_MEANINGS.get(name, name)}" for name in material.controls),
        columns=(
            Column(title="who acts", is_text=True, is_main=True),
            Column(title="tasks at least 50 %", is_main=True),
            Column(title="mean score", is_main=True),
            Column(title="interquartile mean"),
            Column(title="model better on"),
            Column(title="worse on"),
            Column(title="undecided on"),
        ),
        rows=rows,
    )
    return (table,)


def _control_row(name: str, results: Mapping[str, Any]) -> tuple[Cell, ...]:
    summary, compared = results["summary"], results.get("compared")
    counts = [compared[key] for key in _SIDES] if compared else [None] * len(_SIDES)
    return (
        Cell(text=name, key=name),
        Cell(text=f"{summary['num_at_least_50']} of {summary['num_tasks']}"),
        *(
            Cell(text=percent(summary[key]), key=summary[key])
            for key in ("mean_normalised", "interquartile_mean")
        ),
        *(Cell(text="-" if count is None else str(count), key=count) for count in counts),
    )


def _score_tiles(summary: Mapping[str, Any]) -> tuple[Tile, ...]:
    if not summary["num_tasks"]:
        return ()
    return tuple(
        Tile(
            label=METRICS[key].title,
            value=percent(summary[key]),
            note=f"95 %: {interval(summary['intervals'][key])}",
        )
        for key in _STATISTICS
    )


def _metric_tiles(summary: Mapping[str, Any]) -> tuple[Tile, ...]:
    return tuple(
        Tile(
            label=metric["title"],
            value=figure(metric["value"], metric["is_share"]),
            note=f"{count(metric['num_tasks'], 'task')}, 95 %: "
            + figure_interval(metric["interval"], metric["is_share"]),
        )
        for metric in summary.get("metrics", {}).values()
    )


def _text_tile(text: Mapping[str, Any] | None) -> tuple[Tile, ...]:
    if not text or "perplexity" not in text:
        return ()
    note = ""
    if "ratio" in text and "unigram_perplexity" in text:
        note = f"unigram {text['unigram_perplexity']:.1f}, ratio {text['ratio']:.2f}"
    return (
        Tile(label="perplexity of held-out text", value=f"{text['perplexity']:.1f}", note=note),
    )


def _work(results: Mapping[str, Any]) -> Tile:
    tasks = results["tasks"]
    suites = {task.split("/")[0] for task in tasks}
    episodes = sum(entry["episodes"] for entry in tasks.values())
    seconds = sum(entry.get("seconds") or 0 for entry in tasks.values())
    note = f"{count(len(suites), 'suite')}, {count(episodes, 'episode')}"
    if seconds:
        note += f", {duration(seconds)} of task time"
    return Tile(label="evaluated", value=count(len(tasks), "task"), note=note)
