"""results.json -> report.md with plots, and one self-contained HTML page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from db1.evaluation.page import html_page
from db1.evaluation.plots import score_plot, threshold_plot
from db1.evaluation.references import STORE
from db1.evaluation.results import read_results
from db1.runtime import atomic_write_bytes, atomic_write_text

REPORT_FILE = "report.md"
THRESHOLD_PLOT = "threshold_curve.png"
SCORE_PLOT = "normalised_scores.png"


def write_report(folder: Path, html: Path | None = None) -> Path:
    """Writes report.md and its plots beside results.json, and the HTML page if asked for.

    Args:
        folder: Folder of results.json.
        html: Where the self-contained page goes; None: no page.

    Returns:
        The path of report.md.

    Raises:
        DataError: Without results.
    """
    results = read_results(folder)
    folder = folder if folder.is_dir() else folder.parent
    plots: dict[str, bytes] = {}
    if results["summary"]["num_tasks"]:
        plots = {THRESHOLD_PLOT: threshold_plot(results), SCORE_PLOT: score_plot(results)}
    for name, png in plots.items():
        atomic_write_bytes(folder / name, png)
    path = folder / REPORT_FILE
    atomic_write_text(path, markdown(results, tuple(plots)))
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        page = html_page(headline(results), task_rows(results), facts(results), plots)
        atomic_write_text(html, page)
    return path


def headline(results: Mapping[str, Any]) -> str:
    """`7 of 8 tasks at or above 50 % of expert`, and how many more have no score or failed."""
    summary, failed = results["summary"], len(results["failures"])
    raw = len(results["tasks"]) - summary["num_tasks"]
    noun = "task" if summary["num_tasks"] == 1 else "tasks"
    return (
        f"{summary['num_at_least_50']} of {summary['num_tasks']} {noun} "
        f"at or above 50 % of expert{f'; {raw} more without a reference' if raw else ''}"
        f"{f'; {failed} more failed' if failed else ''}"
    )


def facts(results: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The small tables of a report by title: summary, text, settings, provenance."""
    checkpoint = results["provenance"]["checkpoint"] or {}
    provenance = {
        "run": checkpoint.get("run", "-"),
        "checkpoint": checkpoint.get("tag") or "-",
        "weights sha256": checkpoint.get("sha256") or "-",
        **results["provenance"]["versions"],
        "command": " ".join(results["provenance"]["command"]),
    }
    groups = {
        "Summary": _summary_facts(results["summary"]),
        "Text": _text_facts(results["text"]),
        "Settings": {key: _plain(value) for key, value in results["settings"].items()},
        "Provenance": {key: str(value) for key, value in provenance.items()},
        "Failed tasks": dict(results["failures"]),
        "References": _reference_facts(results["tasks"]),
        "References of another environment version": dict(results["version_mismatches"]),
        "No reference": dict(results.get("missing_references", {})),
    }
    return {title: group for title, group in groups.items() if group}


def task_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a task, sorted by id.

    `success` is None where the task has no such notion; random, expert, normalised, low and high
    are None where it has no reference.
    """
    rows = []
    for task, entry in sorted(results["tasks"].items()):
        known = [success for success in entry["successes"] if success is not None]
        rows.append(
            {
                "task": task,
                "random": entry["random"],
                "expert": entry["expert"],
                "mean": sum(entry["returns"]) / len(entry["returns"]),
                "normalised": entry["normalised"],
                "low": entry["interval"][0] if entry["interval"] else None,
                "high": entry["interval"][1] if entry["interval"] else None,
                "success": sum(known) / len(known) if known else None,
                "episodes": entry["episodes"],
            }
        )
    return rows


def markdown(results: Mapping[str, Any], plots: tuple[str, ...] = ()) -> str:
    """The text of report.md."""
    lines = [f"# {headline(results)}", ""]
    rows = task_rows(results)
    if rows:
        lines += [
            "| task | random | expert | mean return | normalised (95 % interval) | success | "
            "episodes |",
            "|---|--:|--:|--:|--:|--:|--:|",
        ]
    for row in rows:
        success = "-" if row["success"] is None else percent(row["success"])
        lines.append(
            f"| {row['task']} | {number(row['random'])} | {number(row['expert'])} | "
            f"{number(row['mean'])} | {_score(row)} | {success} | {row['episodes']} |"
        )
    lines += [""] + [f"![{name.removesuffix('.png')}]({name})\n" for name in plots]
    for title, group in facts(results).items():
        lines += [f"## {title}", ""]
        lines += [f"- {key}: {value}" for key, value in group.items()] + [""]
    return "\n".join(lines)


def percent(value: float) -> str:
    """0.5 -> `50.0 %`."""
    return f"{100 * value:.1f} %"


def number(value: float | None) -> str:
    """Four digits; `-` where there is none."""
    return "-" if value is None else f"{value:.4g}"


def _score(row: Mapping[str, Any]) -> str:
    if row["normalised"] is None:
        return "no reference"
    return f"{percent(row['normalised'])} ({percent(row['low'])} .. {percent(row['high'])})"


def _reference_facts(tasks: Mapping[str, Any]) -> dict[str, str]:
    """How many tasks were normalised by which kind of reference."""
    counts = Counter(
        entry["reference"].get("name", STORE)
        for entry in tasks.values()
        if entry["reference"] is not None
    )
    return {name: f"{count} tasks" for name, count in sorted(counts.items())}


def _summary_facts(summary: Mapping[str, Any]) -> dict[str, str]:
    if not summary["num_tasks"]:
        return {}
    names = {
        "share_at_least_50": "tasks at or above 50 % of expert",
        "mean_normalised": "mean normalised score",
        "median_normalised": "median normalised score",
        "interquartile_mean": "interquartile mean",
    }
    rows = {}
    for key, name in names.items():
        low, high = summary["intervals"][key]
        rows[name] = f"{percent(summary[key])} ({percent(low)} .. {percent(high)})"
    for suite, group in summary["by_suite"].items():
        rows[suite] = (
            f"{group['num_at_least_50']} of {group['num_tasks']} at or above 50 %, "
            f"mean {percent(group['mean_normalised'])}"
        )
    return rows


def _text_facts(text: Mapping[str, Any] | None) -> dict[str, str]:
    if text is None:
        return {}
    groups = dict(text["corpora"])
    if len(groups) > 1:
        groups["all corpora"] = text
    return {
        name: (
            f"perplexity {entry['perplexity']:.2f}, unigram {entry['unigram_perplexity']:.2f}, "
            f"ratio {entry['ratio']:.3f}, {entry['bits_per_byte']:.3f} bits per byte, "
            f"{entry['num_tokens']} tokens"
        )
        for name, entry in groups.items()
    }


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)
