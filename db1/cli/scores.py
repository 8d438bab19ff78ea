"""Scores of an evaluation on the terminal: one line a task, and the table at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from db1.cli.console import Console
from db1.cli.layout import fit_names, name_width, narrow_table
from db1.metrics.summary import ShownMetric, shown_metrics
from db1.report.wording import count, duration, figure, figure_interval, number, percent

WIDE = 100
"""Characters from which on the table has room for intervals beside controls."""
LEAST_NAME = 20
"""Characters that names of tasks keep beside columns of metrics."""


def score_line(task: str, entry: Mapping[str, Any] | None, why: str | None) -> str:
    """One finished task: `tsp/uniform20  98.3 % (97.1 .. 99.2)  return -3.8  20 episodes, 12 s`."""
    if entry is None:
        return f"{task}  failed: {why}"
    mean = f"return {number(float(np.mean(entry['returns'])))}"
    work = f"{entry['episodes']} episodes"
    if entry.get("seconds"):
        work += f", {duration(entry['seconds'])}"
    if entry["normalised"] is None:
        return f"{task}  no reference  {mean}  {work}"
    return f"{task}  {percent(entry['normalised'])} ({_interval(entry)})  {mean}  {work}"


def print_scores(console: Console, results: Mapping[str, Any]) -> None:
    """The table of scores by task with a column for each control, and what was scored besides.

    Args:
        console: Where.
        results: results.json.
    """
    if results["tasks"]:
        _print_table(console, results)
    for line in (*_metric_lines(results), *_compared_lines(results), *other_lines(results)):
        console.print(line, soft_wrap=True, highlight=False)


def _print_table(console: Console, results: Mapping[str, Any]) -> None:
    metrics = shown_metrics(results)
    heads, rows, totals = _columns(results, metrics, console.width)
    if metrics and not _fits(heads, [*rows.values(), *totals.values()], console.width):
        heads, rows, totals = _columns(results, {}, console.width)
    every = [*rows.values(), *totals.values()]
    columns = [[head, *(row[i] for row in every)] for i, head in enumerate(heads)]
    table = narrow_table("task", *heads)
    width = name_width(console.width, columns)
    for name, cells in zip(fit_names(list(rows), width), rows.values(), strict=True):
        table.add_row(name, *cells)
    table.add_section()
    for name, cells in totals.items():
        table.add_row(name, *cells)
    console.print(table, highlight=False)


def _fits(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> bool:
    """Tells whether the columns leave room for names of tasks."""
    columns = [[head, *(row[i] for row in rows)] for i, head in enumerate(heads)]
    return name_width(width, columns, least=0) >= LEAST_NAME


def _columns(
    results: Mapping[str, Any], metrics: Mapping[str, ShownMetric], width: int
) -> tuple[list[str], dict[str, list[str]], dict[str, list[str]]]:
    """Heads, a row of cells for each task, and the rows of totals."""
    controls = results.get("controls") or {}
    titles = [metric.title for metric in metrics.values()]
    heads = ["score", "95 % interval", "return", *titles, *controls]
    rows = {
        task: _cells(task, entry, controls, metrics) for task, entry in results["tasks"].items()
    }
    totals = _totals(results, controls, len(metrics))
    if controls and width < WIDE:
        drop = heads.index("95 % interval")
        heads.pop(drop)
        rows, totals = (
            {name: [c for i, c in enumerate(cells) if i != drop] for name, cells in part.items()}
            for part in (rows, totals)
        )
    return heads, rows, totals


def _cells(
    task: str,
    entry: Mapping[str, Any],
    controls: Mapping[str, Any],
    metrics: Mapping[str, ShownMetric],
) -> list[str]:
    cells = [
        percent(entry["normalised"]),
        _interval(entry),
        number(float(np.mean(entry["returns"]))),
        *(
            figure(entry.get("metrics", {}).get(name), metric.is_share)
            for name, metric in metrics.items()
        ),
    ]
    for control in controls.values():
        other = control["tasks"].get(task)
        cells.append("failed" if task in control["failures"] else _score(other))
    return cells


def _totals(
    results: Mapping[str, Any], controls: Mapping[str, Any], num_metrics: int
) -> dict[str, list[str]]:
    summaries = [results["summary"], *(control["summary"] for control in controls.values())]
    if not results["summary"]["num_tasks"]:
        return {}
    counts = [f"{s.get('num_at_least_50', '-')} of {s['num_tasks']}" for s in summaries]
    means = [percent(s["mean_normalised"]) for s in summaries]
    blank = [""] * (2 + num_metrics)
    return {
        "50 % or more": [counts[0], *blank, *counts[1:]],
        "mean": [means[0], *blank, *means[1:]],
    }


def _score(entry: Mapping[str, Any] | None) -> str:
    return "-" if entry is None else percent(entry["normalised"])


def _interval(entry: Mapping[str, Any]) -> str:
    if entry["interval"] is None:
        return "-"
    low, high = entry["interval"]
    return f"{100 * low:.1f} .. {100 * high:.1f}"


def _metric_lines(results: Mapping[str, Any]) -> Iterator[str]:
    for metric in results["summary"].get("metrics", {}).values():
        value = figure(metric["value"], metric["is_share"])
        ends = figure_interval(metric["interval"], metric["is_share"])
        yield f"{metric['title']} over {count(metric['num_tasks'], 'task')}: {value} ({ends})"


def _compared_lines(results: Mapping[str, Any]) -> Iterator[str]:
    for name, control in (results.get("controls") or {}).items():
        counts = control["compared"]
        if total := sum(counts.values()):
            yield (
                f"against {name}: better on {counts['model']}, worse on {counts['control']}, "
                f"undecided on {counts['neither']} of {total} tasks"
            )


def other_lines(results: Mapping[str, Any]) -> Iterator[str]:
    """Held-out text, answers and captions, each beside what it takes to know nothing."""
    text = results.get("text")
    if text and "perplexity" in text:
        line = f"held-out text: perplexity {text['perplexity']:.1f}"
        if "ratio" in text and "unigram_perplexity" in text:
            line += f" (unigram model {text['unigram_perplexity']:.1f}, ratio {text['ratio']:.2f})"
        yield line
    for name, entry in (results.get("questions") or {}).items():
        yield (
            f"questions {name}: {entry['accuracy']:.1f} % right (most frequent answer of the type "
            f"{entry['baseline']['accuracy']:.1f} %, of the same question without its image "
            f"{entry['blind']['accuracy']:.1f} %)"
        )
    for name, entry in (results.get("captions") or {}).items():
        score, usual = (s.get("CIDEr-D") for s in (entry["scores"], entry["baseline"]["scores"]))
        if score is not None:
            always = "-" if usual is None else f"{usual:.2f}"
            yield f"captions {name}: CIDEr-D {score:.2f} (most frequent caption {always})"
