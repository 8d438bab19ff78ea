"""Progress bars of the command line: one bar a task, drawn while the work goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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

PAIR_SETS = ("captions/", "questions/")
"""Prefixes of the names of image sets, whose end is not reported."""


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


class EvaluationBars:
    """One line a finished task, bars of those that are played, and one bar over all of them.

    Args:
        console: Where.
    """

    def __init__(self, console: Console) -> None:
        self._progress = _progress(console)
        self._whole: TaskID | None = None
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> EvaluationBars:
        self._progress.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._progress.stop()

    def plan(self, tasks: Sequence[str], rounds: int = 1) -> None:
        """Told once which tasks there are, and how often each is played (controls)."""
        self._whole = self._progress.add_task("tasks", total=len(tasks) * rounds)

    def report(self, name: str, done: int, total: int) -> None:
        """Told of finished episodes, and of a task's start with none; also of sets of images."""
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._bars[name], completed=done, total=total)
        if done >= total and name.startswith(PAIR_SETS):
            self._progress.remove_task(self._bars.pop(name))

    def finish(self, name: str, line: str) -> None:
        """Told that a task is finished or failed; prints `line` above the bars."""
        if name in self._bars:
            self._progress.remove_task(self._bars.pop(name))
        if self._whole is not None:
            self._progress.advance(self._whole)
        self._progress.console.print(line, soft_wrap=True, highlight=False)


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console)
