"""Saves a run's state and takes it up again."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch

from db1.checkpoint.run import (
    FOLDER,
    Checkpoint,
    partial_folder,
    publish_checkpoint,
    start_checkpoint,
    tag_of,
)
from db1.checkpoint.states import load_state, of_this_training
from db1.errors import CheckpointError
from db1.failures import describe, one_line
from db1.seeding import random_states, restore_random_states, seed_everything
from db1.training.config import TrainingConfig
from db1.training.engines.engine import TrainingEngine
from db1.training.processes import Processes

logger = logging.getLogger(__name__)


class Saver:
    """Writes the checkpoints of a run.

    Every process writes its files and goes on; the first one then hashes, flushes and publishes
    them in a thread of its own (`save_in_background`), until which the checkpoint does not count.

    Args:
        run_folder: The run.
        engine: Holds weights and the optimizer's state.
        processes: This process and the others.
        training: Settings.
        config_hash: Of the run's configuration.
        saved: Told of the step of each checkpoint that counts, in the first process.
    """

    def __init__(
        self,
        run_folder: Path,
        engine: TrainingEngine,
        processes: Processes,
        training: TrainingConfig,
        config_hash: str,
        saved: Callable[[int], None],
    ) -> None:
        self._run_folder = run_folder
        self._engine = engine
        self._processes = processes
        self._training = training
        self._config_hash = config_hash
        self._saved = saved
        self._publishing: _Publishing | None = None

    def save(self, step: int, states: Mapping[str, Any]) -> None:
        """Writes the checkpoint after `step` optimizer steps; all processes call it.

        Args:
            step: Optimizer steps done.
            states: Further entries of trainer.json, for JSON.

        Raises:
            CheckpointError: In all processes, when one cannot write, now or the time before.
        """
        self.finish()
        partial = partial_folder(self._run_folder, step)
        if self._processes.rank == 0:
            self._together(step, lambda: start_checkpoint(self._run_folder, step))
        else:
            self._together(step, lambda: None)
        self._together(step, lambda: self._write(partial))
        trainer = self._trainer() | dict(states)
        if self._processes.rank == 0:
            self._publishing = _Publishing(
                step, partial, lambda: self._publish(partial, step, trainer)
            )
        if not self._training.save_in_background:
            self.finish()

    def look(self) -> None:
        """Tells of a checkpoint that counts by now; takes no time."""
        if self._publishing and self._publishing.is_done and not self._publishing.error:
            self._end_publishing()

    def finish(self) -> None:
        """Waits for the checkpoint that is being published; all processes call it.

        Raises:
            CheckpointError: In all processes, when it could not be.
        """
        self._processes.run_and_gather(self._end_publishing, lambda nothing: None)

    def abandon(self) -> None:
        """Waits for the same on the way out of a run that failed; raises nothing."""
        try:
            self._end_publishing()
        except CheckpointError as error:
            logger.error("%s", error)

    def _end_publishing(self) -> None:
        publishing, self._publishing = self._publishing, None
        if publishing is None:
            return
        publishing.join()
        if publishing.error:
            shutil.rmtree(publishing.partial, ignore_errors=True)
            self._fail(publishing.step, publishing.error)
        logger.info("saved %s", self._run_folder / FOLDER / tag_of(publishing.step))
        self._saved(publishing.step)

    def _publish(self, partial: Path, step: int, trainer: Mapping[str, Any]) -> None:
        publish_checkpoint(
            partial,
            step,
            trainer=trainer,
            keep=self._training.keep_checkpoints,
            keep_every=self._training.keep_checkpoints_every,
        )

    def _together(self, step: int, work: Callable[[], Any]) -> None:
        """Does a part of saving in every process; a failure of one is one of all.

        The folder goes when all are through, or the others would fail for the lack of it.
        """

        def guarded() -> None:
            try:
                work()
            except (OSError, RuntimeError) as error:  # torch wraps a full disk in a RuntimeError
                self._fail(step, error)

        try:
            self._processes.run_and_gather(guarded, lambda nothing: None)
        except CheckpointError:
            if self._processes.rank == 0:
                shutil.rmtree(partial_folder(self._run_folder, step), ignore_errors=True)
            raise

    def _write(self, folder: Path) -> None:
        self._engine.save(folder)
        torch.save(random_states(), folder / _random_file(self._processes.rank))

    def _fail(self, step: int, error: BaseException) -> NoReturn:
        folder = self._run_folder / FOLDER
        reason = describe(error) or one_line(str(error)) or type(error).__name__
        others = any(folder.glob("step-" + "[0-9]" * 8))
        before = "the one before it is unharmed; " if others else ""
        raise CheckpointError(
            f"{folder}: the checkpoint of step {step} cannot be written: {reason}; {before}make "
            "room there (or set a smaller training.keep_checkpoints) and run the same command again"
        ) from error

    def _trainer(self) -> dict[str, Any]:
        return {
            "world_size": self._processes.world_size,
            "engine": self._training.engine,
            "zero_stage": self._training.zero_stage,
            "precision": self._training.precision,
            "seed": self._training.seed,
            "config_hash": self._config_hash,
        }


class _Publishing:
    """A thread that makes a checkpoint count.

    Args:
        step: Of the checkpoint.
        partial: Its folder.
        work: What is to be done.

    Attributes:
        error: What went wrong.
    """

    def __init__(self, step: int, partial: Path, work: Callable[[], None]) -> None:
        self.step, self.partial = step, partial
        self.error: BaseException | None = None
        self._work = work
        self._thread = threading.Thread(target=self._run, name=f"publish step {step}")
        self._thread.start()

    @property
    def is_done(self) -> bool:
        return not self._thread.is_alive()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:
            self.error = error


def restore_training(found: Checkpoint, engine: TrainingEngine, processes: Processes) -> None:
    """Reads weights, the optimizer's state and the random states; all processes call it.

    Written by another number of processes, the random states of each are new ones, drawn from
    (seed, rank, step).
    """
    written_by = found.trainer["world_size"]
    seed_everything(engine.config.seed, processes.rank, step=found.step)
    with of_this_training(found.folder):
        engine.load(found)
    if written_by == processes.world_size:
        path = found.folder / _random_file(processes.rank)
        states = load_state(path)
        try:
            restore_random_states(states)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise CheckpointError(
                f"{path}: no states of random generators ({one_line(str(error))})"
            ) from error
    else:
        logger.info("written by %d process(es): new random states", written_by)


def check_resumable(found: Checkpoint) -> None:
    """Refuses checkpoints that hold weights only.

    Raises:
        CheckpointError: When training cannot go on from it.
    """
    if found.trainer.get("world_size") is None:
        raise CheckpointError(
            f"{found.folder}: converted weights without an optimizer's state, training cannot "
            "go on from them; give this run another name"
        )


def _random_file(rank: int) -> str:
    return f"random-rank{rank}.pt"
