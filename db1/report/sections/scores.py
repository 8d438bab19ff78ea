"""The scores over all tasks, and suite by suite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from db1.metrics.seen import summarise_seen
from db1.report.blocks import (
    Bar,
    Block,
    Cell,
    Chart,
    Column,
    Line,
    Prose,
    Section,
    Strip,
    Strips,
    Table,
)
from db1.report.material import Material
from db1.report.wording import figure, interval, percent

MAX_LINES = 6
"""Evaluations in one chart."""


def threshold(material: Material) -> Section | None:
    """Number of tasks at or above each percentage of expert score (Gato's figure 5)."""
    summary = material.results["summary"]
    total = summary["num_tasks"]
    if not total:
        return None
    everything = (material, *material.others)
    scored = [each for each in everything if each.results["summary"]["num_tasks"]]
    names = [each.name for each in scored]
    curves = [
        (name if names.count(name) == 1 else f"{name} ({each.folder.name})", each.results)
        for name, each in zip(names, scored, strict=True)
    ]
    curves += [c for c in material.controls.items() if c[1]["summary"]["num_tasks"]]
    lines = tuple(
        Line(name=name, points=_curve(results), is_stepped=True)
        for name, results in curves[:MAX_LINES]
    )
    curve = dict(lines[0].points)
    words = ", ".join(f"{curve[at]:g} at {at:g} %" for at in (25, 50, 75, 100) if at in curve)
    chart = Chart(
        title="Tasks at or above a percentage of expert score",
        summary=f"Of {total} tasks: {words}.",
        x_title="% of expert score (0: random actions, 100: expert)",
        y_title=f"tasks (of {total})",
        lines=lines,
        x_marks=(50.0,),
        y_top=float(max(each.results["summary"]["num_tasks"] for each in scored)),
        y_whole=True,
        x_unit=" %",
    )
    return Section(name="threshold", title="Threshold curve", blocks=(chart,))


def suites(material: Material) -> Section | None:
    """A bar and a dot for each task, suite by suite, and the same as a table."""
    results = material.results
    groups = results["summary"]["by_suite"]
    if not groups:
        return None
    ordered = sorted(groups, key=lambda name: -groups[name]["mean_normalised"])
    strips = Strips(
        title="Mean normalised score of each suite; every dot is a task",
        rows=tuple(_strip(name, groups[name], results["tasks"]) for name in ordered),
    )
    metrics = results["summary"].get("metrics", {})
    table = Table(
        name="suites",
        caption="Normalised scores by suite",
        columns=_columns("suite", material.controls, metrics),
        rows=tuple(_suite_row(name, groups[name], material.controls, metrics) for name in ordered),
    )
    explained = Prose(
        text="A score is (mean return - random) / (expert - random): 0 % is uniform random, 100 % "
        "the expert. Intervals are 95 % bootstrap over episodes."
    )
    return Section(
        name="suites", title="Suites", blocks=(explained, strips, table, *_seen(results))
    )


def _seen(results: Mapping[str, Any]) -> tuple[Block, ...]:
    """The tasks that were learned beside those that were not; nothing where all were."""
    groups = summarise_seen(results)
    if not groups:
        return ()
    metrics = results["summary"].get("metrics", {})
    table = Table(
        name="seen",
        caption="Seen and unseen tasks",
        columns=_columns("tasks of", {}, metrics),
        rows=tuple(_suite_row(name, group, {}, metrics) for name, group in groups.items()),
    )
    told = "Seen tasks are those that the model learned, unseen ones those that it did not."
    return Prose(text=told), table


def _columns(
    first: str, controls: Mapping[str, Any], metrics: Mapping[str, Any]
) -> tuple[Column, ...]:
    return (
        Column(title=first, is_text=True, is_main=True),
        Column(title="tasks"),
        Column(title="at least 50 %"),
        Column(title="mean", is_main=True),
        Column(title="95 % interval"),
        *(Column(title=name) for name in controls),
        Column(title="median"),
        Column(title="interquartile mean"),
        *(Column(title=metric["title"]) for metric in metrics.values()),
    )


def _curve(results: Mapping[str, Any]) -> tuple[tuple[float, float], ...]:
    """(percentage, number of tasks at or above it), percent by percent."""
    scores = [entry["normalised"] for entry in results["tasks"].values()]
    known = np.array([score for score in scores if score is not None])
    return tuple((float(at), float((known >= at / 100).sum())) for at in range(101))


def _strip(name: str, group: Mapping[str, Any], tasks: Mapping[str, Any]) -> Strip:
    scores = {
        task.split("/", 1)[1]: entry["normalised"]
        for task, entry in tasks.items()
        if task.split("/", 1)[0] == name and entry["normalised"] is not None
    }
    low, high = group["intervals"]["mean_normalised"]
    return Strip(
        name=name,
        note=f"{group['num_at_least_50']} of {group['num_tasks']} at or above 50 %",
        mean=Bar(value=group["mean_normalised"], low=low, high=high),
        dots=tuple((f"{task}: {percent(score)}", score) for task, score in scores.items()),
    )


def _suite_row(
    name: str, group: Mapping[str, Any], controls: Mapping[str, Any], metrics: Mapping[str, Any]
) -> tuple[Cell, ...]:
    low, high = group["intervals"]["mean_normalised"]
    at_least = f"{group['num_at_least_50']} ({percent(group['share_at_least_50'])})"
    return (
        Cell(text=name, key=name),
        Cell(text=str(group["num_tasks"]), key=group["num_tasks"]),
        Cell(text=at_least, key=group["share_at_least_50"]),
        Cell(text=percent(group["mean_normalised"]), key=group["mean_normalised"]),
        Cell(text=interval((low, high)), key=low),
        *(_mean_cell(control["summary"]["by_suite"].get(name)) for control in controls.values()),
        Cell(text=percent(group["median_normalised"]), key=group["median_normalised"]),
        Cell(text=percent(group["interquartile_mean"]), key=group["interquartile_mean"]),
        *(_metric_cell(group.get("metrics", {}).get(metric)) for metric in metrics),
    )


def _metric_cell(metric: Mapping[str, Any] | None) -> Cell:
    if metric is None:
        return Cell(text="-")
    return Cell(text=figure(metric["value"], metric["is_share"]), key=metric["value"])


def _mean_cell(group: Mapping[str, Any] | None) -> Cell:
    mean = None if group is None else group["mean_normalised"]
    return Cell(text=percent(mean), key=mean)
