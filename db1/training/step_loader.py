"""Draws the micro-batches of a step, with what all processes must know about them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch

from db1.data.loader import SampleDataset, make_loader
from db1.errors import DataError
from db1.model.batch import Batch
from db1.training.config import TrainingConfig
from db1.training.engines.images import image_sizes, with_image_sizes
from db1.training.processes import Processes


@dataclass(frozen=True, kw_only=True)
class StepBatches:
    """One step's part of this process.

    Args:
        micro_batches: In the order in which they are taken.
        total_targets: Weight of the targets of all processes.
        first_slots: Slot of the global batch of each micro-batch's first sequence.
    """

    micro_batches: list[Batch]
    total_targets: float
    first_slots: list[int]


class StepLoader:
    """This process's micro-batches, step by step.

    Args:
        dataset: Sample n of the run.
        training: Settings.
        processes: This process and the others.
        start: First step.
        stop: One past the last step; None: that of the training.
        ahead: Read the next step's micro-batches in a thread while the model works on this one's;
            None: where it works on a GPU, so that nobody waits for the copies.
    """

    def __init__(
        self,
        dataset: SampleDataset,
        training: TrainingConfig,
        processes: Processes,
        start: int,
        stop: int | None = None,
        ahead: bool | None = None,
    ) -> None:
        self._processes = processes
        last = training.num_steps if stop is None else stop
        self._steps_left = last - start
        ahead = processes.device.type == "cuda" if ahead is None else ahead
        self._reader = ThreadPoolExecutor(1, "reads-ahead") if ahead else None
        self._coming: Future[list[Batch]] | None = None
        self._accumulation = training.accumulation(processes.world_size)
        self._first_slots = [
            (index * processes.world_size + processes.rank) * training.micro_batch_size
            for index in range(self._accumulation)
        ]
        self._batches: Iterator[Batch] = make_loader(
            dataset,
            first_step=start,
            num_steps=last,
            global_batch_size=training.global_batch_size,
            micro_batch_size=training.micro_batch_size,
            rank=processes.rank,
            world_size=processes.world_size,
            num_workers=training.num_workers,
            device=processes.device,
        )

    def draw(self, step: int) -> StepBatches:
        """The micro-batches of a step.

        Raises:
            DataError: In all processes, when one of them cannot read a sample, or when the whole
                batch has nothing to predict.
        """
        micro_batches, told = self._processes.run_and_gather(self._read, self._tell)
        if self._processes.world_size > 1:
            sizes = zip(*(sizes for _, sizes in told), strict=True)
            micro_batches = [
                with_image_sizes(batch, frozenset().union(*of_all))
                for batch, of_all in zip(micro_batches, sizes, strict=True)
            ]
        total_targets = sum(targets for targets, _ in told)
        if not total_targets:
            sources = sorted({source for batch in micro_batches for source in batch.sources})
            raise DataError(
                f"step {step}: no token of the whole batch is to be predicted (sources "
                f"{', '.join(sources)}); raise sequence.length or mix other sources in"
            )
        return StepBatches(
            micro_batches=micro_batches,
            total_targets=total_targets,
            first_slots=self._first_slots,
        )

    def _read(self) -> list[Batch]:
        """This step's micro-batches; those of the next are on their way then."""
        if self._reader is None:
            return self._read_step()
        coming = self._coming or self._reader.submit(self._read_step)
        read = coming.result()
        self._steps_left -= 1
        self._coming = self._reader.submit(self._read_step) if self._steps_left > 0 else None
        return read

    def _read_step(self) -> list[Batch]:
        return [next(self._batches) for _ in range(self._accumulation)]

    @staticmethod
    def _tell(read: list[Batch]) -> tuple[float, list[frozenset]]:
        targets = sum(_weight_of_targets(batch) for batch in read)
        return targets, [image_sizes(batch) for batch in read]


def _weight_of_targets(batch: Batch) -> float:
    if batch.weight_of_targets is not None:
        return batch.weight_of_targets
    counts_B: torch.Tensor = batch.loss_mask.sum(dim=1).double()
    weights_B = batch.target_weights
    return float(counts_B.sum() if weights_B is None else (counts_B * weights_B.double()).sum())
