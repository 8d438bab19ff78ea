"""Verbs that read evaluations: `db1 report`, and `db1 compare` for two or published figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from db1.cli.console import Console
from db1.errors import ConfigError
from db1.runtime import atomic_write_text

_NAMES = {
    "share_at_least_50": "tasks at or above 50 %",
    "mean_normalised": "mean",
    "median_normalised": "median",
    "interquartile_mean": "interquartile mean",
}


def report(
    folders: Annotated[
        list[Path], typer.Argument(help="A folder with results.json; more to compare it with.")
    ],
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page here.")] = None,
    latex: Annotated[Path | None, typer.Option(help="Write LaTeX tables here.")] = None,
    run: Annotated[
        Path | None,
        typer.Option(help="The run, for its training curves, where it is not at its old place."),
    ] = None,
    film_megabytes: Annotated[
        float, typer.Option(help="The most megabytes of films in the page.", min=0)
    ] = 24.0,
) -> None:
    """Writes report.md and plots from an evaluation, and on demand a page and LaTeX tables.

    The page shows the films that `db1 record` made. Of several evaluations the first is reported,
    beside the others.

    Example: db1 report runs/db1_tiny/evaluation --html report.html

    Example: db1 report runs/big/evaluation runs/small/evaluation --html both.html --latex t.tex
    """
    from db1.report import write_report

    path = write_report(
        folders[0],
        html,
        latex,
        others=folders[1:],
        run=run,
        film_megabytes=film_megabytes,
    )
    typer.echo(f"report: {path}")
    for what, target in (("page", html), ("tables", latex)):
        if target is not None:
            typer.echo(f"{what}: {target}")


def compare(
    first: Annotated[Path, typer.Argument(help="Folder with results.json: A.")],
    second: Annotated[Path | None, typer.Argument(help="Another one: B.")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Next to Gato's, DB1's and JAT's figures.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures here.")
    ] = None,
) -> None:
    """Two evaluations side by side: which is better on which task, and how sure that is.

    Differences are B - A in normalised return, with 95 % bootstrap intervals and p-values of
    permutation tests; episodes of equal seeds are pairs, and the p-values of tasks are corrected
    for their number (Holm). A * marks differences at the 5 % level.

    Example: db1 compare runs/a/evaluation runs/b/evaluation

    Example: db1 compare runs/db1_tiny/evaluation runs/db1_tiny/retrieval --json compare.json

    Example: db1 compare runs/db1_tiny/evaluation --published
    """
    from db1.evaluation.results import read_results
    from db1.metrics.compare import compare_published, compare_results

    if second is None and not published:
        raise ConfigError("compare: name a second folder of results, or pass --published")
    console, content = Console(), {}
    a = read_results(first)
    if second is not None:
        content["a"], content["b"] = str(first), str(second)
        content |= compare_results(a, read_results(second))
        _print_comparison(console, content)
    if published:
        content["published"] = {"results": str(first), "figures": compare_published(a)}
        _print_published(console, content["published"]["figures"])
    if json_file is not None:
        atomic_write_text(json_file, json.dumps(content, indent=1) + "\n")
        console.print(f"figures: {json_file}", highlight=False)


def _print_comparison(console: Console, content: Mapping[str, Any]) -> None:
    table = _table("task", "A", "B", "B - A", "95 % interval", "p, corrected", "")
    for task, row in content["tasks"].items():
        low, high = row["interval"]
        mark = {"a": "A *", "b": "B *", None: ""}[row["better"]]
        table.add_row(
            task,
            *(f"{score:.3f}" for score in row["normalised"]),
            f"{row['difference']:+.3f}",
            f"{low:+.3f} .. {high:+.3f}",
            f"{row['p_corrected']:.3g}",
            mark,
        )
    console.print(table)
    console.print(f"A: {content['a']}\nB: {content['b']}", highlight=False)
    _print_overall(console, content["overall"])
    better = content["better"]
    console.print(
        f"A is better on {better['a']}, B on {better['b']}, neither on {better['neither']} tasks",
        highlight=False,
    )
    for key, where in (("only_a", "A"), ("only_b", "B")):
        if content[key]:
            console.print(f"only in {where}: {', '.join(content[key])}", highlight=False)
    for why in content["not_comparable"].values():
        console.print(f"left out: {why}", highlight=False)


def _print_overall(console: Console, overall: Mapping[str, Any]) -> None:
    table = _table(f"over {overall['num_tasks']} tasks", "A", "B", "B - A", "95 % interval")
    for name, row in overall["statistics"].items():
        low, high = row["interval"]
        table.add_row(
            _NAMES.get(name, name),
            f"{row['a']:.3f}",
            f"{row['b']:.3f}",
            f"{row['difference']:+.3f}",
            f"{low:+.3f} .. {high:+.3f}",
        )
    console.print(table)
    console.print(
        f"difference of the mean over tasks: p = {overall['p_value']:.3g}", highlight=False
    )


def _print_published(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        console.print("no task in common with what others published a figure of")
        return
    table = _table("agent", "what", "statistic", "published", "here", "95 % interval", "tasks")
    for row in rows:
        low, high = row["our_interval"]
        table.add_row(
            row["agent"],
            row["what"],
            _NAMES[row["statistic"]],
            f"{row['theirs']:.3f}",
            f"{row['ours']:.3f}",
            f"{low:.3f} .. {high:.3f}",
            f"{row['num_tasks']}" + (f" of {n}" if (n := row["their_num_tasks"]) else ""),
        )
    console.print(table)
    for row in rows:
        note = f" Not the same: {row['note']}." if row["note"] else ""
        console.print(f"{row['agent']}, {row['what']}: {row['source']}.{note}", highlight=False)


def _table(*columns: str) -> Table:
    table = Table(*columns)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


VERBS = {"report": report, "compare": compare}
