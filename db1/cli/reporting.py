"""The verb `db1 report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from db1.cli.options import from_dataclasses
from db1.cli.outputs import PAGE
from db1.options import option
from db1.ranges import Checked, NonNegative


@dataclass(frozen=True, kw_only=True)
class ReportOptions(Checked):
    """Options of the verb: what else is written, and from where."""

    html: Path | None = option(
        None, "Write one self-contained HTML page to this file.", writes=PAGE
    )
    latex: Path | None = option(None, "Write LaTeX tables to this file.", writes=(".tex",))
    run: Path | None = option(None, "Run folder, for its training curves, if it was moved.")
    film_megabytes: NonNegative = option(24.0, "Most megabytes of films in the page.")


@from_dataclasses
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Folder with results.json; further ones are compared with it."),
    ],
    wanted: ReportOptions,
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
        wanted.html,
        wanted.latex,
        others=folders[1:],
        run=wanted.run,
        film_megabytes=wanted.film_megabytes,
    )
    typer.echo(f"report: {path}")
    for what, target in (("page", wanted.html), ("tables", wanted.latex)):
        if target is not None:
            typer.echo(f"{what}: {target}")


VERBS = {"report": report}
