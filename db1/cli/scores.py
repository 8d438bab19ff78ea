"""Scores of an evaluation on the terminal: one line a task, and the table at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from db1.cli.console import Console
from db1.cli.layout import fit_names, name_width, narrow_table
from db1.report.wording import duration, number, percent

WIDE = 100
"""Characters from which on the table has room for intervals beside controls."""


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
    for line in (*_compared_lines(results), *other_lines(results)):
        console.print(line, soft_wrap=True, highlight=False)


def _print_table(console: Console, results: Mapping[str, Any]) -> None:
    tasks, controls = results["tasks"], results.get("controls") or {}
    heads = ["score", "95 % interval", "return", *controls]
    rows = {task: _cells(task, entry, controls) for task, entry in tasks.items()}
    totals = _totals(results, controls)
    if controls and console.width < WIDE:
        drop = heads.index("95 % interval")
        heads.pop(drop)
        rows, totals = (
            {name: [c for i, c in enumerate(cells) if i != drop] for name, cells in part.items()}
            for part in (rows, totals)
        )
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


def _cells(task: str, entry: Mapping[str, Any], controls: Mapping[str, Any]) -> list[str]:
    cells = [
        percent(entry["normalised"]),
        _interval(entry),
        number(float(np.mean(entry["returns"]))),
    ]
    for control in controls.values():
        other = control["tasks"].get(task)
        cells.append("failed" if task in control["failures"] else _score(other))
    return cells


def _totals(results: Mapping[str, Any], controls: Mapping[str, Any]) -> dict[str, list[str]]:
    summaries = [results["summary"], *(control["summary"] for control in controls.values())]
    if not results["summary"]["num_tasks"]:
        return {}
    counts = [f"{s.get('num_at_least_50', '-')} of {s['num_tasks']}" for s in summaries]
    means = [percent(s["mean_normalised"]) for s in summaries]
    return {
        "50 % or more": [counts[0], "", "", *counts[1:]],
        "mean": [means[0], "", "", *means[1:]],
    }


def _score(entry: Mapping[str, Any] | None) -> str:
    return "-" if entry is None else percent(entry["normalised"])


def _interval(entry: Mapping[str, Any]) -> str:
    if entry["interval"] is None:
        return "-"
    low, high = entry["interval"]
    return f"{100 * low:.1f} .. {100 * high:.1f}"


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
        yield (
            f"held-out text: perplexity {text['perplexity']:.1f} (unigram model "
            f"{text['unigram_perplexity']:.1f}, ratio {text['ratio']:.2f})"
        )
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
