"""Saves a run's state and takes it up again."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from db1.checkpoint.run import Checkpoint, save_checkpoint
from db1.errors import CheckpointError
from db1.runtime import random_states, restore_random_states, seed_everything
from db1.training.config import TrainingConfig
from db1.training.engine import TrainingEngine
from db1.training.processes import Processes

logger = logging.getLogger(__name__)


class Saver:
    """Writes the checkpoints of a run; all processes call it.

    Args:
        run_folder: The run.
        engine: Holds weights and the optimizer's state.
        processes: This process and the others.
        training: Settings.
        config_hash: Of the run's configuration.
    """

    def __init__(
        self,
        run_folder: Path,
        engine: TrainingEngine,
        processes: Processes,
        training: TrainingConfig,
        config_hash: str,
    ) -> None:
        self._run_folder = run_folder
        self._engine = engine
        self._processes = processes
        self._training = training
        self._config_hash = config_hash

    def save(self, step: int, states: Mapping[str, Any]) -> None:
        """Writes the checkpoint after `step` optimizer steps.

        Args:
            step: Optimizer steps done.
            states: Further entries of trainer.json, for JSON.
        """

        def write(folder: Path) -> None:
            self._engine.save(folder)
            torch.save(random_states(), folder / _random_file(self._processes.rank))

        folder = save_checkpoint(
            self._run_folder,
            step,
            write,
            trainer=self._trainer() | dict(states),
            keep=self._training.keep_checkpoints,
            rank=self._processes.rank,
            barrier=self._processes.barrier,
        )
        logger.info("saved %s", folder)

    def _trainer(self) -> dict[str, Any]:
        return {
            "world_size": self._processes.world_size,
            "engine": self._training.engine,
            "zero_stage": self._training.zero_stage,
            "precision": self._training.precision,
            "seed": self._training.seed,
            "config_hash": self._config_hash,
        }


def restore_training(found: Checkpoint, engine: TrainingEngine, processes: Processes) -> None:
    """Reads weights, the optimizer's state and the random states; all processes call it.

    Written by another number of processes, the random states of each are new ones, drawn from
    (seed, rank, step).
    """
    written_by = found.trainer["world_size"]
    seed_everything(engine.config.seed, processes.rank, step=found.step)
    engine.load(found)
    if written_by == processes.world_size:
        path = found.folder / _random_file(processes.rank)
        restore_random_states(torch.load(path, weights_only=True))
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
