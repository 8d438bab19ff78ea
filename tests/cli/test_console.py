"""Names with brackets are printed as they are."""

from __future__ import annotations

import io

from rich.table import Column, Table

from db1.cli.console import Console
from db1.cli.progress import task_bars


def test_brackets_of_names_are_text() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80)
    table = Table(Column("pip install db1[atari]"))
    table.add_row("y[/b]")
    console.print("pip install 'db1[atari]'", table)
    with task_bars(console) as report:
        report("y[/b]", 1, 2)
    for text in ("'db1[atari]'", "pip install db1[atari]", "y[/b]"):
        assert text in out.getvalue()


def test_a_path_with_brackets_is_named_in_the_error(db1) -> None:
    status, _, err = db1("inspect", "y[/b]")
    assert status == 2 and "y[/b]: no such file or folder" in err
