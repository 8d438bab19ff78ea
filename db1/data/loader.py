"""Which samples a process sees, and when: the same for any number of processes.

Sample n = step * global_batch_size + slot. With 2 processes, micro-batches of 2 and a global batch
of 8, the slots of a step are taken as

    slot          0 1 | 2 3 | 4 5 | 6 7
    accumulation     0      |     1
    rank           0  |  1  |  0  |  1

so one process takes the same micro-batches, one after the other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader

from db1.data.collate import collate
from db1.errors import DataError, Db1Error
from db1.sequence.sample import Batch, Sample

logger = logging.getLogger(__name__)


class SampleDataset(Protocol):
    """Anything that gives samples by number."""

    def __getitem__(self, n: int) -> Sample: ...

    def __len__(self) -> int: ...


def sample_numbers(
    step: int,
    accumulation_index: int,
    *,
    global_batch_size: int,
    micro_batch_size: int,
    rank: int,
    world_size: int,
) -> list[int]:
    """Returns the sample numbers of one micro-batch of one process.

    Args:
        step: Optimizer step, from 0.
        accumulation_index: Number of the micro-batch inside the step.
        global_batch_size: Samples in a step over all processes.
        micro_batch_size: Samples in a micro-batch.
        rank: Number of the process.
        world_size: Number of processes.
    """
    slot = (accumulation_index * world_size + rank) * micro_batch_size
    first = step * global_batch_size + slot
    return list(range(first, first + micro_batch_size))


def make_loader(
    dataset: SampleDataset,
    *,
    first_step: int,
    num_steps: int,
    global_batch_size: int,
    micro_batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """Yields this process's micro-batches of the steps [first_step, num_steps) in order.

    Args:
        dataset: Gives sample n as a pure function of n.
        first_step: First optimizer step.
        num_steps: One past the last optimizer step.
        global_batch_size: A multiple of micro_batch_size * world_size.
        micro_batch_size: Samples in a micro-batch.
        rank: Number of this process.
        world_size: Number of processes.
        num_workers: Reader processes; 0 reads in this one.
        pin_memory: Put batches in page-locked memory (GPU).

    Raises:
        DataError: With the message of any Db1Error that a sample raised, here or in a reader.
    """
    accumulation = global_batch_size // (micro_batch_size * world_size)
    slots = {
        "global_batch_size": global_batch_size,
        "micro_batch_size": micro_batch_size,
        "rank": rank,
        "world_size": world_size,
    }
    numbers = _Lazy(
        lambda: (
            sample_numbers(step, index, **slots)
            for step in range(first_step, num_steps)
            for index in range(accumulation)
        )
    )
    return load_batches(dataset, numbers, num_workers=num_workers, pin_memory=pin_memory)


def load_batches(
    dataset: SampleDataset,
    numbers: Iterable[Sequence[int]],
    *,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """Yields one batch for each list of sample numbers, in order.

    Leaves the global random generators alone, whatever the number of workers.
    """
    loader = DataLoader(
        _GuardedDataset(dataset),
        batch_sampler=numbers,
        collate_fn=_guarded_collate,
        num_workers=num_workers,
        pin_memory=pin_memory,
        generator=torch.Generator(),
    )
    for batch in loader:
        if isinstance(batch, _Failure):
            raise batch.error
        yield batch


class _Lazy:
    """An iterable over what a function gives, made anew for each iteration."""

    def __init__(self, make: Callable[[], Iterator[Sequence[int]]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[Sequence[int]]:
        return self._make()


@dataclass(frozen=True, kw_only=True)
class _Failure:
    """An error on its way out of a reader process, which would bury it in a traceback."""

    error: DataError


class _GuardedDataset:
    """Returns errors of the dataset in place of samples."""

    def __init__(self, dataset: SampleDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, n: int) -> Sample | _Failure:
        try:
            return self._dataset[n]
        except Db1Error as error:
            return _Failure(error=DataError(f"sample {n}: {error}"))


def _guarded_collate(samples: Sequence[Any]) -> Batch | _Failure:
    """Lets a failure pass through collate."""
    for sample in samples:
        if isinstance(sample, _Failure):
            return sample
    return collate(samples)
