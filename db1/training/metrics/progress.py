"""Shows how a training goes: a bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

logger = logging.getLogger(__name__)


class TrainingProgress:
    """A context manager that is told of every step.

    Args:
        num_steps: Steps in all.
        first_step: Steps done before.
        visible: False shows nothing (other processes than the first).
    """

    def __init__(self, num_steps: int, first_step: int, *, visible: bool) -> None:
        self._num_steps = num_steps
        self._visible = visible
        console = Console(stderr=True)
        self._bar = None
        if visible and console.is_terminal:
            self._bar = Progress(
                TextColumn("step"),
                MofNCompleteColumn(),
                BarColumn(),
                TextColumn("{task.fields[text]}"),
                TimeRemainingColumn(),
                console=console,
            )
            self._task = self._bar.add_task("", total=num_steps, completed=first_step, text="")

    def __enter__(self) -> TrainingProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def step(self, step: int) -> None:
        """One more optimizer step is done."""
        if self._bar:
            self._bar.update(self._task, completed=step)

    def report(self, step: int, loss: float, tokens_per_second: float, seconds: float) -> None:
        """Shows new numbers.

        Args:
            step: Optimizer steps done.
            loss: Mean loss since the last report.
            tokens_per_second: Over all processes.
            seconds: Mean time of a step.
        """
        text = f"loss {loss:.4f}  {tokens_per_second:,.0f} tokens/s"
        if self._bar:
            self._bar.update(self._task, text=text)
        elif self._visible:
            left = clock((self._num_steps - step) * seconds)
            logger.info("step %d/%d  %s  %s left", step, self._num_steps, text, left)


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
