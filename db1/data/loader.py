"""Assignment of samples to processes and steps: the same for any number of processes.

Sample n = step * global_batch_size + slot. With 2 processes, micro-batches of 2 and a global batch
of 8, the slots of a step are taken as

    slot          0 1 | 2 3 | 4 5 | 6 7
    accumulation     0      |     1
    rank           0  |  1  |  0  |  1

so one process takes the same micro-batches, one after the other.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, get_worker_info

from db1.data.collate import PackedBatch, Packing, pack
from db1.data.transport.prefetch import copied_ahead
from db1.data.transport.slots import SharedSlots
from db1.errors import DataError, Db1Error
from db1.model.batch import Batch
from db1.runtime import keep_freed_memory
from db1.sequence.segment import TokenSegment


class SampleDataset(Protocol):
    """Anything that gives samples by number."""

    def __getitem__(self, n: int) -> TokenSegment: ...

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
    device: torch.device | None = None,
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
        pin_memory: See `load_batches`.
        device: See `load_batches`.

    Raises:
        DataError: See `load_batches`.
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
    return load_batches(
        dataset, numbers, num_workers=num_workers, pin_memory=pin_memory, device=device
    )


def load_batches(
    dataset: SampleDataset,
    numbers: Iterable[Sequence[int]],
    *,
    num_workers: int = 0,
    prefetch: int = 2,
    pin_memory: bool = False,
    device: torch.device | None = None,
    start_method: str | None = None,
) -> Iterator[Batch]:
    """Yields one batch for each list of sample numbers, in order.

    Leaves the global random generators alone, whatever the number of workers.

    Args:
        dataset: Gives sample n as a pure function of n.
        numbers: Sample numbers of each batch.
        num_workers: Reader processes; 0 reads in this one. Their batches arrive in shared memory.
        prefetch: Batches that each reader process works ahead.
        pin_memory: Put batches in page-locked memory, from which a GPU copies without waiting.
        device: Where the batches go; on a CUDA device they are pinned, and the next one is copied
            while the model works on this one. None: the CPU.
        start_method: Of the reader processes (`fork`, `spawn`, `forkserver`); None: the platform's.

    Raises:
        DataError: With the message of any Db1Error that a sample raised, here or in a reader, or
            because a reader process died.
    """
    on_gpu = device is not None and device.type == "cuda"
    slots = SharedSlots(num_workers, prefetch + 1)
    loader = DataLoader(
        _GuardedDataset(dataset),
        batch_sampler=numbers,
        collate_fn=_Packer(slots),
        num_workers=num_workers,
        prefetch_factor=prefetch if num_workers else None,
        multiprocessing_context=start_method if num_workers else None,
        worker_init_fn=_prepare_reader,
        generator=torch.Generator(),
    )
    batches = _received(loader, slots, pin_memory or on_gpu)
    return copied_ahead(batches, device) if on_gpu else (packed.batch() for packed in batches)


@dataclass(frozen=True, kw_only=True)
class _Failure:
    """An error on its way out of a reader process, which would bury it in a traceback."""

    error: DataError


_Received = PackedBatch | _Failure


class _Lazy:
    """An iterable over what a function gives, made again for each iteration."""

    def __init__(self, make: Callable[[], Iterator[Sequence[int]]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[Sequence[int]]:
        return self._make()


def _received(loader: DataLoader, slots: SharedSlots, pin: bool) -> Iterator[PackedBatch]:
    """Yields the loader's batches, page-locked when `pin`; failures become a DataError."""
    iterator = _start(loader)
    try:
        while (batch := _next(iterator)) is not None:
            if isinstance(batch, _Failure):
                raise batch.error
            if loader.num_workers:
                yield slots.receive(batch, pin)
            else:
                yield batch.pinned() if pin else batch
    finally:
        del iterator  # ends the readers now, even while an error's traceback holds this frame


def _next(iterator: Iterator[_Received]) -> _Received | None:
    """Next batch, None at the end; a dead reader becomes a DataError."""
    try:
        return next(iterator, None)
    except (RuntimeError, EOFError, ConnectionError, FileNotFoundError) as error:
        # Not a RuntimeError: the connection broke while the reader handed shared memory over.
        if isinstance(error, RuntimeError) and "DataLoader worker (pid" not in str(error):
            raise
        raise DataError(
            f"a reader process died ({str(error).strip().rstrip('.')}); most often the machine is "
            "out of memory, or of shared memory (/dev/shm): use fewer training.num_workers or a "
            "smaller training.micro_batch_size"
        ) from error


def _start(loader: DataLoader) -> Iterator[_Received]:
    """Starts the readers, without the signal handler that PyTorch puts up with them.

    The handler would raise in the middle of whatever the main thread does when a reader dies. The
    loader finds out by itself, within seconds, when it waits for that reader's batch.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        return iter(loader)
    handler = signal.getsignal(signal.SIGCHLD)
    iterator = iter(loader)
    signal.signal(signal.SIGCHLD, handler if handler is not None else signal.SIG_DFL)
    return iterator


class _GuardedDataset:
    """Returns errors of the dataset in place of samples."""

    def __init__(self, dataset: SampleDataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, n: int) -> TokenSegment | _Failure:
        try:
            return self._dataset[n]
        except Db1Error as error:
            return _Failure(error=DataError(f"sample {n}: {error}"))
        except OSError as error:
            return _Failure(
                error=DataError(
                    f"sample {n}: cannot be read: {error}; put the data back where it was and run "
                    "the same command again"
                )
            )
        except Exception as error:
            raise RuntimeError(f"sample {n}: {error!r}") from error


class _Packer:
    """Packs samples; in a reader process into shared memory. Lets a failure pass through.

    Args:
        slots: Of the reader processes.
    """

    def __init__(self, slots: SharedSlots) -> None:
        self._slots = slots

    def __call__(self, samples: Sequence[Any]) -> _Received:
        for sample in samples:
            if isinstance(sample, _Failure):
                return sample
        reader = get_worker_info()
        if reader is None:
            return pack(samples)
        packing = Packing(samples)
        return self._slots.send(reader.id, packing.layout, packing.fill)


def _prepare_reader(number: int) -> None:
    """Spawned processes do not inherit the memory settings of this one.

    A cluster sends SIGTERM to all processes; the training then saves, and needs its readers.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    keep_freed_memory()
