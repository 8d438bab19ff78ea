"""Whole batches: from the store through reader processes into tensors that a model takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

from db1.benchmarks.cases import Case
from db1.benchmarks.timing import OURS, Comparison, Timing
from db1.data.loader import load_batches
from db1.data.mixture import FixedSamples
from db1.model.batch import Batch

Progress = Callable[[str, int, int], None]

BATCH_SIZE = 8
REFERENCE = ".npy files"


@dataclass(frozen=True, kw_only=True)
class BatchSizes:
    """Sizes of the measurement.

    Args:
        num_batches: Batches of each contender in a round.
        rounds: Turns of each contender.
        workers: Numbers of reader processes; the largest is what `db1` runs with.
        step_seconds: How long the model works on a batch where waiting for the next is measured.
    """

    num_batches: int
    rounds: int
    workers: tuple[int, ...]
    step_seconds: float


def bench_batches(
    case: Case, sizes: BatchSizes, progress: Progress | None = None
) -> list[Comparison]:
    """Measures how fast batches come, and how long a model waits for one while it works.

    Args:
        case: The data.
        sizes: How much.
        progress: Called with (work, finished rounds, all rounds).
    """
    batch, sample = next(_ours(case, 0, 1)), case.reference[0]
    notes = {
        "bytes of a batch, db1": batch_bytes(batch),
        f"bytes of a batch, {REFERENCE}": BATCH_SIZE * sum(t.nbytes for t in sample.values()),
    }
    title = f"batches of {BATCH_SIZE} samples: {case.name}"
    step = f"{round(sizes.step_seconds * 1e3)} ms"
    waiting = f"waiting for {title} (a step takes {step})"
    return [
        _compare(case, title, "sample", sizes, 0.0, notes, progress),
        _compare(case, waiting, "step", sizes, sizes.step_seconds, {}, progress),
    ]


def _compare(
    case: Case,
    work: str,
    unit: str,
    sizes: BatchSizes,
    step_seconds: float,
    notes: Mapping[str, int],
    progress: Progress | None,
) -> Comparison:
    """Times the batches after those that readers have ready when they start."""
    most = max(sizes.workers)
    readers = {OURS if w == most else f"db1, {_named(w)}": (_ours, w) for w in sizes.workers}
    readers |= {f"{REFERENCE}, {_named(w)}": (_theirs, w) for w in sizes.workers}
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    units = sizes.num_batches * (BATCH_SIZE if unit == "sample" else 1)
    for done in range(sizes.rounds):
        for name, (read, workers) in readers.items():
            ahead = 1 + 2 * workers
            batches = read(case, workers, sizes.num_batches + 2 * ahead)
            for _ in range(ahead):
                next(batches)
            waited = [_wait(batches, step_seconds) for _ in range(sizes.num_batches)]
            seconds[name].append(sum(waited) / units)
            del batches  # ends its reader processes
        if progress is not None:
            progress(work, done + 1, sizes.rounds)
    timings = tuple(Timing(name=name, seconds_per_unit=tuple(s)) for name, s in seconds.items())
    notes = {"db1 runs with": _named(most)} | dict(notes)
    return Comparison(work=work, unit=unit, timings=timings, notes=notes)


def _named(workers: int) -> str:
    return f"{workers} reader process{'es' * (workers > 1)}" if workers else "no reader process"


def _wait(batches: Iterator[object], step_seconds: float) -> float:
    time.sleep(step_seconds)
    start = time.perf_counter()
    next(batches)
    return time.perf_counter() - start


def _ours(case: Case, workers: int, num_batches: int) -> Iterator[Batch]:
    dataset = FixedSamples(case.sources[OURS], num_batches * BATCH_SIZE, seed=0)
    return load_batches(dataset, _numbers(num_batches), num_workers=workers)


def _theirs(case: Case, workers: int, num_batches: int) -> Iterator[dict[str, Tensor]]:
    numbers = [[n % len(case.reference) for n in batch] for batch in _numbers(num_batches)]
    return iter(DataLoader(case.reference, batch_sampler=numbers, num_workers=workers))


def _numbers(num_batches: int) -> list[list[int]]:
    return np.arange(num_batches * BATCH_SIZE).reshape(num_batches, BATCH_SIZE).tolist()


def batch_bytes(batch: Batch) -> int:
    """Bytes of what crosses to the device: ids, places, labels, mask (B, T), and pixels."""
    tensors = [batch.ids, batch.local_positions, batch.labels, batch.loss_mask]
    tensors += [t for group in batch.images for t in (group.pixels, group.positions)]
    return sum(tensor.nbytes for tensor in tensors)
