"""Shows how a training goes: a bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

logger = logging.getLogger(__name__)


class TrainingProgress:
    """A context manager that is told of every step.

    The time left is that of the steps to come at the mean pace since this process began, with its
    evaluations and checkpoints: it does not jump with the last few steps.

    Args:
        num_steps: Steps in all.
        first_step: Steps done before.
        visible: False shows nothing (other processes than the first).
    """

    def __init__(self, num_steps: int, first_step: int, *, visible: bool) -> None:
        self._num_steps, self._first_step = num_steps, first_step
        self._started = time.monotonic()
        self._visible = visible
        console = Console(stderr=True)
        self._bar = None
        if visible and console.is_terminal:
            self._bar = Progress(
                TextColumn("step"),
                MofNCompleteColumn(),
                BarColumn(),
                TextColumn("{task.fields[text]}"),
                TextColumn("{task.fields[left]}"),
                console=console,
            )
            self._task = self._bar.add_task(
                "", total=num_steps, completed=first_step, text="", left=""
            )

    def __enter__(self) -> TrainingProgress:
        self._started = time.monotonic()
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

    def report(self, step: int, loss: float, tokens_per_second: float) -> None:
        """Shows new numbers.

        Args:
            step: Optimizer steps done.
            loss: Mean loss since the last report.
            tokens_per_second: Over all processes.
        """
        text = f"loss {loss:.4f}  {tokens_per_second:,.0f} tokens/s"
        elapsed = time.monotonic() - self._started
        left = f"{clock(seconds_left(self._first_step, step, self._num_steps, elapsed))} left"
        if self._bar:
            self._bar.update(self._task, text=text, left=left)
        elif self._visible:
            logger.info("step %d/%d  %s  %s", step, self._num_steps, text, left)


def seconds_left(first_step: int, step: int, num_steps: int, elapsed: float) -> float:
    """Seconds until the last step at the mean pace so far.

    Args:
        first_step: Steps done before the clock started.
        step: Steps done now.
        num_steps: Steps in all.
        elapsed: Seconds on the clock.
    """
    return (num_steps - step) * elapsed / max(1, step - first_step)


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
