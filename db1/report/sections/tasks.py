"""One row a task: the table that is sorted and searched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from db1.metrics.summary import ShownMetric, shown_metrics
from db1.report.blocks import LEVELS, Bar, Cell, Column, Section, Table
from db1.report.material import Material
from db1.report.wording import figure, interval, number, percent

_FIRST = (
    Column(title="task", is_text=True, is_main=True),
    Column(title="score", is_main=True),
    Column(title="95 % interval"),
)
_RETURNS = (
    Column(title="mean return"),
    Column(title="random return"),
    Column(title="expert return"),
)
_COUNTS = (
    Column(title="steps", is_minor=True),
    Column(title="episodes", is_minor=True),
)


def tasks(material: Material) -> Section | None:
    """All evaluated tasks."""
    entries = material.results["tasks"]
    if not entries:
        return None
    names, controls = sorted(entries), material.controls
    metrics = shown_metrics(material.results)
    table = Table(
        name="tasks",
        caption=f"Every task: normalised score with its 95 % interval,{_beside(controls)} and raw "
        "returns",
        columns=(
            *_FIRST,
            *(Column(title=name) for name in controls),
            *_RETURNS,
            *(Column(title=metric.title) for metric in metrics.values()),
            *_COUNTS,
        ),
        rows=tuple(
            _row(task, entries[task], task in material.recordings, controls, metrics)
            for task in names
        ),
        groups=tuple(task.split("/")[0] for task in names),
        levels=tuple(level(entries[task]["normalised"]) for task in names),
        is_searchable=True,
    )
    return Section(name="tasks", title="Tasks", blocks=(table,))


def level(score: float | None) -> str:
    """The one of LEVELS that a score is in."""
    if score is None:
        return LEVELS[2]
    return LEVELS[0] if score >= 0.5 else LEVELS[1]


def anchor(task: str) -> str:
    """The anchor of a task's films."""
    return "films-" + "".join(c if c.isalnum() else "-" for c in task)


def _beside(controls: Mapping[str, Any]) -> str:
    return f" the scores of the controls ({', '.join(controls)})" if controls else ""


def _control_cell(task: str, control: Mapping[str, Any]) -> Cell:
    if task in control["failures"]:
        return Cell(text="failed")
    score = control["tasks"].get(task, {}).get("normalised")
    return Cell(text=percent(score), key=score)


def _metric_cell(entry: Mapping[str, Any], name: str, metric: ShownMetric) -> Cell:
    value = entry.get("metrics", {}).get(name)
    return Cell(text=figure(value, metric.is_share), key=value)


def _row(
    task: str,
    entry: Mapping[str, Any],
    is_filmed: bool,
    controls: Mapping[str, Any],
    metrics: Mapping[str, ShownMetric],
) -> tuple[Cell, ...]:
    returns, score = entry["returns"], entry["normalised"]
    mean = float(np.mean(returns))
    ends = entry["interval"]
    steps = float(np.mean(entry["lengths"]))
    bar = None if score is None else Bar(value=score, low=ends[0], high=ends[1])
    score_text = "no reference" if score is None else percent(score)
    return (
        Cell(text=task, key=task, link=anchor(task) if is_filmed else None),
        Cell(text=score_text, key=score, bar=bar),
        Cell(text=interval(ends), key=None if ends is None else ends[0]),
        *(_control_cell(task, control) for control in controls.values()),
        Cell(text=number(mean), key=mean),
        Cell(text=number(entry["random"]), key=entry["random"]),
        Cell(text=number(entry["expert"]), key=entry["expert"]),
        *(_metric_cell(entry, name, metric) for name, metric in metrics.items()),
        Cell(text=f"{steps:.0f}", key=steps),
        Cell(text=str(entry["episodes"]), key=entry["episodes"]),
    )
