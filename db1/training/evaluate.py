"""Losses on fixed samples, the same for any number of processes."""

from __future__ import annotations

import math
from collections.abc import Mapping

from db1.data.loader import SampleDataset, load_batches
from db1.training.engines.engine import TrainingEngine, read_losses
from db1.training.metrics.tally import Tally
from db1.training.step_loader import image_sizes, with_image_sizes


def evaluate_sets(engine: TrainingEngine, sets: Mapping[str, SampleDataset]) -> dict[str, Tally]:
    """Evaluates the first `eval_batches` micro-batches of each set.

    Args:
        engine: Holds the model; left in training mode.
        sets: Fixed samples by task.

    Returns:
        Losses and targets of each set, over all processes.
    """
    return {name: _evaluate_set(engine, dataset) for name, dataset in sets.items()}


def _evaluate_set(engine: TrainingEngine, dataset: SampleDataset) -> Tally:
    """Micro-batch i goes to process i modulo their number.

    A process that is out of micro-batches repeats the last one and does not count it: with
    sharded parameters all of them must run the model equally often.
    """
    processes, size = engine.processes, engine.config.micro_batch_size
    count = min(engine.config.eval_batches, math.ceil(len(dataset) / size))
    rounds = math.ceil(count / processes.world_size)
    mine = [turn * processes.world_size + processes.rank for turn in range(rounds)]
    numbers = [_batch_numbers(min(index, count - 1), size, len(dataset)) for index in mine]
    batches = load_batches(dataset, numbers)
    counted, losses = [], []
    for index in mine:
        batch, sizes = processes.run_and_gather(lambda: next(batches), image_sizes)
        if processes.world_size > 1:
            batch = with_image_sizes(batch, frozenset().union(*sizes))
        measured = engine.evaluate(batch)
        if index < count:
            counted.append((batch.sources, batch.ids.numel()))
            losses.append(measured)
    tally = Tally()
    for (sources, tokens), values in zip(counted, read_losses(losses), strict=True):
        tally.add(values, sources, tokens)
    return Tally.merged(processes.gather(tally))


def _batch_numbers(index: int, size: int, length: int) -> list[int]:
    return list(range(index * size, min((index + 1) * size, length)))
