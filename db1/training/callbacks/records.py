"""Tells how a training goes: gathers what the processes saw and writes it from the first one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from db1.errors import DataError
from db1.metrics_log import MetricsWriter
from db1.training.callbacks.protocol import StepOutcome, TrainingCallback
from db1.training.metrics.context import MetricsContext
from db1.training.metrics.progress import TrainingProgress
from db1.training.metrics.records import Window, train_record
from db1.training.metrics.trackers import make_trackers
from db1.training.schedule import learning_rate_at
from db1.training.sizing.hardware import peak_flops, peak_memory

logger = logging.getLogger(__name__)


class Records(TrainingCallback):
    """Writes the records of a run, and shows its progress.

    Args:
        context: Groups of datasets, operations a token.
    """

    _metrics: MetricsWriter | None = None
    _progress: TrainingProgress | None = None

    def __init__(self, context: MetricsContext) -> None:
        self._context = context
        self._window = Window()

    def opened(self) -> None:
        """Opens metrics.jsonl and the trackers in the first process."""
        run, training = self.run, self.run.training
        is_first = run.processes.rank == 0
        device = run.processes.device
        self._peak = training.watch.peak_flops or peak_flops(device, training.precision)
        if is_first:
            trackers = make_trackers(training.watch, run.folder, run.config, run.start)
            self._metrics = MetricsWriter(run.folder, run.start, trackers)
        run.record = self.write
        self._progress = TrainingProgress(training.num_steps, run.start, visible=is_first)
        self._progress.__enter__()

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Writes a record, from the first process.

        Raises:
            DataError: The disk does not take it.
        """
        if not self._metrics:
            return
        try:
            self._metrics.write(kind, step, values)
        except OSError as error:
            raise DataError(
                f"{self.run.folder}: records cannot be written: {error}; make room there and run "
                "the same command again"
            ) from error

    def after_step(self, outcome: StepOutcome) -> None:
        """Enters this process's part; writes the record `train` of all steps since the last."""
        self._window.add(outcome.tally, outcome.norm, outcome.seconds, outcome.wait_seconds)
        assert self._progress is not None
        self._progress.step(outcome.done)
        if outcome.is_last or outcome.is_due(self.run.training.log_every):
            self.run.doing(f"step {outcome.done}: writing records")
            self._log(outcome.done, self._progress)

    def _log(self, step: int, progress: TrainingProgress) -> None:
        run = self.run
        told = run.processes.gather((self._window, peak_memory(run.processes.device)))
        self._window = Window()
        windows, memories = zip(*told, strict=True)
        record = train_record(
            windows,
            group_of=self._context.group_of,
            learning_rate=learning_rate_at(step - 1, run.training),
            peak_memory=max(memories),
            flops=self._context.flops,
            peak_flops=self._peak,
        )
        self.write("train", step, record)
        progress.report(step, record["loss"], record["tokens_per_second"])

    def close(self, *, ended: bool) -> None:
        """Closes all files."""
        if self._progress:
            self._progress.__exit__(None, None, None)
        if self._metrics:
            try:
                self._metrics.close()
            except OSError as error:
                logger.error("%s: records cannot be written: %s", self.run.folder, error)
