"""Tokens a second and model FLOPs utilisation of training, with synthetic sequences.

What is measured is the training of an experiment: its model, precision, engine and batch sizes, its
loader with reader processes, gradient accumulation and optimizer steps. Only the sequences are made
up: text of random ids, every token of which is predicted, so that no data needs to be collected.

One size runs in one process of its own (`python -m db1.benchmarks.throughput JOB OUT`), for memory
that one model leaves behind would count against the next.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from db1.errors import Db1Error
from db1.runtime import keep_freed_memory
from db1.sequence.segment import NO_LOCAL_POSITION, TokenSegment
from db1.tokens.vocabulary import Vocabulary
from db1.training.config import TrainingConfig
from db1.training.engines import make_engine
from db1.training.engines.engine import TrainingEngine, read_losses
from db1.training.experiment import (
    ExperimentConfig,
    build_model,
    load_experiment,
    metrics_context_of,
)
from db1.training.metrics.records import Window, train_record
from db1.training.metrics.tally import Tally
from db1.training.processes import Processes
from db1.training.schedule import learning_rate_at
from db1.training.sizing.hardware import peak_flops, peak_memory
from db1.training.step_loader import StepLoader

WARM_UP_STEPS = 2
OUT_OF_MEMORY = 3
"""Exit status of a process whose model did not fit."""
BAD_INPUT = 2


class SyntheticText:
    """Sequences of random text ids; sample n is a function of n.

    Args:
        num_ids: Text ids are drawn from [0, num_ids).
        length: Tokens of a sequence.
        num_samples: Length of the dataset.
    """

    def __init__(self, num_ids: int, length: int, num_samples: int) -> None:
        self._num_ids, self._length, self._num_samples = num_ids, length, num_samples

    def __len__(self) -> int:
        return self._num_samples

    def __getitem__(self, n: int) -> TokenSegment:
        shape = self._length + 1
        ids = np.random.default_rng(n).integers(0, self._num_ids, shape, dtype=np.int32)
        return TokenSegment(
            ids=ids,
            target_mask=np.ones(shape, dtype=bool),
            local_positions=np.full(shape, NO_LOCAL_POSITION, dtype=np.int32),
            source="text",
        )


@dataclass(frozen=True, kw_only=True)
class Job:
    """One measurement.

    Args:
        config: The experiment's YAML file.
        overrides: key=value.
        seconds: To measure for, warm-up apart; at least one step is measured.
    """

    config: str
    overrides: tuple[str, ...]
    seconds: float


def measure(config: ExperimentConfig, seconds: float) -> dict[str, Any]:
    """Trains for some time; returns the record that training would log, and what it ran on.

    Args:
        config: The experiment; its data plays no part.
        seconds: See `Job`.
    """
    training = config.training
    processes = Processes(training.engine)
    training.check_processes(processes.world_size, processes.device.type)
    vocabulary = Vocabulary(config.vocabulary)
    count = training.num_steps * training.global_batch_size
    dataset = SyntheticText(config.vocabulary.text_size, config.sequence.length, count)
    torch.manual_seed(training.seed)
    model = build_model(config, vocabulary)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    engine = make_engine(model, training, processes)
    loader = StepLoader(dataset, training, processes, 0)
    window, warm_up = _train(engine, loader, training, seconds)
    device = processes.device
    achieved = matmul_flops(device, training.precision)
    context = metrics_context_of(config)
    record = train_record(
        [window],
        group_of=context.group_of,
        learning_rate=learning_rate_at(0, training),
        peak_memory=peak_memory(device),
        flops=context.flops,
        peak_flops=training.watch.peak_flops or peak_flops(device, training.precision),
    )
    return {
        "name": config.name,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "parameters": parameters,
        "precision": training.precision,
        "zero_stage": training.zero_stage if training.engine == "deepspeed" else None,
        "activation_checkpointing": config.model.activation_checkpointing,
        "sequence_length": config.sequence.length,
        "global_batch_size": training.global_batch_size,
        "micro_batch_size": training.micro_batch_size,
        "steps": window.steps,
        "warm_up_seconds": warm_up,
        "matmul_flops_per_second": achieved,
        **{name: value for name, value in record.items() if not isinstance(value, dict)},
    }


def _train(
    engine: TrainingEngine, loader: StepLoader, training: TrainingConfig, seconds: float
) -> tuple[Window, float]:
    """Steps for so many seconds after warming up: what they took, and the warm-up's seconds."""
    window, warm_up = Window(), 0.0
    end = float("inf")
    for step in range(training.num_steps):
        if step == WARM_UP_STEPS:
            warm_up, window = window.seconds, Window()
            end = time.perf_counter() + seconds
        started = time.perf_counter()
        micro_batches, total_targets = loader.read(step)
        waited = time.perf_counter() - started
        tally, scale = Tally(), engine.loss_scale(total_targets)
        losses = [engine.train_micro_batch(batch, scale) for batch in micro_batches]
        for batch, values in zip(micro_batches, read_losses(losses), strict=True):
            tally.add(values, batch.sources, batch.ids.numel())
        norm = engine.step(learning_rate_at(step, training))
        window.add(tally, norm, time.perf_counter() - started, waited)
        if time.perf_counter() >= end:
            break
    return window, warm_up


def matmul_flops(
    device: torch.device,
    precision: str,
    seconds: float = 1.0,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Operations a second of large matrix products: what this device reaches, whatever its sheet.

    Args:
        device: To measure.
        precision: `fp32`, `bf16` or `fp16`.
        seconds: To measure for.
        clock: Seconds.
    """
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    size = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best, end = 0.0, clock() + seconds
    while clock() < end or not best:
        _wait(device)
        started = clock()
        for _ in range(4):
            left @ right
        _wait(device)
        best = max(best, 4 * 2 * size**3 / (clock() - started))
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def benchmark_overrides(config: ExperimentConfig) -> ExperimentConfig:
    """The experiment without warm-up that a short measurement would never leave."""
    return replace(config, training=replace(config.training, warmup_steps=0))


def main(arguments: list[str]) -> int:
    """Measures a job (JSON) and writes what was found to a file; returns the exit status."""
    job = Job(**json.loads(arguments[0]))
    keep_freed_memory()
    try:
        config = benchmark_overrides(load_experiment(job.config, job.overrides))
        found = measure(config, job.seconds)
    except Db1Error as error:
        sys.stderr.write(f"error: {error}\n")
        return BAD_INPUT
    except torch.OutOfMemoryError as error:
        sys.stderr.write(f"out of memory: {' '.join(str(error).split())}\n")
        return OUT_OF_MEMORY
    Path(arguments[1]).write_text(json.dumps(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
