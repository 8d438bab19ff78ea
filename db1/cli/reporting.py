"""The verb `db1 report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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


VERBS = {"report": report}
