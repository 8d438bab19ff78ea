"""Tells how a training goes: gathers what the processes saw and writes it from the first one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from db1.errors import DataError
from db1.runtime import MetricsWriter
from db1.training.callbacks.rollouts import EVENT as ROLLOUTS
from db1.training.callbacks.rollouts import RolloutMonitor
from db1.training.config import TrainingConfig
from db1.training.metrics.context import Watch
from db1.training.metrics.progress import TrainingProgress
from db1.training.metrics.records import Window, evaluation_record, train_record
from db1.training.metrics.tally import Tally
from db1.training.metrics.trackers import make_trackers
from db1.training.processes import Processes
from db1.training.schedule import learning_rate_at
from db1.training.sizing.hardware import peak_flops, peak_memory

logger = logging.getLogger(__name__)


class Reporter:
    """Writes the records of a run; every process has one.

    Args:
        watch: Groups of datasets, operations a token.
        training: Settings.
        processes: This process and the others.
        run_folder: The run.
        config: Its resolved configuration.
        after_step: Step that the run starts or resumes from.
    """

    def __init__(
        self,
        watch: Watch,
        training: TrainingConfig,
        processes: Processes,
        run_folder: Path,
        config: Mapping[str, Any],
        after_step: int,
    ) -> None:
        self._watch, self._training, self._processes = watch, training, processes
        self._peak = training.watch.peak_flops or peak_flops(processes.device, training.precision)
        self._run_folder = run_folder
        self._window = Window()
        self._metrics: MetricsWriter | None = None
        self._rollouts: RolloutMonitor | None = None
        if processes.rank == 0:
            trackers = make_trackers(training.watch, run_folder, config, after_step)
            self._metrics = MetricsWriter(run_folder, after_step, trackers)
            self._rollouts = RolloutMonitor(
                training.rollouts,
                run_folder,
                config,
                lambda step, values: self.event(ROLLOUTS, step, values),
            )
            if after_step:
                self._rollouts.offer(after_step)

    def event(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Writes a record of another kind, from the first process."""
        if not self._metrics:
            return
        try:
            self._metrics.write(kind, step, values)
        except OSError as error:
            raise DataError(
                f"{self._run_folder}: records cannot be written: {error}; make room there and run "
                "the same command again"
            ) from error

    def step(self, tally: Tally, norm: float, seconds: float, wait_seconds: float) -> None:
        """Enters this process's part of an optimizer step."""
        self._window.add(tally, norm, seconds, wait_seconds)
        if self._rollouts:
            self._rollouts.look()

    def log(self, step: int, progress: TrainingProgress) -> None:
        """Writes the record `train` of all steps since the last; all processes call it."""
        told = self._processes.gather((self._window, peak_memory(self._processes.device)))
        self._window = Window()
        windows, memories = zip(*told, strict=True)
        record = train_record(
            windows,
            group_of=self._watch.group_of,
            learning_rate=learning_rate_at(step - 1, self._training),
            peak_memory=max(memories),
            flops=self._watch.flops,
            peak_flops=self._peak,
        )
        self.event("train", step, record)
        progress.report(step, record["loss"], record["tokens_per_second"])

    def evaluation(self, step: int, tallies: Mapping[str, Tally]) -> None:
        """Writes the record `evaluation`.

        Args:
            step: Optimizer steps done.
            tallies: Of each fixed set, over all processes.
        """
        record = evaluation_record(tallies, self._watch.group_of)
        self.event("evaluation", step, record)
        logger.info("step %d  evaluation loss %.4f", step, record["loss"])

    def saved(self, step: int) -> None:
        """Tells of a checkpoint."""
        if self._rollouts:
            self._rollouts.offer(step, last=step == self._training.num_steps)

    def close(self, *, finish: bool) -> None:
        """Closes all files.

        Args:
            finish: The training came to its end: wait for rollouts that are still at work.
        """
        if self._rollouts:
            self._rollouts.close(finish=finish)
        if self._metrics:
            try:
                self._metrics.close()
            except OSError as error:
                logger.error("%s: records cannot be written: %s", self._run_folder, error)
