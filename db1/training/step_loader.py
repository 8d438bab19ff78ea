"""The micro-batches of a step, with what all processes must know about them.

A vision encoder runs once for each image size in a batch. Where gradients or parameters are
sharded, processes that run different modules in a step wait for one another for ever. So every
process learns which sizes the others hold, and adds one black image of each size it lacks: an
image whose patches all stand one past the end of the batch (as patches that a window's end cut
off), so that they reach no token, no loss and, with a weight of zero, the encoder's gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import torch

from db1.data.loader import SampleDataset, make_loader
from db1.errors import DataError
from db1.model.batch import Batch, ImageGroup
from db1.training.config import TrainingConfig
from db1.training.processes import Processes

ImageSize = tuple[int, int, int, int]
"""Height, width, channels, patches."""


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

    Attributes:
        first_slots: Slot of the global batch of each micro-batch's first sequence.
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
        self.first_slots = [
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

    def read(self, step: int) -> tuple[list[Batch], float]:
        """The micro-batches of a step, in the order in which they are taken.

        Returns:
            Those of this process, and the weight of the targets of all processes.

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
        return micro_batches, total_targets

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


def image_sizes(batch: Batch) -> frozenset[ImageSize]:
    """The image sizes in a batch."""
    return frozenset(_size(group) for group in batch.images)


def with_image_sizes(batch: Batch, sizes: Iterable[ImageSize]) -> Batch:
    """Returns the batch with a group of each of the sizes (a superset of its own), sorted.

    Args:
        batch: A micro-batch.
        sizes: Sizes that any process holds in this micro-batch.
    """
    past_end, device = batch.ids.numel(), batch.ids.device
    groups = {_size(group): group for group in batch.images}
    for size in set(sizes) - groups.keys():
        height, width, channels, patches = size
        groups[size] = ImageGroup(
            pixels=torch.zeros(1, height, width, channels, dtype=torch.uint8, device=device),
            positions=torch.full((1, patches), past_end, dtype=torch.int64, device=device),
        )
    return replace(batch, images=tuple(groups[size] for size in sorted(groups)))


def _size(group: ImageGroup) -> ImageSize:
    _, height, width, channels = group.pixels.shape
    return height, width, channels, group.positions.shape[1]
