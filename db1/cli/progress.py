"""Progress bars of the command line: one bar a task, drawn while the work goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from db1.cli.console import Console


@contextmanager
def task_bars(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Yields `report(name, done, total)`; a bar appears with the first report of its name."""
    with _progress(console) as progress:
        bars: dict[str, TaskID] = {}

        def report(name: str, done: int, total: int) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name, total=total)
            progress.update(bars[name], completed=done, total=total)

        yield report


@contextmanager
def running_bars(console: Console, total: int) -> Iterator[Callable[[str, int, int], None]]:
    """Yields `report(name, done, total)` for very many tasks.

    One bar counts the finished ones, and each task has its own bar only while it runs.
    """
    with _progress(console) as progress:
        whole = progress.add_task("tasks", total=total)
        bars: dict[str, TaskID] = {}
        finished: set[str] = set()

        def report(name: str, done: int, total: int) -> None:
            if name not in bars and name not in finished:
                bars[name] = progress.add_task(name, total=total)
            if name in bars:
                progress.update(bars[name], completed=done, total=total)
            if done >= total and name not in finished:
                progress.remove_task(bars.pop(name))
                finished.add(name)
                progress.update(whole, completed=len(finished))

        yield report


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console)
